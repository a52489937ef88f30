#!/usr/bin/env bash
# versions: numpy 2.4.6, tifffile 2026.3.3
# guess:    tifffile.imwrite(..., imagej=True) of a window (T, H, W) opens in ImageJ as T time points, or T
#           slices.
# seen:     It is written as T channels, of which ImageJ shows one at a time with a channel slider and no
#           frame rate. metadata={"axes": "TYX"} makes them time points. bool is refused, though without
#           imagej it is written as bits.
# output:
#     default CYX channels, frames: 41 1
#     time TYX channels, frames: 1 41
#     bool: the ImageJ format does not support data type '?'
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 tifffile==2026.3.3 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
import tifffile

window = np.zeros((41, 25, 40), "u1")
tifffile.imwrite("default.tif", window, imagej=True)
tifffile.imwrite("time.tif", window, imagej=True, metadata={"axes": "TYX"})
found = {}
for name in ("default", "time"):
    with tifffile.TiffFile(f"{name}.tif") as file:
        told = file.imagej_metadata
        found[name] = told.get("channels", 1), told.get("frames", 1)
        print(name, file.series[0].axes, "channels, frames:", *found[name])
try:
    tifffile.imwrite("bool.tif", window.astype(bool), imagej=True)
    refused = False
except ValueError as error:
    refused = True
    print("bool:", error)
assert found == {"default": (41, 1), "time": (1, 41)} and refused
EOF
