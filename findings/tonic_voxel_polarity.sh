#!/usr/bin/env bash
# versions: numpy 2.4.6, tonic 1.7.0
# guess:    tonic ToVoxelGrid adds +1 for an ON event and -1 for an OFF event.
# seen:     make_structured_array stores polarity as bool, ToVoxelGrid writes -1 over the OFF events, and -1
#           as a bool is True: all events count +1. With an integer polarity the sign is right. At both ends
#           of time events are weighted less: the sum is short.
# output:
#     default, 5000 events of polarity 1: the grid sums to 4702
#     default, 5000 events of polarity 0: the grid sums to 4702
#     int8, 5000 events of polarity 1: the grid sums to 4702
#     int8, 5000 events of polarity 0: the grid sums to -4702
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

rng = np.random.default_rng(0)
count = 5000
x, y = rng.integers(0, 32, count), rng.integers(0, 24, count)
time = np.sort(rng.integers(0, 2000, count))
grid = tonic.transforms.ToVoxelGrid(sensor_size=(32, 24, 2), n_time_bins=8)
total = {}
signed = np.dtype([("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i1")])
for name, options in (("default", {}), ("int8", {"dtype": signed})):
    for polarity in (1, 0):
        events = tonic.io.make_structured_array(x, y, time, np.full(count, polarity), **options)
        total[name, polarity] = float(grid(events).sum())
        print(f"{name}, {count} events of polarity {polarity}: the grid sums to {total[name, polarity]:.0f}")
assert total["default", 0] == total["default", 1] > 0
assert total["int8", 0] == -total["int8", 1] < 0
EOF
