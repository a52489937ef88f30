#!/usr/bin/env bash
# versions: numpy 2.4.6, av 18.1.0, opencv-python-headless 5.0.0.93
# date:     2026-11-30
# guess:    Lossless H.264 with pix_fmt gray keeps all 256 grey levels.
# seen:     It stores all 256, but not that black is 0 and white 255. A decoder takes them for 16 to 235:
#           everything up to 16 becomes black, everything from 235 on white, and grey levels move by up to 20.
#           With codec_context.color_range = 2 all are kept. With codec_context.color_range = 2 all are kept.
#           yuv420p, stored as 16 to 235 from the start, is off by 1 at most. FFV1 keeps gray.
# output:
#     libx264, yuv420p, range None: 220 levels in the file, off by at most {'PyAV': 1, 'OpenCV': 1}
#     libx264, gray, range None: 256 levels in the file, off by at most {'PyAV': 20, 'OpenCV': 20}
#     libx264, gray, range 2: 256 levels in the file, off by at most {'PyAV': 0, 'OpenCV': 0}
#     libx264rgb, rgb24, range None: 256 levels in the file, off by at most {'PyAV': 0, 'OpenCV': 0}
#     ffv1, gray, range None: 256 levels in the file, off by at most {'PyAV': 0, 'OpenCV': 0}
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

ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))  # every grey level
found = {}
for codec, pixels, levels in (
    ("libx264", "yuv420p", None),
    ("libx264", "gray", None),
    ("libx264", "gray", 2),  # FFmpeg's number for black at 0 and white at 255
    ("libx264rgb", "rgb24", None),
    ("ffv1", "gray", None),
):
    name = f"{codec}_{pixels}_{levels}." + ("mkv" if codec == "ffv1" else "mp4")
    with av.open(name, "w") as file:
        stream = file.add_stream(codec, rate=25, options={} if codec == "ffv1" else {"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 256, 64, pixels
        if levels:
            stream.codec_context.color_range = levels
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(ramp, format="gray")))
        file.mux(stream.encode())
    with av.open(name) as file:
        frame = next(file.decode(video=0))
    stored = np.frombuffer(bytes(frame.planes[0]), np.uint8).reshape(64, -1)[:, :256]
    read = {"PyAV": frame.to_ndarray(format="gray"), "OpenCV": cv2.VideoCapture(name).read()[1][..., 0]}
    off = {reader: int(np.abs(picture.astype(int) - ramp).max()) for reader, picture in read.items()}
    found[codec, pixels, levels] = len(np.unique(stored)), max(off.values())
    print(f"{codec}, {pixels}, range {levels}: {len(np.unique(stored))} levels in the file, off by at most {off}")
assert found["libx264", "yuv420p", None] == (220, 1)
assert found["libx264", "gray", None] == (256, 20)
exact = ("libx264", "gray", 2), ("libx264rgb", "rgb24", None), ("ffv1", "gray", None)
assert all(found[key] == (256, 0) for key in exact)
EOF
