import math

import numpy as np
import pytest
import torch

from swinsf.evaluation.metrics import psnr_ssim, to_bytes
from swinsf.utils.cli import UserError


def pictures(seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 255, (40, 50)).astype(np.float32)
    return truth + rng.normal(0, 10, truth.shape).astype(np.float32), truth


def ssim_by_loop(x, y, weights):
    """Mean SSIM over every whole window, by the formula (Wang et al., IEEE TIP 2004)."""
    side, values = len(weights), []
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    for i in range(x.shape[0] - side + 1):
        for j in range(x.shape[1] - side + 1):
            a, b = x[i : i + side, j : j + side], y[i : i + side, j : j + side]
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb, cov = (
                (weights * a * a).sum() - ma**2,
                (weights * b * b).sum() - mb**2,
                (weights * a * b).sum() - ma * mb,
            )
            values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return np.mean(values)


def test_released_truncates_to_bytes():
    picture, truth = np.full((20, 20), 100.99), np.full((20, 20), 98.01)
    assert psnr_ssim(picture, truth)[0] == pytest.approx(10 * math.log10(255**2 / 4))
    assert np.array_equal(to_bytes(np.array([-3.0, 0.99, 254.99, 300.0])), [0, 0, 254, 255])


def smooth():
    """Like `pictures`, but flat enough to show how a window's covariance is normalised."""
    y, x = np.mgrid[0:40, 0:50]
    truth = (100 + 8 * np.sin(x / 6) + 8 * np.cos(y / 7)).astype(np.float32)
    return truth + 2 * np.random.default_rng(0).standard_normal(truth.shape).astype(np.float32), truth


@pytest.mark.parametrize("kind", [pictures, smooth])
def test_kair_clamps_and_does_not_quantise(kind):
    picture, truth = kind()
    picture = picture + 20
    psnr, ssim = psnr_ssim(picture, truth, "kair")
    x, y = np.clip(picture, 0, 255).astype(np.float64), truth.astype(np.float64)
    assert psnr == pytest.approx(10 * math.log10(255**2 / np.mean((x - y) ** 2)), abs=1e-9)
    axis = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(axis, axis) / axis.sum() ** 2
    assert ssim == pytest.approx(ssim_by_loop(x, y, weights), abs=1e-6)


def test_the_protocols_differ():
    picture, truth = pictures()
    assert abs(psnr_ssim(picture, truth)[0] - psnr_ssim(picture, truth, "kair")[0]) > 1e-3


@pytest.mark.parametrize("protocol", ["released", "kair"])
def test_equal_pictures(protocol):
    _, truth = pictures()
    assert psnr_ssim(truth, truth, protocol) == (math.inf, 1.0)


def test_wrong_input():
    picture, truth = pictures()
    with pytest.raises(ValueError, match=r"\(40, 49\)"):
        psnr_ssim(picture[:, :-1], truth)
    with pytest.raises(ValueError, match="released, kair"):
        psnr_ssim(picture, truth, "other")


@pytest.mark.parametrize("protocol", ["released", "kair"])
def test_nan_is_an_error_and_not_black(protocol):
    picture, truth = pictures()
    picture[3, 4] = np.nan
    with pytest.raises(UserError, match="a picture with NaN"):
        psnr_ssim(picture, truth, protocol)
    with pytest.raises(ValueError, match="a picture with NaN"):
        to_bytes(picture)


@pytest.mark.parametrize("protocol", ["released", "kair"])
def test_pictures_in_0_to_1_are_refused(protocol):
    picture, truth = smooth()
    for pair in (
        (picture / 255, truth / 255),
        (0.99 - picture / 260, truth / 260),
        (picture / 255, truth),
        (picture, truth / 255),
    ):
        with pytest.raises(ValueError, match=r"in 0\.\.1; .* multiply by 255"):
            psnr_ssim(*pair, protocol)
    # dark, but not scaled: a network's picture of black, and a nearly black picture
    dark = np.random.default_rng(0).random(truth.shape)
    assert psnr_ssim(dark, np.zeros_like(truth), protocol).psnr > 40
    assert psnr_ssim(dark, np.round(dark), protocol).psnr > 40
    assert psnr_ssim(dark, truth, protocol).psnr < 10


def test_arrays_that_are_no_pictures_are_refused():
    picture, truth = pictures()
    for wrong, words in (
        ((257 * truth).astype(np.uint16), r"uint16 from .* to 6\d{4}; bring it"),
        (truth.astype(np.int16) - 300, "int16 from -300"),
        (truth > 100, r"\(40, 50\) bool"),
        (torch.from_numpy(truth), r"torch\.float32; .* a numpy array"),
        (truth.astype(complex), "complex128"),
        (truth.tolist(), "list"),
    ):
        for pair in ((wrong, truth), (truth, wrong)):
            with pytest.raises(ValueError, match=words):
                psnr_ssim(*pair)
    with pytest.raises(ValueError, match=r"picture of \(40, 50, 1\)"):
        psnr_ssim(picture[..., None], truth[..., None])
    assert psnr_ssim(truth.astype(np.uint8), truth.astype(np.uint16)).ssim == 1
