"""Which axis of an array of spikes is time.

A pixel integrates light between its spikes, so it rarely fires at two steps in a row, unless it is bright.
Nothing keeps neighbours along rows and columns from firing together.
"""

import numpy as np

from swinsf.datasets.likeness import LIKE_A_PICTURE, LOOK, neighbour_correlations, rate_picture
from swinsf.utils.cli import UserError
from swinsf.utils.timing import STEPS

RARER = 0.8  # largest ratio of spikes in a row along time to those along another axis
FEWEST = 100  # spikes in a row that chance would make; fewer are no evidence
REACH = 512  # largest number of steps to look at; dark recordings have few spikes
PIXELS = 20_000  # number of pixels to look at in each
MOST_BYTES = 2**26  # bytes read for a look


def spikes_in_a_row(spikes: np.ndarray) -> float:
    """How often a pixel fires twice in a row along the first axis, relative to chance.

    spikes: steps (t, N) of 0 and 1. Returns 1.0 if there are too few spikes to tell.
    """
    steps, counts = len(spikes), np.count_nonzero(spikes, axis=0).astype(np.float64)
    chance = float(np.sum(counts * (counts - 1)) / max(1, steps))
    return np.count_nonzero(spikes[1:] & spikes[:-1]) / chance if chance >= FEWEST else 1.0


def around_middle(spikes, most: int) -> np.ndarray:
    """Up to `most` entries from the middle of the first axis, fewer if they are large."""
    count = max(2, min(most, MOST_BYTES // max(1, spikes.shape[1] * spikes.shape[2])))
    start = max(0, (len(spikes) - count) // 2)
    return np.asarray(spikes[start : start + count])


def as_steps(spikes: np.ndarray) -> np.ndarray:
    """(t, H, W) -> bool (t, N), of about `PIXELS` pixels."""
    steps = spikes.reshape(len(spikes), -1)
    return steps[:, :: max(1, steps.shape[1] // PIXELS)] != 0


def time_is_last(spikes, name: str) -> bool:
    """Whether spikes (T, H, W), an array or an object that reads slices, are (H, W, T) instead.

    Raises UserError if only (H, W, T) looks like a picture, but the spikes do not show which axis is time.
    """
    if spikes.shape[-1] < STEPS:  # too short for a single window
        return False
    rows = around_middle(spikes, LOOK)  # rows of the picture if time is last
    turned = around_middle(np.moveaxis(rows, -1, 0), REACH)
    first, last = spikes_in_a_row(as_steps(around_middle(spikes, REACH))), spikes_in_a_row(as_steps(turned))
    if last < RARER * first:
        return True
    if first < RARER * last:
        return False
    given = min(neighbour_correlations(rate_picture(spikes)))
    as_turned = min(neighbour_correlations((rows != 0).mean(2)))
    if as_turned >= LIKE_A_PICTURE and 1 - as_turned < (1 - given) / 3:
        raise UserError(
            f"{name}: may be (T, H, W) or (H, W, T); neighbours correlate by {given:.2f} and by {as_turned:.2f}, and its "
            "spikes do not say which axis is time; if it is (H, W, T), save numpy.moveaxis(spikes, -1, 0)"
        )
    return False
