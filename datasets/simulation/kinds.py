"""Kinds of samples: training draws them for each scene, validation takes them one after the other.

Spike-X4K comes in phase or, as other streams do, with random first charges. A recording of a camera comes
plain or with the camera's calibration.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from swinsf.datasets.bad_pixels import classify, nearest_good
from swinsf.datasets.simulation.sensor import SENSORS, Sensor

MOST_BINNED = 20  # steps a bin in training on cameras, the most that --bin auto takes
BRIGHTEST_BINNED = 1.2  # exposure up to which it bins; --bin auto leaves brighter recordings as they are
STEPS_BEFORE = 40  # at most, from a start in phase to a training stream's first step
# of the dark and of the flat recording that a training scene's calibration comes from
CALIBRATION_STEPS = (2000, 20000)
FLAT_RATE = 0.3  # spikes a step of the flat recording, in the mean over its pixels


@dataclass(frozen=True)
class Kind:
    """A sample's sensor, and what comes with it."""

    sensor: Sensor
    name: str = ""  # by which validation's figures are told apart; "": all samples are alike
    bin: float = 1.0  # steps of the camera in one of the sensor's
    calibration: int = 0  # steps of the dark and of the flat recording of its calibration; 0: none


def levels(name, sensor, whites, calibration=0):
    """A `Kind` for each level of light. whites: thresholds a step of a white pixel."""
    sensors = [dataclasses.replace(sensor, exposure=white / sensor.rate) for white in whites]
    return tuple(Kind(sensor, name, calibration=calibration) for sensor in sensors)


# The middle of SENSORS["camera"], and what stood for a usual camera before real ones were measured.
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
CAMERA_LEVELS = (0.5, 0.15, 0.05, 0.02)  # thresholds a step of white
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
    """The `Kind`s that validation takes one after the other; none if it draws from the sensors."""
    return next((kinds for name, kinds in VALIDATION.items() if SENSORS[name] == sensors), ())


def draw_kind(sensors, rng):
    """A `Kind` for a training scene.

    "x4k": half in phase, a quarter of these started 1 to 40 steps before the stream, since nobody knows where
    its streams were cut; half with random first charges. "camera": half calibrated. Other sensors have one
    kind.
    """
    sensor = sensors.draw(rng)
    if sensors == SENSORS["x4k"]:
        if rng.random() < 0.5:
            return Kind(dataclasses.replace(sensor, start="uniform"), "random")
        before = int(rng.integers(1, STEPS_BEFORE + 1)) if rng.random() < 0.25 else 0
        return Kind(dataclasses.replace(sensor, before=before), "in_phase")
    if sensors == SENSORS["camera"]:
        binned = draw_binned(sensor, rng)
        steps = round(np.exp(rng.uniform(*np.log(CALIBRATION_STEPS)))) if rng.random() < 0.5 else 0
        return Kind(binned, "calibrated" if steps else "plain", binned.exposure / sensor.exposure, steps)
    return Kind(sensor)


def draw_binned(sensor, rng):
    """A `Sensor` as it is, or half of the time as it looks with up to `MOST_BINNED` steps a bin (see
    `recordings.binning`).

    N steps gather N times the light and N times the dark charge. So a dark recording whose steps are binned
    has more dark charge than a bright one, and a network must have seen that.
    """
    most = min(MOST_BINNED, BRIGHTEST_BINNED / sensor.exposure)
    steps = most ** rng.uniform() if rng.random() < 0.5 and most > 1 else 1.0
    hot_most = min(1.0, steps * sensor.hot_most)
    return dataclasses.replace(
        sensor, exposure=steps * sensor.exposure, dark=steps * sensor.dark, hot_most=hot_most
    )


def measure(kind, pattern, rng):
    """A camera's calibration by dark and flat recordings of `kind.calibration` steps: (dark, response), (H,
    W) float32.

    dark: charge of one of the sensor's steps without light, in thresholds. response: spikes for the light,
    relative to the mean over the pixels, shading included. So (spike - dark) / response is flat under flat
    light, and in the mean the light that the ground truth shows.
    """
    sensor = kind.sensor
    true_dark = pattern.dark / pattern.threshold / kind.bin  # of one of the camera's steps
    true_response = pattern.gain / pattern.threshold / (sensor.rate * sensor.exposure)
    dark = measured_rate(true_dark, kind.calibration, sensor.electrons, rng)
    lit = measured_rate(true_dark + FLAT_RATE * true_response, kind.calibration, sensor.electrons, rng)
    return (dark * kind.bin).astype(np.float32), ((lit - dark) / FLAT_RATE).astype(np.float32)


def measured_rate(rate, steps, electrons, rng):
    """Spikes a step, counted over so many steps, of pixels that gather `rate` (H, W) thresholds a step.

    A pixel starts with a charge u, uniform over 0..1, and gathers q = rate x steps, with shot noise of
    variance q / electrons. It keeps the remainder, so it fires floor(u + q) times: q in the mean, with a
    variance of f (1 - f) for q's fraction f (1/6 averaged over f) plus q / electrons. Divided by the steps,
    this is the error of the rate.
    """
    gathered = np.minimum(rate, 1.0) * steps
    if electrons:
        gathered = gathered + np.sqrt(gathered / electrons) * rng.standard_normal(rate.shape)
    return np.floor(rng.random(rate.shape) + gathered).clip(0, steps) / steps


def fill_bad(spikes, dark, response, bin=1.0):
    """Replace bad pixels by the nearest good one in spikes (T, H, W) and both maps (H, W), in place.

    dark: of `bin` of the camera's steps. As in a calibrated recording, whose bad pixels are filled before
    the network sees it.
    """
    bad = classify(dark / bin, response) > 0
    if bad.any() and not bad.all():
        rows, columns = nearest_good(bad)
        for array in (spikes, dark, response):
            array[..., bad] = array[..., rows, columns]
