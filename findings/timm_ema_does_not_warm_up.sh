#!/usr/bin/env bash
# versions: numpy 2.4.6, torch 2.14.1, torchvision 0.29.1, timm 1.0.31
# guess:    timm ModelEmaV3(use_warmup=True) warms up: update(model) counts its own calls, as other averages
#           do.
# seen:     Without step= it counts nothing: use_warmup and update_after_step are ignored, and the average
#           starts with its full decay from the random weights. On resume, step= has to go on from where it
#           was, else the average is overwritten by the model.
# output:
#     0, then 1 for 5 updates: 0.0050 without step=, 1.0000 with; at 0 again: 0.0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 torch==2.14.1 torchvision==0.29.1 timm==1.0.31 || exit 2
venv/bin/python - <<'EOF'
import torch
from timm.utils import ModelEmaV3


def average(with_step):
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = ModelEmaV3(model, decay=0.999, use_warmup=True, update_after_step=2)
    torch.nn.init.ones_(model.weight)
    for step in range(5):
        ema.update(model, step=step) if with_step else ema.update(model)
    return ema.module.weight.item(), ema, model


without, with_step = average(False)[0], average(True)[0]
_, ema, model = average(True)
for _ in range(3000):
    ema.update(model, step=3000)
torch.nn.init.zeros_(model.weight)
ema.update(model, step=0)  # a resumed run that counts from 0 again
resumed = ema.module.weight.item()
print(f"0, then 1 for 5 updates: {without:.4f} without step=, {with_step:.4f} with; at 0 again: {resumed:.1f}")
assert abs(without - (1 - 0.999**5)) < 1e-6 and with_step > 0.99
assert resumed == 0
EOF
