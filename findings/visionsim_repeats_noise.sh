#!/usr/bin/env bash
# versions: visionsim 0.1.0a2, torch 2.14.1, numpy 2.4.6
# date:     2026-12-01
# guess:    The binary frames that visionsim simulates for a single-photon camera have independent noise, so that a mean
#           of 32 has a third of the noise of a mean of 4.
# seen:     Each of as many workers as there are CPUs has a copy of one random generator, and the batches of 4 frames go
#           round the workers. With 8 CPUs, frames 0, 4, 8 and so on up to 28 are the same to the bit: a mean of 32 is as
#           noisy as a mean of 4. With one CPU all frames differ.
# output:
#     1 CPU:  32 of 32 frames differ, noise of their mean 0.087 (expected 0.086)
#     8 CPUs: 4 of 32 frames differ, noise of their mean 0.243 (expected 0.086)
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    visionsim==0.1.0a2 torch==2.14.1 numpy==2.4.6 || exit 2
venv/bin/python - <<'EOF' 2>errors || { cat errors; exit 1; }
import json
import os

import imageio.v3 as imageio
import numpy as np
from visionsim.cli.emulate import spad

FRAMES, HEIGHT, WIDTH = 32, 32, 64
os.mkdir("still")
frames = []
for number in range(FRAMES):
    name = f"frame_{number:06}.png"
    imageio.imwrite(f"still/{name}", np.full((HEIGHT, WIDTH, 3), 188, np.uint8))  # half of white in linear light
    frames.append({"file_path": name, "transform_matrix": np.eye(4).tolist()})
camera = {"fl_x": 1, "fl_y": 1, "cx": 32, "cy": 16, "w": WIDTH, "h": HEIGHT, "c": 3, "frames": frames}
with open("still/transforms.json", "w") as file:
    json.dump(camera, file)

found = {}
for cpus in (1, 8):
    os.cpu_count = lambda: cpus  # what visionsim takes as the number of workers
    spad("still", f"spikes{cpus}", force=True)
    spikes = np.unpackbits(np.load(f"spikes{cpus}/frames.npy"), axis=2).reshape(FRAMES, -1)
    different = len(np.unique(spikes, axis=0))
    rate = spikes.mean()
    found[cpus] = different, spikes.mean(0).std()
    expected = np.sqrt(rate * (1 - rate) / FRAMES)
    print(
        f"{cpus} CPUs:" if cpus > 1 else f"{cpus} CPU: ",
        f"{different} of {FRAMES} frames differ, noise of their mean {found[cpus][1]:.3f} (expected {expected:.3f})",
    )
assert found[1][0] == FRAMES and abs(found[1][1] - 0.086) < 0.003
assert found[8][0] == 4 and abs(found[8][1] - 0.244) < 0.01
EOF
