"""Samples pictures between their pixels, as scenes move.

`bicubic` is OpenCV's kernel, a = -0.75. It is fast but inexact: a ramp that should move by 0.1 pixels moves
by 0.14, and OpenCV 4 rounds coordinates to 1/32 pixel. `spline` is SciPy's cubic spline. It moves a ramp
exactly, with any version of OpenCV. docs/simulation.md gives the cost of both.
"""

import cv2
import numpy as np

from swinsf.utils.choices import SAMPLERS

SAMPLER = "bicubic"  # for all scenes; another default changes them, so raise `augment.DRAWS` with it


class Picture:
    """A float32 picture (h, w) to sample many times, mirrored beyond its edges."""

    def __init__(self, levels, sampler=None):
        self.levels, self.sampler = levels, sampler or SAMPLER
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler {self.sampler}: choose from {', '.join(SAMPLERS)}")
        if self.sampler == "spline":
            from scipy import ndimage  # slow to import

            self.levels = ndimage.spline_filter(levels, 3, np.float32, mode="mirror")

    def at(self, x, y):
        """Sample the picture at x, y, arrays (H, W) in pixels -> float32 (H, W)."""
        if self.sampler == "spline":
            from scipy import ndimage

            places = np.stack([y, x])
            return ndimage.map_coordinates(self.levels, places, np.float32, 3, "mirror", prefilter=False)
        places = np.float32(x), np.float32(y)
        return cv2.remap(self.levels, *places, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)

    def through(self, homography, height, width):
        """Sample a height x width picture; a 3x3 homography maps its coordinates to this picture's."""
        if self.sampler == "spline":
            x, y = np.arange(width, dtype=float), np.arange(height, dtype=float)[:, None]
            x, y, z = (row[0] * x + row[1] * y + row[2] for row in homography)
            return self.at(x / z, y / z)
        return cv2.warpPerspective(
            self.levels,
            homography,
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )

    def moved(self, affine):
        """The picture moved by a 2x3 matrix, which maps old coordinates to new ones."""
        height, width = self.levels.shape
        if self.sampler == "spline":
            return self.through(np.linalg.inv([*affine, [0, 0, 1]]), height, width)
        flags, border = cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101
        return cv2.warpAffine(self.levels, affine, (width, height), flags=flags, borderMode=border)


def grid():
    """Measure the grid to which OpenCV rounds coordinates: "exact", or "1/32 pixel" as in OpenCV 4."""
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    shift = np.array([[1, 0, 1 / 128], [0, 1, 0]], np.float32)
    moved = cv2.warpAffine(ramp, shift, (8, 8), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return "exact" if moved[4, 4] != 4 else "1/32 pixel"


def maker():
    """The software behind the scenes, recorded in meta.json, a run's config.json and the table of results."""
    return {"opencv": cv2.__version__, "grid": grid(), "sampler": SAMPLER}


def describe_other(before, now):
    """A text if `maker`'s values, recorded and current, differ in a way that changes scenes; else None.

    Files of earlier versions recorded none.
    """
    names = [name for name in ("grid", "sampler") if before and now and before.get(name) != now.get(name)]
    if not names:
        return None
    one, other = (", ".join(f"{name} {of.get(name)}" for name in names) for of in (before, now))
    return f"started with OpenCV {before.get('opencv')} ({one}), now OpenCV {now.get('opencv')} ({other})"
