"""From light to spikes: the integrate-and-fire pixel of a spike camera, ideal or with a sensor's noise."""

import dataclasses
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from datasets.simulation.source_frames import SourceFrames
from utils.timing import KEY_FRAMES, RATE, STEPS


@dataclass(frozen=True)
class Sensor:
    """One sensor in physical terms, and the light that reaches it; the defaults are an ideal one.

    Kinds of noise after Zhao et al., "Spike Stream Denoising via Spike Camera Simulation", arXiv 2304.03129.
    """

    rate: float = RATE  # spikes a step at grey level 255, so the charge of a step in thresholds
    exposure: float = 1.0  # of a scene's white: its light is dimmed by this before it reaches the pixels
    electrons: float = 0.0  # photo-electrons that fill a pixel to its threshold; fewer, more shot noise; 0: no shot noise
    dark: float = 0.0  # charge of a step without light, in thresholds
    gain_spread: float = 0.0  # standard deviation over pixels of the response to light, relative to its mean
    threshold_spread: float = 0.0  # the same of the threshold
    column_spread: float = 0.0  # standard deviation of the response from column to column
    row_spread: float = 0.0  # and from row to row
    hot: float = 0.0  # part of the pixels with a dark current of 0.02 to 1 thresholds a step
    dead: float = 0.0  # part of the pixels that never fire
    blur: float = 0.0  # of the light on its way to the pixels, not of the ground truth: OpenCV's Gaussian sigma, in pixels
    # What follows is of light that comes from a video and not from a scene; see `SourceFrames`.
    frames_every: int = 0  # steps between two frames of the video; 0: none
    grain: float = 0.0  # standard deviation of a frame's own noise, in grey levels
    drift: float = 0.0  # relative standard deviation of a frame's own slow change of the light
    displacement: float = 0.0  # by how much a frame's own place is off, in pixels


IDEAL = Sensor()


@dataclass(frozen=True)
class Sensors:
    """Sensors to draw from: `fixed` values, and ranges of others, on a logarithmic scale or a linear one."""

    fixed: dict = field(default_factory=dict)
    log: dict = field(default_factory=dict)  # name -> (least, most)
    linear: dict = field(default_factory=dict)

    def draw(self, rng):
        """A `Sensor`."""
        drawn = {name: float(np.exp(rng.uniform(*np.log(ends)))) for name, ends in self.log.items()}
        drawn |= {name: float(rng.uniform(*ends)) for name, ends in self.linear.items()}
        return Sensor(**self.fixed, **drawn)

    def describe(self, name):
        """What a field of `Sensor` may be, as text."""
        least, most = {**self.log, **self.linear}.get(name, (self.fixed.get(name, getattr(IDEAL, name)),) * 2)
        return f"{least:g}" if least == most else f"{least:g} to {most:g}"


SENSORS = {
    "ideal": Sensors(),
    # The public streams of spike-REDS were made of video: a frame every 15 steps, with steps in between that are softer than
    # the frames. docs/simulation.md compares what was measured on three of them with what these ranges give.
    "reds": Sensors(
        fixed={"frames_every": 15},
        linear={"blur": (0.5, 0.66), "grain": (0.5, 3.5), "drift": (0.0, 0.014), "displacement": (0.0, 0.14)},
    ),
    # Plausible cameras, from bright to dark and from clean to noisy, not the measurement of one. A real dark recording had a
    # quarter of a per cent of hot pixels.
    "camera": Sensors(
        log={"exposure": (0.03, 1.2), "electrons": (150, 3000), "hot": (1e-5, 3e-3), "dead": (1e-5, 3e-4)},
        linear={
            "dark": (0.0, 0.004),
            "gain_spread": (0.0, 0.05),
            "threshold_spread": (0.0, 0.04),
            "column_spread": (0.0, 0.02),
            "row_spread": (0.0, 0.01),
            "blur": (0.3, 0.6),
        },
    ),
}

MOST_AS_ONE = 8  # steps that training on cameras takes as one, see `take_steps_as_one`

# The cameras that validation takes in turn: four levels of light, with as much noise as is usual.
CAMERA_LEVELS = tuple(
    Sensor(
        exposure=exposure,
        electrons=800,
        dark=0.002,
        gain_spread=0.03,
        threshold_spread=0.02,
        column_spread=0.01,
        row_spread=0.005,
        hot=2e-4,
        dead=5e-5,
        blur=0.45,
    )
    for exposure in (1.0, 0.4, 0.16, 0.064)
)


def replaced(sensor, given):
    """A `Sensor` with the values of `given` that are not None."""
    return dataclasses.replace(sensor, **{name: value for name, value in given.items() if value is not None})


def take_steps_as_one(sensor, rng):
    """A `Sensor` as it is, or half of the time as it looks with up to `MOST_AS_ONE` steps taken as one (see `utils.binning`).

    N steps gather N times the light, and N times the dark charge. So a dark recording whose steps are taken as one has more dark
    charge than a bright one, and a network must have seen that. Never brighter than the brightest camera of `SENSORS`.
    """
    brightest = SENSORS["camera"].log["exposure"][1]
    most = min(MOST_AS_ONE, brightest / sensor.exposure)
    steps = most ** rng.uniform() if rng.random() < 0.5 and most > 1 else 1.0
    return dataclasses.replace(sensor, exposure=steps * sensor.exposure, dark=steps * sensor.dark)


class Pattern(NamedTuple):
    """What differs from pixel to pixel of a sensor, each (H, W) float32."""

    gain: np.ndarray  # charge of a step at grey level 255, in thresholds
    dark: np.ndarray
    threshold: np.ndarray  # infinite where a pixel is dead


def draw_pattern(sensor, height, width, rng):
    """The fixed `Pattern` of a sensor of height x width pixels, or None where all pixels are alike."""
    spreads = sensor.gain_spread, sensor.threshold_spread, sensor.column_spread, sensor.row_spread
    if not any((*spreads, sensor.hot, sensor.dead)):
        return None
    shape = height, width
    of_pixels = 1 + sensor.gain_spread * rng.standard_normal(shape)
    of_columns = 1 + sensor.column_spread * rng.standard_normal(width)
    of_rows = 1 + sensor.row_spread * rng.standard_normal((height, 1))
    gain = sensor.rate * sensor.exposure * np.maximum(0, of_pixels * of_columns * of_rows)
    threshold = np.maximum(0.05, 1 + sensor.threshold_spread * rng.standard_normal(shape))
    fate = rng.random(shape)
    dark = np.where(fate < sensor.hot, np.exp(rng.uniform(np.log(0.02), 0, shape)), sensor.dark)
    threshold[fate >= 1 - sensor.dead] = np.inf
    return Pattern(*(part.astype(np.float32) for part in (gain, dark, threshold)))


def integrate_and_fire(light, rng, sensor=IDEAL, pattern=None):
    """light (T, H, W) float32 in 0..1, or any iterable of (H, W) -> spikes uint8 (T, H, W) of 0 and 1.

    Each pixel starts with a charge drawn from 0..threshold, gathers rate x light (and what the sensor adds) at each step, and
    fires where the charge reaches the threshold, which is then subtracted: a reset to zero would lose the remainder and bias
    the rate. pattern: what `draw_pattern` drew of the sensor, if anything.
    """
    alike = np.float32(sensor.rate * sensor.exposure), np.float32(sensor.dark), np.float32(1)
    gain, dark, threshold = pattern or alike
    charge, spikes = None, []
    for frame in light:
        if charge is None:
            charge = rng.random(frame.shape, np.float32) * np.where(np.isfinite(threshold), threshold, 1)
        gathered = gain * frame + dark
        if sensor.electrons:
            gathered = rng.poisson(gathered * sensor.electrons).astype(np.float32) / np.float32(sensor.electrons)
        charge += gathered
        fired = charge >= threshold
        charge -= np.where(fired, threshold, 0) if pattern else fired
        np.minimum(charge, threshold, out=charge)  # one spike a step at most: what a pixel gathers beyond is lost
        spikes.append(fired)
    return np.stack(spikes).astype(np.uint8)


def simulate(scene, rng, steps=STEPS, shown_at=KEY_FRAMES, sensor=IDEAL, pattern=None):
    """The arrays of a scene: `spikes` uint8 (steps, H, W), and a picture float32 (H, W) at each step of shown_at: name -> index.

    The scene's time 0 is the middle step. Pictures are the clean light at the sensor's exposure, in grey levels of which 255 is
    `sensor.rate` spikes a step; `white` is what the scene's white is of 255, for those who compare exposures.
    """
    names, pictures = {step: name for name, step in shown_at.items()}, {}
    shown = SourceFrames(scene, sensor, rng) if sensor.frames_every else None

    def light():
        for step in range(steps):
            time = step - steps // 2
            frame = shown.light(time) if shown else scene.frame(time)
            if step in names:
                pictures[names[step]] = 255 * sensor.exposure * (shown.picture(time) if shown else frame)
            yield cv2.GaussianBlur(frame, None, sensor.blur) if sensor.blur and not shown else frame

    return {"spikes": integrate_and_fire(light(), rng, sensor, pattern), "white": sensor.exposure, **pictures}
