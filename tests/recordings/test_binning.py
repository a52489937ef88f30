"""Binning, and the choices made from a survey of a recording."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swinsf.datasets.dat import camera_of
from swinsf.datasets.simulation.sensor import Sensor, draw_pattern, integrate_and_fire
from swinsf.models import Reconstruction
from swinsf.recordings import PipedSpikes, choose_bin, choose_gain, open_recording, survey
from swinsf.recordings.binning import bin_steps
from swinsf.recordings.plan import FULL, LIT, STILL, check_bin, key_frames
from swinsf.recordings.stream import reconstruct, reconstruct_binned
from swinsf.recordings.survey import WHITE, Survey
from swinsf.utils.cli import UserError
from swinsf.utils.timing import RATE
from tests.conftest import moving_scene, random_spikes


class Charge:
    """Replaces a random generator: the first number drawn by `integrate_and_fire` is this charge."""

    def __init__(self, charge):
        self.charge = charge

    def random(self, shape, dtype):
        return self.charge.astype(dtype)


@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_dark_pixel_binned_is_a_bright_one_spike_for_spike(bin, seed):
    """Light L with N steps a bin equals light N L with the same charge. Light is in 256ths of a threshold, so
    float32 sums are exact."""
    rng = np.random.default_rng(seed)
    charge = rng.integers(0, 256, (9, 11)) / 256
    # up to one threshold in `bin` steps
    light = (rng.integers(0, 256 // bin + 1, (9, 11)) / 256).astype(np.float32)
    sensor = Sensor(rate=1.0)
    dark = integrate_and_fire([light] * (30 * bin), Charge(charge), sensor)
    bright = integrate_and_fire([bin * light] * 30, Charge(charge), sensor)
    np.testing.assert_array_equal(bin_steps(dark, bin, bin // 2)[0:30], bright)
    assert bright.any()


@pytest.mark.parametrize("bin", [1, 2, 3, 7])
@pytest.mark.parametrize("piped", [False, True])
def test_a_bin_fires_if_any_of_its_steps_does_and_is_centred_on_its_key(bin, piped):
    spikes = random_spikes(200, 6, 16, rate=0.1)
    data = np.packbits(spikes.reshape(200, -1), axis=1, bitorder="little").tobytes()
    binned = bin_steps(PipedSpikes(io.BytesIO(data), camera_of(6, 16)) if piped else spikes, bin, 31)
    index = binned.bin_of(31)
    assert (binned.length is None) == piped
    got = binned[index : index + 999]
    first = 31 - bin // 2
    assert len(got) == (200 - first) // bin
    for i, one in enumerate(got):
        np.testing.assert_array_equal(one, spikes[first + i * bin : first + (i + 1) * bin].any(0))
    if piped:
        assert binned.position == index + len(got)


def mean(spikes):
    """Replaces a network: the mean of its window."""
    picture = spikes.float().mean(1, keepdim=True) * (255 / RATE)
    return Reconstruction(picture, picture, picture)


class Mean(torch.nn.Module):
    config = type("Config", (), {"window": 5, "patch": 1})

    def __init__(self):
        super().__init__()
        self.none = torch.nn.Parameter(torch.zeros(1))
        self.forward = mean


def test_pictures_have_the_recordings_grey_level_and_steps_whatever_the_bin():
    light = np.full((24, 32), 0.1, np.float32)
    spikes = integrate_and_fire([light] * 700, np.random.default_rng(0))
    for bin in (1, 2, 3, 5, 10):
        pictures = [*reconstruct(spikes, Mean(), 20, start=200, stop=490, bin=bin)]
        keys = key_frames(700, 200, 490, 20, bin)
        assert len(pictures) == len(keys) and all(key % 20 == 0 for key in keys)
        for key, picture in zip(keys, pictures):
            assert picture.mean() == pytest.approx(25.5, rel=0.03)
            first = key - bin // 2 - 20 * bin
            steps = spikes[first : first + 41 * bin]  # its window, around the key frame
            np.testing.assert_allclose(picture, steps.mean(0) * (255 / RATE), rtol=1e-5)
    with pytest.raises(UserError, match=r"--bin 3 with --stride 20: .* take --stride 18 or 21"):
        check_bin(3, 20)


@pytest.mark.parametrize("outputs", ["middle", "all"])
def test_key_frames_closer_than_a_bin_have_their_own_bins(outputs):
    """At common key frames, the pictures equal those with a stride of one bin."""
    light = np.linspace(0.01, 0.06, 32, dtype=np.float32) * np.ones((24, 1), np.float32)
    spikes = integrate_and_fire([light] * 300, np.random.default_rng(0))
    close = reconstruct_binned(spikes, Mean(), key_frames(300, bin=5), 1, 5, outputs=outputs, batch_size=2)
    close = dict(close)
    apart = dict(reconstruct_binned(spikes, Mean(), key_frames(300, stride=5, bin=5), 5, 5))
    assert [*close] == [*range(102, 198)] and [*apart] == [*range(102, 198, 5)]
    for key, picture in close.items():
        bins = spikes[key - 102 : key + 103].reshape(41, 5, 24, 32).any(1)
        np.testing.assert_allclose(picture, bins.mean(0) * (255 / RATE / 5), rtol=1e-5)
        if key in apart and outputs == "middle":
            np.testing.assert_array_equal(picture, apart[key])


@pytest.mark.parametrize("bin", [1, 2, 3, 8])
def test_key_frames_are_those_with_a_whole_window(bin):
    steps = 41 * bin + 9
    whole = [
        key for key in range(steps) if key - bin // 2 - 20 * bin >= 0 and key - bin // 2 + 21 * bin <= steps
    ]
    assert [*key_frames(steps, bin=bin)] == whole and len(whole) == 10
    assert not key_frames(41 * bin - 1, bin=bin)


def test_a_recording_is_opened_binned(tmp_path):
    spikes = random_spikes(90, 16, 24, rate=0.05)
    np.save(tmp_path / "a.npy", spikes)
    opened, _ = open_recording(tmp_path / "a.npy", bin=3)
    np.testing.assert_array_equal(opened[2:7], spikes[6:21].reshape(5, 3, 16, 24).any(1))
    assert opened.shape == (30, 16, 24)


def test_bad_recordings_are_refused_at_once():
    with pytest.raises(ValueError, match="no key frame: 60 steps; a picture needs 82 steps"):
        reconstruct(random_spikes(60, 24, 32), Mean(), bin=2)
    with pytest.raises(TypeError, match=r"rec\.dat: a str, not an array"):
        reconstruct("rec.dat", Mean())


@pytest.mark.parametrize("rate", [0.6, 0.1, 0.03])
@pytest.mark.parametrize("speed", [0.0, 0.1, 0.3])
def test_the_survey_measures_light_and_motion(rate, speed):
    sensor = Sensor(rate=rate, electrons=500, gain_spread=0.02, hot=5e-4)
    pattern = draw_pattern(sensor, 120, 160, np.random.default_rng(1))
    spikes = moving_scene(120, 160, 500, speed, sensor=sensor, pattern=pattern)
    seen = survey(spikes)
    assert seen.rate == pytest.approx(spikes.mean(), rel=0.1) and seen.steps == 500
    assert seen.motion == pytest.approx(speed, abs=0.03)
    bin, reason = choose_bin(seen, 20)
    assert bin == 1 or (bin * seen.bright <= (FULL if bin == 2 else LIT) and bin * seen.motion <= STILL)
    assert bin == {0.6: 1, 0.1: 2, 0.03: 4}[rate] or speed > 0
    assert f"{seen.bright:.2g} spikes a step" in reason
    assert choose_gain(seen) * seen.bright == pytest.approx(WHITE * RATE)


def test_a_survey_covers_only_the_steps_shown():
    # it brightens halfway
    light = np.repeat([[[0.1]], [[0.8]]], 500, 0).astype(np.float32) * np.ones((24, 32), np.float32)
    spikes = integrate_and_fire(light, np.random.default_rng(0))
    assert survey(spikes, 0, 450).rate == pytest.approx(0.06, rel=0.02)
    assert survey(spikes, 550, None).rate == pytest.approx(0.48, rel=0.02)
    assert survey(spikes).rate == pytest.approx(0.27, rel=0.3)


def test_the_gain_has_limits():
    seen = Survey(0.003, 0.004, 0.0, 10_000)
    bright = (0.0, 1e-6, 0.54, 1e3)
    assert [choose_gain(seen._replace(bright=rate)) for rate in bright] == [
        1.0,
        64.0,
        pytest.approx(1.0),
        1 / 64,
    ]


def test_the_bin_is_limited_by_light_motion_and_length():
    still = Survey(0.003, 0.004, 0.0, 10_000)
    assert choose_bin(still, 20)[0] == 20 and choose_bin(still, 1) == choose_bin(still, 20)
    assert choose_bin(still._replace(bright=0.013), 7)[0] == 7 and choose_bin(still, 100)[0] == 25
    for bright, bin in ((0.26, 1), (0.24, 2), (0.03, 2), (0.024, 4), (0.009, 10)):
        assert choose_bin(still._replace(bright=bright), 20)[0] == bin
    assert choose_bin(still._replace(motion=0.06), 20) == (
        5,
        "bright pixels have 0.004 spikes a step, and things move by 0.06 pixels a step",
    )
    # in such darkness, the motion may be unknown
    assert choose_bin(still._replace(motion=None, steps=None), 20)[0] == 10
    assert choose_bin(still._replace(bright=0.1, motion=None), 20) == (
        1,
        "bright pixels have 0.1 spikes a step, and the motion is unknown",
    )
    bin, reason = choose_bin(still._replace(steps=200), 20)
    assert bin == 4 and reason.endswith("needs more than 200 steps")
    assert choose_bin(still, 20, first=9_900)[0] == 4  # 41 bins must fit after it
