"""Turns light into spikes: the integrate-and-fire pixel of a spike camera, ideal or with a sensor's noise."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np

from swinsf.datasets.simulation.optics import draw_dust, draw_shading
from swinsf.datasets.simulation.source_frames import SourceFrames
from swinsf.utils.timing import KEY_FRAMES, RATE, STEPS

STARTS = ("uniform", "zero")
REMAINDERS = ("kept", "lost")
# electrons per spike; from here on, shot noise is normal instead of Poisson, which is five times as fast
MANY_ELECTRONS = 2000


@dataclass(frozen=True)
class Sensor:
    """One sensor in physical terms, and its light; the defaults are an ideal one.

    The noise follows Hu, Ma, Yu, Shi and Huang, "Spike Stream Denoising via Spike Camera Simulation", arXiv
    2304.03129, and calibrations of real cameras; docs/simulation.md compares the constants.
    """

    rate: float = RATE  # spikes per step at grey level 255: the charge of a step, in thresholds
    exposure: float = 1.0  # gain of the light; from 1 / rate on, white fires at every step and saturates
    # photo-electrons that fill a pixel to its threshold; fewer mean more shot noise; 0: no shot noise
    electrons: float = 0.0
    dark: float = 0.0  # dark charge, in thresholds per step; the median over pixels
    # standard deviation over pixels of the dark charge's natural logarithm, which is normally distributed
    dark_spread: float = 0.0
    gain_spread: float = 0.0  # standard deviation over pixels of the response to light, relative to its mean
    threshold_spread: float = 0.0  # relative standard deviation over pixels of the threshold
    column_spread: float = 0.0  # standard deviation of the response from column to column
    row_spread: float = 0.0  # standard deviation of the response from row to row
    first_column: float = 0.0  # extra response of column 0, relative
    first_row: float = 0.0  # extra response of row 0, relative
    shading: float = 0.0  # shading by lens and lamp: largest difference from its mean of 1
    dust: float = 0.0  # mean number of dark spots per 100,000 pixels
    hot: float = 0.0  # fraction of pixels with a dark charge of 0.02 to `hot_most`, log-uniform
    hot_most: float = 1.0
    dead: float = 0.0  # fraction of pixels that never fire
    recovery: float = 1.0  # fraction of its charge that a pixel gathers in the step after a spike
    # charge before the first step: "uniform" over 0..threshold, or "zero" in all pixels
    start: str = "uniform"
    before: int = 0  # number of steps simulated before the stream begins
    # after a spike; "kept": the threshold is subtracted from the charge; "lost": the charge is set to zero
    remainder: str = "kept"
    # Gaussian sigma, in pixels, by which the sensor's light is blurred, but not the ground truth
    blur: float = 0.0
    # The following apply if the light comes from a video; see `SourceFrames`.
    frames_every: int = 0  # steps between two frames of the video; 0: no video
    grain: float = 0.0  # standard deviation of each frame's noise, in grey levels
    drift: float = 0.0  # relative standard deviation of each frame's smooth change of brightness
    displacement: float = 0.0  # displacement of each frame, in pixels


IDEAL = Sensor()


@dataclass(frozen=True)
class Sensors:
    """Sensors to draw from: `fixed` values, and ranges of others on a logarithmic or a linear scale."""

    fixed: dict = field(default_factory=dict)
    log: dict = field(default_factory=dict)  # name -> (minimum, maximum)
    linear: dict = field(default_factory=dict)

    def draw(self, rng):
        """Draw a `Sensor`."""
        drawn = {name: float(np.exp(rng.uniform(*np.log(ends)))) for name, ends in self.log.items()}
        drawn |= {name: float(rng.uniform(*ends)) for name, ends in self.linear.items()}
        return Sensor(**self.fixed, **drawn)

    def ends(self, name):
        """(minimum, maximum) of a field of `Sensor`."""
        return {**self.log, **self.linear}.get(name, (self.fixed.get(name, getattr(IDEAL, name)),) * 2)

    def describe(self, name):
        """The range of a field of `Sensor` as text."""
        least, most = self.ends(name)
        if isinstance(least, str):
            return least
        return f"{least:g}" if least == most else f"{least:g} to {most:g}"


@dataclass(frozen=True)
class Mixture(Sensors):
    """Sensors drawn from `others` with probability `chance`."""

    others: Sensors = Sensors()
    chance: float = 0.0

    def draw(self, rng):
        return self.others.draw(rng) if rng.random() < self.chance else super().draw(rng)

    def ends(self, name):
        least, most = zip(super().ends(name), self.others.ends(name))
        return min(least), max(most)


# Cameras with far more temporal noise than the measured ones, and a fixed pattern in columns and rows. They
# make weights robust to unknown cameras.
NOISY_CAMERAS = Sensors(
    log={"exposure": (0.03, 1.2), "electrons": (150, 3000), "hot": (1e-5, 3e-3), "dead": (1e-5, 3e-4)},
    linear={
        "dark": (0.0, 0.004),
        "gain_spread": (0.0, 0.05),
        "threshold_spread": (0.0, 0.04),
        "column_spread": (0.0, 0.02),
        "row_spread": (0.0, 0.01),
        "blur": (0.3, 0.6),
    },
)

SENSORS = {
    "ideal": Sensors(),
    # The public streams of spike-REDS were made from video: a frame every 15 steps, with softer steps in
    # between. docs/simulation.md compares three of them with these ranges.
    "reds": Sensors(
        fixed={"frames_every": 15},
        linear={"blur": (0.5, 0.66), "grain": (0.5, 3.5), "drift": (0.0, 0.014), "displacement": (0.0, 0.14)},
    ),
    # Ranges around the calibration and two recordings of a real camera, 250x400 at 20,000 steps per second.
    "camera": Mixture(
        fixed={"recovery": 0.998, "hot_most": 0.4},
        log={
            "exposure": (0.035, 3.3),  # white gathers 0.02 to 2 thresholds per step
            "electrons": (5000, 30000),
            "dark": (0.001, 0.008),
            "gain_spread": (0.015, 0.06),  # measured ones: 0.02 to 0.025; SCSim's: 0.058
            "hot": (1e-4, 3e-3),
        },
        linear={
            "dark_spread": (0.3, 0.55),
            "threshold_spread": (0.0, 0.045),
            "column_spread": (0.0, 0.002),
            "row_spread": (0.0, 0.002),
            "first_column": (0.0, 0.25),
            "first_row": (0.0, 0.15),
            "shading": (0.0, 0.1),
            "dust": (1.0, 5.0),
            "blur": (0.3, 0.6),
        },
        others=NOISY_CAMERAS,
        chance=0.25,
    ),
    # In the paper's figure of spike-X4K, pixels of one grey level fire together in the same step.
    "x4k": Sensors(fixed={"start": "zero"}),
    # How two toolboxes simulate a picture. SpikeCV: spkData/convert_img.py; Spike-Zoo:
    # spikezoo/utils/spike_utils.py.
    "spikecv": Sensors(fixed={"rate": 0.5, "start": "zero", "remainder": "lost"}),
    "spikezoo": Sensors(fixed={"rate": 0.5}),
}


def replaced(sensor, given):
    """A `Sensor` with the values of `given` that are not None."""
    return dataclasses.replace(sensor, **{name: value for name, value in given.items() if value is not None})


class Pattern(NamedTuple):
    """Fixed differences between a sensor's pixels, each (H, W) float32."""

    gain: np.ndarray  # charge per step at grey level 255, in thresholds
    dark: np.ndarray
    threshold: np.ndarray  # infinite in dead pixels
    shading: np.ndarray  # the factor of `gain` that lens and lamp cause; its mean is 1


def draw_pattern(sensor, height, width, rng):
    """Draw the fixed `Pattern` of a sensor of height x width pixels; None if all pixels are alike.

    Its mean gain is rate x exposure.
    """
    spreads = (
        sensor.gain_spread,
        sensor.threshold_spread,
        sensor.column_spread,
        sensor.row_spread,
        sensor.dark_spread,
    )
    if not any(
        (
            *spreads,
            sensor.first_column,
            sensor.first_row,
            sensor.shading,
            sensor.dust,
            sensor.hot,
            sensor.dead,
        )
    ):
        return None
    shape = height, width
    of_pixels = 1 + sensor.gain_spread * rng.standard_normal(shape)
    of_columns = 1 + sensor.column_spread * rng.standard_normal(width)
    of_rows = 1 + sensor.row_spread * rng.standard_normal((height, 1))
    of_columns[0] *= 1 + sensor.first_column
    of_rows[0] *= 1 + sensor.first_row
    shading = draw_shading(height, width, sensor.shading, rng)
    response = (
        np.maximum(0, of_pixels * of_columns * of_rows) * shading * draw_dust(height, width, sensor.dust, rng)
    )
    gain = sensor.rate * sensor.exposure * response / response.mean()
    threshold = np.maximum(0.05, 1 + sensor.threshold_spread * rng.standard_normal(shape))
    fate = rng.random(shape)
    dark = sensor.dark * np.exp(sensor.dark_spread * rng.standard_normal(shape))
    dark = np.where(
        fate < sensor.hot, np.exp(rng.uniform(np.log(0.02), np.log(sensor.hot_most), shape)), dark
    )
    threshold[fate >= 1 - sensor.dead] = np.inf
    return Pattern(*(part.astype(np.float32) for part in (gain, dark, threshold, shading)))


def integrate_and_fire(
    light: Iterable[np.ndarray], rng: np.random.Generator, sensor: Sensor = IDEAL, pattern: Any = None
) -> np.ndarray:
    """light (T, H, W) float32 in 0..1, or any iterable of (H, W) -> spikes uint8 (T, H, W) of 0 and 1.

    Each pixel starts as `sensor.start` says and gathers rate x light, plus the sensor's noise, at each step.
    It fires if the charge reaches the threshold, which is then subtracted. (A reset to zero, `remainder`
    "lost", biases the rate.) pattern: from `draw_pattern`, or None.
    """
    return np.stack(list(fire(light, rng, sensor, pattern))).astype(np.uint8)


def fire(light, rng, sensor=IDEAL, pattern=None):
    """`integrate_and_fire` step by step: yields bool (H, W), for streams larger than memory."""
    alike = np.float32(sensor.rate * sensor.exposure), np.float32(sensor.dark), np.float32(1)
    gain, dark, threshold = pattern[:3] if pattern else alike
    charge, fired = None, None
    for frame in light:
        if charge is None:
            charge = np.zeros(frame.shape, np.float32)
            if sensor.start == "uniform":
                charge = rng.random(frame.shape, np.float32) * np.where(np.isfinite(threshold), threshold, 1)
        gathered = gain * frame + dark
        if sensor.recovery != 1 and fired is not None:
            gathered -= np.float32(1 - sensor.recovery) * gathered * fired
        if sensor.electrons:
            gathered = with_shot_noise(gathered, sensor.electrons, rng)
        charge += gathered
        fired = charge >= threshold
        if sensor.remainder == "lost":
            charge[fired] = 0
        else:
            charge -= np.where(fired, threshold, 0) if pattern else fired
        # at most one spike per step: charge beyond a second threshold is lost
        np.minimum(charge, threshold, out=charge)
        yield fired


def with_shot_noise(gathered, electrons, rng):
    """Add shot noise, Poisson or its normal limit, to a step's charge in thresholds of `electrons` each."""
    if electrons < MANY_ELECTRONS:
        return rng.poisson(gathered * electrons).astype(np.float32) / np.float32(electrons)
    return gathered + np.sqrt(gathered / np.float32(electrons)) * rng.standard_normal(
        gathered.shape, np.float32
    )


def simulate(scene, rng, steps=STEPS, shown_at=KEY_FRAMES, sensor=IDEAL, pattern=None, flat=False):
    """Simulate a scene: `spikes` uint8 (steps, H, W), and a picture float32 (H, W) for each entry (name ->
    step) of shown_at.

    The scene's time 0 is the middle step. Pictures are the clean light at the sensor's exposure, in grey
    levels: 255 means `rate` spikes per step. `white` is the level of the scene's white relative to 255, to
    compare exposures. Both are clipped at one spike per step, level 255 / rate, where pixels saturate.
    Pictures include the lens's shading, which no network can separate from the scene. flat: leave it out, as
    calibration does.
    """
    names, pictures, spikes = {step: name for name, step in shown_at.items()}, {}, []
    for step, (fired, picture) in enumerate(
        stream(scene, rng, -(steps // 2), steps, names, sensor, pattern, flat)
    ):
        spikes.append(fired)
        if picture is not None:
            pictures[names[step]] = picture
    spikes, white = np.stack(spikes).astype(np.uint8), min(sensor.exposure, 1 / sensor.rate)
    return {"spikes": spikes, "white": white, "rate": sensor.rate, **pictures}


def stream(scene, rng, begin, steps, shown, sensor=IDEAL, pattern=None, flat=False):
    """`simulate` step by step: yields (spikes bool (H, W), picture float32 (H, W) or None) for each step.

    begin: the scene's time at the first step. shown: the steps that have a picture.
    """
    frames = SourceFrames(scene, sensor, rng) if sensor.frames_every else None
    picture = None

    def light():
        nonlocal picture
        for step in range(-sensor.before, steps):
            time, picture = begin + step, None
            frame = frames.light(time) if frames else scene.frame(time)
            if step in shown:
                lit = 255 * sensor.exposure * (frames.picture(time) if frames else frame)
                lit = lit if flat or pattern is None else lit * pattern.shading
                picture = np.minimum(lit, np.float32(255 / sensor.rate))
            yield cv2.GaussianBlur(frame, None, sensor.blur) if sensor.blur and not frames else frame

    for step, fired in enumerate(fire(light(), rng, sensor, pattern)):
        if step >= sensor.before:
            yield fired, picture
