#!/usr/bin/env bash
# versions: numpy 2.4.6, tifffile 2026.3.3, pillow 13.0.0, opencv-python-headless 5.0.0.93
# guess:    A bool array written by tifffile has a byte a pixel, or is read by others as it was written.
# seen:     tifffile writes one bit a pixel, True as 1, and tags it MINISWHITE, for which 1 is black. Its
#           own reader ignores the tag; Pillow and OpenCV heed it, so every spike of the file is a gap
#           there. photometric="minisblack" is read right by all three.
# output:
#     rate 0.301; default: tifffile 0.301, Pillow 0.699, OpenCV 0.699
#     minisblack: tifffile 0.301, Pillow 0.301, OpenCV 0.301
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 tifffile==2026.3.3 pillow==13.0.0 opencv-python-headless==5.0.0.93 || exit 2
venv/bin/python - <<'EOF'
import cv2
import numpy as np
import tifffile
from PIL import Image

spikes = np.random.default_rng(0).random((5, 50, 53)) < 0.3


def readers():
    opened = np.array(Image.open("s.tif"))
    pages = cv2.imreadmulti("s.tif", flags=cv2.IMREAD_UNCHANGED)[1]
    own = tifffile.imread("s.tif")
    return {"tifffile": own[0].mean(), "Pillow": opened.mean(), "OpenCV": (pages[0] > 0).mean()}


true = spikes[0].mean()
tifffile.imwrite("s.tif", spikes)
with tifffile.TiffFile("s.tif") as file:
    page = file.pages[0]
    assert page.bitspersample == 1 and page.photometric.name == "MINISWHITE"
default = readers()
tifffile.imwrite("s.tif", spikes, photometric="minisblack")
tagged = readers()
print(f"rate {true:.3f}; default: " + ", ".join(f"{k} {v:.3f}" for k, v in default.items()))
print("minisblack: " + ", ".join(f"{k} {v:.3f}" for k, v in tagged.items()))
assert abs(default["tifffile"] - true) < 1e-9
assert abs(default["Pillow"] - (1 - true)) < 1e-9 and abs(default["OpenCV"] - (1 - true)) < 1e-9
assert all(abs(v - true) < 1e-9 for v in tagged.values())
EOF
