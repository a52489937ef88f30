"""Smooth camera motion as pure geometry: maps a picture's pixels to places in its source at any time."""

import numpy as np

KINDS = {  # weights of translation, rotation, zoom and the two axes of perspective
    "translation": (1, 0, 0, 0, 0),
    "rotation": (0, 1, 0, 0, 0),
    "zoom": (0, 0, 1, 0, 0),
    "perspective": (0, 0, 0, 1, 1),
}
TILT = 0.3  # largest relative change of scale at the corners by perspective; the horizon lies at 1
FASTEST = 1.0  # largest speed of any pixel, in pixels per step


def draw_motion(height, width, speed, rng, weights=None, bend=0.0, reach=20):
    """Draw a motion: a function of time in steps -> 3x3 homography from picture to source coordinates.

    It mixes translation, rotation, zoom and perspective about the centre by `weights` (see `KINDS`; None:
    drawn at random). At time 0, the pixels of a height x width picture move by `speed` pixels per step on
    average. The motion is slower if, from time -reach to reach, a pixel would exceed FASTEST or the
    perspective TILT. bend: relative change of speed from time 0 to reach. The source's origin is its middle.
    """
    move, turn, zoom, tilt_x, tilt_y = (
        weights if weights is not None else rng.standard_normal(5) * (1, 1, 1, 0.5, 0.5)
    )
    angle = rng.uniform(0, 2 * np.pi)
    radius = np.hypot(height, width) / 4  # so that equal weights move the pixels by about as much
    rates = np.array(
        [
            move * np.cos(angle),
            move * np.sin(angle),
            turn / radius,
            zoom / radius,
            *(tilt_x, tilt_y) / radius**2,
        ]
    )
    y, x = np.mgrid[-0.5:0.5:31j, -0.5:0.5:31j]
    x, y = x * width + (width - 1) / 2, y * height + (height - 1) / 2  # out to the corners

    def speeds(rates, time):
        before, after = (
            project(homography(rates, height, width, time + part, bend, reach), x, y) for part in (-0.5, 0.5)
        )
        return np.hypot(*np.subtract(after, before))

    # Slow speeds are practically linear in the rates.
    rates = rates * speed / max(speeds(rates * 1e-3, 0).mean() * 1e3, 1e-12)
    rates[4:] /= max(1, 2 * radius * reach * np.hypot(*rates[4:]) / TILT)
    for time in (0, -reach, reach):
        while speeds(rates, time).max() > FASTEST:
            rates = rates * min(0.95, FASTEST / speeds(rates, time).max())
    return lambda time: homography(rates, height, width, time, bend, reach)


def homography(rates, height, width, time, bend, reach):
    """A motion's homography at a time. rates, per step: shift in x and y, angle, log of scale, tilt in x and
    y."""
    time = time * (1 + bend * time / (2 * reach))
    scale, cos, sin = np.exp(rates[3] * time), np.cos(rates[2] * time), np.sin(rates[2] * time)
    from_centre = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]])
    moved = [
        [scale * cos, -scale * sin, rates[0] * time],
        [scale * sin, scale * cos, rates[1] * time],
        [rates[4] * time, rates[5] * time, 1],
    ]
    return np.array(moved) @ from_centre


def project(homography, x, y):
    """Map points (x, y), arrays of one shape, by a 3x3 homography -> (x, y)."""
    x, y, z = np.tensordot(homography, np.stack([x, y, np.ones_like(x)]), 1)
    return x / z, y / z


def margin(motion, height, width, times):
    """(rows, columns) by which the picture, at the given times, reaches beyond a height x width source."""
    x, y = (
        np.array([-0.5, width - 0.5, -0.5, width - 0.5]),
        np.array([-0.5, -0.5, height - 0.5, height - 0.5]),
    )
    seen = np.abs([project(motion(time), x, y) for time in times]).max((0, 2))  # (x, y), from the middle
    return tuple(int(np.ceil(max(0.0, 2 * reach - side))) for reach, side in zip(seen[::-1], (height, width)))
