#!/usr/bin/env bash
# versions: numpy 2.4.6, expelliarmus 1.1.12
# guess:    With a time window of 50 us, expelliarmus reads a stream of one step every 50 us step by step,
#           in every encoding.
# seen:     A window ends with the first event at or after its end, so the first spike of each step lies in
#           the window before. EVT3 packs events into vectors, and a window takes a whole one: from the
#           second on, windows hold two steps, and there are half as many. No event is lost.
# output:
#     spikes of the steps: [376, 335, 335, 352], 40 steps
#     dat: [377, 335, 335, 352], up to [50, 100, 150, 200] us, 40 windows
#     evt2: [377, 335, 335, 352], up to [50, 100, 150, 200] us, 40 windows
#     evt3: [377, 670, 695, 703], up to [50, 150, 250, 350] us, 21 windows
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 expelliarmus==1.1.12 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
from expelliarmus import Wizard

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
events = np.zeros(len(x), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
events["t"], events["x"], events["y"], events["p"] = step * 50, x, y, 1
print(f"spikes of the steps: {spikes.sum((1, 2))[:4].tolist()}, 40 steps")
windows = {}
for encoding, name in (("dat", "s.dat"), ("evt2", "s2.raw"), ("evt3", "s3.raw")):
    wizard = Wizard(encoding=encoding)
    wizard.save(name, events)
    back = wizard.read(name)
    assert all(np.array_equal(np.sort(back[k]), np.sort(events[k])) for k in "txyp")
    wizard.set_file(name)
    wizard.set_time_window(50)
    times = windows[encoding] = [window["t"] for window in wizard.read_time_window()]
    last = [int(t[-1]) for t in times[:4]]
    print(f"{encoding}: {[len(t) for t in times[:4]]}, up to {last} us, {len(times)} windows")
    assert sum(map(len, times)) == len(events)
for encoding in ("dat", "evt2"):
    assert [len(np.unique(t)) for t in windows[encoding]] == [2] * 39 + [1]
assert len(windows["evt3"]) == 21
EOF
