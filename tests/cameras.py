"""Small cameras whose pixels differ, as those of real ones do, and recordings by them."""

import numpy as np


def draw_camera(height=40, width=50, seed=0, hot=()):
    """(dark, response), each (H, W): log-normal dark charge, and a response with mean 1, a shaded corner and
    a bright first column.

    hot: (row, column, dark charge) of each hot pixel.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    response = (1 - 0.15 * rows * columns) * (1 + 0.022 * rng.standard_normal((height, width)))
    response[:, 0] *= 1.2
    dark = 0.004 * np.exp(0.43 * rng.standard_normal((height, width)))
    for row, column, charge in hot:
        dark[row, column] = charge
    return dark.astype(np.float32), (response / response.mean()).astype(np.float32)


def record(light, camera, steps, seed=0, electrons=10_000):
    """Spikes, uint8 (steps, H, W). light: thresholds a step, (H, W), a number, or a function of the step."""
    rng, (dark, response) = np.random.default_rng(seed), camera
    charge, spikes = rng.random(dark.shape), np.zeros((steps, *dark.shape), np.uint8)
    for step in range(steps):
        gathered = response * (light(step) if callable(light) else light) + dark
        charge += rng.poisson(gathered * electrons) / electrons
        spikes[step] = charge >= 1
        charge = np.minimum(charge - spikes[step], 1)
    return spikes


def waves(height=40, width=50, level=0.15, speed=0.0):
    """The light of a soft texture that moves to the right, as a function of the step."""
    rows, columns = np.mgrid[:height, :width]
    return lambda step: level * (1 + 0.4 * np.sin((columns - speed * step) / 4) + 0.3 * np.cos(rows / 5))


def matched_psnr(picture, truth):
    """PSNR of a picture after the best gain and offset, relative to the largest value of the truth."""
    gain, offset = np.polyfit(picture.ravel(), truth.ravel(), 1)
    return -10 * np.log10(np.mean((gain * picture + offset - truth) ** 2) / truth.max() ** 2)
