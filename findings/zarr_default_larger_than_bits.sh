#!/usr/bin/env bash
# versions: numpy 2.4.6, zarr 3.1.6
# guess:    A compressed zarr array of bool is at worst as large as its bits, and a frame of it is in a few
#           chunks.
# seen:     Its default is zstd at level 0 over bytes: a bright spike stream takes half as much again as the
#           plain bits of a .dat file. At 20000x250x400 a chunk holds 1250 steps of 32x50 pixels, so one
#           frame is read from 64 chunks.
# output:
#     1.47 of the plain bits; chunks (1250, 32, 50), 64 of them for a frame
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 zarr==3.1.6 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
import zarr

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
spikes = fire(np.add.outer(ramp, ramp) / 2, 256)
array = zarr.create_array(zarr.storage.MemoryStore(), shape=spikes.shape, dtype=bool)
array[:] = spikes
assert np.array_equal(array[:], spikes)
ratio = array.nbytes_stored() / (spikes.size / 8)
chunks = zarr.create_array(zarr.storage.MemoryStore(), shape=(20000, 250, 400), dtype=bool).chunks
assert array.compressors[0].level == 0
a_frame = -(-250 // chunks[1]) * -(-400 // chunks[2])
print(f"{ratio:.2f} of the plain bits; chunks {chunks}, {a_frame} of them for a frame")
assert ratio > 1.3 and a_frame == 64
EOF
