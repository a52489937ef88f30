#!/usr/bin/env bash
# versions: numpy 2.4.6, netCDF4 1.7.5.1.post1
# date:     2026-11-30
# guess:    netCDF4 reads 8-bit and 16-bit pictures as they were written; no fill value was set.
# seen:     The largest value of an unsigned type is netCDF's fill value, and netCDF4 masks it. White pixels
#           are missing from every mean, for uint8, too. Of spikes written as 0 and 255 every spike is masked
#           and the mean is 0. set_auto_mask(False) reads all.
# output:
#     spikes_255: mean 127.49, read 0.00; 0.500 of it masked
#     spikes_1: mean 0.50, read 0.50; 0.000 of it masked
#     picture_8_bits: mean 199.82, read 177.47; 0.288 of it masked
#     picture_16_bits: mean 51443.30, read 45736.37; 0.288 of it masked
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 netCDF4==1.7.5.1.post1 || exit 2
venv/bin/python - <<'EOF'
import netCDF4
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

spikes = fire(np.add.outer(np.linspace(0.1, 0.5, 64), np.linspace(0, 0.4, 96)), 41)
picture = np.minimum(spikes.mean(0) / 0.6, 1)  # 0.6 spikes a step are white
arrays = {
    "spikes_255": spikes.astype("u1") * np.uint8(255),
    "spikes_1": spikes.astype("u1"),
    "picture_8_bits": (picture * 255).astype("u1"),
    "picture_16_bits": (picture * 65535).astype("u2"),
}
with netCDF4.Dataset("s.nc", "w") as file:
    for size, name in zip(spikes.shape, "tyx"):
        file.createDimension(name, size)
    for name, array in arrays.items():
        file.createVariable(name, array.dtype, tuple("tyx"[-array.ndim :]))[:] = array
with netCDF4.Dataset("s.nc") as file:
    for name, array in arrays.items():
        read = file[name][:]
        file[name].set_auto_mask(False)
        assert np.array_equal(file[name][:], array)
        white = array == np.iinfo(array.dtype).max
        masked = np.ma.getmaskarray(read)
        print(f"{name}: mean {array.mean():.2f}, read {read.mean():.2f}; {masked.mean():.3f} of it masked")
        assert np.array_equal(masked, white) and white.any() == (name != "spikes_1")
EOF
