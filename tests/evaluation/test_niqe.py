import json

import cv2
import numpy as np
import pytest
from scipy.stats import gennorm

from swinsf.evaluation.niqe import (
    PRISTINE,
    features,
    fit_asymmetric_gaussian,
    fit_statistics,
    main,
    niqe,
    read_statistics,
)
from swinsf.utils.cli import UserError
from tests.conftest import REFERENCE, write_png

GOLDEN = REFERENCE / "golden" / "mvg_params.mat"
PHOTOS = REFERENCE / "data" / "photos"


@pytest.mark.skipif(
    not (GOLDEN.is_file() and PHOTOS.is_dir()), reason=f"the original's statistics are not at {GOLDEN}"
)
def test_golden_values_with_the_originals_statistics():
    values = json.loads(GOLDEN.with_name("niqe.json").read_text())["values"]
    assert values
    for name, value in values.items():
        photo = cv2.imread(str(PHOTOS / name), cv2.IMREAD_GRAYSCALE)
        top, left = (photo.shape[0] - 250) // 2, (photo.shape[1] - 400) // 2
        assert niqe(photo[top : top + 250, left : left + 400], read_statistics(GOLDEN)) == pytest.approx(
            value, abs=0.01
        )


@pytest.mark.parametrize("shape, left, right", [(2.0, 1.0, 1.0), (1.0, 0.5, 2.0), (0.7, 3.0, 1.0)])
def test_the_fit_finds_the_distribution_it_was_drawn_from(shape, left, right):
    rng = np.random.default_rng(0)
    size = np.abs(gennorm.rvs(shape, size=400_000, random_state=rng))
    negative = rng.random(size.size) < left / (left + right)
    x = np.where(negative, -left * size, right * size)
    assert fit_asymmetric_gaussian(x) == pytest.approx((shape, left, right), rel=0.03)


def photo(seed=0):
    noise = np.random.default_rng(seed).random((250, 400)).astype(np.float32)
    picture = sum(cv2.GaussianBlur(noise, (0, 0), s) * s for s in (1, 2, 4, 8))
    return cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_the_distance_uses_the_mean_of_both_covariances():
    table, _ = features(photo())
    mean = table.mean(0) - 0.1 * np.arange(36)
    wide = np.diag(np.linspace(1e6, 2e6, 36))  # the picture's own is negligible beside it
    assert niqe(photo(), (mean, wide)) == pytest.approx(
        np.sqrt(2 * np.sum((0.1 * np.arange(36)) ** 2 / np.diag(wide))), rel=1e-3
    )
    near = np.linalg.solve((np.cov(table.T) + np.eye(36)) / 2, table.mean(0) - mean)
    assert niqe(photo(), (mean, np.eye(36))) == pytest.approx(np.sqrt((table.mean(0) - mean) @ near))


def test_noise_and_blur_raise_the_score():
    statistics = fit_statistics([photo(seed) for seed in range(12)])
    picture = photo(99)
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 25, picture.shape), 0, 255).astype(np.uint8)
    clean = niqe(picture, statistics)
    assert niqe(noisy, statistics) > clean + 1
    assert niqe(cv2.GaussianBlur(picture, (0, 0), 3), statistics) > clean + 1


def test_pixels_beyond_whole_blocks_do_not_count():
    picture = photo()
    other = picture.copy()
    other[192:] = 0
    other[:, 384:] = 0
    assert np.array_equal(features(picture)[0], features(other)[0])
    assert features(picture)[0].shape == (8, 36)


def test_the_shipped_statistics():
    mean, covariance = read_statistics(PRISTINE)
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert niqe(photo(), (mean, covariance)) > 0
    # a flat picture does not crash
    assert np.isfinite(niqe(np.full((250, 400), 7, np.uint8), (mean, covariance)))


def test_photographs_too_small_for_the_fit_are_left_out(tmp_path, monkeypatch, capsys):
    texture = np.random.default_rng(0).integers(0, 256, (200, 300)).astype(np.uint8)
    write_png(tmp_path / "photos/large.png", cv2.GaussianBlur(texture, None, 1))
    write_png(tmp_path / "photos/small.png", texture[:100, :100])
    monkeypatch.setattr("sys.argv", ["niqe", str(tmp_path / "photos"), str(tmp_path / "out.npz")])
    main()
    assert "from 1 photograph" in capsys.readouterr().out
    assert np.load(tmp_path / "out.npz")["mean"].shape == (36,)


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="95x400"):
        features(np.zeros((95, 400), np.uint8))
    with pytest.raises(UserError, match="--niqe_params"):
        read_statistics(tmp_path / "none.mat")
    for name in ("a.mat", "a.npz"):
        (tmp_path / name).write_bytes(b"nothing of use")
        with pytest.raises(UserError, match=name):
            read_statistics(tmp_path / name)
    np.savez(tmp_path / "b.npz", mean=np.zeros(36), cov=np.zeros((35, 35)))
    with pytest.raises(UserError, match=r"\(35, 35\)"):
        read_statistics(tmp_path / "b.npz")
