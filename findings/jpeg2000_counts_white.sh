#!/usr/bin/env bash
# versions: numpy 2.4.6, imagecodecs 2026.3.6
# guess:    A lossless codec needs about as many bits for a spike frame of 0 and 255 as for one of 0 and 1.
# seen:     JPEG 2000 needs 9 bits a pixel for 0 and 255, more than the raw bytes, and 1.7 for 0 and 1: it
#           codes the bit planes of wavelet coefficients, and 255 fills eight of them with noise. JPEG-LS
#           and JPEG XL hardly differ.
# output:
#     jpeg2k: 1.71 bits a pixel as 0 and 1, 9.01 as 0 and 255
#     jpegls: 1.46 bits a pixel as 0 and 1, 1.70 as 0 and 255
#     jpegxl: 0.98 bits a pixel as 0 and 1, 0.99 as 0 and 255
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 imagecodecs==2026.3.6 || exit 2
venv/bin/python - <<'EOF'
import imagecodecs
import numpy as np

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

ramp = np.linspace(0.05, 0.75, 128)
frame = fire(np.add.outer(ramp, ramp) / 2, 32)[-1].astype("u1")
codecs = {
    "jpeg2k": {"level": 0, "reversible": True},
    "jpegls": {},
    "jpegxl": {"lossless": True},
}
size = {}
for name, options in codecs.items():
    encode, decode = (getattr(imagecodecs, f"{name}_{way}") for way in ("encode", "decode"))
    for white in (1, 255):
        data = encode(frame * np.uint8(white), **options)
        assert np.array_equal(decode(data), frame * np.uint8(white))
        size[name, white] = 8 * len(data) / frame.size
    print(f"{name}: {size[name, 1]:.2f} bits a pixel as 0 and 1, {size[name, 255]:.2f} as 0 and 255")
assert size["jpeg2k", 1] < 2 and size["jpeg2k", 255] > 8
assert size["jpegls", 255] < 2 and size["jpegxl", 255] < 1.1
EOF
