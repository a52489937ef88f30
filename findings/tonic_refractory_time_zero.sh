#!/usr/bin/env bash
# versions: numpy 2.4.6, tonic 1.7.0
# guess:    tonic RefractoryPeriod keeps each pixel's first event and drops those that come too soon after
#           it.
# seen:     Every pixel is taken to have fired at time 0, before the recording: with any delta of 1 us or
#           more, the whole first step of a stream that starts at 0 is dropped, and the first delta of a
#           recording is blind. Add an offset to the times first.
# output:
#     first step has 376 spikes; lost with a start at 0: 376, at 1000 us: 0
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
period = tonic.transforms.RefractoryPeriod(delta=1)  # a step is 50: nothing comes that soon
lost = {}
for start in (0, 1000):
    events = tonic.io.make_structured_array(x, y, start + step * 50, np.ones(len(x), int))
    lost[start] = len(events) - len(period(events))
print(f"first step has {spikes[0].sum()} spikes; lost with a start at 0: {lost[0]}, at 1000 us: {lost[1000]}")
assert lost == {0: spikes[0].sum(), 1000: 0}
EOF
