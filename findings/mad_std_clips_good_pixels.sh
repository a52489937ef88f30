#!/usr/bin/env bash
# versions: numpy 2.4.6, astropy 8.0.2
# guess:    To find bad pixels of a dark recording, sigma_clip with stdfunc="mad_std" is as safe as with the
#           plain deviation.
# seen:     Counts of a dark, even scene are far more regular than Poisson counts. More than half the pixels
#           have the same count, so mad_std is zero and every other pixel is clipped at 5 sigma, thousands
#           of good ones. With the plain deviation exactly the 40 bad ones are.
# output:
#     of 16384 pixels, 40 of them bad:
#     counts 2.4 +- 0.49, mad_std 0.00: clipped 40, with mad_std 6595
#     counts 3.0 +- 0.35, mad_std 0.00: clipped 40, with mad_std 2026
#     counts 6.0 +- 0.49, mad_std 0.00: clipped 40, with mad_std 4012
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 astropy==8.0.2 || exit 2
venv/bin/python - <<'EOF'
import numpy as np
from astropy.stats import mad_std, sigma_clip

def fire(light, steps, seed=0):
    """Integrate and fire: a pixel spikes once its sum of light (H, W), in spikes a step, reaches 1."""
    level = np.random.default_rng(seed).random(light.shape)
    spikes = np.zeros((steps, *light.shape), bool)
    for step in range(steps):
        level += light
        spikes[step] = level >= 1
        level -= spikes[step]
    return spikes

gain = 1 + 0.05 * np.random.default_rng(1).standard_normal((128, 128))
print("of 16384 pixels, 40 of them bad:")
for rate in (0.008, 0.01, 0.02):
    counts = fire(rate * gain, 300).sum(0).astype(float)
    bad = np.zeros(counts.shape, bool)
    bad[:2, :20] = True
    counts[bad] = 60
    plain = sigma_clip(counts, sigma=5).mask
    robust = sigma_clip(counts, sigma=5, cenfunc="median", stdfunc="mad_std").mask
    good = counts[~bad]
    print(
        f"counts {good.mean():.1f} +- {good.std():.2f}, mad_std {mad_std(counts):.2f}:",
        f"clipped {plain.sum()}, with mad_std {robust.sum()}",
    )
    assert np.array_equal(plain, bad)
    assert mad_std(counts) == 0 and robust.sum() > 1000
EOF
