import numpy as np
import pytest
import torch

from datasets.simulator import integrate_and_fire
from models.classical import tfp


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
