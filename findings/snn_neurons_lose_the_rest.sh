#!/usr/bin/env bash
# versions: spikingjelly 2.0.0, norse 1.1.0, snntorch 1.0.0, torch 2.14.1
# date:     2026-11-30
# guess:    An integrate-and-fire neuron without leak fires by default at the rate of its input, as a pixel of a
#           spike camera does.
# seen:     SpikingJelly's IFNode and Norse's IAFCell set the charge to zero at a spike. So every input from 0.5
#           (IFNode) or just above it (IAFCell) up to 1 fires every second step: white looks like mid-grey.
#           IFNode(v_reset=None) and snnTorch's Leaky(beta=1) subtract the threshold, and keep the rate.
# output:
#     input: 0.10 0.25 0.30 0.50 0.60 0.75 0.90
#     IFNode(): 0.10 0.25 0.25 0.50 0.50 0.50 0.50
#     IAFCell(): 0.10 0.20 0.25 0.33 0.50 0.50 0.50
#     IFNode(v_reset=None): 0.10 0.25 0.30 0.50 0.60 0.75 0.90
#     Leaky(beta=1): 0.10 0.25 0.30 0.50 0.60 0.75 0.90
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    spikingjelly==2.0.0 norse==1.1.0 snntorch==1.0.0 torch==2.14.1 || exit 2
venv/bin/python - <<'EOF'
import warnings

warnings.simplefilter("ignore")
import snntorch
import torch
from norse.torch.module.iaf import IAFCell
from spikingjelly.activation_based.neuron import IFNode

STEPS = 2000
light = torch.tensor([0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9])  # thresholds a step

def rates(step):
    """Spikes a step of `step(state) -> (spikes, state)`, from a neuron at rest."""
    state, total = None, 0
    with torch.no_grad():
        for _ in range(STEPS):
            spikes, state = step(state)
            total = total + spikes
    return total / STEPS

resetting, subtracting, iaf = IFNode(), IFNode(v_reset=None), IAFCell()
leaky = snntorch.Leaky(beta=1.0)
found = {
    "IFNode()": rates(lambda state: (resetting(light), None)),
    "IAFCell()": rates(lambda state: iaf(light, state)),
    "IFNode(v_reset=None)": rates(lambda state: (subtracting(light), None)),
    "Leaky(beta=1)": rates(lambda state: leaky(light, leaky.reset_mem() if state is None else state)),
}
print("input:", *(f"{value:.2f}" for value in light.tolist()))
for name, rate in found.items():
    print(f"{name}:", *(f"{value:.2f}" for value in rate.tolist()))
for name in ("IFNode(v_reset=None)", "Leaky(beta=1)"):
    assert (found[name] - light).abs().max() < 0.002
for name in ("IFNode()", "IAFCell()"):
    assert (found[name][4:] - 0.5).abs().max() < 0.002 and (found[name] - light).min() < -0.39
EOF
