#!/usr/bin/env bash
# versions: numpy 2.4.6, opencv-python-headless 5.0.0.93
# guess:    cv2.VideoWriter that opened at 20,000 pictures a second as Motion JPEG writes all of them, or
#           does not open.
# seen:     It opens, and the file is of 600 a second; of 30 pictures 18 are written. write() returns
#           nothing and raises nothing; only the log has a line for each. The same as mp4v in .mp4 keeps 30,
#           at 20,000.
# output:
#     pictures read and pictures a second: {'s.avi': (18, 600.0), 's.mp4': (30, 20000.0)}
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

found = {}
for name, code in (("s.avi", "MJPG"), ("s.mp4", "mp4v")):
    writer = cv2.VideoWriter(name, cv2.VideoWriter_fourcc(*code), 20000, (96, 64))
    assert writer.isOpened()
    for i in range(30):
        writer.write(np.full((64, 96, 3), 4 * i, np.uint8))
    writer.release()
    video = cv2.VideoCapture(name)
    count = 0
    while video.read()[0]:
        count += 1
    found[name] = count, video.get(cv2.CAP_PROP_FPS)
print("pictures read and pictures a second:", found)
assert found == {"s.avi": (18, 600.0), "s.mp4": (30, 20000.0)}
EOF
