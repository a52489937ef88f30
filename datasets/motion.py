"""Smooth camera motion as pure geometry: where each pixel of a picture lies in its source at each moment."""

import numpy as np

KINDS = {  # weights of translation, rotation, zoom and the two axes of perspective
    "translation": (1, 0, 0, 0, 0),
    "rotation": (0, 1, 0, 0, 0),
    "zoom": (0, 0, 1, 0, 0),
    "perspective": (0, 0, 0, 1, 1),
}
FASTEST = 1.0  # no pixel moves by more than this at the key frame, in pixels a step


def draw_motion(height, width, speed, rng, weights=None, bend=0.0):
    """A motion: function of the time in steps -> 3x3 float64 homography from picture to source coordinates.

    Translation, rotation, zoom and perspective about the centre, mixed by `weights` (drawn where None; see `KINDS`), scaled so
    that at time 0 the pixels of a height x width picture move by `speed` pixels a step in the mean, or by less where the
    fastest pixel would pass FASTEST. `bend` is the relative change of the speed in 20 steps. The origin of the source lies in
    its middle.
    """
    move, turn, zoom, tilt_x, tilt_y = weights if weights is not None else rng.standard_normal(5) * (1, 1, 1, 0.5, 0.5)
    angle = rng.uniform(0, 2 * np.pi)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    radius = np.hypot(height, width) / 4  # so that equal weights move the pixels by about as much
    rates = np.array([move * np.cos(angle), move * np.sin(angle), turn / radius, zoom / radius])
    tilt = np.array([tilt_x, tilt_y]) / radius**2

    # The speed at 16 x 16 points, out to the corners, at time 0.
    y, x = np.mgrid[-0.5:0.5:16j, -0.5:0.5:16j]
    y, x = y * height, x * width
    farther = tilt[0] * x + tilt[1] * y
    speeds = np.hypot(rates[0] + rates[3] * x - rates[2] * y - farther * x, rates[1] + rates[2] * x + rates[3] * y - farther * y)
    factor = min(speed / speeds.mean(), FASTEST / speeds.max())
    rates, tilt = rates * factor, tilt * factor

    from_centre = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1]])

    def homography(time):
        time = time * (1 + bend * time / 40)
        scale, cos, sin = np.exp(rates[3] * time), np.cos(rates[2] * time), np.sin(rates[2] * time)
        return (
            np.array(
                [
                    [scale * cos, -scale * sin, rates[0] * time],
                    [scale * sin, scale * cos, rates[1] * time],
                    [tilt[0] * time, tilt[1] * time, 1],
                ]
            )
            @ from_centre
        )

    return homography


def project(homography, x, y):
    """Points (x, y), arrays of one shape, through a 3x3 homography -> (x, y)."""
    x, y, z = np.tensordot(homography, np.stack([x, y, np.ones_like(x)]), 1)
    return x / z, y / z


def margin(motion, height, width, times):
    """How many pixels beyond a height x width source the corners of the picture see at the given times: (rows, columns)."""
    x, y = np.array([-0.5, width - 0.5, -0.5, width - 0.5]), np.array([-0.5, -0.5, height - 0.5, height - 0.5])
    seen = np.abs([project(motion(time), x, y) for time in times]).max((0, 2))  # (x, y), from the middle
    return tuple(int(np.ceil(max(0.0, 2 * reach - side))) for reach, side in zip(seen[::-1], (height, width)))
