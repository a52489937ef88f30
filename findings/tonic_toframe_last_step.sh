#!/usr/bin/env bash
# versions: numpy 2.4.6, tonic 1.7.0
# guess:    tonic ToFrame turns spikes, one step every 50 us, back into their frames; with n_time_bins no
#           spike is lost.
# seen:     The last step is lost with time_window=50, with include_incomplete=True as well. n_time_bins
#           loses it too, and as many bins as steps leave a bin in the middle empty: the width is rounded
#           down from last minus first time.
# output:
#     40 steps, 13832 spikes, 341 in the last
#     time_window: 39 frames, 13491 spikes; include_incomplete: 13491
#     n_time_bins=40: 13491 spikes, empty bins [24]
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 tonic==1.7.0 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
import tonic

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

spikes = fire(np.add.outer(np.linspace(0.1, 0.5, 24), np.linspace(0, 0.3, 32)), 40)
step, y, x = np.nonzero(spikes)
events = tonic.io.make_structured_array(x, y, step * 50, np.ones(len(x), int))
last = int(spikes[-1].sum())


def frames(**options):
    return tonic.transforms.ToFrame(sensor_size=(32, 24, 2), **options)(events)


windows = frames(time_window=50)
included = frames(time_window=50, include_incomplete=True)
bins = frames(n_time_bins=40)
empty = [i for i, frame in enumerate(bins) if not frame.sum()]
print(f"40 steps, {len(x)} spikes, {last} in the last")
print(f"time_window: {len(windows)} frames, {windows.sum()} spikes; include_incomplete: {included.sum()}")
print(f"n_time_bins=40: {bins.sum()} spikes, empty bins {empty}")
assert len(windows) == 39 and np.array_equal(windows[:, 1] > 0, spikes[:-1])
assert included.sum() == windows.sum() == bins.sum() == len(x) - last
assert len(empty) == 1 and 0 < empty[0] < 39
EOF
