"""Measures a recording's light and motion from a few samples, called looks."""

from typing import NamedTuple

import cv2
import numpy as np

from swinsf.recordings.recording import Recording, spread
from swinsf.utils.timing import STEPS

PLACES = 5  # number of looks
ENOUGH = 12  # spikes that a bright pixel needs in a look; the look is lengthened for them,
LONGEST = 8 * STEPS  # but not beyond these steps
BRIGHT = 0.99  # quantile of the rate at which a pixel counts as bright
WHITE = 0.9  # grey level of a bright pixel after an automatic gain, relative to the range
TEXTURED = 10.0  # slope in grey levels a pixel above which motion is measured
LEAST_TEXTURE = 0.002  # part of the pixels that must have such a slope, or motion is unknown
AGREE = 0.5  # pixels by which the flows forward and back may differ, plus a twentieth of the flow


class Survey(NamedTuple):
    """Light and motion of a recording, sampled. Rates in spikes per step, motion in pixels per step."""

    rate: float  # of all pixels
    bright: float  # of a bright pixel: a hundredth are brighter
    motion: float | None  # upper quartile over the textured pixels; None if unknown
    steps: int | None  # length of the recording; None for a pipe


def survey(spikes, first: int = 0, stop: int | None = None) -> Survey:
    """The `Survey` of steps first..stop-1 of a recording (T, H, W), or of the next steps of a pipe."""
    recording = Recording.of(spikes)
    rates, bright, motion = [], [], []
    for _, look in look_over(recording, PLACES, first, stop):
        rate = look.mean(0, dtype=np.float32)
        rates.append(float(rate.mean()))
        bright.append(float(np.quantile(rate, BRIGHT)))
        motion.append(speeds(look))
    return summarize(rates, bright, motion, recording.length)


def summarize(rates: list, bright: list, motion: list, steps: int | None) -> Survey:
    """The `Survey` from the values of each look: the rates of all and of bright pixels, and `speeds`."""
    measured = np.concatenate(motion)
    fast = float(np.quantile(measured, 0.75)) if measured.size else None
    return Survey(float(np.mean(rates)), float(np.mean(bright)), fast, steps)


def look_over(recording: Recording, places: int, first: int = 0, stop: int | None = None):
    """Yields (first step, steps as bool (t, H, W)) of up to `places` looks, evenly spread over steps
    first..stop-1. A look has 41 steps, more in the dark. A pipe has one look, its next steps."""
    if recording.length is None:
        yield 0, look_long_enough(recording.peek)
        return
    starts, length = looks_of(recording, places, first, stop)
    for start in starts:
        yield start, np.asarray(recording[start : start + length]) != 0


def looks_of(recording: Recording, places: int, first: int = 0, stop: int | None = None):
    """(first steps of the looks of `look_over`, steps in each). If first..stop is shorter than `LONGEST`, steps
    around it are used, too."""
    total = recording.length
    stop = min(total, total if stop is None else stop)
    spare = max(0, LONGEST - (stop - first)) // 2
    first, stop = max(0, min(first, stop) - spare), min(total, stop + spare)
    length = len(look_long_enough(lambda steps: recording[first : min(first + steps, stop)]))
    return spread(places, first, stop - length), length


def look_long_enough(read):
    """The first of read(41), read(82), ..., bool (t, H, W), in which a bright pixel has `ENOUGH` spikes; at most
    `LONGEST` steps, or as many as there are."""
    length = STEPS
    while True:
        look = np.asarray(read(length)) != 0
        if len(look) < length or length >= LONGEST or np.quantile(look.sum(0), BRIGHT) >= ENOUGH:
            return look
        length *= 2


def speeds(look: np.ndarray) -> np.ndarray:
    """`flow_speeds` of a look, or of its first half if the motion is too fast for the whole."""
    found = flow_speeds(look)
    return found if len(found) else flow_speeds(look[: len(look) // 2])


def flow_speeds(look):
    """Speeds (N,) of textured pixels, pixels a step, by optical flow between the halves of steps (t, H, W).

    Pixels whose flows forward and back do not cancel are left out, since noise has a flow too.
    """
    half = len(look) // 2
    none = np.zeros(0, np.float32)
    if half < 5 or min(look.shape[1:]) < 32 or np.quantile(look.sum(0), BRIGHT) < ENOUGH / 2:
        return none
    rates = [part.mean(0, dtype=np.float32) for part in (look[:half], look[-half:])]
    bright = float(np.quantile(rates[0], BRIGHT))
    if bright <= 0:
        return none
    grey = [cv2.GaussianBlur(np.clip(255 * WHITE / bright * rate, 0, 255), None, 1.5) for rate in rates]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, back = (flow.calc(*(g.astype(np.uint8) for g in pair), None) for pair in (grey, grey[::-1]))
    slope = np.hypot(
        cv2.Sobel(grey[0], cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey[0], cv2.CV_32F, 0, 1, scale=1 / 8)
    )
    rows, columns = np.mgrid[: slope.shape[0], : slope.shape[1]].astype(np.float32)
    back = cv2.remap(
        back,
        columns + forward[..., 0],
        rows + forward[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    distance, differ = (np.hypot(*np.moveaxis(part, 2, 0)) for part in (forward, forward + back))
    found = distance[(slope > TEXTURED) & (differ < AGREE + distance / 20)] / (len(look) - half)
    return found if len(found) >= LEAST_TEXTURE * slope.size else none
