import hashlib

import cv2
import numpy as np
import pytest
import torch

from swinsf.datasets.simulation.optics import draw_dust, draw_shading
from swinsf.datasets.simulation.sensor import (
    IDEAL,
    NOISY_CAMERAS,
    SENSORS,
    Sensor,
    draw_pattern,
    integrate_and_fire,
    simulate,
)
from swinsf.models.classical import tfp


def test_the_remainder_is_kept():
    """Compared with the charge of a single pixel, counted by hand."""
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
    """The variance over pixels of the spikes in 400 steps is that of the photo-electrons, plus 1/6 from the
    random first charge."""
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


def test_columns_and_rows_have_their_own_gains():
    sensor = Sensor(column_spread=0.05, row_spread=0.02)
    gain = draw_pattern(sensor, 400, 500, np.random.default_rng(0)).gain / 0.6
    assert gain.mean(0).std() == pytest.approx(0.05, rel=0.1) and gain.mean(1).std() == pytest.approx(
        0.02, rel=0.1
    )
    np.testing.assert_allclose(gain, np.outer(gain.mean(1), gain.mean(0)) / gain.mean(), rtol=1e-5)


def test_exposure_dims_the_light_of_every_pixel():
    for sensor in (Sensor(exposure=0.1), Sensor(exposure=0.1, gain_spread=1e-6)):
        pattern = draw_pattern(sensor, 200, 200, np.random.default_rng(0))
        spikes = integrate_and_fire(still(200, 300), np.random.default_rng(0), sensor, pattern)
        assert spikes.mean() == pytest.approx(0.06 * 200 / 255, rel=0.01)


def test_a_sensor_is_drawn_from_its_ranges():
    rng = np.random.default_rng(0)
    drawn = [NOISY_CAMERAS.draw(rng) for _ in range(400)]
    for name, (least, most) in {**NOISY_CAMERAS.log, **NOISY_CAMERAS.linear}.items():
        values = np.array([getattr(sensor, name) for sensor in drawn])
        assert (
            least <= values.min() < least + 0.05 * (most - least)
            and most - 0.05 * (most - least) < values.max() <= most
        )
    exposures = [sensor.exposure for sensor in drawn]
    # as many dark ones as bright ones
    assert np.median(exposures) == pytest.approx(np.sqrt(0.03 * 1.2), rel=0.2)
    assert {sensor.rate for sensor in drawn} == {0.6}
    assert NOISY_CAMERAS.describe("dark") == "0 to 0.004" and SENSORS["reds"].describe("frames_every") == "15"
    assert (
        SENSORS["camera"].describe("electrons") == "150 to 30000"
        and SENSORS["x4k"].describe("start") == "zero"
    )


def test_a_quarter_of_the_cameras_are_noisy():
    rng = np.random.default_rng(0)
    drawn = [SENSORS["camera"].draw(rng) for _ in range(800)]
    noisy = np.array([sensor.electrons < 5000 for sensor in drawn])
    assert noisy.mean() == pytest.approx(0.25, abs=0.04)
    assert all((sensor.dark_spread == 0) == old for sensor, old in zip(drawn, noisy))
    whites = np.array([sensor.rate * sensor.exposure for sensor, old in zip(drawn, noisy) if not old])
    assert (
        0.02 < whites.min() < 0.025
        and 1.8 < whites.max() < 2
        and np.median(whites) == pytest.approx(0.2, rel=0.2)
    )


def test_hot_and_dead_pixels():
    rng = np.random.default_rng(0)
    sensor = Sensor(hot=0.1, dead=0.2)
    spikes = integrate_and_fire(still(0, 100), rng, sensor, draw_pattern(sensor, 200, 200, rng)).mean(0)
    assert (spikes > 0).mean() == pytest.approx(0.1, abs=0.01) and spikes.max() > 0.9
    spikes = integrate_and_fire(still(255, 100), rng, sensor, draw_pattern(sensor, 200, 200, rng)).mean(0)
    assert (spikes == 0).mean() == pytest.approx(0.2, abs=0.01)
    assert spikes.max() <= 1


def test_charge_beyond_one_spike_a_step_is_lost():
    light = [np.ones((4, 4), np.float32)] * 40 + [np.zeros((4, 4), np.float32)] * 20
    spikes = integrate_and_fire(light, np.random.default_rng(0), Sensor(rate=1.0, dark=0.5))
    assert spikes[:40].all() and spikes[41:].sum(0).max() <= 10


class Ramp:
    """Light from integers, so that it is the same on every machine."""

    def frame(self, time):
        y, x = np.mgrid[0:24, 0:32]
        return ((7 * x + 5 * y + 3 * time + 200) % 256 / 255).astype(np.float32)

    def carry(self, texture, start, time):
        return np.roll(texture, round(time) - round(start), axis=1)


@pytest.mark.parametrize(
    "name, spikes, picture",
    [
        ("ideal", "b426be40c571b95f", "668d54e24f2a3280"),
        pytest.param(
            *("reds", "e8428830bf39a313", "30bd2f1e6e346b2e"),
            marks=pytest.mark.skipif(
                cv2.__version__ != "5.0.0", reason="made by OpenCV 5.0.0, which warps and blurs"
            ),
        ),
    ],
)
def test_scenes_of_ideal_and_reds_are_unchanged(name, spikes, picture):
    """Hashes of the scenes before sensors had a start, a spread of dark charge and optics."""
    rng = np.random.default_rng(5)
    sample = simulate(Ramp(), rng, sensor=SENSORS[name].draw(rng))
    found = [hashlib.sha256(sample[key].tobytes()).hexdigest()[:16] for key in ("spikes", "middle")]
    assert found == [spikes, picture]


def test_in_phase_pixels_fire_when_the_charge_passes_a_whole_number():
    """Closed form: the number of spikes up to step n is floor(0.6 x the light up to it), the same in all
    pixels of one grey level."""
    rng = np.random.default_rng(0)
    grey = (np.arange(64) * 4).astype(np.float32)
    light = [np.tile(np.roll(grey, step) / 255, (3, 1)) for step in range(41)]
    spikes = integrate_and_fire(light, rng, Sensor(start="zero"))
    total = 0.6 * np.cumsum([frame.astype(np.float64) for frame in light], 0)
    expected = np.diff(np.floor(total), axis=0, prepend=0)
    sure = np.abs(total - np.round(total)).min(0) > 1e-4  # the others depend on single precision
    assert sure.mean() > 0.7 and np.array_equal(spikes[:, sure], expected[:, sure])
    assert (spikes == spikes[:, :1]).all()  # rows are alike
    random = integrate_and_fire(light, rng, Sensor())
    assert not (random == random[:, :1]).all()


def test_a_start_before_the_stream():
    """The stream equals an earlier one from a later step on."""
    sample = simulate(Ramp(), np.random.default_rng(0), sensor=Sensor(start="zero", before=17))
    light = [Ramp().frame(time) for time in range(-20 - 17, 21)]
    assert np.array_equal(sample["spikes"], integrate_and_fire(light, None, Sensor(start="zero"))[17:])
    np.testing.assert_allclose(sample["middle"], 255 * Ramp().frame(0), rtol=1e-6)
    assert not np.array_equal(sample["spikes"], simulate(Ramp(), None, sensor=Sensor(start="zero"))["spikes"])


def test_spikecv_fires_every_second_third_fourth_step():
    """As in its code: grey level g fires every ceil(2 / g) steps, since the remainder is lost."""
    sensor = SENSORS["spikecv"].draw(None)
    greys = np.array([255, 200, 130, 120, 90, 80, 60], np.float32)
    spikes = integrate_and_fire([greys[None] / 255] * 120, None, sensor)[:, 0]
    periods = np.ceil(2 / (greys / 255)).astype(int)
    assert list(periods) == [2, 3, 4, 5, 6, 7, 9]
    for index, period in enumerate(periods):
        assert list(np.flatnonzero(spikes[:, index])) == list(range(period - 1, 120, period))


def test_spikezoo_keeps_the_remainder_at_half_a_spike_a_step():
    sensor = SENSORS["spikezoo"].draw(None)
    spikes = integrate_and_fire(still(180, 300), np.random.default_rng(0), sensor)
    assert spikes.mean() == pytest.approx(0.5 * 180 / 255, rel=0.002) and 0.3 < spikes[0].mean() < 0.4


def test_dark_charge_is_log_normal():
    sensor = Sensor(dark=0.004, dark_spread=0.43)
    dark = np.log(draw_pattern(sensor, 250, 400, np.random.default_rng(0)).dark)
    assert np.exp(np.median(dark)) == pytest.approx(0.004, rel=0.01) and dark.std() == pytest.approx(
        0.43, rel=0.02
    )
    assert ((dark - dark.mean()) ** 3).mean() / dark.std() ** 3 == pytest.approx(0, abs=0.03)
    low, high = np.exp(np.percentile(dark, (1, 99)))  # a measured camera has 0.0013 and 0.0116
    assert low == pytest.approx(0.0015, rel=0.1) and high == pytest.approx(0.0109, rel=0.1)


def test_the_first_column_and_row_gather_more():
    gain = draw_pattern(Sensor(first_column=0.2, first_row=0.12), 100, 150, np.random.default_rng(0)).gain
    assert gain.mean() == pytest.approx(0.6, rel=1e-5)
    np.testing.assert_allclose(gain[1:, 0] / gain[1:, 1], 1.2, rtol=1e-5)
    np.testing.assert_allclose(gain[0, 1:] / gain[1, 1:], 1.12, rtol=1e-5)
    assert gain[0, 0] / gain[5, 5] == pytest.approx(1.2 * 1.12) and np.ptp(gain[1:, 1:]) < 1e-6


def test_shading_is_smooth_and_of_mean_1():
    for seed in range(20):
        field = draw_shading(60, 90, 0.1, np.random.default_rng(seed))
        assert field.mean() == pytest.approx(1) and np.abs(field - 1).max() == pytest.approx(0.1)
        assert np.abs(np.diff(field, axis=0)).max() < 0.02 and np.abs(np.diff(field, axis=1)).max() < 0.02
    many = np.mean([draw_shading(61, 91, 0.1, np.random.default_rng(seed)) for seed in range(60)], 0)
    # it falls off
    assert many[30, 45] > 1.02 and max(many[0, 0], many[-1, -1], many[0, -1], many[-1, 0]) < 0.95


def test_dust_darkens_a_few_spots():
    through = [draw_dust(250, 400, 3.0, np.random.default_rng(seed)) for seed in range(60)]
    counts = [cv2.connectedComponents((one < 1).astype(np.uint8))[0] - 1 for one in through]
    assert np.mean(counts) == pytest.approx(3, abs=0.7)
    single = [one for one, count in zip(through, counts) if count == 1]
    sizes = [int((one < 1).sum()) for one in single]
    assert min(sizes) >= 1 and max(sizes) <= 75 and all(0.3 <= one.min() <= 0.8 for one in single)


def test_hot_pixels_of_a_measured_camera():
    pattern = draw_pattern(Sensor(hot=0.2, hot_most=0.4), 200, 200, np.random.default_rng(0))
    hot = pattern.dark[pattern.dark > 0]
    assert 0.02 <= hot.min() < 0.021 and 0.39 < hot.max() <= 0.4
    assert np.median(hot) == pytest.approx(np.sqrt(0.02 * 0.4), rel=0.05)


@pytest.mark.parametrize("electrons", [1999, 10000])
def test_shot_noise_is_the_same_above_and_below_many_electrons(electrons):
    sensor = Sensor(electrons=electrons)
    counts = integrate_and_fire(still(128, 1000, 80), np.random.default_rng(0), sensor).sum(0, dtype=float)
    expected = 0.6 * 128 / 255 * 1000
    assert counts.mean() == pytest.approx(expected, abs=0.03)
    # 1/6 from the random first charge
    assert counts.var() == pytest.approx(expected / electrons + 1 / 6, abs=0.03)


def test_the_step_after_a_spike_counts_less():
    def rate(recovery):
        sensor = Sensor(rate=0.5, recovery=recovery)
        return integrate_and_fire(still(255, 400, 60), np.random.default_rng(0), sensor).mean()

    assert rate(1.0) == pytest.approx(0.5, abs=0.002)
    assert rate(0.5) == pytest.approx(0.4, abs=0.003)  # 0.5 + 0.5 + 0.25: in five steps 2 thresholds


def test_saturated_pixels_are_white_in_the_truth():
    """At two spikes a step for white, half of white fires at each step; the truth is clipped there too."""
    sensor = Sensor(rate=1.0, exposure=2.0)
    sample = simulate(Ramp(), np.random.default_rng(0), sensor=sensor)
    light = 255 * Ramp().frame(0)
    np.testing.assert_allclose(sample["middle"], np.minimum(2 * light, 255), rtol=1e-5)
    assert sample["white"] == 1.0 and sample["spikes"][20][light > 130].all()
    # 255 is 0.6 spikes a step
    sample = simulate(Ramp(), np.random.default_rng(0), sensor=Sensor(exposure=3.0))
    assert sample["middle"].max() == pytest.approx(425) and sample["white"] == pytest.approx(1 / 0.6)


def test_pictures_have_the_shading_of_the_lens_except_for_a_calibrated_camera():
    sensor = Sensor(shading=0.1, gain_spread=0.02, exposure=0.5)
    pattern = draw_pattern(sensor, 24, 32, np.random.default_rng(0))
    plain, flat = (
        simulate(Ramp(), np.random.default_rng(0), 41, {"key": 20}, sensor, pattern, flat=f)
        for f in (False, True)
    )
    np.testing.assert_allclose(flat["key"], 127.5 * Ramp().frame(0), rtol=1e-5)
    np.testing.assert_allclose(plain["key"], flat["key"] * pattern.shading, rtol=1e-5)
