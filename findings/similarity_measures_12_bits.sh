#!/usr/bin/env bash
# versions: image-similarity-measures 0.3.6, numpy 1.26.4, scikit-image 0.20.0
# date:     2026-11-30
# guess:    image-similarity-measures knows from the files or arrays that pictures have 8 bits.
# seen:     It takes white for 4095, the largest value of 12 bits, whatever the type. So the PSNR of 8-bit pictures
#           is 24.1 dB too high, and their SSIM nearly 1. In Python, max_p=255 gives the right figures.
# output:
#     scikit-image: PSNR 35.58, SSIM 0.901
#     command: PSNR 59.69, SSIM 0.999
#     function: PSNR 59.69
#     function, max_p=255: PSNR 35.58
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    image-similarity-measures==0.3.6 numpy==1.26.4 scikit-image==0.20.0 opencv-python==4.11.0.86 || exit 2
venv/bin/python - <<'EOF'
import json
import subprocess
import sys

import cv2
import numpy as np
from image_similarity_measures import quality_metrics
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

cv2.imwrite("truth.png", truth)
cv2.imwrite("picture.png", picture)

def by_command(metric):
    command = [sys.executable, "-m", "image_similarity_measures.evaluate", "--metric", metric]
    command += ["--org_img_path", "truth.png", "--pred_img_path", "picture.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["metrics"][metric]

arrays = truth[..., None], picture[..., None]
psnr = {
    "scikit-image": peak_signal_noise_ratio(truth, picture),
    "command": by_command("psnr"),
    "function": quality_metrics.psnr(*arrays),
    "function, max_p=255": quality_metrics.psnr(*arrays, max_p=255),
}
ssim = {"scikit-image": structural_similarity(truth, picture), "command": by_command("ssim")}
for name in psnr:
    print(f"{name}: PSNR {psnr[name]:.2f}" + (f", SSIM {ssim[name]:.3f}" if name in ssim else ""))
right, command, function, said = psnr.values()
assert abs(command - right - 20 * np.log10(4095 / 255)) < 0.01 and abs(function - command) < 0.01
assert abs(said - right) < 0.01
assert ssim["scikit-image"] < 0.95 and ssim["command"] > 0.99
EOF
