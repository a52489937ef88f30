"""Which axis of an array of spikes is time.

A pixel that integrates light fires, waits and fires again: along time two spikes hardly ever follow each
other, unless it is bright. Along rows and columns nothing keeps neighbours from firing together.
"""

import numpy as np

from swinsf.datasets.dat import LIKE_A_PICTURE, LOOK, neighbour_correlations, rate_picture
from swinsf.utils.cli import UserError

RARER = 0.8  # times as many spikes in a row along time as along another axis, at most
FEWEST = 100  # spikes in a row that chance would make; fewer tell nothing
REACH = 512  # steps that are looked at, at most; the dark has few spikes
PIXELS = 20_000  # in each


def spikes_in_a_row(spikes: np.ndarray) -> float:
    """How often two spikes of a pixel follow each other along the first axis, as a part of what chance makes.

    spikes: steps (t, N) of 0 and 1. 1.0 if there are too few spikes to tell.
    """
    steps, counts = len(spikes), np.count_nonzero(spikes, axis=0).astype(np.float64)
    chance = float(np.sum(counts * (counts - 1)) / max(1, steps))
    return np.count_nonzero(spikes[1:] & spikes[:-1]) / chance if chance >= FEWEST else 1.0


def middle(spikes, axis: int) -> np.ndarray:
    """Up to `REACH` places in the middle of the first or the last axis, as bool (t, N)."""
    start = max(0, (spikes.shape[axis] - REACH) // 2)
    part = spikes[start : start + REACH] if axis == 0 else spikes[..., start : start + REACH]
    part = np.moveaxis(np.asarray(part), axis, 0)
    part = part.reshape(len(part), -1)
    return part[:, :: max(1, part.shape[1] // PIXELS)] != 0


def time_is_last(spikes, name: str) -> bool:
    """Whether spikes (T, H, W), an array or what is read as it is sliced, are (H, W, T) instead.

    Raises UserError if they look like a picture as (H, W, T) only, but their spikes do not say which axis is
    time.
    """
    rows = spikes[max(0, (len(spikes) - LOOK) // 2) :][:LOOK]  # of the picture, if time is last
    first, last = spikes_in_a_row(middle(spikes, 0)), spikes_in_a_row(middle(np.asarray(rows), 2))
    if last < RARER * first:
        return True
    if first < RARER * last:
        return False
    given = min(neighbour_correlations(rate_picture(spikes)))
    turned = min(neighbour_correlations((np.asarray(rows) != 0).mean(2)))
    if turned >= LIKE_A_PICTURE and 1 - turned < (1 - given) / 3:
        raise UserError(
            f"{name}: may be (T, H, W) or (H, W, T); neighbours correlate by {given:.2f} and by {turned:.2f}, and its "
            "spikes do not say which axis is time; if it is (H, W, T), save numpy.moveaxis(spikes, -1, 0)"
        )
    return False
