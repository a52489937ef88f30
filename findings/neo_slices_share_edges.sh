#!/usr/bin/env bash
# versions: numpy 2.4.6, neo 0.14.6, quantities 0.16.4
# date:     2026-11-30
# guess:    Slices of 50 us, end to end, divide a spike train among them.
# seen:     time_slice includes both ends, so a spike on an edge is in two slices. With the same width as 0.05
#           ms most edges come out slightly above the spike's time: each slice has the spike of the next step,
#           and the last slice is empty.
# output:
#     slices of 50.0 us: steps [[0, 1], [1, 2], [2, 3], [3, 4]] ... [[38, 39], [39]], 79 spikes of 40
#     slices of 0.05 ms: steps [[0, 1], [2], [3], [4]] ... [[39], []], 40 spikes of 40
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 neo==0.14.6 quantities==0.16.4 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
import neo
import quantities as pq

steps = 40
train = neo.SpikeTrain(np.arange(steps) * 50, units="us", t_stop=steps * 50)  # a spike at every step
edges = {"us": 50 * pq.us, "ms": 0.05 * pq.ms}
found = {}
for unit, width in edges.items():
    slices = [train.time_slice(k * width, (k + 1) * width) for k in range(steps)]
    found[unit] = [[int(t) // 50 for t in part.magnitude] for part in slices]
    spikes = sum(map(len, found[unit]))
    print(f"slices of {width}: steps {found[unit][:4]} ... {found[unit][-2:]}, {spikes} spikes of {steps}")
assert found["us"] == [[k, k + 1] for k in range(steps - 1)] + [[steps - 1]]
assert found["ms"] == [[0, 1]] + [[k + 1] for k in range(1, steps - 1)] + [[]]
EOF
