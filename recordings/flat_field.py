"""A camera's dark charge and response, measured on recordings in the dark and of an evenly lit surface.

Spikes come at regular intervals, so the time from a pixel's first spike to its last gives its rate more
precisely than their number: with n spikes in N steps, the relative error is 0.4 / N, not 0.4 / n. Uncertain
rates are then shrunk towards those of the pixels around.
"""

from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from swinsf.datasets.bad_pixels import smooth
from swinsf.recordings.calibration import Calibration, make_calibration
from swinsf.utils.cli import UserError

FEWEST = 500  # steps that a recording needs
BLOCK = 64  # steps read at a time
NOT_DARK = 0.03  # largest median rate of a dark recording, spikes a step
SATURATED, FEW = 0.95, 0.01  # spikes a step, and the part of a flat's pixels that may have more
BARELY = 2.0  # smallest ratio of a flat's median rate to the dark one
# largest relative change of a flat from its first half to its second, in patches of this side in pixels
MOVED, PATCH = 0.01, 15
FEW_SPIKES_STD, TIMING_STD = np.sqrt(1 / 18), np.sqrt(1 / 6)  # see `rates`
MOST_BAD = 0.05  # the part of a camera's pixels that may be bad


class Spikes(NamedTuple):
    """The spikes of each pixel (H, W) in a part of a recording."""

    count: np.ndarray
    first: np.ndarray  # step of the first spike; -1 without a spike
    last: np.ndarray  # step of the last spike; -1 without a spike
    steps: int  # length of the part


class Rates(NamedTuple):
    """Spikes a step (H, W) and their standard errors."""

    rate: np.ndarray
    error: np.ndarray


def read_halves(name: str, spikes) -> tuple[Spikes, Spikes]:
    """The `Spikes` of the two halves of a recording (T, H, W). Raises UserError if it is too short."""
    if len(spikes) < FEWEST:
        raise UserError(
            f"{name}: {len(spikes)} steps, too few to calibrate by; record {FEWEST} or more, better 5,000"
        )
    middle = len(spikes) // 2
    with tqdm(
        total=len(spikes), desc=str(name), unit="step", dynamic_ncols=True, delay=0.5, leave=False
    ) as bar:
        return read_part(spikes, 0, middle, bar), read_part(spikes, middle, len(spikes), bar)


def read_part(spikes, start, stop, bar):
    """The `Spikes` of steps start..stop-1, counted from start."""
    shape = spikes.shape[1:]
    count, first, last = np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    for at in range(start, stop, BLOCK):
        block = np.asarray(spikes[at : min(at + BLOCK, stop)]) != 0
        count += np.count_nonzero(block, axis=0)
        unseen = first < 0
        for step, fired in enumerate(block, at - start):
            np.copyto(last, step, where=fired)
            if unseen is not None:
                np.copyto(first, step, where=fired & unseen)
                unseen &= ~fired
        bar.update(len(block))
    return Spikes(count, first, last, stop - start)


def joined(halves: tuple[Spikes, Spikes]) -> Spikes:
    """The `Spikes` of a recording from those of its halves."""
    one, two = halves
    first = np.where(one.count > 0, one.first, np.where(two.count > 0, one.steps + two.first, -1))
    last = np.where(two.count > 0, one.steps + two.last, one.last)
    return Spikes(one.count + two.count, first, last, one.steps + two.steps)


def rates(spikes: Spikes, noise: float = 0.0) -> Rates:
    """The `Rates` of pixels with `Spikes`. noise: squared relative standard deviation of their intervals.

    With n >= 2 spikes, the rate is n - 1 intervals over the time from the first to the last. Each of these
    is late by 0 to 1 of a step, so the variance of the time is 1/6. With one spike, the interval was longer
    than b, the longer of the times before and after it. The rate is then below 1 / b with a likelihood, over
    all phases, in proportion to the rate: mean 2/3 and standard deviation sqrt(1/18) of 1 / b. Without a
    spike it is below 1 / N with falling likelihood, mean 1/3.
    """
    several, once = spikes.count > 1, spikes.count == 1
    time = np.where(several, spikes.last - spikes.first, 1).astype(np.float64)
    intervals = np.maximum(spikes.count - 1, 1)
    rate = intervals / time
    error = rate * np.sqrt((TIMING_STD / time) ** 2 + noise / intervals)
    longest = np.where(once, np.maximum(spikes.first + 1, spikes.steps - 1 - spikes.first), spikes.steps)
    rate = np.where(several, rate, np.where(once, 2, 1) / (3 * longest))
    return Rates(rate, np.where(several, error, FEW_SPIKES_STD / longest))


def noise_of(halves: tuple[Spikes, Spikes]) -> float:
    """The `noise` of `rates`: the differences between two halves that rounding to steps does not explain."""
    usable = (halves[0].count > 2) & (halves[1].count > 2)
    if np.count_nonzero(usable) < 100:
        return 0.0
    found = [rates(half) for half in halves]
    differ = np.log(found[1].rate[usable] / found[0].rate[usable])
    differ -= np.median(differ)
    by_steps = sum((part.error[usable] / part.rate[usable]) ** 2 for part in found)
    by_noise = sum(1 / (half.count[usable] - 1) for half in halves)
    scale = by_steps + by_noise  # pixels with many spikes weigh more
    usual = np.abs(differ) < 6 * np.median(np.abs(differ)) + 1e-9
    excess = np.sum(((differ**2 - by_steps) / scale)[usual]) / np.sum((by_noise / scale)[usual])
    return max(0.0, float(excess))


def shrunk(measured, around, good):
    """`Rates` shrunk towards `around`, (H, W): a measured rate has the weight var / (var + error^2).

    var is the variance of the good pixels about `around`, less the part that their errors explain.
    """
    differ = (measured.rate - around)[good]
    spread = 1.4826 * np.median(np.abs(differ - np.median(differ)))
    usual = np.abs(differ) < 5 * spread + 1e-12
    errors = measured.error[good][usual] ** 2
    variance = max(
        float(np.mean(differ[usual] ** 2) - np.mean(errors)), 1e-3 * float(np.mean(differ[usual] ** 2)), 1e-15
    )
    weight = variance / (variance + measured.error**2)
    return Rates(weight * measured.rate + (1 - weight) * around, np.sqrt(weight) * measured.error)


def measure_dark(halves, name, noise):
    """`Rates` of a dark recording, in thresholds a step. Raises UserError if it is not dark."""
    whole = joined(halves)
    median = float(np.median(whole.count)) / whole.steps
    if median > NOT_DARK:
        raise UserError(
            f"{name}: not dark, half the pixels fire more than {median:.3g} times a step; cap the lens, or see --flat"
        )
    measured = rates(whole, noise)
    counted = (whole.count / whole.steps).astype(np.float32)
    usual = counted < 5 * max(median, 2 / whole.steps)
    return shrunk(measured, smooth(counted, usual), usual)


def measure_flat(halves, name, noise, dark):
    """(`Rates` of a flat without the dark charge, relative to their median; that median).

    Raises UserError if the flat saturates, is hardly brighter than the dark recording, or moves.
    """
    whole = joined(halves)
    counted = whole.count / whole.steps
    part = float(np.mean(counted > SATURATED))
    if part > FEW:
        raise UserError(
            f"{name}: saturates, {part:.0%} of its pixels fire at more than {SATURATED:.0%} of the steps; dim the lamp"
        )
    level, least = float(np.median(counted)), float(np.median(dark.rate))
    if level < BARELY * least + 2 / whole.steps:
        raise UserError(
            f"{name}: hardly brighter than the dark ({level:.3g} and {least:.3g} spikes a step); light it more, or check that "
            "--dark and --flat are not swapped"
        )
    check_still([rates(half, noise) for half in halves], name)
    measured = rates(whole, noise)
    light = measured.rate - dark.rate
    middle = float(np.median(light))
    return Rates(light / middle, np.hypot(measured.error, dark.error) / middle), middle


def check_still(halves, name):
    """Raises UserError if the `Rates` of a flat's two halves differ in more than brightness."""
    fired = (halves[0].rate > 0) & (halves[1].rate > 0)
    differ = np.where(fired, np.log(halves[1].rate / halves[0].rate), 0)
    differ = np.clip(differ - np.median(differ), -0.5, 0.5)
    patches = np.abs(cv2.blur(differ, (PATCH, PATCH)))
    error = float(np.median(np.hypot(*(half.error / half.rate for half in halves)))) / PATCH
    moved = float(np.quantile(patches, 0.98))
    if moved > max(MOVED, 5 * error):
        raise UserError(
            f"{name}: moves, its second half differs by {moved:.1%} from its first; take a still, evenly lit surface"
        )


def calibrate(dark: tuple, flats: list[tuple], keep_shading: bool = False) -> tuple[Calibration, dict]:
    """(`Calibration`, facts) from a dark recording and flats, each (name, (T, H, W)).

    Facts: "levels", the median of each flat without the dark charge, spikes a step; "noise", the largest
    relative standard deviation of an interval; "shading", the 1st and the 99th percentile of the smooth part
    of the response.

    The response is a flat without the dark charge. It includes the smooth shading of lens and lamp, which is
    thus corrected too, unless keep_shading is set. Several flats are averaged, weighted by their errors.
    Raises UserError for unsuitable recordings.
    """
    in_the_dark = read_halves(*dark)
    in_light = {name: read_halves(name, spikes) for name, spikes in flats}
    noises = {name: noise_of(halves) for name, halves in in_light.items()}
    # a short dark recording shows no noise
    without = measure_dark(in_the_dark, dark[0], max(noise_of(in_the_dark), *noises.values()))
    measured = [measure_flat(halves, name, noises[name], without) for name, halves in in_light.items()]
    parts, levels = zip(*measured)
    weights = [1 / part.error**2 for part in parts]
    response = sum(weight * part.rate for weight, part in zip(weights, parts)) / sum(weights)
    measured = Rates(response, sum(weights) ** -0.5)
    usual = np.abs(response - 1) < 0.5
    around = smooth(response, usual)
    usual &= np.abs(response / around - 1) < 0.1
    around = smooth(response, usual)
    facts = {
        "levels": levels,
        "noise": max(noises.values()) ** 0.5,
        "shading": tuple(np.quantile(around, (0.01, 0.99)).tolist()),
    }
    measured = shrunk(measured, around, usual)
    scale = around if keep_shading else 1.0
    made = make_calibration(without.rate, measured.rate / scale, without.error, measured.error / scale)
    check_bad(made, dark[0])
    return made, facts


def check_bad(calibration, name):
    """Raises UserError if so many pixels are bad that there is nothing to fill them from."""
    part = np.mean(calibration.bad > 0)
    if part > MOST_BAD:
        raise UserError(
            f"{name}: {part:.0%} of the pixels look bad, with a dark charge of {np.median(calibration.dark):.2g} a step in "
            "the median; cool the camera, or take more steps a second, and record again"
        )
