#!/usr/bin/env bash
# versions: numpy 2.4.6, av 18.1.0, imageio 2.38.1, imageio-ffmpeg 0.8.1
# guess:    imageio reads all 30 pictures of an .mkv of 20,000 pictures a second, and the file says so many
#           a second.
# seen:     Matroska (.webm as well) keeps whole milliseconds: 30 pictures have two times between them.
#           imageio drops most of those that share one: 4 are left. It states 0 pictures a second, for the
#           ffmpeg that it reads prints "20k"; for .mp4 too.
# output:
#     s.mkv: 30 pictures, 2 times; imageio 4, 0 a second
#     s.mp4: 30 pictures, 30 times; imageio 30, 0 a second
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 av==18.1.0 imageio==2.38.1 imageio-ffmpeg==0.8.1 || exit 2
venv/bin/python - <<'EOF'
import av
import imageio.v3 as iio
import numpy as np

found = {}
for name in ("s.mkv", "s.mp4"):
    with av.open(name, "w") as file:
        stream = file.add_stream("mpeg4", rate=20000)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 4 * i, np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open(name) as file:
        times = [frame.pts for frame in file.decode(video=0)]
    pictures = len(iio.imread(name, plugin="FFMPEG"))
    rate = iio.immeta(name, plugin="FFMPEG")["fps"]
    found[name] = pictures, rate
    print(f"{name}: {len(times)} pictures, {len(set(times))} times; imageio {pictures}, {rate} a second")
    assert len(times) == 30
    assert (len(set(times)) < 5) == (name == "s.mkv")
assert found["s.mkv"][0] < 8 and found["s.mp4"][0] == 30
assert found["s.mkv"][1] == found["s.mp4"][1] == 0
EOF
