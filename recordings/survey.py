"""A recording's light and motion, by a few looks at it."""

from typing import NamedTuple

import cv2
import numpy as np

from swinsf.recordings.recording import Recording, spread
from swinsf.utils.timing import STEPS

PLACES = 5  # of a recording that are looked at
ENOUGH = 12  # spikes of a bright pixel in a look; a look is lengthened until it has them,
LONGEST = 8 * STEPS  # steps, at most
BRIGHT = 0.99  # the part of the pixels that are no brighter than a bright pixel
WHITE = 0.9  # where an automatic exposure puts a bright pixel's grey level, of the range
TEXTURED = 10.0  # grey levels of slope a pixel, above which motion is measured
LEAST_TEXTURE = 0.002  # part of the pixels that have it, or motion cannot be told
AGREE = 0.5  # pixels by which the way there and the way back may differ, plus a twentieth of the way


class Survey(NamedTuple):
    """Light and motion of a recording, sampled. Rates in spikes per step, motion in pixels per step."""

    rate: float  # of all pixels
    bright: float  # of a bright pixel: a hundredth are brighter
    motion: float | None  # three quarters of the textured pixels move at most this fast; None if unknown
    steps: int | None  # of the recording; None if it comes through a pipe


def survey(spikes, first: int = 0, stop: int | None = None) -> Survey:
    """The `Survey` of steps first..stop-1 of a recording (T, H, W); of a pipe, of its next steps."""
    recording = Recording.of(spikes)
    rates, bright, motion = [], [], []
    for _, look in look_over(recording, PLACES, first, stop):
        rate = look.mean(0, dtype=np.float32)
        rates.append(float(rate.mean()))
        bright.append(float(np.quantile(rate, BRIGHT)))
        motion.append(speeds(look))
    return summarize(rates, bright, motion, recording.length)


def summarize(rates: list, bright: list, motion: list, steps: int | None) -> Survey:
    """The `Survey` of what looks tell: rates of all and of bright pixels, and `speeds`."""
    told = np.concatenate(motion)
    fast = float(np.quantile(told, 0.75)) if told.size else None
    return Survey(float(np.mean(rates)), float(np.mean(bright)), fast, steps)


def look_over(recording: Recording, places: int, first: int = 0, stop: int | None = None):
    """Yields (first step, steps as bool (t, H, W)) of up to `places` looks, evenly spread over steps
    first..stop-1. A look has 41 steps, and more in the dark. A pipe has one look, its next steps."""
    if recording.length is None:
        yield 0, look_long_enough(recording.peek)
        return
    starts, length = looks_of(recording, places, first, stop)
    for start in starts:
        yield start, np.asarray(recording[start : start + length]) != 0


def looks_of(recording: Recording, places: int, first: int = 0, stop: int | None = None):
    """(first steps of the looks of `look_over`, steps in each). Around a short piece it looks further."""
    total = recording.length
    stop = min(total, total if stop is None else stop)
    spare = max(0, LONGEST - (stop - first)) // 2
    first, stop = max(0, min(first, stop) - spare), min(total, stop + spare)
    length = len(look_long_enough(lambda steps: recording[first : min(first + steps, stop)]))
    return spread(places, first, stop - length), length


def look_long_enough(read):
    """Steps, bool (t, H, W), of read(t), in which a bright pixel has `ENOUGH` spikes; else `LONGEST`, or as
    many as there are."""
    length = STEPS
    while True:
        look = np.asarray(read(length)) != 0
        if len(look) < length or length >= LONGEST or np.quantile(look.sum(0), BRIGHT) >= ENOUGH:
            return look
        length *= 2


def speeds(look: np.ndarray) -> np.ndarray:
    """`flow_speeds`; what is fast shows in fewer steps."""
    found = flow_speeds(look)
    return found if len(found) else flow_speeds(look[: len(look) // 2])


def flow_speeds(look):
    """Speeds (N,) in pixels a step where there is texture, by optical flow from the first half of steps (t,
    H, W) to the second.

    Noise moves as it likes: where the flow forward and the flow back do not cancel, nothing is told.
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
    there, back = (flow.calc(*(g.astype(np.uint8) for g in pair), None) for pair in (grey, grey[::-1]))
    slope = np.hypot(
        cv2.Sobel(grey[0], cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey[0], cv2.CV_32F, 0, 1, scale=1 / 8)
    )
    rows, columns = np.mgrid[: slope.shape[0], : slope.shape[1]].astype(np.float32)
    back = cv2.remap(
        back, columns + there[..., 0], rows + there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    way, differ = (np.hypot(*np.moveaxis(part, 2, 0)) for part in (there, there + back))
    told = way[(slope > TEXTURED) & (differ < AGREE + way / 20)] / (len(look) - half)
    return told if len(told) >= LEAST_TEXTURE * slope.size else none
