#!/usr/bin/env bash
# versions: numpy 2.4.6, quantities 0.16.4, neo 0.14.6, elephant 1.2.1
# guess:    Elephant measures a camera's pixel as it does a neuron: LvR is about 1 for random spikes and
#           less for regular ones, STTC about 0 for independent pixels.
# seen:     The defaults are a neuron's milliseconds. LvR assumes a refractory period of 5 ms, longer than
#           any interval here: 20 for random spikes, 35 for an integrate-and-fire pixel. STTC counts spikes
#           within 5 ms as together: 1 for independent pixels. R=0 and a dt of half a step are right.
#           Nothing warns.
# output:
#     random: LvR 20.1, with R=0 0.88
#     integrate and fire: LvR 34.7, with R=0 0.26
#     independent pixels: STTC 1.00, with dt of half a step -0.00
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 quantities==0.16.4 neo==0.14.6 elephant==1.2.1 || exit 2
venv/bin/python - <<'EOF'
import neo
import numpy as np
import quantities as pq
from elephant.spike_train_correlation import spike_time_tiling_coefficient as sttc
from elephant.statistics import isi, lvr

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

random = [np.random.default_rng(seed).random(4000) < 0.07 for seed in (0, 1)]
regular = fire(np.array([0.62]), 4000)[:, 0]
first, second, third = (
    neo.SpikeTrain(np.flatnonzero(spikes) * 50 * pq.us, t_stop=200 * pq.ms) for spikes in (*random, regular)
)
measured = {}
for name, train in (("random", first), ("integrate and fire", third)):
    measured[name] = default, zero = float(lvr(isi(train))), float(lvr(isi(train), R=0 * pq.ms))
    print(f"{name}: LvR {default:.1f}, with R=0 {zero:.2f}")
default, half = float(sttc(first, second)), float(sttc(first, second, dt=25 * pq.us))
print(f"independent pixels: STTC {default:.2f}, with dt of half a step {half:.2f}")
assert measured["random"][0] > 10 and 0.7 < measured["random"][1] < 1.1
assert measured["integrate and fire"][0] > 20 and measured["integrate and fire"][1] < 0.5
assert default > 0.99 and abs(half) < 0.05
EOF
