#!/usr/bin/env bash
# versions: numpy 2.4.6, av 18.1.0, opencv-python-headless 5.0.0.93
# guess:    An MP4 of 30 pictures at 20,000 a second gives 30 pictures back.
# seen:     H.264 with B-frames needs an edit list, whose length is in units of 1 ms: it rounds 1.5 ms to 1
#           ms, and 20 pictures are read, by PyAV and OpenCV, while the header counts 30. Without B-frames,
#           or with movie_timescale=20000, all 30 are there.
# output:
#     PyAV, OpenCV, header. default: (20, 20, 30) no B-frames: (30, 30, 30) movie_timescale: (30, 30, 30)
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 av==18.1.0 opencv-python-headless==5.0.0.93 || exit 2
venv/bin/python - <<'EOF'
import av
import cv2
import numpy as np


def read(options, muxer):
    with av.open("s.mp4", "w", options=muxer) as file:
        stream = file.add_stream("libx264", rate=20000)
        stream.width, stream.height, stream.pix_fmt, stream.options = 96, 64, "yuv420p", options
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 4 * i, np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open("s.mp4") as file:
        by_av = sum(1 for _ in file.decode(video=0))
    video = cv2.VideoCapture("s.mp4")
    by_cv2 = 0
    while video.read()[0]:
        by_cv2 += 1
    return by_av, by_cv2, int(video.get(cv2.CAP_PROP_FRAME_COUNT))


default = read({}, {})
no_b = read({"bf": "0"}, {})
scale = read({}, {"movie_timescale": "20000"})
print("PyAV, OpenCV, header. default:", default, "no B-frames:", no_b, "movie_timescale:", scale)
assert default == (20, 20, 30) and no_b == scale == (30, 30, 30)
EOF
