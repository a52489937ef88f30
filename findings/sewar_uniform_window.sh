#!/usr/bin/env bash
# versions: sewar 0.4.10, numpy 2.4.6, scikit-image 0.26.0
# date:     2026-11-30
# guess:    sewar's ssim is that of Wang and others: a Gaussian window of 11x11. Grey levels may be integers or floats.
# seen:     Its window is 11x11 but uniform: the mean of 41 steps gets more than by the Gaussian window, which
#           fltr_specs gives. Floats count as 0 to 1 however large they are: grey levels of 0 to 255 as floats
#           lose 48.1 dB of PSNR, without a warning. With MAX=255 both are right.
# output:
#     SSIM with a Gaussian window: 0.874; sewar: 0.942, with fltr_specs 0.874
#     PSNR: 35.58; sewar, uint8: 35.58, the same as floats: -12.55
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    sewar==0.4.10 numpy==2.4.6 scikit-image==0.26.0 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
from sewar.full_ref import psnr, ssim
from sewar.utils import Filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

rows, columns = np.mgrid[:250, :400]
truth = 130 + 60 * np.sin(columns / 9) * np.cos(rows / 13) + 0.1 * columns
truth = truth.round().astype(np.uint8)
mean = fire(0.6 * truth / 255, 41).mean(0)  # TFP; 0.6 spikes a step are white
picture = (mean / 0.6 * 255).round().clip(0, 255).astype(np.uint8)

gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
wang = structural_similarity(truth, picture, **gaussian)
own = ssim(truth, picture)[0]
asked = ssim(truth, picture, fltr_specs={"fltr": Filter.GAUSSIAN, "ws": 11, "sigma": 1.5})[0]
print(f"SSIM with a Gaussian window: {wang:.3f}; sewar: {own:.3f}, with fltr_specs {asked:.3f}")
uniform = structural_similarity(truth, picture, win_size=11, use_sample_covariance=False)
assert abs(asked - wang) < 1e-3 and abs(own - uniform) < 1e-3 and abs(own - wang) > 0.01
right = peak_signal_noise_ratio(truth, picture)
integers, floats = psnr(truth, picture), psnr(truth.astype(float), picture.astype(float))
print(f"PSNR: {right:.2f}; sewar, uint8: {integers:.2f}, the same as floats: {floats:.2f}")
assert abs(integers - right) < 0.01 and abs(floats - right + 20 * np.log10(255)) < 0.01
assert abs(psnr(truth.astype(float), picture.astype(float), MAX=255) - right) < 0.01
EOF
