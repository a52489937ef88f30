#!/usr/bin/env bash
# versions: numpy 2.4.6, scipy 1.17.1, scikit-image 0.26.0, PyWavelets 1.9.0
# guess:    skimage.restoration.estimate_sigma on the mean of 21 spike frames is near the true deviation, at
#           any brightness.
# seen:     It takes a median of wavelet coefficients, but a mean of steps has two levels only, k/21 and
#           (k+1)/21. Where few pixels have the other level the median is exactly zero: no noise at 0.335
#           spikes a step, though it is 2.2 grey levels; at 0.3 it is right.
# output:
#     0.3 spikes a step: true 5.6 grey levels, estimated 5.7
#     0.335 spikes a step: true 2.3 grey levels, estimated 0.0
#     0.52 spikes a step: true 3.3 grey levels, estimated 1.9
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 PyWavelets==1.9.0 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
from skimage.restoration import estimate_sigma

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

ratio = {}
for rate in (0.3, 0.335, 0.52):
    mean = fire(np.full((128, 128), rate), 21).mean(0)
    true, estimate = 255 * mean.std(), 255 * estimate_sigma(mean)
    ratio[rate] = estimate / true
    print(f"{rate} spikes a step: true {true:.1f} grey levels, estimated {estimate:.1f}")
assert abs(ratio[0.3] - 1) < 0.1
assert ratio[0.335] < 1e-6 and ratio[0.52] < 0.7
EOF
