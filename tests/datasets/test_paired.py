"""The datasets on disk: the files found, the steps and pictures used, and each kind of bad file."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from swinsf.datasets import open_dataset, scored_output
from swinsf.datasets.dat import write_dat
from swinsf.datasets.paired import Stream
from swinsf.training.data import hold_out
from swinsf.utils.cli import UserError
from swinsf.utils.guard import keep_out
from tests.conftest import gradient_scene, moving_scene, random_spikes, write_png, write_reds


def test_spike_reds_training(reds):
    dataset = open_dataset(reds, "250", "train")
    assert len(dataset) == 4 and "spike-REDS, 4 streams of 250x400" in dataset.description
    item = dataset[1]
    assert set(item) == {"name", "spikes", "rate", "middle", "left", "right"}
    assert item["spikes"].shape == (41, 250, 400) and item["middle"].shape == (1, 250, 400)
    spikes, picture = gradient_scene(1)
    assert np.array_equal(item["spikes"], spikes) and np.array_equal(item["left"][0], picture)


def test_spike_reds_test_uses_steps_131_to_171(reds):
    dataset = open_dataset(reds, "250", "test")
    item = dataset[0]
    assert set(item) == {"name", "spikes", "rate", "middle"} and item["name"] == "200_part1_key_id151"
    spikes, _ = gradient_scene(50, steps=301)
    assert np.array_equal(item["spikes"], spikes[130:171])


def test_the_key_id_chooses_the_output_for_a_long_streams_picture(reds):
    item = open_dataset(reds, "250", "test", key_id=14)[0]
    spikes, _ = gradient_scene(50, steps=301)
    assert scored_output(item) == "left"
    assert np.array_equal(item["spikes"][13], spikes[150])


def test_each_training_picture_matches_its_id(tmp_path):
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
        write_png(
            folder / split / "gt" / f"{name}_key_id{key_id}.png", np.full((1000, 1000), key_id, np.uint8)
        )
    return spikes


def test_spike_x4k(tmp_path):
    """Upright, dots in names, both ways to name a stream, folders called spike, a split called val."""
    spikes = write_x4k(tmp_path, "occ008.649_f4305", split="val")
    write_x4k(tmp_path, "occ009.1_f1", ids=(14,), stream="occ009.1_f1id21", split="val")
    dataset = open_dataset(tmp_path, "1000", "test")
    assert (
        "spike-X4K, 2 streams of 1000x1000, stored upright" in dataset.description
        and "val" in dataset.description
    )
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
def test_class_a_has_no_ground_truth_and_uses_steps_301_to_341(tmp_path, mode):
    spikes = random_spikes(345, 250, 400)
    (tmp_path / "test").mkdir()
    write_dat(tmp_path / "test" / "car.dat", spikes)
    dataset = open_dataset(tmp_path, mode, "test")
    assert "classA" in dataset.description and "without ground truth" in dataset.description
    assert set(dataset[0]) == {"name", "spikes", "rate"}
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
        ("cut picture", ["001_part1_key_id28.png", "not a readable picture"]),
        ("no png", ["001_part1_key_id28.png", "not a readable picture"]),
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
    with pytest.raises(
        UserError, match=r"201_part1_key_id151\.dat: its picture .*gt/201_part1_key_id151\.png is missing"
    ):
        open_dataset(tmp_path)


def test_a_1000x1000_stream_under_mode_250_is_refused_by_its_picture(tmp_path):
    write_x4k(tmp_path, "a", stream="aid21")
    with pytest.raises(UserError, match=r"1000x1000, expected 250x400.*--data_mode"):
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


def test_the_key_id_applies_to_scenes_and_is_refused_without_pictures(photos, tmp_path):
    assert set(open_dataset("demo", key_id=28)[0]) == {"name", "spikes", "white", "rate", "right"}
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


def test_a_dataset_without_its_gt_folder_is_described_as_class_a(tmp_path):
    write_reds(tmp_path, test=1)
    (tmp_path / "test/gt").rename(tmp_path / "elsewhere")
    assert (
        "classA, 1 stream of 250x400, stored upside down, without ground truth"
        in open_dataset(tmp_path).description
    )


def rename_all(folder, old, new):
    for path in sorted(folder.rglob("*"), reverse=True):
        if old in path.name:
            path.rename(path.with_name(path.name.replace(old, new)))


def write_unlabelled(folder, streams, name="test"):
    """Streams without ground truth: name -> spikes."""
    for stem, (spikes, flip) in streams.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_dat(folder / name / f"{stem}.dat", spikes, flip)


@pytest.mark.parametrize("mode", ["250", "no_gt"])
@pytest.mark.parametrize(
    "height, width, columns, flip", [(1000, 1000, 1000, False), (250, 416, 400, True), (250, 400, 400, True)]
)
def test_the_size_of_streams_without_truth_is_detected(tmp_path, mode, height, width, columns, flip):
    spikes = moving_scene(height, width, 44)
    write_unlabelled(tmp_path, {"a": (spikes, flip)})
    dataset = open_dataset(tmp_path, mode)
    assert (dataset.height, dataset.width) == (height, columns) and f"{height}x{width}" in dataset.description
    np.testing.assert_array_equal(dataset[0]["spikes"], spikes[1:42, :, :columns])
    assert dataset.warnings == [] and dataset.steps == {"a": 22}


def test_mixed_sizes_are_refused_and_unclear_ones_give_a_warning(tmp_path):
    write_unlabelled(
        tmp_path, {"a": (moving_scene(1000, 1000, 44), False), "b": (moving_scene(250, 400, 44), True)}
    )
    with pytest.raises(UserError, match=r"b\.dat: steps of 250x400.*a\.dat has 1000x1000"):
        open_dataset(tmp_path)
    write_unlabelled(tmp_path, {"b": (random_spikes(44, 1000, 1000), False)})
    dataset = open_dataset(tmp_path)  # noise gets the size of the others
    assert dataset.height == 1000 and "b.dat: its contents do not show its size" in dataset.warnings[0]
    write_unlabelled(
        tmp_path, {"a": (random_spikes(44, 250, 400), True), "b": (random_spikes(44, 250, 400), True)}
    )
    dataset = open_dataset(tmp_path)  # no other size fits the length
    assert dataset.height == 250 and dataset.warnings == []


@pytest.mark.parametrize("steps, start", [(41, 0), (301, 130), (340, 149), (341, 300), (360, 300)])
def test_short_recordings_without_truth_use_their_middle(tmp_path, steps, start):
    spikes = random_spikes(steps, 250, 400)
    write_unlabelled(tmp_path, {"a": (spikes, True)})
    np.testing.assert_array_equal(open_dataset(tmp_path)[0]["spikes"], spikes[start : start + 41])


@pytest.mark.parametrize("split", ["train", "test"])
def test_streams_upside_down_to_their_pictures_give_a_warning(tmp_path, split):
    """A scene that differs upside down, stored either way."""
    spikes = moving_scene(250, 400, 41, seed=2)
    picture = np.clip(255 / 0.6 * spikes.mean(0), 0, 255).astype(np.uint8)
    (tmp_path / split / "input").mkdir(parents=True)
    for key_id in (14, 21, 28):
        write_png(tmp_path / split / f"gt/aid{key_id}.png", picture)
    for stored in (True, False):
        write_dat(tmp_path / split / "input/aid21.dat", spikes, flip=stored)
        for flip in (None, True, False):
            dataset = open_dataset(tmp_path, "250", split, flip=flip)
            fits = stored == (flip is not False)
            assert np.array_equal(dataset[0]["spikes"], spikes) == fits
            assert ([f"use --flip {stored}" in text for text in dataset.warnings] == [True]) != fits
            assert f"stored {'upright' if flip is False else 'upside down'}" in dataset.description
    with pytest.raises(UserError, match="--flip True with demo"):
        open_dataset("demo", flip=True)


def test_the_highest_bit_first_is_detected_with_a_warning(tmp_path):
    spikes = moving_scene(250, 400, 60)
    (tmp_path / "test").mkdir()
    np.packbits(spikes[:, ::-1].reshape(60, -1), axis=1).tofile(tmp_path / "test/a.dat")
    dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(dataset[0]["spikes"], spikes[9:50])
    assert "the highest bit of each byte" in dataset.warnings[0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_range_of_16_bit_pictures_is_detected(tmp_path, bits):
    """Over all pictures together: a dark one among them keeps its grey levels."""
    write_reds(tmp_path, test=2)
    white, levels = 2**bits - 1, {}
    for name, scale in (("200_part1_key_id151", 1.0), ("201_part1_key_id151", 0.02)):
        _, picture = gradient_scene(50)
        picture = np.maximum(picture, 255 * (np.indices(picture.shape).sum(0) == 0)) * scale
        levels[name] = np.round(picture)
        write_png(tmp_path / f"test/gt/{name}.png", np.round(picture * (white / 255)).astype(np.uint16))
    dataset = open_dataset(tmp_path)
    for item in dataset:
        assert np.abs(item["middle"][0].numpy() - levels[item["name"]]).max() <= 1
    assert bool(dataset.warnings) == (bits < 16)
    if bits < 16:
        assert f"assuming {white} is white" in dataset.warnings[0]


@pytest.mark.parametrize("stem, step", [
    ("pyramid60", 151), ("a_id60", 60), ("a_key_id60", 60), ("id60", 60), ("idid60", 151), ("david21", 151), ("v3_2021", 151),
])  # fmt: skip
def test_only_an_id_in_the_name_sets_the_scored_step(tmp_path, stem, step):
    write_reds(tmp_path, test=1)
    rename_all(tmp_path / "test", "200_part1_key_id151", stem)
    dataset = open_dataset(tmp_path)
    assert dataset.steps == {stem: step} and dataset.names == [stem]
    np.testing.assert_array_equal(
        dataset[0]["spikes"], gradient_scene(50, steps=301)[0][step - 21 : step + 20]
    )


@pytest.mark.parametrize("old, new", [(".dat", ".DAT"), (".png", ".PNG"), ("gt", "GT"), ("input", "spike")])
def test_suffixes_and_folders_in_any_case(tmp_path, old, new):
    for split in ("train", "test"):
        write_reds(tmp_path, **{split: 1})
    expected = [open_dataset(tmp_path, "250", split)[0] for split in ("train", "test")]
    rename_all(tmp_path, old, new)
    for split, item in zip(("train", "test"), expected):
        found = open_dataset(tmp_path, "250", split)[0]
        assert found.keys() == item.keys() and found["name"] == item["name"]
        assert all(np.array_equal(found[key], item[key]) for key in item)


def test_hidden_files_and_an_empty_input_folder_are_ignored(tmp_path):
    write_reds(tmp_path, train=2, test=1, input_name="spike")
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(4092))
    (tmp_path / "test/input").mkdir()
    (tmp_path / "train/input").mkdir()
    assert open_dataset(tmp_path).names == ["200_part1_key_id151"]
    assert len(open_dataset(tmp_path, "250", "train")) == 2


def test_truth_as_jpeg(tmp_path):
    write_reds(tmp_path, test=1)
    path = tmp_path / "test/gt/200_part1_key_id151.png"
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    path.unlink()
    assert cv2.imwrite(str(path.with_suffix(".jpg")), picture)
    assert np.abs(open_dataset(tmp_path)[0]["middle"][0].numpy() - picture).max() <= 3


@pytest.mark.parametrize("steps", [41, 301])
def test_a_layout_with_one_picture_per_stream_can_train(tmp_path, steps):
    """Spike-Zoo's layout: spike/NAME.dat and gt/NAME.png."""
    for i, name in enumerate("ab"):
        spikes, picture = gradient_scene(i, steps=steps)
        (tmp_path / "train/spike").mkdir(parents=True, exist_ok=True)
        write_dat(tmp_path / f"train/spike/{name}.dat", spikes)
        write_png(tmp_path / f"train/gt/{name}.png", picture)
    dataset = open_dataset(tmp_path, "250", "train")
    assert (
        set(dataset[1]) == {"name", "spikes", "rate", "middle"}
        and "for the middle picture only" in dataset.description
    )
    np.testing.assert_array_equal(dataset[1]["spikes"], spikes[steps // 2 - 20 : steps // 2 + 21])
    write_reds(tmp_path, train=1, input_name="spike")
    with pytest.raises(UserError, match=r"has one picture, but .* has ids 14, 21, 28"):
        open_dataset(tmp_path, "250", "train")


def test_unread_pictures_are_protected_from_results_too(tmp_path):
    """A dataset of links with pictures that no_gt does not read: no result may replace their targets."""
    real = write_reds(tmp_path / "real", test=1)
    for file in [path for path in real.rglob("*") if path.is_file()]:
        link = tmp_path / "links" / file.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    dataset = open_dataset(tmp_path / "links", "no_gt")
    with pytest.raises(UserError, match="is inside a folder of inputs"):
        keep_out(real / "test" / "gt", "--save_path", dataset.files, dataset.folders)


class Named(list):
    """The streams of a dataset, with names only."""

    def __init__(self, folder, names):
        self.path, self.folder = folder, folder / "train"
        self.streams = [Stream(Path(f"{name}.dat"), 0) for name in sorted(names)]
        super().__init__(self.streams)


def held_out(folder, names):
    dataset = Named(folder, names)
    kept, held, warning = hold_out(dataset)
    assert sorted(kept + held) == list(range(len(dataset)))
    return [dataset.streams[i].path.stem for i in held], warning


def test_streams_of_one_video_are_held_out_together(tmp_path):
    names = [f"{video:03d}_{25 * frame:08d}id21" for video in range(3) for frame in range(4)]
    assert held_out(tmp_path, names) == (names[8:], None)
    # names that are just numbers do not form a series
    assert held_out(tmp_path, [f"{i:03d}" for i in range(40)]) == (["038", "039"], None)
    assert held_out(tmp_path, ["a1", *(f"b{i}" for i in range(9))]) == (["a1"], None)


def test_streams_of_a_single_video_are_split_in_time_with_a_warning(tmp_path):
    names = [f"walk{i}" for i in range(12)]
    held, warning = held_out(tmp_path, names)
    assert held == ["walk11"] and "walk0.dat differ only in their last number" in warning
    (tmp_path / "meta.json").write_text('{"made_by": "simulate.py"}')
    assert held_out(tmp_path, names) == (["walk11"], None)
