"""Detection of the axis of time."""

import warnings

import numpy as np
import pytest

from swinsf.datasets.simulation.sensor import Sensor
from swinsf.recordings import Recording, open_recording
from swinsf.recordings.axes import spikes_in_a_row
from swinsf.utils.cli import UserError
from tests.conftest import moving_scene, random_spikes


def test_spikes_in_a_row_of_random_and_of_regular_pixels():
    regular = np.zeros((64, 500), bool)
    for pixel in range(500):
        regular[pixel % 4 :: 4, pixel] = True
    assert spikes_in_a_row(regular) == 0
    assert spikes_in_a_row(random_spikes(64, 50, 50, rate=0.3).reshape(64, -1) > 0) == pytest.approx(
        1, abs=0.05
    )
    assert spikes_in_a_row(np.zeros((64, 500), bool)) == 1.0  # no evidence


@pytest.mark.parametrize("rate", [0.6, 0.1, 0.03])
@pytest.mark.parametrize("speed", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_file_with_time_last_is_transposed_with_a_message(tmp_path, rate, speed, kind):
    spikes = moving_scene(90, 120, 200, speed, sensor=Sensor(rate=rate))
    save = np.save if kind == "npy" else np.savez
    save(tmp_path / f"right.{kind}", spikes)
    save(tmp_path / f"last.{kind}", np.ascontiguousarray(spikes.transpose(1, 2, 0)))
    opened, lines = open_recording(tmp_path / f"right.{kind}")
    assert opened.shape == (200, 90, 120) and "turned" not in lines[0]
    for flip in (False, True):
        opened, lines = open_recording(tmp_path / f"last.{kind}", flip=flip)
        assert "200 steps of 90x120, turned from (H, W, T) (90, 120, 200)" in lines[0]
        np.testing.assert_array_equal(opened[30:71], spikes[30:71, :: -1 if flip else 1])


def test_an_array_with_time_last_is_transposed_with_a_warning():
    spikes = moving_scene(90, 120, 200)
    with pytest.warns(UserWarning, match=r"an array \(90, 120, 200\) is read as \(H, W, T\)"):
        recording = Recording.of(spikes.transpose(1, 2, 0))
    np.testing.assert_array_equal(recording[5:60], spikes[5:60])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Recording.of(spikes).shape == (200, 90, 120)
        assert Recording.of(random_spikes(60, 24, 32)).shape == (60, 24, 32)
        assert Recording.of(np.ones((60, 24, 32), np.uint8)).shape == (60, 24, 32)


def test_an_ambiguous_order_of_axes_is_refused(tmp_path):
    """A picture as (H, W, T), but with random spikes, which do not show which axis is time."""
    rate = np.hypot(*np.mgrid[-1:1:90j, -1:1:120j])[..., None] / 1.5
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((90, 120, 200)) < rate)
    with pytest.raises(UserError, match=r"a\.npy: may be \(T, H, W\) or \(H, W, T\)"):
        open_recording(tmp_path / "a.npy")
