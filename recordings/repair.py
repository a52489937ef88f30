"""Bad pixels of a recording: found by comparison with their neighbours, and filled with the spikes of the
nearest good pixel."""

from typing import NamedTuple

import cv2
import numpy as np

from swinsf.datasets.bad_pixels import nearest_good
from swinsf.recordings.recording import Recording, spread
from swinsf.utils.timing import STEPS

LOOKS = 16  # most pieces of a recording to read
LOOK = 64  # most steps in each
PEEKED = 3 * STEPS  # steps of a pipe to read; more would delay a live one
SIGMAS = 5  # standard errors by which a hot pixel must exceed all its neighbours
ALWAYS = 0.8  # part of the pieces in which it must exceed them
# It must also exceed the brightest neighbour by this part of it, by these spikes a step, and by these spikes
# in all. A part of 0.2 is within the noise of 300 steps: cuts of a recording differed in half of their bad
# pixels.
ABOVE, LEAST, FEWEST = 0.24, 0.01, 4
CONTRAST = 0.7  # and by this part of the difference between its neighbours
# A lens blurs light: if neighbours are brighter by this part of the excess, it is light.
SHARP = 0.15
# A pixel without a spike is dead if each neighbour exceeds these spikes a step, and these spikes in all.
DARK, SPIKES = 0.02, 10
QUANTUM = 0.4  # spikes: standard deviation of a count of regular spikes, sqrt(1/6)

RING = np.ones((3, 3), np.uint8)
RING[1, 1] = 0
OUTER = np.ones((5, 5), np.float32)
OUTER[1:4, 1:4] = 0
BORDER = {"borderType": cv2.BORDER_REFLECT_101}


class BadPixels(NamedTuple):
    """The bad pixels of a recording, and the rates that they were found by."""

    rate: np.ndarray  # (H, W) float32, mean spikes a step
    hot: np.ndarray  # (N, 2) rows and columns
    dead: np.ndarray


def find_bad_pixels(spikes) -> BadPixels:
    """The `BadPixels` of a recording (T, H, W); for a pipe, from the steps that it can peek at.

    A hot pixel exceeds all its eight neighbours by far, in every part of the recording. A moving or
    flickering speck does so only for a while. A still point of light also brightens the neighbours, since
    lenses blur. In less than a window's steps no bad pixels are found. The number of steps read does not grow
    with the recording.

    The thresholds are rates, whatever the length. Only below 400 steps, faint hot pixels are missed in the
    dark, where they have just a few spikes more than their neighbours.
    """
    looks, steps = rates_of(Recording.of(spikes))
    total, excess, squares, above, count = 0.0, 0.0, 0.0, 0.0, 0
    for rate in looks:
        over = rate - cv2.dilate(rate, RING, **BORDER)
        total, excess, squares, above, count = (
            total + rate,
            excess + over,
            squares + over**2,
            above + (over > 0),
            count + 1,
        )
    rate, excess, squares = total / count, excess / count, squares / count
    if steps * count < STEPS - 1:
        return BadPixels(rate, *np.zeros((2, 0, 2), int))
    spread = np.maximum(
        cv2.blur(squares - excess**2, (5, 5), **BORDER) * count / (count - 1), (QUANTUM / steps) ** 2
    )
    brightest, darkest = cv2.dilate(rate, RING, **BORDER), cv2.erode(rate, RING, **BORDER)
    beyond = rate - brightest
    glow = cv2.filter2D(rate, -1, RING / np.float32(8), **BORDER) - cv2.filter2D(
        rate, -1, OUTER / 16, **BORDER
    )
    hot = (
        (excess > SIGMAS * np.sqrt(spread / count))
        & (above >= ALWAYS * count)
        & (np.abs(glow) < SHARP * beyond)
    )
    least = max(LEAST, FEWEST / (steps * count))
    hot &= (beyond > np.maximum(least, ABOVE * brightest)) & (beyond > CONTRAST * (brightest - darkest))
    dead = (rate == 0) & (darkest > max(DARK, SPIKES / (steps * count)))
    return BadPixels(rate, np.argwhere(hot), np.argwhere(dead))


def rates_of(recording: Recording):
    """(iterator over mean rates, float32 (H, W), of evenly spread pieces of a recording; steps in each)."""
    spikes = recording.peek(PEEKED) if recording.length is None else recording
    count = max(2, min(LOOKS, len(spikes) // STEPS))
    steps = max(1, min(LOOK, len(spikes) // count))
    starts = spread(count, 0, len(spikes) - steps)
    return (
        np.count_nonzero(spikes[start : start + steps], axis=0).astype(np.float32) / steps for start in starts
    ), steps


def repair(spikes, bad: np.ndarray):
    """A recording (T, H, W) whose `bad` pixels, (H, W) bool, have the spikes of the nearest good one."""
    if not bad.any() or bad.all():
        return spikes
    return Recording.of(spikes).changed(Filler(bad))


class Filler:
    """Steps (..., H, W) -> a copy whose `bad` pixels, (H, W) bool, have those of the nearest good one."""

    def __init__(self, bad):
        self.bad, self.good = np.nonzero(bad), nearest_good(bad)

    def __call__(self, steps):
        steps = np.array(steps)
        steps[..., self.bad[0], self.bad[1]] = steps[..., self.good[0], self.good[1]]
        return steps
