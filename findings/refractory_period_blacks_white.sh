#!/usr/bin/env bash
# versions: numpy 2.4.6, tonic 1.7.0, evutils 0.3.18
# date:     2026-12-01
# guess:    A refractory period of 2 steps lets a pixel that fires at every step fire at every second or third one.
# seen:     Such a pixel fires once and never again, in both libraries: the time of a dropped event counts as well. A
#           pixel survives only if it fires more slowly than the period, so bright areas turn black, and dark ones stay as
#           they are. "Drop" needs a distance greater than the period: with exactly one step, every pixel that fires at
#           each step is lost already.
# output:
#     a spike every 1, 2, 3 steps: 600 300 200 spikes
#     period of 1 step:  tonic 1 300 200, evutils 1 300 200
#     period of 2 steps: tonic 1 1 200, evutils 1 1 200
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 tonic==1.7.0 evutils==0.3.18 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
import tonic
from evutils.transforms.functional import refractory_period

STEP = 50  # us
spikes = np.zeros((601, 1, 3), bool)
for x, every in enumerate((1, 2, 3)):
    spikes[1::every, 0, x] = True
step, y, x = np.nonzero(spikes)
events = tonic.io.make_structured_array(x, y, step * STEP, np.ones(len(x), int))

def kept(events):
    return np.bincount(events["x"], minlength=3).tolist()

print("a spike every 1, 2, 3 steps:", *kept(events), "spikes")
left = {}
for steps in (1, 2):
    one = kept(tonic.transforms.RefractoryPeriod(delta=steps * STEP)(events.copy()))
    other = kept(refractory_period(events.copy(), steps * STEP))
    left[steps] = (one, other)
    name = "period of 1 step: " if steps == 1 else f"period of {steps} steps:"
    print(name, "tonic", " ".join(map(str, one)) + ", evutils", *other)
assert left == {1: ([1, 300, 200],) * 2, 2: ([1, 1, 200],) * 2}
EOF
