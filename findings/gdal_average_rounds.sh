#!/usr/bin/env bash
# versions: numpy 2.4.6, rasterio 1.4.4
# date:     2026-11-30
# guess:    Read at half size with Resampling.average and out_dtype float32, spikes of 0 and 1 give the mean
#           of 2x2 pixels.
# seen:     GDAL averages in the type of the file and converts to float32 afterwards. With uint8 only 0 and 1
#           come out, and halves are rounded up: the mean is 31 % too high. Resampling.rms rounds, too;
#           bilinear does not. Stored as float32 it is exact.
# output:
#     mean of the spikes: 0.450
#     stored as uint8, average: mean 0.589, 2 different values
#     stored as uint8, bilinear: mean 0.450, 136 different values
#     stored as uint8, rms: mean 0.273, 2 different values
#     stored as float32, average: mean 0.450, 5 different values
#     stored as float32, bilinear: mean 0.450, 136 different values
#     stored as float32, rms: mean 0.576, 5 different values
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 rasterio==1.4.4 || exit 2
venv/bin/python - <<'EOF'
import warnings

import numpy as np
import rasterio
from rasterio.enums import Resampling

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
spikes = fire(np.add.outer(np.linspace(0.1, 0.5, 64), np.linspace(0, 0.3, 96)), 41)
means = spikes.reshape(41, 32, 2, 48, 2).mean((2, 4))  # means of 2x2 pixels
print(f"mean of the spikes: {spikes.mean():.3f}")
for dtype in ("uint8", "float32"):
    for name in ("average", "bilinear", "rms"):
        with rasterio.open("s.tif", "w", driver="GTiff", width=96, height=64, count=41, dtype=dtype) as file:
            file.write(spikes.astype(dtype))
        with rasterio.open("s.tif") as file:
            read = file.read(out_shape=(41, 32, 48), resampling=Resampling[name], out_dtype="float32")
        values = len(np.unique(read))
        print(f"stored as {dtype}, {name}: mean {read.mean():.3f}, {values} different values")
        if name == "average":
            assert np.allclose(read, means) == (dtype == "float32")
            assert np.array_equal(read, means >= 0.5) == (dtype == "uint8")
        if name == "rms":
            assert (values == 2) == (dtype == "uint8")
EOF
