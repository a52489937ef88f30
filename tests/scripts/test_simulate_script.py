"""simulate.py, run as a user would."""

import errno
import json
import shutil

import cv2
import numpy as np
import pytest

import simulate as script
from swinsf.datasets import open_dataset
from swinsf.datasets.dat import read_dat
from swinsf.datasets.paired import SpikeREDS
from swinsf.datasets.simulation.folder import claim_folder
from swinsf.datasets.simulation.sensor import Sensor
from swinsf.utils.cli import UserError
from swinsf.utils.timing import KEY_FRAMES
from tests.conftest import assert_one_line_error, run_process, run_script, write_png, write_video


@pytest.fixture(scope="module")
def big_photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("big_photos")
    for i in range(4):
        noise = np.random.default_rng(i).random((320, 480)).astype(np.float32)
        write_png(
            folder / f"p{i}.png",
            cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, 32).astype(np.uint8),
        )
    return folder


def simulate(source, folder, *options):
    return run_script("simulate.py", "--source", source, "--save_path", folder, "--workers", "1", *options)


def grey_level(path):
    return float(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).mean())


def test_pictures_and_spikes_match_the_step_of_their_id(tmp_path):
    """A video of uniform frames, one per step, each 4 grey levels brighter, so that an error of one step
    shows."""
    greys = [40 + 4 * i for i in range(41)] * 20
    path = write_video(
        tmp_path / "ramp.avi", [np.full((250, 400), grey, np.uint8) for grey in greys[: 41 * 12]]
    )
    result = simulate(
        f"videos:{path}", tmp_path / "out", "--steps_per_frame", "1", "--count", "2", "--sensor", "ideal"
    )
    assert result.returncode == 0, result.stderr
    for name in ("scene000000", "scene000001"):
        for key_id in (7, 14, 21, 28, 35):
            picture = tmp_path / "out/train/gt" / f"{name}id{key_id}.png"
            assert grey_level(picture) == pytest.approx(40 + 4 * (key_id - 1), abs=1.5)
        spikes = read_dat(tmp_path / "out/train/input" / f"{name}id21.dat", 250, 400)
        assert spikes.shape == (41, 250, 400)
        np.testing.assert_allclose(spikes.mean((1, 2)), 0.6 * (40 + 4 * np.arange(41)) / 255, atol=0.006)
    sample = SpikeREDS(tmp_path / "out", "train").read(0)
    for output, step in KEY_FRAMES.items():
        assert sample[output].mean() == pytest.approx(40 + 4 * step, abs=1.5)


def test_the_picture_of_a_test_stream_shows_its_151st_step(tmp_path):
    greys = [min(255, 20 + 5 * abs(i - 150)) for i in range(301)]
    path = write_video(tmp_path / "valley.avi", [np.full((250, 400), grey, np.uint8) for grey in greys] * 3)
    options = ("--steps_per_frame", "1", "--count", "1", "--split", "test", "--sensor", "ideal")
    assert simulate(f"videos:{path}", tmp_path / "out", *options).returncode == 0
    assert grey_level(tmp_path / "out/test/gt/scene000000_key_id151.png") == pytest.approx(20, abs=1.5)
    spikes = read_dat(tmp_path / "out/test/input/scene000000_key_id151.dat", 250, 400)
    assert spikes.shape == (301, 250, 400)
    assert spikes[145:156].mean((1, 2)).argmin() == pytest.approx(5, abs=1)
    sample = open_dataset(tmp_path / "out").read(0)
    assert np.array_equal(sample["spikes"], spikes[130:171]) and sample["middle"].mean() == pytest.approx(
        20, abs=1.5
    )


def test_a_dataset_resumes_and_its_scenes_do_not_depend_on_existing_ones(big_photos, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert simulate(f"photos:{big_photos}", whole, "--count", "3").returncode == 0
    assert simulate(f"photos:{big_photos}", parts, "--count", "1").returncode == 0
    kept = (parts / "train/input/scene000000id21.dat").stat().st_mtime_ns
    (parts / "train/input/.scene000001id21.dat.torn").write_bytes(b"half")
    result = simulate(f"photos:{big_photos}", parts, "--count", "3")
    assert result.returncode == 0 and "2 streams of 41 steps written, 1 existed" in result.stdout
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(parts) for path in parts.rglob("*") if path.is_file())
    assert len(files) == 1 + 3 * 6
    for file in files:
        assert (whole / file).read_bytes() == (parts / file).read_bytes(), file
    assert (parts / "train/input/scene000000id21.dat").stat().st_mtime_ns == kept
    meta = json.loads((whole / "meta.json").read_text())["splits"]["train"]
    assert meta["count"] == 3 and meta["seed"] == 0 and meta["sensor"] == "reds" and len(meta["sources"]) == 2
    sensors = meta["sensors"]  # the sensor drawn for each scene
    assert list(sensors) == ["scene000000", "scene000001", "scene000002"]
    assert (
        len({sensor["grain"] for sensor in sensors.values()}) == 3 and sensors["scene000001"]["rate"] == 0.6
    )


def test_layout_1000_with_a_noisy_sensor(big_photos, tmp_path):
    options = (
        "--data_mode",
        "1000",
        "--count",
        "1",
        "--sensor",
        "camera",
        "--dead",
        "0.25",
        "--exposure",
        "0.9",
    )
    options += ("--dark", "0", "--shading", "0")
    assert simulate(f"photos:{big_photos}", tmp_path / "out", *options).returncode == 0
    dataset = open_dataset(tmp_path / "out", "1000", "train")
    sample = dataset.read(0)
    assert sample["spikes"].shape == (41, 1000, 1000) and dataset.names == ["scene000000"]
    lit = sample["middle"] > 90
    assert sample["middle"].max() <= 0.9 * 256
    assert (sample["spikes"].max(0)[lit] == 0).mean() == pytest.approx(0.25, abs=0.02)
    meta = json.loads((tmp_path / "out/meta.json").read_text())["splits"]["train"]
    sensor = meta["sensors"]["scene000000"]
    assert meta["style"]["median_speed"] == 0.2  # the motion that train.py simulates for cameras
    assert (
        meta["sensor"] == "camera"
        and meta["given"]["dead"] == sensor["dead"] == 0.25
        and 150 <= sensor["electrons"] <= 30000
    )


def test_bad_folders_and_flags_are_refused(big_photos, tmp_path):
    source = f"photos:{big_photos}"

    def refused(folder, *options, match, source=source):
        with pytest.raises(UserError, match=match):
            script.main(["--source", source, "--save_path", str(folder), "--workers", "0", *options])

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    assert_one_line_error(
        run_process("simulate.py", "--source", source, "--save_path", foreign),
        foreign,
        "not from simulate.py",
    )
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    mine = tmp_path / "mine"
    assert script.main(["--source", source, "--save_path", str(mine), "--count", "1", "--workers", "0"]) == 0
    refused(mine, "--count", "2", "--seed", "5", match="made with seed 0, not 5")
    refused(mine, "--split", "test", "--data_mode", "1000", match="its train streams have --data_mode 250")
    assert len(list((mine / "train/input").iterdir())) == 1
    meta = json.loads((mine / "meta.json").read_text())
    taken = next(iter(script.open_dataset(source, split="test").sources)).name
    meta["splits"]["train"]["sources"][taken] = 1  # as if photographs were added between the splits
    (mine / "meta.json").write_text(json.dumps(meta))
    refused(
        mine,
        "--split",
        "test",
        "--count",
        "1",
        match=rf"its train streams use 1 of the test photographs \(such as {taken}\)",
    )
    (mine / "meta.json").write_text("{")
    refused(mine, match=r"meta\.json: not from simulate\.py; give a new --save_path")
    refused(
        tmp_path / "new", source="somewhere", match="--source somewhere: choose from photos:DIR, videos:DIR"
    )
    refused(tmp_path / "new", "--rate", "1.5", match="--rate: 1.5 is not from 0.001 to 1")
    refused(tmp_path / "new", "--hot", "0.6", "--dead", "0.6", match="more than all pixels")
    refused(
        tmp_path / "new",
        "--hot_most",
        "0.01",
        match="--hot_most: 0.01 is not from 0.02 to 1",
    )
    refused(tmp_path / "new", "--recovery", "1.5", match="--recovery: 1.5 is not from 0 to 1")
    refused(tmp_path / "new", "--shading", "1", match="--shading: 1 is not from 0 to 0.99")
    assert not (tmp_path / "new").exists()


def test_flags_override_the_sensor_of_a_data_mode():
    def drawn(*flags):
        return script.draw_sensor(
            script.parse_settings(["--source", "photos:x", "--save_path", "y", *flags]), 0
        )

    assert drawn("--data_mode", "1000") == Sensor(start="zero")
    assert drawn("--data_mode", "1000", "--start", "uniform", "--rate", "0.65") == Sensor(rate=0.65)
    assert drawn().frames_every == 15  # data mode 250: reds
    given = drawn(
        "--sensor", "ideal", "--remainder", "lost", "--before", "7", "--dust", "2", "--first_column", "0.2"
    )
    assert given == Sensor(remainder="lost", before=7, dust=2.0, first_column=0.2)
    assert drawn("--sensor", "spikecv") == Sensor(rate=0.5, start="zero", remainder="lost")


def test_a_dataset_of_an_earlier_version_is_resumed(tmp_path):
    """Its meta.json lists omitted flags as null, and has none of the later flags."""
    about = {"source": "photos:x", "data_mode": "250", "given": {"blur": 0.5}, "sources": {}, "count": 1}
    old = {
        **about,
        "given": {"blur": 0.5, "rate": None},
        "count": 2,
        "sensors": {"scene000001": {"blur": 0.5}},
    }
    (tmp_path / "meta.json").write_text(json.dumps({"made_by": "simulate.py", "splits": {"train": old}}))
    claim_folder(tmp_path, "train", {**about, "sensors": {"scene000000": {"blur": 0.5}}})
    kept = json.loads((tmp_path / "meta.json").read_text())["splits"]["train"]
    assert (
        kept["count"] == 2
        and set(kept["sensors"]) == {"scene000000", "scene000001"}
        and kept["given"] == {"blur": 0.5}
    )
    with pytest.raises(UserError, match="made with given"):
        claim_folder(tmp_path, "train", {**about, "given": {"start": "zero"}, "sensors": {}})


def test_a_full_disk_leaves_the_finished_streams(big_photos, tmp_path, monkeypatch):
    """Full at the third stream: the first two are complete, no partial file is left, the command resumes."""
    written = []
    write = script.write_dat

    def write_until_full(path, spikes, flip):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write(path, spikes, flip)

    arguments = [
        "--source",
        f"photos:{big_photos}",
        "--save_path",
        str(tmp_path / "out"),
        "--count",
        "4",
        "--workers",
        "0",
    ]
    monkeypatch.setattr(script, "write_dat", write_until_full)
    with pytest.raises(UserError, match=r"No space left on device.*the same command resumes"):
        script.main(arguments)
    assert len(open_dataset(tmp_path / "out", split="train")) == 2
    monkeypatch.setattr(script, "write_dat", write)
    assert script.main(arguments) == 0
    assert len(open_dataset(tmp_path / "out", split="train")) == 4


@pytest.mark.parametrize("long", [False, True])
def test_grey_levels_of_pictures_are_rounded(tmp_path, long):
    """Truncated, they would be too dark by half a level, and so would networks trained on them."""
    for i in range(4 if long else 30):  # 0.55 x 101 = 55.55
        write_png(tmp_path / "frames/walk" / f"{i:04d}.png", np.full((250, 400), 101, np.uint8))
    source = ["--source", f"frames:{tmp_path / 'frames'}", "--save_path", str(tmp_path / "out")]
    light = ["--steps_per_frame", "20", "--sensor", "ideal", "--exposure", "0.55", "--workers", "0"]
    more = ["--long", "--split", "test"] if long else ["--count", "1"]
    assert script.main([*source, *light, *more]) == 0
    pictures = [*(tmp_path / "out").glob("*/gt/*.png")]
    assert len(pictures) == (4 if long else 5)
    assert {grey_level(path) for path in pictures} == {56}


def test_a_whole_video_becomes_one_stream_with_a_picture_of_every_frame(tmp_path):
    for i in range(6):
        write_png(tmp_path / "frames/walk" / f"{i:04d}.png", np.full((250, 400), 40 + 20 * i, np.uint8))
    source = ("--source", f"frames:{tmp_path / 'frames'}", "--save_path", str(tmp_path / "out"), "--long")
    arguments = [*source, "--split", "test", "--steps_per_frame", "10", "--sensor", "spikezoo"]
    assert script.main(arguments) == 0
    spikes = read_dat(tmp_path / "out/test/input/walk.dat", 250, 400)
    assert spikes.shape == (51, 250, 400)
    np.testing.assert_allclose(spikes.mean((1, 2)), 0.5 * (40 + 2 * np.arange(51)) / 255, atol=0.004)
    pictures = sorted((tmp_path / "out/test/gt").iterdir())
    assert {grey_level(path) for path in pictures} == {40, 60, 80, 100, 120, 140}
    # pictures with 41 steps around them are scored, with the rate in meta.json
    dataset = open_dataset(tmp_path / "out")
    assert dataset.names == ["walk_key_id21", "walk_key_id31"] and set(dataset.rates.values()) == {0.5}
    sample = dataset.read(1)
    assert np.array_equal(sample["spikes"], spikes[10:51]) and sample["middle"].mean() == 100
    before = (tmp_path / "out/test/input/walk.dat").stat().st_mtime_ns
    assert script.main(arguments) == 0
    assert (tmp_path / "out/test/input/walk.dat").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="use --split test"):
        script.main([*source, "--workers", "0"])
    meta = json.loads((tmp_path / "out/meta.json").read_text())["splits"]["test"]
    assert meta.pop("long") is True and meta["count"] == 1
    with pytest.raises(UserError, match="made with long True, not None"):
        claim_folder(tmp_path / "out", "test", meta)


def test_long_skips_what_it_cannot_use_and_resumes_without_it(tmp_path, capsys):
    for i in range(6):
        write_png(tmp_path / "frames/walk" / f"{i:04d}.png", np.full((250, 400), 40 + 20 * i, np.uint8))
        write_png(tmp_path / "frames/tiny" / f"{i:04d}.png", np.full((40, 40), 40, np.uint8))
    arguments = ["--source", f"frames:{tmp_path / 'frames'}", "--save_path", str(tmp_path / "out"), "--long"]
    arguments += ["--split", "test", "--steps_per_frame", "10"]
    assert script.main(arguments) == 0
    assert (
        "warning: skipped: " in (printed := capsys.readouterr().out)
        and "tiny: smaller than 250x400" in printed
    )
    streams = tmp_path / "out/test/input"
    (streams / "walk.dat").rename(streams / ".walk.dat.0123abcd")  # as if the process had been killed
    shutil.rmtree(tmp_path / "frames/tiny")
    assert script.main(arguments) == 0
    assert [path.name for path in streams.iterdir()] == ["walk.dat"]
    with pytest.raises(UserError, match="is inside a folder of inputs"):
        script.main([*arguments, "--save_path", str(tmp_path / "frames/walk/sim")])


def test_resuming_a_dataset_under_another_grid_prints_a_line(big_photos, tmp_path, capsys):
    arguments = ["--source", f"photos:{big_photos}", "--save_path", str(tmp_path), "--workers", "0"]
    assert script.main([*arguments, "--count", "1"]) == 0
    meta = json.loads((tmp_path / "meta.json").read_text())
    made = meta["splits"]["train"]["made_with"]
    assert made["opencv"] == cv2.__version__ and made["sampler"] == "bicubic"
    assert "started with" not in capsys.readouterr().out
    made.update(opencv="4.1.0", grid="1/7 pixel")
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    assert script.main([*arguments, "--count", "2"]) == 0
    assert "started with OpenCV 4.1.0 (grid 1/7 pixel), now" in capsys.readouterr().out


def test_the_sampler_is_a_setting_of_the_dataset(big_photos, tmp_path, monkeypatch):
    monkeypatch.setattr(script.sampling, "SAMPLER", "bicubic")  # restored at the end
    arguments = ["--source", f"photos:{big_photos}", "--count", "1", "--workers", "0", "--sensor", "ideal"]
    for sampler in ("bicubic", "spline"):
        folder = tmp_path / sampler
        assert script.main([*arguments, "--save_path", str(folder), "--sampler", sampler]) == 0
        meta = json.loads((folder / "meta.json").read_text())["splits"]["train"]
        assert meta["made_with"]["sampler"] == sampler and meta.get("sampler", "bicubic") == sampler
    pictures = [
        cv2.imread(str(tmp_path / sampler / "train/gt/scene000000id21.png"), 0)
        for sampler in ("bicubic", "spline")
    ]
    assert 0 < cv2.absdiff(*pictures).mean() < 8
    with pytest.raises(UserError, match="made with sampler spline, not None"):
        script.main([*arguments, "--save_path", str(tmp_path / "spline")])
