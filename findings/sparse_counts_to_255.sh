#!/usr/bin/env bash
# versions: numpy 2.4.6, sparse 0.19.3
# date:     2026-11-30
# guess:    The sum of a sparse uint8 array over time gives counts, as numpy's does.
# seen:     From 256 steps on it raises OverflowError, however few spikes there are. The sum of zeros is
#           computed as fill value times steps, and the steps must fit into uint8. mean raises, too. bool and
#           int64 work.
# output:
#     uint8, sum of 255 steps: uint64, at most 8
#     uint8, sum of 256 steps: OverflowError: Python integer 256 out of bounds for uint8
#     bool, sum of 255 steps: int64, at most 8
#     bool, sum of 256 steps: int64, at most 8
#     int64, sum of 255 steps: int64, at most 8
#     int64, sum of 256 steps: int64, at most 8
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 sparse==0.19.3 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
import sparse

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

spikes = fire(np.add.outer(np.linspace(0.001, 0.02, 24), np.linspace(0, 0.01, 32)), 300)  # in the dark
found = {}
for dtype in ("uint8", "bool", "int64"):
    for steps in (255, 256):
        array = sparse.COO.from_numpy(spikes[:steps].astype(dtype))
        try:
            counts = array.sum(0)
            found[dtype, steps] = f"{counts.dtype}, at most {counts.todense().max()}"
            assert np.array_equal(counts.todense(), spikes[:steps].sum(0))
        except OverflowError as error:
            found[dtype, steps] = f"OverflowError: {error}"
        print(f"{dtype}, sum of {steps} steps: {found[dtype, steps]}")
failed = [key for key, text in found.items() if text.startswith("OverflowError")]
assert failed == [("uint8", 256)]
EOF
