#!/usr/bin/env bash
# versions: numpy 2.4.6, scipy 1.17.1, scikit-image 0.26.0
# guess:    By default phase_cross_correlation finds the shift of two single spike frames, or its error
#           tells that it failed.
# seen:     With the default normalization="phase" the error is 1 even for a picture and itself. The shift
#           of two means is right, that of two frames is nonsense, and nothing tells. With
#           normalization=None frames are found within a pixel, and the error of two means tells whether
#           they show the same scene.
# output:
#     mean and itself: phase [0, 0] error 1.00, None [0, 0] error 0.00
#     means, moved by 3: phase [0, -3] error 1.00, None [0, -3] error 0.03
#     means of two scenes: phase [-51, -43] error 1.00, None [-9, -36] error 0.27
#     frames, moved by 3: phase [23, -73] error 1.00, None [-1, -4] error 0.90
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

noise = gaussian_filter(np.random.default_rng(0).random((128, 160)), 2, mode="wrap")
light = 0.1 + 0.6 * (noise - noise.min()) / np.ptp(noise)
first, moved = fire(light, 41), fire(np.roll(light, 3, 1), 41, seed=1)
other = fire(light[::-1, ::-1], 41, seed=2)
pairs = {
    "mean and itself": (first.mean(0), first.mean(0)),
    "means, moved by 3": (first.mean(0), moved.mean(0)),
    "means of two scenes": (first.mean(0), other.mean(0)),
    "frames, moved by 3": (first[20] * 1.0, moved[20] * 1.0),
}
shift, error = {}, {}
for name, pair in pairs.items():
    for way in ("phase", None):
        found, error[name, way], _ = phase_cross_correlation(*pair, normalization=way)
        shift[name, way] = found.astype(int).tolist()
    both = ", ".join(f"{way} {shift[name, way]} error {error[name, way]:.2f}" for way in ("phase", None))
    print(f"{name}: {both}")
assert all(abs(error[name, "phase"] - 1) < 0.01 for name in pairs)
assert error["mean and itself", None] < 0.01 and error["means, moved by 3", None] < 0.1
assert error["means of two scenes", None] > 0.2
assert shift["means, moved by 3", "phase"] == [0, -3]
assert np.abs(shift["frames, moved by 3", "phase"]).max() > 10
assert np.abs(np.subtract(shift["frames, moved by 3", None], [0, -3])).max() <= 1
EOF
