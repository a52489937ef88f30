"""Guesses the size of a `.dat` file's steps from their contents."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from swinsf.datasets.dat import CAMERAS, MARGIN, Camera, DatFile, stream_length
from swinsf.datasets.likeness import LIKE_A_PICTURE, LOOK, neighbour_correlations, rate_picture
from swinsf.utils.cli import UserError
from swinsf.utils.timing import STEPS

NOTHING = 0.015  # largest correlation of neighbours in pure noise: five standard errors
CLOSER = 1 / 3  # a better size has at most this fraction of the other's distance from a correlation of 1, or
TWICE = 2.0  # in the dark, at least this many times the other's correlation
FAINT = 0.06  # pictures with a lower expected correlation do not show their size
MOST_OF = 0.5  # minimum fraction of the expected correlation, since motion reduces it
AS_ALIKE = 0.8  # minimum correlation along columns, relative to rows, under the right size


class Candidate(NamedTuple):
    """A known format that a `.dat` file may have, and the evidence for it."""

    camera: Camera
    below: float  # correlation of pixels with those below
    beside: float  # correlation with those to the right, which are neighbours under any size
    steps: int
    left_over: int  # bytes after the last whole step
    expected: float  # correlation of neighbours under the right size, if nothing moves

    @property
    def alike(self):
        """The smaller correlation."""
        return min(self.below, self.beside)

    def __str__(self):
        left = f" ({self.left_over} bytes left over)" if self.left_over else ""
        return f"{self.camera.height}x{self.camera.width} {self.alike:.2f}{left}"

    def leads(self, other: "Candidate") -> bool:
        """Whether contents, or contents and file length together, favour this size over the other."""
        if not self.left_over and other.left_over:
            return self.alike > other.alike
        near = 1 - self.alike <= CLOSER * (1 - other.alike)
        return near or self.alike - other.alike >= MARGIN or self.alike >= TWICE * max(other.alike, NOTHING)

    @property
    def shows_all(self):
        """Whether the correlation is about as large as single steps suggest.

        Under a wrong size, steps are shifted against each other, so their mean loses correlation.
        """
        return self.alike >= MOST_OF * self.expected or self.expected < FAINT

    @property
    def is_picture(self):
        """Whether the contents look like pictures under this size.

        In the dark, noise lowers all correlations. But under the right size, columns correlate about as well
        as rows, and the file's length fits.
        """
        if self.alike >= LIKE_A_PICTURE:
            return True
        rows_as_columns = self.below + NOTHING >= AS_ALIKE * self.beside
        return self.alike > NOTHING and not self.left_over and rows_as_columns and self.shows_all


def guess_camera(path):
    """(the known format of a `.dat` file, a text on how it was found).

    Under the right size, neighbours in the picture of firing rates are alike along rows and columns. Under a
    wrong one, a pixel's upper neighbour comes from elsewhere, and each step is shifted against the previous.
    A file length of whole steps counts too, and decides alone if the pictures show nothing. Raises UserError
    with the candidates if none stands out.
    """
    path, length = Path(path), stream_length(path)
    ranking = sorted(candidates(path, length), key=lambda one: one.alike, reverse=True)
    listed = ", ".join(map(str, ranking))
    for one in ranking:
        if one.is_picture and all(one.leads(other) for other in ranking if other is not one):
            others = ", ".join(str(other) for other in ranking if other is not one)
            return (
                one.camera,
                f"from its pictures: neighbour correlation {one}; other sizes: {others or 'none'}",
            )
    whole = [one for one in ranking if not one.left_over and one.steps >= STEPS]
    if len(whole) == 1 and whole[0].shows_all and has_spikes(path, length):
        (one,) = whole
        size = f"{one.camera.height}x{one.camera.width}"
        return one.camera, (
            f"from its length alone, {one.steps} whole steps of {size}, since its pictures do not show it: "
            f"neighbour correlations {listed}; --height and --width set another"
        )
    raise UserError(
        f"{path}: cannot determine its size from its {length} bytes{describe_monotony(path, length)}"
        + (
            f"; neighbour correlations {listed}; the right size must stand out and reach {LIKE_A_PICTURE}, "
            "or less in the dark"
            if ranking
            else ", less than a step of any known sensor"
        )
        + "; give --height and --width"
    )


def candidates(path, length) -> list[Candidate]:
    """The known formats with at least one step in the file, with the evidence for each."""
    found, single = [], correlation_in_a_step(path, length)
    for camera in CAMERAS:
        steps, left_over = divmod(length, camera.height * camera.width // 8)
        if steps:
            below, beside = neighbour_correlations(rate_picture(DatFile(path, camera)))
            n = min(LOOK, steps)
            expected = n * single / (1 + (n - 1) * single)  # noise falls with n, or faster
            found.append(Candidate(camera, below, beside, steps, left_over, expected))
    return found


def correlation_in_a_step(path, length) -> float:
    """Correlation of pixels with their right neighbours within single steps; the size does not matter."""
    bits = np.unpackbits(np.fromfile(path, np.uint8, 1 << 20, offset=length // 2))
    rate = float(bits.mean())
    if rate in (0.0, 1.0):
        return 0.0
    both = np.count_nonzero(bits[1:] & bits[:-1]) / (bits.size - 1)
    return max(0.0, (both - rate**2) / (rate * (1 - rate)))


def bytes_in_the_middle(path, length) -> tuple:
    """The distinct byte values in the middle of a file."""
    return tuple(np.unique(np.fromfile(path, np.uint8, 1 << 20, offset=length // 2)).tolist())


def has_spikes(path, length) -> bool:
    """Whether some pixels in the middle of a file fire and some do not."""
    return bytes_in_the_middle(path, length) not in ((0,), (255,))


def describe_monotony(path, length) -> str:
    reasons = {
        (0,): ", since its middle has no spike",
        (255,): ", since every pixel in its middle fires at every step",
    }
    return reasons.get(bytes_in_the_middle(path, length), "")
