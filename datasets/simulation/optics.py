"""Optics in front of a camera's pixels: shading by lens and lamp, and dust."""

import numpy as np

DUST_PIXELS = (1, 60)  # area of a spot
DUST_LIGHT = (0.3, 0.8)  # fraction of the light that passes through a spot


def draw_shading(height, width, largest, rng):
    """A smooth field (H, W) with mean 1: fall-off towards the corners, displaced and tilted at random.

    It is a second-order polynomial that differs from 1 by up to `largest`. If that is 0, nothing is drawn.
    """
    if not largest:
        return np.ones((height, width))
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    tilt_x, tilt_y, stretch, twist = rng.normal(0, 0.4, 4)
    field = -(x**2 + y**2) + tilt_x * x + tilt_y * y + stretch * (x**2 - y**2) + twist * x * y
    field -= field.mean()
    return 1 + largest * field / np.abs(field).max()


def draw_dust(height, width, spots, rng):
    """The fraction of light (H, W) that passes through dust.

    spots: mean number per 100,000 pixels, Poisson-distributed. A spot is an ellipse, up to four times as long
    as wide. Its area is log-uniform over DUST_PIXELS.
    """
    through = np.ones((height, width))
    y, x = np.ogrid[:height, :width]
    for _ in range(rng.poisson(spots * height * width / 1e5) if spots else 0):
        area, length = np.exp(rng.uniform(*np.log(DUST_PIXELS))), np.exp(rng.uniform(0, np.log(2)))
        row, column, angle = rng.integers(height), rng.integers(width), rng.uniform(0, np.pi)
        along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
        across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
        spot = (along / length) ** 2 + (across * length) ** 2 <= area / np.pi
        through[spot] *= rng.uniform(*DUST_LIGHT)
    return through
