import numpy as np
import pytest

from datasets import open_dataset
from datasets.scenes import KINDS, PhotoScenes, draw_motion, read_photo, render, split_photos
from tests.conftest import write_png
from utils.cli import UserError
from utils.protocol import KEY_FRAMES


def photo(seed=0, height=300, width=420):
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)


@pytest.mark.parametrize("kind", [*KINDS, None])
@pytest.mark.parametrize("speed", [0.05, 0.4])
def test_motion_has_the_speed_it_was_asked_for(kind, speed):
    matrix = draw_motion(60, 80, speed, np.random.default_rng(5), KINDS[kind] if kind else None)
    y, x = np.mgrid[0:60, 0:80]
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    moved = (matrix(0.5) - matrix(-0.5)) @ points
    assert np.hypot(*moved).mean() == pytest.approx(speed, rel=0.02)


def test_a_translation_moves_the_picture_by_its_speed_times_the_steps():
    matrix = draw_motion(60, 80, 0.25, np.random.default_rng(5), KINDS["translation"])
    assert np.hypot(*(matrix(20) - matrix(-20))[:, 2]) == pytest.approx(10)


def test_light_has_the_brightness_of_the_photograph():
    light = render(np.full((200, 200), 100, np.uint8), None, 64, 64, np.random.default_rng(0), gain=1.0)
    assert light.shape == (41, 64, 64) and light.dtype == np.float32
    np.testing.assert_allclose(light, 100 / 255, rtol=1e-5)


def test_an_object_covers_a_part_and_moves_on_its_own():
    light = render(np.zeros((200, 200), np.uint8), np.full((200, 200), 200, np.uint8), 64, 64, np.random.default_rng(1), gain=1.0)
    covered = light > 0.3
    assert 0.02 < covered.mean() < 0.6
    assert (covered[0] != covered[-1]).any()


def test_the_pictures_are_those_of_their_very_steps(photos):
    """One step off would show: the scene moves between neighbouring steps."""
    dataset = PhotoScenes(photos, "train", 64, 64, 10)
    rng = np.random.default_rng([0, 0, 3, 4])
    back, front = (read_photo(dataset.photos[i]) for i in rng.integers(0, len(dataset.photos), 2))
    light = render(back, front if rng.random() < 0.5 else None, 64, 64, rng)
    sample = dataset.read(4, epoch=3)
    for output, step in KEY_FRAMES.items():
        assert np.array_equal(sample[output], np.round(255 * light[step]))
        assert not np.array_equal(sample[output], np.round(255 * light[step + 1]))


def test_scenes_depend_on_seed_epoch_and_index_alone(photos):
    def spikes(seed=0, epoch=0, index=0):
        return PhotoScenes(photos, "train", 40, 40, 10, seed).read(index, epoch)["spikes"]

    first = spikes()
    assert np.array_equal(first, spikes())
    for other in (spikes(seed=1), spikes(epoch=1), spikes(index=1)):
        assert not np.array_equal(first, other)


def test_validation_scenes_are_the_same_in_every_run(photos):
    first, second = (PhotoScenes(photos, "val", 40, 40, 3, seed).read(1)["spikes"] for seed in (0, 9))
    assert np.array_equal(first, second)


def test_no_photograph_is_in_two_splits(photos):
    parts = split_photos(photos)
    names = [path.name for part in parts.values() for path in part]
    assert len(names) == len(set(names)) == 6
    assert all(parts.values())
    assert parts == split_photos(photos)


def test_bad_folders_of_photographs(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_dataset(f"photos:{tmp_path / 'none'}")
    for i in range(2):
        write_png(tmp_path / f"{i}.png", photo(i))
    with pytest.raises(UserError, match="2 photographs; at least 3"):
        open_dataset(f"photos:{tmp_path}")
    for i in range(3):
        (tmp_path / f"bad{i}.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bad\d\.jpg: no readable photograph"):
        open_dataset(f"photos:{tmp_path}", split="train")


def test_the_demo():
    demo = open_dataset("demo")
    assert len(demo) == 5
    names = set()
    for index in range(len(demo)):
        item = demo[index]
        names.add(item["name"])
        assert item["spikes"].shape == (41, 250, 400) and item["middle"].shape == (1, 250, 400)
        assert item["spikes"].float().mean() / (item["middle"].mean() / 255) == pytest.approx(0.6, rel=0.02)
    assert len(names) == 5
    assert np.array_equal(demo.read(0)["spikes"], demo.read(0)["spikes"])
    with pytest.raises(UserError, match="only for testing"):
        open_dataset("demo", split="train")
