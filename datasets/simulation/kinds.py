"""Kinds of samples: training draws one for each scene, validation rotates through them.

Spike-X4K streams are in phase or, like other streams, start with random charges. Camera recordings come with
or without the camera's calibration.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from swinsf.datasets.bad_pixels import classify, nearest_good
from swinsf.datasets.simulation.sensor import SENSORS, Sensor

MOST_BINNED = 8  # maximum steps per bin when training for cameras, see `draw_binned`
BRIGHTEST_BINNED = 1.2  # maximum exposure after binning; --bin auto does not bin brighter recordings
STEPS_BEFORE = 40  # maximum steps from a start in phase to a training stream's first step
CALIBRATED = 0.5  # share of the training scenes of cameras that come with a calibration
# range of steps in the dark and flat recordings that calibrate a training scene
CALIBRATION_STEPS = (2000, 20000)
FLAT_RATE = 0.3  # mean spikes per step and pixel in the flat recording


@dataclass(frozen=True)
class Kind:
    """A sample's sensor, and how the sample is binned and calibrated."""

    sensor: Sensor
    name: str = ""  # key of its figures in validation; "": all samples are alike
    bin: float = 1.0  # camera steps per step of the sensor
    calibration: int = 0  # steps in each of the calibration's dark and flat recordings; 0: none


def levels(name, sensor, whites, calibration=0):
    """A `Kind` for each level of light. whites: a white pixel's charge, in thresholds per step."""
    sensors = [dataclasses.replace(sensor, exposure=white / sensor.rate) for white in whites]
    return tuple(Kind(sensor, name, calibration=calibration) for sensor in sensors)


# USUAL: a typical measured camera. NOISY: the typical camera assumed before real ones were measured.
USUAL = Sensor(
    electrons=15000,
    dark=0.004,
    dark_spread=0.43,
    gain_spread=0.022,
    threshold_spread=0.005,
    column_spread=0.001,
    row_spread=0.001,
    first_column=0.2,
    first_row=0.06,
    shading=0.08,
    dust=3.0,
    hot=1e-3,
    hot_most=0.4,
    recovery=0.998,
    blur=0.45,
)
NOISY = Sensor(
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
CAMERA_LEVELS = (0.5, 0.15, 0.05, 0.02)  # charge of white, in thresholds per step
NOISY_LEVELS = (0.6, 0.24, 0.096, 0.0384)

VALIDATION = {
    "x4k": (Kind(Sensor(start="zero"), "in_phase"), Kind(Sensor(), "random")),
    "camera": (
        *levels("plain", USUAL, CAMERA_LEVELS),
        *levels("calibrated", USUAL, CAMERA_LEVELS, calibration=5000),
        *levels("noisy", NOISY, NOISY_LEVELS),
    ),
}


def fixed_kinds(sensors):
    """The `Kind`s that validation rotates through; none if it draws from the sensors."""
    return next((kinds for name, kinds in VALIDATION.items() if SENSORS[name] == sensors), ())


def draw_kind(sensors, rng, calibrated=CALIBRATED):
    """Draw a `Kind` for a training scene.

    "x4k": half are in phase; half start with random charges. A quarter of those in phase start 1 to 40 steps
    before the stream, because nobody knows where spike-X4K's streams were cut. "camera": the share
    `calibrated` of the scenes comes with a calibration. Other sensors have one kind.
    """
    sensor = sensors.draw(rng)
    if sensors == SENSORS["x4k"]:
        if rng.random() < 0.5:
            return Kind(dataclasses.replace(sensor, start="uniform"), "random")
        before = int(rng.integers(1, STEPS_BEFORE + 1)) if rng.random() < 0.25 else 0
        return Kind(dataclasses.replace(sensor, before=before), "in_phase")
    if sensors == SENSORS["camera"]:
        binned = draw_binned(sensor, rng)
        steps = round(np.exp(rng.uniform(*np.log(CALIBRATION_STEPS)))) if rng.random() < calibrated else 0
        return Kind(binned, "calibrated" if steps else "plain", binned.exposure / sensor.exposure, steps)
    return Kind(sensor)


def draw_binned(sensor, rng):
    """The `Sensor` itself or, half of the time, with up to MOST_BINNED steps per bin (`recordings.binning`).

    N steps gather N times the light and N times the dark charge. So a binned dark recording has more dark
    charge than a bright one, and the network must be trained on that. Hot pixels gather up to N times the
    largest charge, and no less than without bins.
    """
    most = min(MOST_BINNED, BRIGHTEST_BINNED / sensor.exposure)
    steps = most ** rng.uniform() if rng.random() < 0.5 and most > 1 else 1.0
    hot_most = min(1.0, steps * sensor.hot_most)
    return dataclasses.replace(
        sensor, exposure=steps * sensor.exposure, dark=steps * sensor.dark, hot_most=hot_most
    )


def measure(kind, pattern, rng):
    """Simulate a calibration, (dark, response), from dark and flat recordings of `kind.calibration` steps.

    dark (H, W) float32: charge per step of the sensor without light, in thresholds. response (H, W) float32:
    spikes per light, relative to the mean over pixels, shading included. So (spike - dark) / response is flat
    under flat light, and on average equals the light that the ground truth shows.
    """
    sensor = kind.sensor
    true_dark = pattern.dark / pattern.threshold / kind.bin  # per step of the camera
    true_response = pattern.gain / pattern.threshold / (sensor.rate * sensor.exposure)
    dark = measured_rate(true_dark, kind.calibration, sensor.electrons, rng)
    lit = measured_rate(true_dark + FLAT_RATE * true_response, kind.calibration, sensor.electrons, rng)
    return (dark * kind.bin).astype(np.float32), ((lit - dark) / FLAT_RATE).astype(np.float32)


def measured_rate(rate, steps, electrons, rng):
    """Simulate the measured spikes per step of pixels that gather `rate` (H, W) thresholds per step.

    A pixel starts with a charge u, uniform over 0..1, and gathers q = rate x steps, with shot noise of
    variance q / electrons. It keeps the remainder, so it fires floor(u + q) times: q on average. Its variance
    is f (1 - f) for q's fraction f (1/6 averaged over f), plus q / electrons.
    """
    gathered = np.minimum(rate, 1.0) * steps
    if electrons:
        gathered = gathered + np.sqrt(gathered / electrons) * rng.standard_normal(rate.shape)
    return np.floor(rng.random(rate.shape) + gathered).clip(0, steps) / steps


def fill_bad(spikes, dark, response, bin=1.0):
    """Replace bad pixels with the nearest good one in spikes (T, H, W) and both maps (H, W), in place.

    The same happens to a calibrated recording before the network sees it. dark: charge of `bin` camera steps.
    """
    bad = classify(dark / bin, response) > 0
    if bad.any() and not bad.all():
        rows, columns = nearest_good(bad)
        for array in (spikes, dark, response):
            array[..., bad] = array[..., rows, columns]
