#!/usr/bin/env bash
# versions: numpy 2.4.6, expelliarmus 1.1.12, faery 0.7.1
# date:     2026-11-30
# guess:    expelliarmus and faery read each other's EVT3 files.
# seen:     EVT3 sends the upper part of the time in words of its own. expelliarmus writes one such word, so
#           faery reads 400 steps within the first 4096 us. In a file of faery's it counts each overflow of
#           the lower part and then the word, too: 20 ms take 36 ms. It reads its own files right, so a round
#           trip shows nothing. x and y are right.
# output:
#     last step at 19950 us
#     written by expelliarmus, read by expelliarmus: last at 19950 us, 400 times
#     written by expelliarmus, read by faery: last at 4062 us, 85 times
#     written by faery, read by expelliarmus: last at 36334 us, 400 times
#     written by faery, read by faery: last at 19950 us, 400 times
#     words of the upper part: {'expelliarmus': 1, 'faery': 5}
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 expelliarmus==1.1.12 faery==0.7.1 || exit 2
venv/bin/python - <<'EOF'
import faery
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

def read(name, library):
    """Times of a file's spikes in us, and a pixel number of each."""
    if library == "faery":
        events = faery.events_stream_from_file(name).to_array()
    else:
        events = Wizard(encoding="evt3").read(name)
    return np.asarray(events["t"]).astype(int), events["y"].astype(int) * 32 + events["x"]


def high_words(name):
    """How often an EVT3 file states the upper part of the time."""
    data = open(name, "rb").read()
    start = 0
    while data[start : start + 1] == b"%":
        start = data.index(b"\n", start) + 1
    return int(np.sum(np.frombuffer(data[start:], "<u2") >> 12 == 8))


spikes = fire(np.add.outer(np.linspace(0.1, 0.5, 24), np.linspace(0, 0.3, 32)), 400)
step, y, x = np.nonzero(spikes)
events = np.zeros(len(x), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
events["t"], events["x"], events["y"], events["p"] = step * 50, x, y, 1
Wizard(encoding="evt3").save("expelliarmus.raw", events)
same = np.zeros(len(x), faery.EVENTS_DTYPE)
same["t"], same["x"], same["y"], same["on"] = step * 50, x, y, True
faery.events_stream_from_array(same, (32, 24)).to_file("faery.raw", version="evt3")
print(f"last step at {events['t'].max()} us")
last = {}
for writer in ("expelliarmus", "faery"):
    for reader in ("expelliarmus", "faery"):
        t, pixel = read(f"{writer}.raw", reader)
        assert np.array_equal(np.sort(pixel), np.sort(y * 32 + x))
        last[writer, reader] = int(t.max())
        print(f"written by {writer}, read by {reader}: last at {t.max()} us, {len(np.unique(t))} times")
words = {writer: high_words(f"{writer}.raw") for writer in ("expelliarmus", "faery")}
print(f"words of the upper part: {words}")
assert words == {"expelliarmus": 1, "faery": 5}
assert last["expelliarmus", "expelliarmus"] == last["faery", "faery"] == 19950
assert last["expelliarmus", "faery"] < 4096 and last["faery", "expelliarmus"] > 30000
EOF
