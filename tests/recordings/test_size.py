"""The size of a `.dat` file, from its pictures and its length."""

import numpy as np
import pytest

from swinsf.datasets.dat import CAMERAS, write_dat
from swinsf.datasets.simulation.sensor import IDEAL, Sensor, integrate_and_fire
from swinsf.datasets.size import guess_camera
from swinsf.utils.cli import UserError
from tests.conftest import moving_scene

SMALL, RAW, LARGE = CAMERAS


def smooth_scene(steps, sensor=IDEAL):
    """Spikes of 250x400 that look much like 250x416 too, since their columns have no detail."""
    rows, columns = np.mgrid[:250, :400].astype(np.float32)
    light = 0.5 + 0.4 * np.cos(columns / 64) + 0.05 * np.sin(rows / 40)
    return integrate_and_fire([light] * steps, np.random.default_rng(0), sensor)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    path = tmp_path_factory.mktemp("smooth") / "a.dat"
    write_dat(path, smooth_scene(108))
    return path.read_bytes()


# 52 and 104 steps of 250x400 are whole numbers of steps of 250x416, and 60 of 1000x1000
@pytest.mark.parametrize("steps", [41, 47, 52, 60, 100, 104, 108])
@pytest.mark.parametrize("more", [0, -3777])
def test_two_sizes_that_both_look_like_a_picture(smooth, tmp_path, steps, more):
    path = tmp_path / "a.dat"
    path.write_bytes(smooth[: 12_500 * steps + more])
    camera, text = guess_camera(path)
    assert camera == SMALL and "from its pictures" in text
    alike = float(text.split("250x416 ")[1].split()[0].rstrip(",;"))
    assert alike > 0.6  # this was once too close to tell


@pytest.mark.parametrize("rate", [0.1, 0.03, 0.02])
@pytest.mark.parametrize("steps", [41, 60, 104])
def test_dark_scenes(tmp_path, rate, steps):
    write_dat(tmp_path / "a.dat", moving_scene(250, 400, steps, 0.1, sensor=Sensor(rate=rate)))
    assert guess_camera(tmp_path / "a.dat")[0] == SMALL


@pytest.mark.parametrize("kind", ["flat", "noise"])
def test_the_length_decides_for_empty_pictures_if_only_one_size_fits(tmp_path, kind):
    rng = np.random.default_rng(0)
    light = np.full((250, 400), 0.3, np.float32)
    spikes = integrate_and_fire([light] * 60, rng) if kind == "flat" else rng.integers(0, 2, (60, 250, 400))
    write_dat(tmp_path / "a.dat", spikes)
    camera, text = guess_camera(tmp_path / "a.dat")  # 60 steps are 6 of 1000x1000, too few for a picture
    assert camera == SMALL and "from its length alone, 60 whole steps of 250x400" in text
    data = (tmp_path / "a.dat").read_bytes()
    for tie in (data[: 12_500 * 52], data[:-7]):  # 52 steps fit 250x416 too; a part of a step fits no size
        (tmp_path / "b.dat").write_bytes(tie)
        with pytest.raises(UserError, match=r"b\.dat: cannot determine its size"):
            guess_camera(tmp_path / "b.dat")


@pytest.mark.parametrize(
    "height, width, steps", [(120, 160, 1000), (100, 100, 500), (100, 200, 500), (240, 320, 75)]
)
def test_other_sizes_are_not_mistaken_for_known_ones(tmp_path, height, width, steps):
    """Even if their length fits."""
    write_dat(tmp_path / "a.dat", moving_scene(height, width, steps))
    with pytest.raises(UserError, match=r"a\.dat: cannot determine its size"):
        guess_camera(tmp_path / "a.dat")
