#!/usr/bin/env bash
# versions: numpy 2.4.6, h5py 3.16.0
# date:     2026-11-30
# guess:    The scale-offset filter needs 1 bit a pixel for spikes of 0 and 1, but 8 for 0 and 255.
# seen:     1 bit for both. The filter leaves the fill value out when it looks for the smallest and the
#           largest value, and the fill value is 0 by default: only 255 is left. For 1 and 255 it needs 8
#           bits.
# output:
#     0 and 1: 1.00 bits a pixel
#     0 and 255: 1.00 bits a pixel
#     1 and 255: 8.00 bits a pixel
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 h5py==3.16.0 || exit 2
venv/bin/python - <<'EOF'
import h5py
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

spikes = fire(np.random.default_rng(1).random((64, 64)) * 0.6, 256)
found = {}
for low, high in ((0, 1), (0, 255), (1, 255)):
    array = np.where(spikes, high, low).astype(np.uint8)
    with h5py.File("s.h5", "w") as file:
        data = file.create_dataset("s", data=array, chunks=(64, 64, 64), scaleoffset=0)
        found[low, high] = data.id.get_storage_size() * 8 / array.size
    with h5py.File("s.h5") as file:
        assert np.array_equal(file["s"][:], array)
    print(f"{low} and {high}: {found[low, high]:.2f} bits a pixel")
assert found[0, 1] < 1.1 and found[0, 255] < 1.1 and found[1, 255] > 7.9
EOF
