import cv2
import numpy as np
import pytest
import torch

from swinsf.datasets.dat import read_dat
from swinsf.evaluation.metrics import psnr_ssim
from swinsf.models.classical import tfi, tfi_pictures, tfp, tfp_pictures
from tests.conftest import REFERENCE, random_spikes

SAMPLE = REFERENCE / "data" / "spike_reds_sample" / "test"


@pytest.mark.parametrize("key_frame", [0, 13, 20, 40])
def test_tfi_by_brute_force(key_frame):
    spikes = random_spikes(41, 6, 7, rate=0.1)
    picture = tfi(torch.from_numpy(spikes), key_frame)
    for y in range(6):
        for x in range(7):
            steps = np.flatnonzero(spikes[:, y, x])
            before = max((s for s in steps if s <= key_frame), default=-1)
            after = min((s for s in steps if s > key_frame), default=41)
            assert picture[y, x] == pytest.approx(255 / 0.6 / (after - before))


@pytest.mark.parametrize(
    "key_frame, window, steps", [(20, 41, (0, 41)), (20, 21, (10, 31)), (13, 41, (0, 34)), (27, 21, (17, 38))]
)
def test_tfp_is_the_mean_of_its_window(key_frame, window, steps):
    spikes = random_spikes(41, 6, 7)
    expected = spikes[slice(*steps)].mean(0) / 0.6 * 255
    np.testing.assert_allclose(tfp(torch.from_numpy(spikes), key_frame, window).numpy(), expected, rtol=1e-5)
    batch = torch.from_numpy(np.stack([spikes, 1 - spikes])).float()
    np.testing.assert_allclose(tfp(batch, key_frame, window)[0].numpy(), expected, rtol=1e-5)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no spike-REDS sample streams at {SAMPLE}")
@pytest.mark.parametrize(
    "name, tfp41, tfp21, by_tfi",
    [
        ("203_part2_key_id151", "23.49 / 0.697", "25.81 / 0.725", "24.67 / 0.757"),
        ("203_part3_key_id151", "23.72 / 0.660", "25.54 / 0.748", "26.28 / 0.858"),
    ],
)
def test_published_streams(name, tfp41, tfp21, by_tfi):
    spikes = torch.from_numpy(read_dat(SAMPLE / "input" / f"{name}.dat", 250, 400, 130, 171))
    truth = cv2.imread(str(SAMPLE / "gt" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
    for picture, expected in (
        (tfp(spikes, 20, 41), tfp41),
        (tfp(spikes, 20, 21), tfp21),
        (tfi(spikes, 20), by_tfi),
    ):
        assert "{:.2f} / {:.3f}".format(*psnr_ssim(picture.numpy(), truth)) == expected


class Recording:
    """Spikes that may only be sliced in order, each step once."""

    def __init__(self, spikes):
        self.spikes, self.position = spikes, 0

    def __getitem__(self, steps):
        assert steps.start >= self.position
        self.position = max(steps.start, min(steps.stop, len(self.spikes)))
        return self.spikes[steps]


KEYS = {
    "every step": range(700),
    "every seventh": range(20, 700, 7),
    "far apart": range(5, 700, 90),
    "two": [3, 699],
}


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("window", [41, 20, 1])
def test_tfp_of_a_recording_equals_tfp_of_each_window(keys, window):
    spikes = random_spikes(700, 5, 9)
    pictures = list(tfp_pictures(Recording(spikes), KEYS[keys], window))
    assert len(pictures) == len(KEYS[keys])
    for key, picture in zip(KEYS[keys], pictures):
        np.testing.assert_allclose(
            picture, tfp(torch.from_numpy(spikes), key, window).numpy(), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("keys", KEYS)
def test_tfi_of_a_recording_equals_a_search_for_each_picture(keys):
    spikes = random_spikes(700, 5, 9, rate=0.1)
    spikes[:, 0, 0] = 0
    spikes[400, 0, 0] = 1  # a pixel that fires once
    spikes[:, 1, 1] = 0
    pictures = list(tfi_pictures(Recording(spikes), KEYS[keys]))
    assert len(pictures) == len(KEYS[keys])
    for key, picture in zip(KEYS[keys], pictures):
        expected = tfi(torch.from_numpy(spikes), key).numpy()
        bright = expected > 0.83  # an interval of 512 steps
        np.testing.assert_allclose(picture[bright], expected[bright], rtol=1e-5)
        assert (picture[~bright] <= 0.83).all()


def test_tfi_does_not_depend_on_where_the_pass_begins():
    spikes = random_spikes(1500, 5, 9, rate=0.004)
    whole = list(tfi_pictures(spikes, range(1500)))
    for start in (40, 1100, 1499):
        for picture, expected in zip(tfi_pictures(spikes, range(start, 1500, 3)), whole[start::3]):
            np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize("method", [tfp_pictures, tfi_pictures])
def test_a_recording_of_unknown_length_ends_the_pictures(method):
    assert len(list(method(Recording(random_spikes(100, 5, 9)), range(20, 10**9, 30)))) == 3
    assert list(method(random_spikes(100, 5, 9), [])) == []
