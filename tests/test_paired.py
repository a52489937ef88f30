"""The datasets on disk: what is found, which steps and pictures are taken, and each kind of bad file."""

import numpy as np
import pytest

from datasets import open_dataset, scored_output
from datasets.dat import write_dat
from tests.conftest import gradient_scene, random_spikes, write_png, write_reds
from utils.cli import UserError


def test_spike_reds_training(reds):
    dataset = open_dataset(reds, "250", "train")
    assert len(dataset) == 4 and "spike-REDS, 4 streams of 250x400" in dataset.description
    item = dataset[1]
    assert set(item) == {"name", "spikes", "middle", "left", "right"}
    assert item["spikes"].shape == (41, 250, 400) and item["middle"].shape == (1, 250, 400)
    spikes, picture = gradient_scene(1)
    assert np.array_equal(item["spikes"], spikes) and np.array_equal(item["left"][0], picture)


def test_spike_reds_test_takes_steps_131_to_171(reds):
    dataset = open_dataset(reds, "250", "test")
    item = dataset[0]
    assert set(item) == {"name", "spikes", "middle"} and item["name"] == "200_part1_key_id151"
    spikes, _ = gradient_scene(50, steps=301)
    assert np.array_equal(item["spikes"], spikes[130:171])


def test_the_key_id_puts_another_output_on_the_step_of_a_long_stream(reds):
    item = open_dataset(reds, "250", "test", key_id=14)[0]
    spikes, _ = gradient_scene(50, steps=301)
    assert scored_output(item) == "left"
    assert np.array_equal(item["spikes"][13], spikes[150])


def test_each_training_picture_is_that_of_its_id(tmp_path):
    write_reds(tmp_path, train=1)
    for key_id in (7, 14, 21, 28, 35):
        write_png(tmp_path / f"train/gt/000_part1_key_id{key_id}.png", np.full((250, 400), key_id, np.uint8))
    item = open_dataset(tmp_path, "250", "train")[0]
    assert {key: item[key].unique().tolist() for key in ("left", "middle", "right")} == {
        "left": [14],
        "middle": [21],
        "right": [28],
    }


def write_x4k(folder, name, ids=(7, 14, 21, 28, 35), stream=None, split="test"):
    spikes = random_spikes(41, 1000, 1000)
    (folder / split / "spike").mkdir(parents=True, exist_ok=True)
    write_dat(folder / split / "spike" / f"{stream or name}.dat", spikes, flip=False)
    for key_id in ids:
        write_png(folder / split / "gt" / f"{name}_key_id{key_id}.png", np.full((1000, 1000), key_id, np.uint8))
    return spikes


def test_spike_x4k(tmp_path):
    """Upright, dots in names, both ways to name a stream, folders called spike, the split called val."""
    spikes = write_x4k(tmp_path, "occ008.649_f4305", split="val")
    write_x4k(tmp_path, "occ009.1_f1", ids=(14,), stream="occ009.1_f1id21", split="val")
    dataset = open_dataset(tmp_path, "1000", "test")
    assert "spike-X4K, 2 streams of 1000x1000, stored upright" in dataset.description and "val" in dataset.description
    item = dataset[0]
    assert item["name"] == "occ008.649_f4305"
    assert np.array_equal(item["spikes"], spikes)
    assert scored_output(item) == "middle" and item["middle"].unique().tolist() == [21]
    assert scored_output(dataset[1]) == "left" and dataset[1]["left"].unique().tolist() == [14]
    with pytest.raises(UserError, match="occ009"):
        open_dataset(tmp_path, "1000", "test", key_id=28)


def test_the_key_id_chooses_the_picture_to_score(tmp_path):
    write_x4k(tmp_path, "a")
    for key_id, output in ((14, "left"), (21, "middle"), (28, "right")):
        item = open_dataset(tmp_path, "1000", "test", key_id)[0]
        assert scored_output(item) == output and item[output].unique().tolist() == [key_id]
    for key_id in (7, 35, 0):
        with pytest.raises(UserError, match="14, 21, 28"):
            open_dataset(tmp_path, "1000", "test", key_id)


@pytest.mark.parametrize("mode", ["250", "no_gt"])
def test_class_a_has_no_ground_truth_and_takes_steps_301_to_341(tmp_path, mode):
    spikes = random_spikes(345, 250, 400)
    (tmp_path / "test").mkdir()
    write_dat(tmp_path / "test" / "car.dat", spikes)
    dataset = open_dataset(tmp_path, mode, "test")
    assert "classA" in dataset.description and "without ground truth" in dataset.description
    assert set(dataset[0]) == {"name", "spikes"}
    assert np.array_equal(dataset[0]["spikes"], spikes[300:341])


def test_streams_are_sorted(reds):
    names = [open_dataset(reds, "250", "train")[i]["name"] for i in range(4)]
    assert names == sorted(names)


def break_train(folder, how):
    name = folder / "train" / "input" / "001_part1_key_id21.dat"
    picture = folder / "train" / "gt" / "001_part1_key_id28.png"
    if how == "half a step":
        name.write_bytes(name.read_bytes()[:-7])
    elif how == "short":
        name.write_bytes(name.read_bytes()[: 12_500 * 40])
    elif how == "empty":
        name.write_bytes(b"")
    elif how == "no picture":
        picture.unlink()
    elif how == "another size":
        write_png(picture, np.zeros((1000, 1000), np.uint8))
    elif how == "cut picture":
        picture.write_bytes(picture.read_bytes()[:-20])
    elif how == "no png":
        picture.write_bytes(b"no picture")


@pytest.mark.parametrize(
    "how, words",
    [
        ("half a step", ["001_part1_key_id21.dat", "512493 bytes", "12500"]),
        ("short", ["001_part1_key_id21.dat", "40 steps", "41"]),
        ("empty", ["001_part1_key_id21.dat", "0 bytes"]),
        ("no picture", ["001_part1_key_id21.dat", "001_part1_key_id28.png", "missing"]),
        ("another size", ["001_part1_key_id28.png", "1000x1000", "250x400"]),
        ("cut picture", ["001_part1_key_id28.png", "no readable picture"]),
        ("no png", ["001_part1_key_id28.png", "no readable picture"]),
    ],
)
def test_a_bad_file_in_the_middle_is_found_on_opening(tmp_path, how, words):
    write_reds(tmp_path, train=3)
    break_train(tmp_path, how)
    with pytest.raises(UserError) as error:
        open_dataset(tmp_path, "250", "train")
    for word in words:
        assert word in str(error.value)


def test_a_test_stream_without_its_picture(tmp_path):
    write_reds(tmp_path, test=2)
    (tmp_path / "test/gt/201_part1_key_id151.png").unlink()
    with pytest.raises(UserError, match=r"201_part1_key_id151\.dat: its picture .*gt/201_part1_key_id151\.png is missing"):
        open_dataset(tmp_path)


def test_a_1000x1000_stream_under_mode_250_shows_by_its_picture(tmp_path):
    write_x4k(tmp_path, "a", stream="aid21")
    with pytest.raises(UserError, match=r"1000x1000 where 250x400 is expected.*--data_mode"):
        open_dataset(tmp_path, "250")


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(UserError, match="no such dataset folder"):
        open_dataset(tmp_path / "none")
    with pytest.raises(UserError, match="test or val"):
        open_dataset(tmp_path)
    (tmp_path / "test/input").mkdir(parents=True)
    (tmp_path / "test/gt").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no \.dat file"):
        open_dataset(tmp_path)


def test_a_window_before_the_start_of_a_stream(tmp_path):
    write_reds(tmp_path, test=1)
    for path in (tmp_path / "test").rglob("*id151*"):
        path.rename(path.with_name(path.name.replace("id151", "id5")))
    with pytest.raises(UserError, match="id5"):
        open_dataset(tmp_path)


def test_the_key_id_holds_for_scenes_and_is_refused_where_it_means_nothing(photos, tmp_path):
    assert set(open_dataset("demo", key_id=28)[0]) == {"name", "spikes", "right"}
    assert scored_output(open_dataset(f"photos:{photos}", key_id=14)[0]) == "left"
    for path in ("demo", f"photos:{photos}"):
        with pytest.raises(UserError, match="14, 21, 28"):
            open_dataset(path, key_id=7)
    (tmp_path / "test").mkdir()
    write_dat(tmp_path / "test/car.dat", random_spikes(345, 250, 400))
    with pytest.raises(UserError, match="no pictures to choose from"):
        open_dataset(tmp_path, key_id=14)
    with pytest.raises(UserError, match="--data_mode 250"):
        open_dataset("demo", "1000")


def test_a_dataset_without_its_gt_folder_says_how_it_was_taken(tmp_path):
    write_reds(tmp_path, test=1)
    (tmp_path / "test/gt").rename(tmp_path / "elsewhere")
    assert "classA, 1 streams of 250x400, stored upside down, without ground truth" in open_dataset(tmp_path).description
