import cv2
import numpy as np
import pytest

from swinsf.datasets.simulation import sampling
from swinsf.datasets.simulation.sampling import Picture

RAMP = np.tile(np.arange(64, dtype=np.float32), (48, 1))


def translation(x):
    return np.array([[1, 0, x], [0, 1, 0], [0, 0, 1.0]])


@pytest.mark.parametrize("shift", [0.05, 0.1, 0.25, 0.4])
def test_the_spline_moves_a_ramp_as_far_as_asked_and_bicubic_does_not(shift):
    inside = (slice(8, -8), slice(8, -8))
    for way in (
        lambda picture: picture.through(translation(shift), 48, 64),
        lambda picture: picture.moved(translation(-shift)[:2]),
        lambda picture: picture.at(RAMP + shift, np.arange(48.0)[:, None] + 0 * RAMP),
    ):
        np.testing.assert_allclose((way(Picture(RAMP, "spline")) - RAMP)[inside], shift, atol=2e-5)
        assert np.abs((way(Picture(RAMP, "bicubic")) - RAMP)[inside] - shift).mean() > 0.02


def test_bicubic_equals_opencv():
    picture = np.random.default_rng(0).random((48, 64), np.float32)
    way = np.array([[1.01, 0.02, 0.3], [-0.02, 0.99, 1.7], [1e-4, 2e-4, 1]])
    flags, border = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, cv2.BORDER_REFLECT_101
    expected = cv2.warpPerspective(picture, way, (40, 30), flags=flags, borderMode=border)
    np.testing.assert_array_equal(Picture(picture, "bicubic").through(way, 30, 40), expected)


def test_both_samplers_mirror_beyond_the_edge():
    picture = cv2.GaussianBlur(np.random.default_rng(0).random((48, 64), np.float32), None, 2)
    for sampler in sampling.SAMPLERS:
        seen = Picture(picture, sampler).through(translation(-10), 48, 64)
        np.testing.assert_allclose(seen[:, :11], picture[:, 10::-1], atol=1e-4)


def test_a_changed_grid_or_sampler_is_reported_and_a_changed_version_is_not():
    now = sampling.maker()
    assert sampling.describe_other(now, now) is None and sampling.describe_other(None, now) is None
    assert sampling.describe_other({**now, "opencv": "9"}, now) is None
    other = sampling.describe_other({**now, "opencv": "4.1", "grid": "coarse"}, now)
    assert (
        other == f"started with OpenCV 4.1 (grid coarse), now OpenCV {cv2.__version__} (grid {now['grid']})"
    )


def test_the_grid_is_that_of_opencv():
    assert sampling.grid() == ("exact" if int(cv2.__version__[0]) >= 5 else "1/32 pixel")
