"""bins.py: recordings by noisy cameras, each scored with every bin size."""

import numpy as np
import pytest

from swinsf.models import load_model
from swinsf.recordings import choose_bin, survey
from swinsf.utils.cli import UserError
from tools import bins as script


def test_a_recording_is_scored_with_every_bin_size(photos, tiny_weights):
    dataset = script.open_recordings(photos)
    dataset.height, dataset.width = 40, 64
    recording = script.draw_recording(dataset, 6)
    spikes, truth, key, white = recording
    assert spikes.shape == (840, 40, 64) and truth.shape == (40, 64) and key == 419
    assert 0.03 <= white <= 0.2 and 150 < truth.max() <= 256 * 1.1  # white and shading, from a dark camera
    np.testing.assert_array_equal(script.draw_recording(dataset, 6)[0], spikes)
    bright, chosen, psnr = script.score_bins(recording, load_model(tiny_weights))
    assert bright == survey(spikes).bright and chosen == choose_bin(survey(spikes), 20, key, key + 1)[0]
    assert len(psnr) == len(script.BINS) == 6 and np.isfinite(psnr).all()


def test_the_table_has_means_by_light_and_for_auto():
    dark = (0.01, 4, [20.0, 22.0, 26.0, 25.0, 10.0, 5.0])
    bright = [(0.3, 1, [30.0, 29.0, 20.0, 19.0, 10.0, 5.0]), (0.4, 1, [34.0, 35.0, 20.0, 19.0, 10.0, 5.0])]
    lines = script.make_table([dark, *bright])
    assert lines[2] == "| above 0.25 | 2 | 32.00 | 32.00 | 20.00 | 19.00 | 10.00 | 5.00 | 32.00 | 32.50 |"
    assert lines[3] == "| below 0.025 | 1 | 20.00 | 22.00 | 26.00 | 25.00 | 10.00 | 5.00 | 26.00 | 26.00 |"
    assert (
        lines[4].startswith("| all | 3 | 28.00 ")
        and lines[4].endswith("| 30.00 | 30.33 |")
        and len(lines) == 5
    )


def test_photographs_must_be_named():
    with pytest.raises(UserError, match="--photos"):
        script.parse_settings([])
