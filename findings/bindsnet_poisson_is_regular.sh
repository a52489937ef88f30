#!/usr/bin/env bash
# versions: bindsnet 0.3.4, torch 2.14.1
# date:     2026-12-01
# guess:    BindsNET's encoding.poisson gives Poisson spike trains: counts whose variance is near their mean, at the rate
#           asked for, also with approx=True.
# seen:     The intervals are drawn from a Poisson distribution, not an exponential one, so the trains are nearly regular:
#           at 50 Hz the variance of counts is 0.05 of the mean, where chance spikes have 0.95. 600 Hz become 539. With
#           approx=True 100 Hz become 161. encoding.bernoulli has both right.
# output:
#     Hz 50:  poisson 49 Hz, variance/mean 0.05; approx 70 Hz, 0.94; bernoulli 50 Hz, 0.96
#     Hz 100: poisson 99 Hz, variance/mean 0.10; approx 161 Hz, 0.82; bernoulli 100 Hz, 0.91
#     Hz 600: poisson 539 Hz, variance/mean 0.35; approx 514 Hz, 0.49; bernoulli 600 Hz, 0.40
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    bindsnet==0.3.4 torch==2.14.1 || exit 2
venv/bin/python - <<'EOF'
import warnings

warnings.simplefilter("ignore")
import torch
from bindsnet.encoding import bernoulli, poisson

STEPS, PIXELS = 400, 4000  # a step is 1 ms

def measure(spikes):
    """Rate in Hz, and variance over mean of the pixels' counts."""
    counts = spikes.float().sum(0)
    return counts.mean().item() * 1000 / STEPS, (counts.var() / counts.mean()).item()

torch.manual_seed(0)
found = {}
for rate in (50.0, 100.0, 600.0):
    light = torch.full((PIXELS,), rate)
    found[rate] = (
        *measure(poisson(light, time=STEPS, dt=1.0)),
        *measure(poisson(light, time=STEPS, dt=1.0, approx=True)),
        *measure(bernoulli(light / 1000, time=STEPS, dt=1.0)),
    )
    text = "poisson {:.0f} Hz, variance/mean {:.2f}; approx {:.0f} Hz, {:.2f}; bernoulli {:.0f} Hz, {:.2f}"
    print(f"Hz {rate:.0f}:".ljust(7), text.format(*found[rate]))
assert found[50.0][1] < 0.1 and found[50.0][5] > 0.9
assert abs(found[600.0][0] - 539) < 3 and abs(found[100.0][2] - 160) < 3 and abs(found[100.0][4] - 100) < 3
EOF
