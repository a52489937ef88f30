#!/usr/bin/env bash
# versions: numpy 2.4.6, faery 0.7.1, expelliarmus 1.1.12, aedat 2.3.0
# date:     2026-11-30
# guess:    A part cut from a recording keeps its times in every format that faery writes.
# seen:     By default .es, .dat and .raw files start at time 0. In .dat and .raw the true start is in a
#           header line that faery reads and expelliarmus does not. In .es it is lost for faery, too. CSV and
#           AEDAT keep the times. zero_t0=False keeps it in .es, too.
# output:
#     s.es: first spike at {'faery': 0} us
#     s.dat: first spike at {'expelliarmus': 0, 'faery': 10000} us
#     s2.raw: first spike at {'expelliarmus': 0, 'faery': 10000} us
#     s.csv: first spike at {'numpy': 10000, 'faery': 10000} us
#     s.aedat: first spike at {'aedat': 10000, 'faery': 10000} us
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 faery==0.7.1 expelliarmus==1.1.12 aedat==2.3.0 || exit 2
venv/bin/python - <<'EOF'
import aedat
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

spikes = fire(np.add.outer(np.linspace(0.1, 0.5, 24), np.linspace(0, 0.3, 32)), 400)
step, y, x = np.nonzero(spikes)
events = np.zeros(len(x), faery.EVENTS_DTYPE)
events["t"], events["x"], events["y"], events["on"] = step * 50, x, y, True


def cut():
    """Steps 200 to 300, from 10,000 us."""
    return faery.events_stream_from_array(events, (32, 24)).time_slice(10000 * faery.us, 15000 * faery.us)


assert cut().to_array()["t"].min() == 10000
first = {}
for name in ("s.es", "s.dat", "s2.raw", "s.csv", "s.aedat"):
    cut().to_file(name, **({"version": "evt2"} if name == "s2.raw" else {}))
    others = {}
    if name == "s.dat":
        others["expelliarmus"] = Wizard(encoding="dat").read(name)["t"]
    if name == "s2.raw":
        others["expelliarmus"] = Wizard(encoding="evt2").read(name)["t"]
    if name == "s.aedat":
        others["aedat"] = next(packet["events"]["t"] for packet in aedat.Decoder(name) if "events" in packet)
    if name == "s.csv":
        others["numpy"] = np.loadtxt(name, delimiter=",", skiprows=1, dtype=int)[:, 0]
    others["faery"] = faery.events_stream_from_file(name).to_array()["t"]
    first[name] = {reader: int(t.min()) for reader, t in others.items()}
    print(f"{name}: first spike at {first[name]} us")
cut().to_file("kept.es", zero_t0=False)
assert faery.events_stream_from_file("kept.es").to_array()["t"].min() == 10000
assert first["s.es"] == {"faery": 0}
assert first["s.dat"] == first["s2.raw"] == {"expelliarmus": 0, "faery": 10000}
assert first["s.csv"] == {"numpy": 10000, "faery": 10000}
assert first["s.aedat"] == {"aedat": 10000, "faery": 10000}
EOF
