#!/usr/bin/env bash
# versions: numpy 2.4.6, opencv-python-headless 5.0.0.93
# guess:    cv2.resize with INTER_AREA rounds the mean of a block the same way at every factor.
# seen:     At factor 2 a half is rounded up; at 4, 6 and 8 it is rounded to the even number. A block of 0/1
#           spikes that is half full becomes 1 at factor 2 and 0 at factor 4; halving twice is not the same
#           as quartering.
# output:
#     half-full block by factor: {2: 1, 4: 0, 6: 0, 8: 0}
#     mean 0.50: halved 0.69, halved twice 0.91
#     quartered 0.41
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

result = {}
for factor in (2, 4, 6, 8):
    block = np.arange(factor * factor).reshape(factor, factor) % 2  # half of it spikes
    frame = np.tile(block.astype("u1"), (16, 16))
    small = cv2.resize(frame, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    assert small.min() == small.max()
    result[factor] = int(small[0, 0])
spikes = np.random.default_rng(0).random((256, 256)) < 0.5
frame = spikes.astype("u1")
half = cv2.resize(frame, (128, 128), interpolation=cv2.INTER_AREA)
quarter = cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA)
twice = cv2.resize(half, (64, 64), interpolation=cv2.INTER_AREA)
print("half-full block by factor:", result)
print(f"mean {spikes.mean():.2f}: halved {half.mean():.2f}, halved twice {twice.mean():.2f}")
print(f"quartered {quarter.mean():.2f}")
assert result == {2: 1, 4: 0, 6: 0, 8: 0}
assert half.mean() > 0.6 and twice.mean() > 0.8 and quarter.mean() < 0.5
EOF
