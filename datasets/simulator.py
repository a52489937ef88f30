"""From light to spikes: the integrate-and-fire pixel of a spike camera, ideal or with a sensor's noise."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from utils.protocol import RATE


@dataclass(frozen=True)
class Sensor:
    """A sensor in physical terms; the defaults are an ideal one.

    Kinds of noise after Zhao et al., "Spike Stream Denoising via Spike Camera Simulation", arXiv 2304.03129.
    """

    rate: float = RATE  # spikes a step at grey level 255, so the charge of a step in thresholds
    electrons: float = 0.0  # photo-electrons that fill a pixel to its threshold; fewer, more shot noise; 0: no shot noise
    dark: float = 0.0  # charge of a step without light, in thresholds
    gain_spread: float = 0.0  # standard deviation over pixels of the response to light, relative to its mean
    threshold_spread: float = 0.0  # the same of the threshold
    hot: float = 0.0  # part of the pixels with a dark current of 0.2 to 1 thresholds a step
    dead: float = 0.0  # part of the pixels that never fire
    blur: float = 0.0  # of the light on its way to the pixels, beside the ground truth: OpenCV's Gaussian sigma, in pixels


SENSORS = {
    "ideal": Sensor(),
    # The light of spike-REDS, whose steps were interpolated between frames, is softer than its pictures: on two public streams
    # a mean along the motion has 0.88 of the pictures' contrast at 0.175 cycles a pixel, 0.73 at 0.275, 0.56 at 0.375.
    "reds": Sensor(blur=0.52),
    # A plausible sensor for training on camera-like data, not the measurement of one.
    "camera": Sensor(electrons=500, dark=0.002, gain_spread=0.02, threshold_spread=0.02, hot=1e-4, dead=1e-4, blur=0.52),
}


class Pattern(NamedTuple):
    """What differs from pixel to pixel of a sensor, each (H, W) float32."""

    gain: np.ndarray  # charge of a step at grey level 255, in thresholds
    dark: np.ndarray
    threshold: np.ndarray  # infinite where a pixel is dead


def draw_pattern(sensor, height, width, rng):
    """The fixed `Pattern` of a sensor of height x width pixels, or None where all pixels are alike."""
    if not (sensor.gain_spread or sensor.threshold_spread or sensor.hot or sensor.dead):
        return None
    shape = height, width
    gain = sensor.rate * np.maximum(0, 1 + sensor.gain_spread * rng.standard_normal(shape))
    threshold = np.maximum(0.05, 1 + sensor.threshold_spread * rng.standard_normal(shape))
    fate = rng.random(shape)
    dark = np.where(fate < sensor.hot, rng.uniform(0.2, 1, shape), sensor.dark)
    threshold[fate >= 1 - sensor.dead] = np.inf
    return Pattern(*(part.astype(np.float32) for part in (gain, dark, threshold)))


def integrate_and_fire(light, rng, sensor=SENSORS["ideal"], pattern=None):
    """light (T, H, W) float32 in 0..1, or any iterable of (H, W) -> spikes uint8 (T, H, W) of 0 and 1.

    Each pixel starts with a charge drawn from 0..threshold, gathers rate x light (and what the sensor adds) at each step, and
    fires where the charge reaches the threshold, which is then subtracted: a reset to zero would lose the remainder and bias
    the rate. pattern: what `draw_pattern` drew of the sensor, if anything.
    """
    gain, dark, threshold = pattern or (np.float32(sensor.rate), np.float32(sensor.dark), np.float32(1))
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
