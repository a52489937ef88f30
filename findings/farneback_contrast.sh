#!/usr/bin/env bash
# versions: numpy 2.4.6, opencv-python-headless 5.0.0.93
# guess:    Optical flow of two frames is the same whether a spike is stored as 1 or as 255.
# seen:     Farneback adds a constant to its 2x2 determinant, so faint pictures get no flow. The same two
#           spike frames, 2 pixels apart, give the right flow as 0 and 255 and none at all as 0 and 1. A
#           grey picture of 0 to 10 loses it too.
# output:
#     spikes 0/1: 0.00  0/255: 2.00  greys to 10: 0.05  to 255: 2.00
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 opencv-python-headless==5.0.0.93 || exit 2
venv/bin/python - <<'EOF'
import cv2
import numpy as np

noise = np.random.default_rng(0).random((128, 128)).astype("f4")
picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 1, cv2.NORM_MINMAX)
frames = [(np.roll(picture, shift, 1) > 0.6).astype("u1") for shift in (0, 2)]
greys = [np.roll(picture, shift, 1) for shift in (0, 2)]


def flow(a, b):
    return float(np.median(cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 31, 3, 5, 1.2, 0)[..., 0]))


ones, full = flow(*frames), flow(*[255 * f for f in frames])
faint, bright = (flow(*[(g * top).astype("u1") for g in greys]) for top in (10, 255))
print(f"spikes 0/1: {ones:.2f}  0/255: {full:.2f}  greys to 10: {faint:.2f}  to 255: {bright:.2f}")
assert abs(full - 2) < 0.2 and abs(bright - 2) < 0.2, "the bright pictures' flow is wrong"
assert abs(ones) < 0.1 and abs(faint) < 0.5, "faint pictures get their flow now"
EOF
