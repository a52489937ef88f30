"""Pictures between their pixels: how scenes are sampled as they move.

`bicubic` is OpenCV's kernel, a = -0.75. It is fast, but not even: a ramp that should move by 0.1 pixels moves
by 0.14, and OpenCV 4 rounds every place to 1/32 pixel. `spline` is SciPy's cubic spline, which moves a ramp
as far as asked, whatever OpenCV is installed. docs/simulation.md has what both cost.
"""

import cv2
import numpy as np

from swinsf.utils.choices import SAMPLERS

SAMPLER = "bicubic"  # of all scenes; another default makes other scenes, so raise `augment.DRAWS` with it


class Picture:
    """A float32 picture (h, w) that is sampled many times; beyond its edge it is mirrored."""

    def __init__(self, levels, sampler=None):
        self.levels, self.sampler = levels, sampler or SAMPLER
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler {self.sampler}: choose from {', '.join(SAMPLERS)}")
        if self.sampler == "spline":
            from scipy import ndimage  # flags do not wait for it

            self.levels = ndimage.spline_filter(levels, 3, np.float32, mode="mirror")

    def at(self, x, y):
        """The picture at the places x, y, arrays (H, W) in pixels -> float32 (H, W)."""
        if self.sampler == "spline":
            from scipy import ndimage

            places = np.stack([y, x])
            return ndimage.map_coordinates(self.levels, places, np.float32, 3, "mirror", prefilter=False)
        places = np.float32(x), np.float32(y)
        return cv2.remap(self.levels, *places, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)

    def through(self, homography, height, width):
        """The height x width picture that a 3x3 homography from its places to this one's sees."""
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
        """The picture moved by a 2x3 matrix, from its places to those it moves to."""
        height, width = self.levels.shape
        if self.sampler == "spline":
            return self.through(np.linalg.inv([*affine, [0, 0, 1]]), height, width)
        flags, border = cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101
        return cv2.warpAffine(self.levels, affine, (width, height), flags=flags, borderMode=border)


def grid():
    """How finely OpenCV places what it samples: "exact", or "1/32 pixel" as OpenCV 4 does. It is measured."""
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    shift = np.array([[1, 0, 1 / 128], [0, 1, 0]], np.float32)
    moved = cv2.warpAffine(ramp, shift, (8, 8), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return "exact" if moved[4, 4] != 4 else "1/32 pixel"


def maker():
    """What meta.json, a run's config.json and the table of results say of what made the scenes."""
    return {"opencv": cv2.__version__, "grid": grid(), "sampler": SAMPLER}


def describe_other(before, now):
    """Text if `maker`'s values of a dataset or a run differ from today's in what scenes depend on, else None. Of
    files of earlier versions there are none."""
    names = [name for name in ("grid", "sampler") if before and now and before.get(name) != now.get(name)]
    if not names:
        return None
    one, other = (", ".join(f"{name} {of.get(name)}" for name in names) for of in (before, now))
    return f"begun with OpenCV {before.get('opencv')} ({one}), now OpenCV {now.get('opencv')} ({other})"
