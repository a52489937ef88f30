#!/usr/bin/env bash
# versions: numpy 2.4.6, h5py 3.16.0, hdf5plugin 7.1.0
# guess:    Bit shuffle before zstd helps one-bit data, or at worst does nothing once the bits are packed.
# seen:     With eight steps of a pixel in a byte, the same bytes repeat and zstd alone finds them. Bit
#           shuffle splits the bytes into planes of single steps, where nothing repeats: the stream grows
#           from 0.60 to 0.95 of its bits. Packed along the row, both take the same.
# output:
#     packed along the row: zstd 0.96, bit shuffle and zstd 0.96 of the bits
#     packed along time: zstd 0.60, bit shuffle and zstd 0.95 of the bits
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 h5py==3.16.0 hdf5plugin==7.1.0 || exit 2
venv/bin/python - <<'EOF'
import h5py
import hdf5plugin
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
spikes = fire(np.add.outer(ramp, ramp) / 2, 256)
layouts = {"along the row": np.packbits(spikes, axis=2), "along time": np.packbits(spikes, axis=0)}
filters = {"zstd": hdf5plugin.Zstd(), "bit shuffle and zstd": hdf5plugin.Bitshuffle(cname="zstd")}
size = {}
with h5py.File("spikes.h5", "w") as file:
    for layout, packed in layouts.items():
        for name, options in filters.items():
            stored = file.create_dataset(f"{layout} {name}", data=packed, chunks=packed.shape, **options)
            assert np.array_equal(stored[:], packed)
            size[layout, name] = stored.id.get_storage_size() / packed.size
        shown = ", ".join(f"{name} {size[layout, name]:.2f}" for name in filters)
        print(f"packed {layout}: {shown} of the bits")
assert size["along time", "zstd"] < 0.65 and size["along time", "bit shuffle and zstd"] > 0.85
assert abs(size["along the row", "zstd"] - size["along the row", "bit shuffle and zstd"]) < 0.05
EOF
