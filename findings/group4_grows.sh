#!/usr/bin/env bash
# versions: numpy 2.4.6, pillow 13.0.0
# guess:    Group 4, made for pictures of one bit, packs spike frames, or leaves them about as large.
# seen:     It codes runs of equal pixels, and neighbours of a spike camera fire at different steps: a
#           bright frame comes out twice as large as its bits. Deflate saves 1 % and LZW adds 30 %.
# output:
#     of the plain bits: raw 1.01, group4 2.03, group3 1.80, tiff_lzw 1.31, tiff_deflate 0.99
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 pillow==13.0.0 || exit 2
venv/bin/python - <<'EOF'
import io

import numpy as np
from PIL import Image

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

ramp = np.linspace(0.1, 0.7, 256)
spikes = fire(np.add.outer(ramp, ramp) / 2, 30)[-1]
ratio = {}
for method in ("raw", "group4", "group3", "tiff_lzw", "tiff_deflate"):
    file = io.BytesIO()
    Image.fromarray(spikes).save(file, "TIFF", compression=None if method == "raw" else method)
    ratio[method] = len(file.getvalue()) / (spikes.size / 8)
    assert np.array_equal(np.array(Image.open(file)), spikes)
print("of the plain bits:", ", ".join(f"{k} {v:.2f}" for k, v in ratio.items()))
assert ratio["raw"] < 1.1 and ratio["group4"] > 1.9 and ratio["group3"] > 1.6 and ratio["tiff_deflate"] > 0.95
EOF
