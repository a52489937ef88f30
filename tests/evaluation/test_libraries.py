"""The table in docs/testing.md: calls of other libraries that give our figures, if they are installed."""

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from swinsf.evaluation.metrics import psnr_ssim, to_bytes


def pair(height=250, width=400):
    """(picture, truth): blurred noise, and the same with noise of 8 grey levels."""
    rng = np.random.default_rng(0)
    truth = cv2.GaussianBlur(rng.random((height, width), np.float32), (0, 0), 3)
    truth = cv2.normalize(truth, None, 10, 245, cv2.NORM_MINMAX)
    return np.clip(truth + rng.normal(0, 8, truth.shape), 0, 255).astype(np.float32), truth


def tensors(*pictures):
    return [torch.from_numpy(picture)[None, None] for picture in pictures]


def piq(x, y, library):
    return library.ssim(*tensors(x, y), data_range=255.0, downsample=False)


def piq_as_it_comes(x, y, library):
    return library.ssim(*tensors(x, y), data_range=255.0)


def pytorch_msssim(x, y, library):
    return library.ssim(*tensors(x, y), data_range=255)


def kornia(x, y, library):
    return library.metrics.ssim(*tensors(x, y), 11, max_val=255.0, padding="valid").mean()


def kornia_as_it_comes(x, y, library):
    return library.metrics.ssim(*tensors(x, y), 11, max_val=255.0).mean()


def torchmetrics(x, y, library):
    return library.functional.image.structural_similarity_index_measure(*tensors(x, y), data_range=255.0)


SAME = [("piq", piq), ("pytorch_msssim", pytorch_msssim), ("kornia", kornia)]
OTHER = [("piq", piq_as_it_comes), ("kornia", kornia_as_it_comes), ("torchmetrics", torchmetrics)]


@pytest.mark.parametrize("name, call", SAME)
@pytest.mark.parametrize("size", [(250, 400), (400, 400)])
def test_libraries_that_equal_kair(name, call, size):
    x, y = pair(*size)
    assert float(call(x, y, pytest.importorskip(name))) == pytest.approx(
        psnr_ssim(x, y, "kair").ssim, abs=1e-5
    )


@pytest.mark.parametrize("name, call", OTHER)
def test_libraries_that_differ(name, call):
    """piq shrinks large pictures; the other two include a reflected border in the mean."""
    x, y = pair(400, 400)
    assert abs(float(call(x, y, pytest.importorskip(name))) - psnr_ssim(x, y, "kair").ssim) > 2e-5


def test_skimage_equals_both_with_the_right_flags():
    x, y = pair()
    gauss = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5}
    kair, released = psnr_ssim(x, y, "kair"), psnr_ssim(x, y, "released")
    doubles = y.astype(np.float64), x.astype(np.float64)
    assert structural_similarity(*doubles, **gauss, use_sample_covariance=False) == pytest.approx(kair.ssim)
    assert abs(structural_similarity(*doubles, **gauss) - kair.ssim) > 1e-4
    assert structural_similarity(to_bytes(y), to_bytes(x)) == pytest.approx(released.ssim)
    assert peak_signal_noise_ratio(*doubles, data_range=255) == pytest.approx(kair.psnr)
    assert peak_signal_noise_ratio(to_bytes(y), to_bytes(x)) == pytest.approx(released.psnr)


def test_sewar_equals_neither():
    sewar = pytest.importorskip("sewar")
    x, y = map(to_bytes, pair())
    for protocol in ("kair", "released"):
        assert abs(sewar.ssim(y, x)[0] - psnr_ssim(x, y, protocol).ssim) > 0.02
    assert abs(sewar.ssim(y, x, ws=7)[0] - psnr_ssim(x, y, "released").ssim) < 1e-3
