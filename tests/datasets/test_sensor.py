import numpy as np
import pytest
import torch

from datasets.simulation.sensor import IDEAL, SENSORS, Sensor, draw_pattern, integrate_and_fire, take_steps_as_one
from models.classical import tfp
from utils.binning import take_as_one


def test_the_remainder_is_kept():
    """Against the charge of a single pixel, counted by hand."""
    rng = np.random.default_rng(3)
    start = np.random.default_rng(3).random((1, 1), np.float32)[0, 0]
    light = np.full((20, 1, 1), 0.9, np.float32)
    spikes = integrate_and_fire(light, rng)[:, 0, 0]
    total = start + 0.54 * np.arange(1, 21)
    assert np.array_equal(np.cumsum(spikes), np.floor(total))


def test_rate_is_0_6_of_the_light():
    light = np.random.default_rng(0).random((1, 100, 100)).astype(np.float32).repeat(200, 0)
    spikes = integrate_and_fire(light, np.random.default_rng(1))
    assert spikes.dtype == np.uint8 and set(np.unique(spikes)) == {0, 1}
    assert spikes.mean() / light.mean() == pytest.approx(0.6, rel=0.003)


def test_tfp_of_a_still_scene_is_unbiased():
    grey = np.tile(np.arange(256, dtype=np.float32), (256, 1))
    spikes = integrate_and_fire((grey / 255 for _ in range(41)), np.random.default_rng(0))
    error = tfp(torch.from_numpy(spikes), 20, 41).numpy() - grey
    assert abs(error.mean()) < 0.1
    assert np.abs(error.mean(0)).max() < 2.5  # at every grey level, up to the noise of 256 pixels


def test_the_same_seed_gives_the_same_spikes():
    light = np.full((5, 8, 8), 0.5, np.float32)
    first, again, other = (integrate_and_fire(light, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def still(grey, steps, side=200):
    return (np.full((side, side), grey / 255, np.float32) for _ in range(steps))


def test_a_sensor_that_is_named_ideal_has_no_noise():
    assert SENSORS["ideal"].draw(np.random.default_rng(0)) == IDEAL
    assert draw_pattern(IDEAL, 4, 4, np.random.default_rng(0)) is None
    plain = integrate_and_fire(still(90, 20), np.random.default_rng(0))
    assert np.array_equal(plain, integrate_and_fire(still(90, 20), np.random.default_rng(0), Sensor()))


def test_shot_noise_has_the_variance_of_its_electrons():
    """Spikes in 400 steps: their variance over pixels is that of the photo-electrons, plus 1/6 of the random first charge."""
    sensor = Sensor(electrons=50)
    counts = integrate_and_fire(still(128, 400), np.random.default_rng(0), sensor).sum(0, dtype=float)
    expected = 0.6 * 128 / 255 * 400
    assert counts.mean() == pytest.approx(expected, rel=0.002)
    assert counts.var() == pytest.approx(expected / 50 + 1 / 6, rel=0.05)


def test_dark_current_fires_without_light():
    spikes = integrate_and_fire(still(0, 300), np.random.default_rng(0), Sensor(dark=0.01))
    assert spikes.mean() == pytest.approx(0.01, rel=0.02)


def test_fixed_patterns():
    rng = np.random.default_rng(0)
    sensor = Sensor(gain_spread=0.05, threshold_spread=0.03)
    pattern = draw_pattern(sensor, 200, 200, rng)
    assert pattern.gain.std() / pattern.gain.mean() == pytest.approx(0.05, rel=0.03)
    assert pattern.threshold.std() == pytest.approx(0.03, rel=0.03)
    spikes = integrate_and_fire(still(200, 500), rng, sensor, pattern)
    np.testing.assert_allclose(spikes.mean(0), pattern.gain * 200 / 255 / pattern.threshold, atol=0.004)


def test_columns_and_rows_have_gains_of_their_own():
    sensor = Sensor(column_spread=0.05, row_spread=0.02)
    gain = draw_pattern(sensor, 400, 500, np.random.default_rng(0)).gain / 0.6
    assert gain.mean(0).std() == pytest.approx(0.05, rel=0.1) and gain.mean(1).std() == pytest.approx(0.02, rel=0.1)
    np.testing.assert_allclose(gain, np.outer(gain.mean(1), gain.mean(0)) / gain.mean(), rtol=1e-5)


def test_exposure_dims_the_light_of_every_pixel():
    for sensor in (Sensor(exposure=0.1), Sensor(exposure=0.1, gain_spread=1e-6)):
        pattern = draw_pattern(sensor, 200, 200, np.random.default_rng(0))
        spikes = integrate_and_fire(still(200, 300), np.random.default_rng(0), sensor, pattern)
        assert spikes.mean() == pytest.approx(0.06 * 200 / 255, rel=0.01)


def test_a_sensor_is_drawn_from_its_ranges():
    rng = np.random.default_rng(0)
    drawn = [SENSORS["camera"].draw(rng) for _ in range(400)]
    for name, (least, most) in {**SENSORS["camera"].log, **SENSORS["camera"].linear}.items():
        values = np.array([getattr(sensor, name) for sensor in drawn])
        assert least <= values.min() < least + 0.05 * (most - least) and most - 0.05 * (most - least) < values.max() <= most
    exposures = [sensor.exposure for sensor in drawn]
    assert np.median(exposures) == pytest.approx(np.sqrt(0.03 * 1.2), rel=0.2)  # as many dark ones as bright ones
    assert {sensor.rate for sensor in drawn} == {0.6}
    assert SENSORS["camera"].describe("dark") == "0 to 0.004" and SENSORS["reds"].describe("frames_every") == "15"


def test_a_camera_is_now_and_then_one_whose_steps_are_taken_as_one():
    """N steps as one, spike for spike in the mean, are N times the light and N times the dark charge."""
    rng = np.random.default_rng(0)
    camera = Sensor(exposure=0.06, dark=0.003)
    drawn = [take_steps_as_one(camera, rng) for _ in range(400)]
    steps = np.array([sensor.exposure for sensor in drawn]) / 0.06
    assert np.mean(steps == 1) == pytest.approx(0.5, abs=0.07) and 7 < steps.max() <= 8
    assert np.median(steps[steps > 1]) == pytest.approx(np.sqrt(8), rel=0.2)
    np.testing.assert_allclose([sensor.dark for sensor in drawn], 0.003 * steps)
    assert max(take_steps_as_one(Sensor(exposure=0.6), rng).exposure for _ in range(99)) <= 1.2
    assert {take_steps_as_one(Sensor(exposure=1.2), rng).exposure for _ in range(9)} == {1.2}
    spikes = take_as_one(integrate_and_fire(still(200, 400), rng, camera), 4)
    assert spikes[0:100].mean() == pytest.approx(4 * (0.06 * 0.6 * 200 / 255 + 0.003), rel=0.01)


def test_hot_and_dead_pixels():
    rng = np.random.default_rng(0)
    sensor = Sensor(hot=0.1, dead=0.2)
    spikes = integrate_and_fire(still(0, 100), rng, sensor, draw_pattern(sensor, 200, 200, rng)).mean(0)
    assert (spikes > 0).mean() == pytest.approx(0.1, abs=0.01) and spikes.max() > 0.9
    spikes = integrate_and_fire(still(255, 100), rng, sensor, draw_pattern(sensor, 200, 200, rng)).mean(0)
    assert (spikes == 0).mean() == pytest.approx(0.2, abs=0.01)
    assert spikes.max() <= 1


def test_what_a_pixel_gathers_beyond_a_spike_a_step_is_lost():
    light = [np.ones((4, 4), np.float32)] * 40 + [np.zeros((4, 4), np.float32)] * 20
    spikes = integrate_and_fire(light, np.random.default_rng(0), Sensor(rate=1.0, dark=0.5))
    assert spikes[:40].all() and spikes[41:].sum(0).max() <= 10
