#!/usr/bin/env bash
# versions: numpy 2.4.6, scikit-image 0.26.0
# guess:    random_noise(mode="poisson") depends on the light in a picture: the mean of more steps gets the
#           same noise.
# seen:     It takes the number of different values in the picture, rounded up to a power of two, as the
#           number of photons of white. A mean of 10 steps gets more than five times the noise of a mean of
#           300 steps.
# output:
#     mean of 10 steps, 7 values: noise 57.1, 8 photons
#     mean of 41 steps, 26 values: noise 28.3, 32 photons
#     mean of 300 steps, 181 values: noise 10.1, 256 photons
#     mean of 1000 steps, 493 values: noise 7.1, 509 photons
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 scikit-image==0.26.0 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
from skimage.util import random_noise

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

spikes = fire(np.add.outer(np.linspace(0.1, 0.4, 128), np.linspace(0, 0.3, 128)), 1000)
noise = {}
for steps in (10, 41, 300, 1000):
    mean = spikes[:steps].mean(0)
    noisy = random_noise(mean, mode="poisson", rng=0, clip=False)
    values = len(np.unique(mean))
    noise[steps] = (noisy - mean).std()
    photons = mean.mean() / noise[steps] ** 2
    print(f"mean of {steps} steps, {values} values: noise {255 * noise[steps]:.1f}, {photons:.0f} photons")
    assert abs(photons / 2 ** np.ceil(np.log2(values)) - 1) < 0.05
assert noise[10] > 5 * noise[300]
EOF
