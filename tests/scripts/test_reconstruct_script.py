import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import torch

import reconstruct as script
from swinsf.datasets.dat import write_dat
from swinsf.datasets.simulation.sensor import Sensor
from swinsf.evaluation.metrics import to_bytes
from swinsf.models import load_model
from swinsf.models.classical import tfi, tfp
from swinsf.recordings import batch, job
from swinsf.recordings.tone import moment_name
from swinsf.utils.cli import UserError
from tests.conftest import (
    ROOT,
    assert_one_line_error,
    moving_scene,
    random_spikes,
    run_process,
    run_processes,
    run_script,
    start_script,
    write_tiny_weights,
)

STEPS = 150


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """(path, spikes) of a recording of 250x400; read-only."""
    spikes = moving_scene(250, 400, STEPS)
    path = tmp_path_factory.mktemp("rec") / "rec.dat"
    write_dat(path, spikes)
    return path, spikes


@pytest.fixture
def options(tiny_weights):
    return ["--load_model", str(tiny_weights), "--device", "cpu", "--exposure", "1", "--bin", "1"]


def run(*arguments):
    return script.main([*map(str, arguments)])


def test_pictures_are_the_networks_and_named_by_their_steps(
    recording, options, tiny_weights, tmp_path, capsys
):
    path, spikes = recording
    assert run(path, *options, "--output", tmp_path / "out", "--stride", 40) == 0
    text = capsys.readouterr().out
    assert (
        f"rec.dat: {STEPS} steps of 250x400, stored upside down" in text
        and "20 times slower than real time" in text
    )
    assert sorted(file.name for file in (tmp_path / "out").glob("*.png")) == [
        "00000020.png",
        "00000060.png",
        "00000100.png",
    ]
    model = load_model(tiny_weights)
    for key in (20, 60, 100):
        with torch.inference_mode():
            expected = to_bytes(
                model(torch.from_numpy(spikes[key - 20 : key + 21])[None]).middle[0, 0].numpy()
            )
        shown = cv2.imread(str(tmp_path / f"out/{key:08d}.png"), cv2.IMREAD_UNCHANGED)
        assert np.abs(shown.astype(int) - expected).max() <= 1 and (shown != expected).mean() < 1e-3
    about = json.loads((tmp_path / "out/reconstruct.json").read_text())["about"]
    assert about["stride"] == 40 and about["size"] == "250x400" and len(about["weights"]) == 64


@pytest.mark.parametrize("method", ["tfp", "tfi"])
def test_the_classical_methods_and_times(recording, method, tmp_path):
    path, spikes = recording
    # 2.5 ms to 5 ms at 20,000 steps a second is steps 50 to 99, and 0.5 ms is 10 steps.
    times = ["--start", "2.5ms", "--stop", "0.005s", "--stride", "0.5ms"]
    assert (
        run(path, "--method", method, *times, "--window", 21, "--exposure", 1, "--output", tmp_path / "x.npy")
        == 0
    )
    shown = np.load(tmp_path / "x.npy")
    assert shown.shape == (5, 250, 400)
    for key, picture in zip(range(50, 100, 10), shown):
        whole = torch.from_numpy(spikes)
        expected = tfp(whole, key, 21) if method == "tfp" else tfi(whole, key)
        assert np.abs(picture.astype(int) - to_bytes(expected.numpy())).max() <= 1


def test_dark_scenes_are_brightened(tmp_path, capsys):
    dark, means = moving_scene(40, 60, 300, 0.0, sensor=Sensor(rate=0.06)), {}
    np.save(tmp_path / "dark.npy", dark)
    np.savez(tmp_path / "white.npz", 255 * dark)
    flags = {
        "plain": ["--exposure", 1],
        "4": ["--exposure", 4],
        "auto": [],
        "gamma": ["--exposure", 1, "--gamma", 2.2],
    }
    for name, more in flags.items():
        assert (
            run(
                tmp_path / "dark.npy",
                "--method",
                "tfp",
                "--window",
                201,
                *more,
                "--output",
                tmp_path / f"{name}.npy",
            )
            == 0
        )
        means[name] = np.load(tmp_path / f"{name}.npy").astype(float)
    assert means["4"].mean() == pytest.approx(4 * means["plain"].mean(), rel=0.05)
    assert np.quantile(means["auto"], 0.99) == pytest.approx(0.9 * 255, abs=12)
    assert means["gamma"].mean() > 2 * means["plain"].mean()
    for name in ("dark.npy", "white.npz"):
        assert (
            run(
                tmp_path / name,
                "--method",
                "tfp",
                "--bin",
                1,
                "--output",
                tmp_path / f"as_it_is_{name[:4]}.npy",
            )
            == 0
        )
    np.testing.assert_array_equal(*(np.load(tmp_path / f"as_it_is_{name}.npy") for name in ("dark", "whit")))
    assert "exposure: grey levels times" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["swinsf", "tfp", "tfi"])
@pytest.mark.parametrize("piped", [False, True])
def test_binning_keeps_key_frames_and_grey_levels(method, piped, options, tmp_path, monkeypatch, capsys):
    spikes = moving_scene(40, 64, 400, 0.05, sensor=Sensor(rate=0.06))
    write_dat(tmp_path / "rec.dat", spikes, flip=False)
    arguments = [
        *options[:4],
        "--height",
        40,
        "--width",
        64,
        "--method",
        method,
        "--stride",
        20,
        "--start",
        100,
        "--stop",
        261,
    ]
    means = {}
    for bin in ("1", "4", "auto"):
        file = (tmp_path / "rec.dat").open()
        monkeypatch.setattr("sys.stdin", file)
        run(
            "-" if piped else tmp_path / "rec.dat",
            *arguments,
            "--exposure",
            1,
            "--bin",
            bin,
            "--output",
            tmp_path / bin,
        )
        file.close()
        names = sorted(path.stem for path in (tmp_path / bin).glob("*.png"))
        assert names == [
            f"{key:08d}" for key in range(100 if bin != "auto" or method != "swinsf" else 220, 261, 20)
        ] or (
            bin == "auto"
            and method == "swinsf"
            and set(names) <= {f"{key:08d}" for key in range(100, 261, 20)}
        )
        pictures = [cv2.imread(str(tmp_path / bin / f"{name}.png"), cv2.IMREAD_UNCHANGED) for name in names]
        means[bin] = np.mean(pictures)
    text = capsys.readouterr().out
    assert means["4"] == pytest.approx(means["1"], rel=0.1) and means["auto"] == pytest.approx(
        means["1"], rel=0.1
    )
    assert ("bin: " in text and "steps a bin, since bright pixels have 0.0" in text) == (method == "swinsf")
    if method == "swinsf":  # bins may overlap
        run(tmp_path / "rec.dat", *arguments, "--bin", 8, "--output", tmp_path / "eight")
        assert {path.stem for path in (tmp_path / "eight").glob("*.png")} == {
            "00000180",
            "00000200",
            "00000220",
        }
        return
    with pytest.raises(UserError, match=r"--bin 8 with --stride 20: .* take --stride 16 or 24"):
        run(tmp_path / "rec.dat", *arguments, "--bin", 8, "--output", tmp_path / "none")


def test_weights_are_named_with_their_purpose_and_warnings_outside_it(tmp_path, capsys, monkeypatch):
    from swinsf import models

    monkeypatch.setattr("swinsf.models.weights.SHIPPED", tmp_path)
    small = write_tiny_weights(tmp_path / "swinsf_small.pth")
    np.save(tmp_path / "dark.npy", moving_scene(40, 60, 60, 0.0, sensor=Sensor(rate=0.06)))
    run(tmp_path / "dark.npy", "--output", tmp_path / "x.npy")
    text = capsys.readouterr().out
    assert f"weights: {small}, for spike-REDS, and other light without noise" in text
    assert (
        "warning: swinsf_small.pth was fitted to other data: bright pixels have 0.05" in text
        and "larger --bin" in text
    )
    camera = write_tiny_weights(tmp_path / "swinsf_camera.pth")
    run(tmp_path / "dark.npy", "--output", tmp_path / "y.npy")
    assert f"weights: {camera}, for recordings of cameras" in capsys.readouterr().out
    assert models.weights_for("spike-REDS") == models.weights_for("spike-X4K") == small
    assert models.weights_for("recordings") == models.weights_for("recordings", calibrated=True) == camera
    calibrated = write_tiny_weights(tmp_path / "swinsf_calibrated.pth")
    assert models.weights_for("recordings", calibrated=True) == calibrated
    assert models.weights_for("recordings") == camera
    larger = write_tiny_weights(tmp_path / "swinsf_1000.pth")
    assert models.weights_for("spike-X4K") == larger and models.weights_for("spike-REDS") == small


def test_a_killed_run_resumes_to_the_same_output(recording, options, tmp_path):
    path, _ = recording
    arguments = [path, *options, "--stride", 1, "--stop", 100, "--output"]
    assert run(*arguments, tmp_path / "whole.npy") == 0
    done = tmp_path / ".x.npy.parts" / "done"
    for number in (signal.SIGKILL, signal.SIGTERM):
        said = tmp_path / number.name
        said.mkdir()
        process = start_script(said, "reconstruct.py", *arguments, tmp_path / "x.npy")
        before = done.stat().st_size if done.exists() else 0
        deadline = time.monotonic() + 60
        while (done.stat().st_size if done.exists() else 0) < before + 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(process.pid, number)
        process.join(60)
        out, err = ((said / stream).read_text() for stream in ("out", "err"))
        assert "Traceback" not in err and "terminate" not in err
        assert not (tmp_path / "x.npy").exists() and done.exists()
        if number != signal.SIGKILL:
            assert process.exitcode == 128 + number and "the same command resumes" in out
    assert run(*arguments, tmp_path / "x.npy") == 0
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {
        "x.npy",
        ".x.npy.json",
        "whole.npy",
        ".whole.npy.json",
    }


def test_finished_pictures_are_not_made_again(recording, options, tmp_path, capsys):
    path, _ = recording
    arguments = [path, *options, "--stride", 10, "--output", tmp_path / "x"]
    run(*arguments)
    record = json.loads((tmp_path / "x/reconstruct.json").read_text())
    (tmp_path / "x/reconstruct.json").write_text(json.dumps({**record, "whole": False}))
    (tmp_path / "x/00000050.png").unlink()
    capsys.readouterr()
    run(*arguments)
    assert "11 pictures of steps 20 to 120, 1 made now" in capsys.readouterr().out
    run(*arguments)
    assert "already exists, by the same settings; nothing to do" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"already exists, with gamma 1.0, not 2.0; add --overwrite"):
        run(*arguments, "--gamma", 2)
    run(*arguments, "--gamma", 2, "--overwrite")
    assert "11 made now" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["x", "x.npy", "x.mp4", "x.avi"])
def test_a_repeated_command_only_writes_the_page(recording, kind, tmp_path, capsys):
    path, _ = recording
    arguments = [path, "--method", "tfp", "--stride", 50, "--output", tmp_path / kind]
    run(*arguments)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    capsys.readouterr()
    assert run(*arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
    assert run(*arguments, "--report") == 0
    page = tmp_path / ("x/report.html" if kind == "x" else "x.html")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text())[1])
    run(path, *arguments[1:-1], tmp_path / "whole.npy")
    frames = data["streams"][0]["frames"]
    for frame, picture in zip(frames, np.load(tmp_path / "whole.npy"), strict=True):
        address = frame["pictures"]["TFP41"]
        shown = cv2.imdecode(
            np.frombuffer(base64.b64decode(address.split(",")[1]), np.uint8), cv2.IMREAD_GRAYSCALE
        )
        assert np.abs(shown.astype(int) - picture).mean() < (4 if kind[-4:] in (".mp4", ".avi") else 0.01)
    if kind != "x":  # another file with this name is not ours
        (tmp_path / kind).write_bytes(b"mine")
        with pytest.raises(UserError, match="already exists; add --overwrite"):
            run(*arguments)
        assert (tmp_path / kind).read_bytes() == b"mine"
    if kind[-4:] in (".mp4", ".avi"):
        run(*arguments, "--overwrite")
        with pytest.raises(UserError, match="already exists"):
            run(*arguments, "--fps", 10)


@pytest.mark.parametrize("kind", ["x", "x.npy", "x.mp4", "x.avi"])
@pytest.mark.parametrize("method", ["swinsf", "tfp", "tfi"])
def test_a_pipe_into_any_output_ends(recording, options, kind, method, tmp_path, monkeypatch):
    """Its key frames end at sys.maxsize, so a loop over all of them would never end."""
    path, _ = recording
    ended = []

    def work():
        with path.open() as file:
            monkeypatch.setattr("sys.stdin", file)
            arguments = ["-", "--height", 250, "--width", 400, "--method", method, "--stride", 50, *options]
            ended.append(script.main([*map(str, arguments), "--output", str(tmp_path / kind)]))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert ended == [0]
    if kind == "x":
        assert len(list((tmp_path / "x").glob("*.png"))) == 3


def test_pictures_of_another_recording_of_the_same_name_are_not_resumed(options, tmp_path):
    arguments = [
        tmp_path / "rec.dat",
        "--height",
        24,
        "--width",
        32,
        *options,
        "--stride",
        10,
        "--output",
        tmp_path / "x",
    ]
    write_dat(tmp_path / "rec.dat", random_spikes(100, 24, 32))
    run(*arguments, "--stop", 61)
    record = json.loads((tmp_path / "x/reconstruct.json").read_text())
    (tmp_path / "x/reconstruct.json").write_text(json.dumps({**record, "whole": False}))
    write_dat(tmp_path / "rec.dat", random_spikes(140, 24, 32))  # the same recording, grown
    run(*arguments, "--stop", 61)
    (tmp_path / "x/reconstruct.json").write_text(json.dumps({**record, "whole": False}))
    write_dat(tmp_path / "rec.dat", random_spikes(140, 24, 32, seed=1))
    with pytest.raises(UserError, match="has an unfinished run with contents"):
        run(*arguments, "--stop", 61)


def test_the_page_shows_the_new_pictures_and_replaces_no_other_file(recording, tmp_path):
    path, _ = recording
    arguments = [path, "--method", "tfp", "--stride", 50, "--report", "--output", tmp_path / "x.npy"]
    (tmp_path / "x.html").write_text("mine")
    with pytest.raises(UserError, match=r"x\.html: already exists, and not a page of this script"):
        run(*arguments)
    assert (tmp_path / "x.html").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "x.html").unlink()
    run(*arguments)
    run(*arguments, "--gamma", 4, "--overwrite")
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "x.html").read_text())[1])
    address = data["streams"][0]["frames"][0]["pictures"]["TFP41"]
    shown = cv2.imdecode(
        np.frombuffer(base64.b64decode(address.split(",")[1]), np.uint8), cv2.IMREAD_GRAYSCALE
    )
    np.testing.assert_array_equal(shown, np.load(tmp_path / "x.npy")[0])


def test_several_recordings_in_one_command(tmp_path, capsys):
    """Folders and patterns; names that collide get their folder's name; a bad recording stops only itself."""
    for name in ("one/a.npy", "one/b.npy", "two/a.npy", "two/.hidden.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, random_spikes(60 + len(name), 24, 32))
    flags = ["--method", "tfp", "--output", tmp_path / "out" / "{name}.npy"]
    assert run(tmp_path / "one", tmp_path / "t*" / "a.npy", *flags) == 0
    assert {file.name for file in (tmp_path / "out").glob("[!.]*")} == {"one_a.npy", "b.npy", "two_a.npy"}
    assert run(tmp_path / "one", "--method", "tfp", "--output", tmp_path / "pngs") == 0  # a folder each
    assert {file.name for file in (tmp_path / "pngs").iterdir()} == {"a", "b"} and list(
        (tmp_path / "pngs/a").glob("*.png")
    )
    np.save(tmp_path / "one/aa.npy", np.arange(60 * 24 * 32).reshape(60, 24, 32) % 7)
    capsys.readouterr()
    assert run(tmp_path / "one", *flags, "--overwrite") == 2
    assert "aa.npy: values from 0 to 6" in capsys.readouterr().err and (tmp_path / "out/b.npy").exists()
    for arguments, words in (
        ([tmp_path / "one", "--output", tmp_path / "x.npy"], r"one file for 3 recordings; take \{name\}"),
        ([tmp_path / "one", tmp_path / "one/a.npy"], "named twice"),
        ([tmp_path / "out/*.dat"], "no file fits"),
        ([tmp_path / "one/a.npy", "-"], "take it alone"),
    ):
        with pytest.raises(UserError, match=words):
            run(*arguments, "--method", "tfp")


def test_one_model_serves_all_recordings(tmp_path, options, monkeypatch):
    loads, load = [], batch.load_model
    monkeypatch.setattr(batch, "load_model", lambda *arguments: loads.append(arguments) or load(*arguments))
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", random_spikes(60, 24, 32))
    assert run(tmp_path / "a.npy", tmp_path / "b.npy", *options, "--output", tmp_path / "{name}.avi") == 0
    assert len(loads) == 1 and (tmp_path / "a.avi").exists() and (tmp_path / "b.avi").exists()


def test_any_two_of_slowmo_fps_and_stride_set_the_third(tmp_path, capsys):
    np.save(tmp_path / "a.npy", random_spikes(400, 24, 32))
    for flags, words in (
        ([], "18 pictures of steps 20 to 360, .* at 25 pictures a second, 40 times slower than real time"),
        (["--slowmo", 100], "45 pictures of steps 20 to 372, .* at 25 pictures a second, 100 times slower"),
        (["--slowmo", 100, "--fps", 50], "steps 20 to 376, .* at 50 pictures a second, 100 times slower"),
        (["--slowmo", 100, "--stride", 20], "at 10 pictures a second, 100 times slower"),
        (["--stride", 1, "--fps", 20000], "at 20,000 pictures a second, 1 times slower"),
        (["--slowmo", 100, "--bin", 3], "100 times slower"),
    ):
        run(tmp_path / "a.npy", "--method", "tfp", *flags, "--output", tmp_path / "x.mp4", "--overwrite")
        assert re.search(words, capsys.readouterr().out), flags
    with pytest.raises(UserError, match="--slowmo 100 with --stride and --fps"):
        run(
            tmp_path / "a.npy",
            "--method",
            "tfp",
            "--slowmo",
            100,
            "--fps",
            9,
            "--stride",
            9,
            "--output",
            tmp_path / "y.mp4",
        )


def test_crops_bits_stamps_and_gifs(recording, tmp_path):
    path, spikes = recording
    tfp41 = np.stack([tfp(torch.from_numpy(spikes), key).numpy() for key in (20, 120)])
    shown = to_bytes(tfp41).astype(int)
    arguments = [path, "--method", "tfp", "--stride", 100, "--exposure", 1]
    run(*arguments, "--crop", "10:60,100:", "--output", tmp_path / "crop.npy")
    assert np.abs(np.load(tmp_path / "crop.npy") - shown[:, 10:60, 100:]).max() <= 1
    run(*arguments, "--bits", 32, "--output", tmp_path / "float.npy")
    np.testing.assert_allclose(np.load(tmp_path / "float.npy"), tfp41, rtol=1e-5)
    run(*arguments, "--bits", 16, "--output", tmp_path / "wide.npy")
    run(*arguments, "--bits", 16, "--output", tmp_path / "wide")
    wide = np.load(tmp_path / "wide.npy")
    np.testing.assert_allclose(wide, np.clip(tfp41, 0, 255) * 257, atol=1)
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / "wide/00000120.png"), cv2.IMREAD_UNCHANGED), wide[1]
    )
    run(*arguments, "--stamp", "--output", tmp_path / "stamp.npy")
    changed = np.abs(np.load(tmp_path / "stamp.npy") - shown) > 1
    assert changed[:, 225:, :150].any() and not changed[:, :220].any() and not changed[:, :, 250:].any()
    run(*arguments, "--output", tmp_path / "x.gif")
    first = cv2.VideoCapture(str(tmp_path / "x.gif")).read()[1][..., 0]
    assert np.abs(first - shown[0]).max() <= 2 and (tmp_path / "x.gif").read_bytes()[:4] == b"GIF8"
    for flags, words in (
        (["--crop", "0:9"], "is not y0:y1,x0:x1"),
        (["--crop", "0:300,:"], "--crop: 0:300 of 250 pixels"),
        (["--crop", "50:20,:"], "--crop: 50:20 of 250 pixels"),
        (["--bits", 16], "with --bits 16: these are for PNGs"),
        (["--bits", 32, "--stamp"], "--stamp with --bits 32"),
    ):
        with pytest.raises(UserError, match=words):
            run(*arguments, *flags, "--output", tmp_path / "y.mp4")
    with pytest.raises(UserError, match=r"\.gif shows 50 pictures a second at most"):
        run(*arguments, "--fps", 60, "--output", tmp_path / "y.gif")
    assert not (tmp_path / "y.mp4").exists()


def test_a_moment_is_named_by_its_step_and_time():
    assert moment_name(150, 40000.0) == "step 150, 3.75 ms"
    assert moment_name(1234567, 20000.0) == "step 1234567, 61728.35 ms"
    assert moment_name(1, 30000.0) == "step 1, 0.033 ms"


def test_pictures_of_other_settings_are_not_taken_as_finished(tmp_path):
    np.save(tmp_path / "a.npy", random_spikes(80, 24, 32))
    arguments = [tmp_path / "a.npy", "--exposure", 1, "--output"]
    for name, first, second, words in (
        ("beside", ["--beside", "tfp", "--bin", 1], ["--window", 5], "window 41, not 5"),
        (
            "stamp",
            ["--method", "tfi", "--stamp"],
            ["--steps_per_second", 40000],
            "steps_per_second 20000.0, not",
        ),
    ):
        run(*arguments, tmp_path / name, *first)
        with pytest.raises(UserError, match=f"already exists, with .*{words}"):
            run(*arguments, tmp_path / name, *first, *second)


def test_names_with_dots_get_folders_of_their_own(tmp_path):
    """As those of spike-X4K."""
    names = ["occ008.649_f4305", "occ008.649_f4369"]
    for name in names:
        np.save(tmp_path / f"{name}.npy", random_spikes(60, 24, 32))
    flags = ["--method", "tfp", "--report", "--output", tmp_path / "out"]
    assert run(*(tmp_path / f"{name}.npy" for name in names), *flags) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert all((tmp_path / "out" / name / "report.html").is_file() for name in names)
    assert batch.stem_of("a.b.gz") == "a.b" and batch.stem_of("a.b.dat.gz") == "a.b"


def test_a_recording_is_never_overwritten(tmp_path):
    np.save(tmp_path / "rec.npy", random_spikes(60, 24, 32))
    with pytest.raises(UserError, match="is the recording itself"):
        run(tmp_path / "rec.npy", "--method", "tfp", "--output", tmp_path / "rec.npy", "--overwrite")
    assert np.load(tmp_path / "rec.npy").shape == (60, 24, 32)


def test_missing_pictures_are_an_error(recording, tmp_path, monkeypatch):
    path, _ = recording
    monkeypatch.setattr(job.Job, "share", lambda one, *_: (list(one.plan.keys)[:2], 2))
    with pytest.raises(UserError, match="1 pictures are missing"):
        run(path, "--method", "tfp", "--stride", 50, "--output", tmp_path / "x.npy")
    monkeypatch.undo()
    run(path, "--method", "tfp", "--stride", 50, "--output", tmp_path / "x.npy")
    assert np.load(tmp_path / "x.npy").mean((1, 2)).min() > 50


def test_several_processes_give_the_same_pictures(recording, options, tmp_path):
    path, _ = recording
    outputs = ("--outputs", "all", "--stride", "7")
    single = [str(path), *options, *outputs, "--output"]
    result = run_processes(3, "reconstruct.py", *single, tmp_path / "shared.npy")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("pictures of steps 20 to 125, 16 made now") == 1
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun does: sums in the same order
    assert run(*single, tmp_path / "one.npy") == 0
    torch.set_num_threads(threads)
    np.testing.assert_array_equal(np.load(tmp_path / "shared.npy"), np.load(tmp_path / "one.npy"))
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "reconstruct.py"]
    failed = run_process(*torchrun, *single, tmp_path / "x.mkv")
    lines = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert failed.returncode and len(lines) == 1 and "x.mkv" in lines[0]
    assert not re.search(r"Traceback.*\n.*reconstruct\.py", failed.stderr)


def test_standard_input(recording, options, tmp_path):
    path, _ = recording
    command = f"reconstruct.py - --height 250 --width 400 --stride 30 {' '.join(options)}"
    data = path.read_bytes()

    def piped(length, *arguments):
        (tmp_path / "input").write_bytes(data[:length])
        return run_script(*command.split(), *arguments, stdin=tmp_path / "input")

    for flags in ("", "--method tfi", "--method tfp"):
        output = tmp_path / f"pipe{flags[-3:]}.npy"
        result = piped(None, *flags.split(), "--output", output)
        assert result.returncode == 0, result.stderr
        assert (
            run(
                path,
                *options,
                "--stride",
                30,
                *flags.split(),
                "--output",
                tmp_path / "file.npy",
                "--overwrite",
            )
            == 0
        )
        assert output.read_bytes() == (tmp_path / "file.npy").read_bytes()
    # A recording shorter than --stop, or one that ends within a group of all outputs, also works.
    for name, steps, *flags in (
        ("stop", 100, "--stop", "1000"),
        ("all", 70, "--stride", "1", "--outputs", "all"),
    ):
        (tmp_path / "part.dat").write_bytes(data[: 12_500 * steps])
        assert piped(12_500 * steps, *flags, "--output", tmp_path / f"{name}.npy").returncode == 0
        run(
            tmp_path / "part.dat",
            *options,
            "--stride",
            30,
            *flags,
            "--output",
            tmp_path / "file.npy",
            "--overwrite",
        )
        assert (tmp_path / f"{name}.npy").read_bytes() == (tmp_path / "file.npy").read_bytes()
    # A recording may end within a step, or before the first window.
    result = piped(12_500 * 60 + 5, "--method", "tfp", "--output", tmp_path / "cut.npy")
    assert result.returncode == 0 and "its last 5 bytes are no whole step" in result.stdout
    assert np.load(tmp_path / "cut.npy").shape == (1, 250, 400)
    result = piped(12_500 * 30, "--output", tmp_path / "short.npy")
    assert result.returncode == 2 and "ended after 30 steps; a picture needs 41" in result.stderr
    assert not list(tmp_path.glob(".short*"))


def test_errors_are_one_line_and_leave_nothing(recording, options, tmp_path):
    path, _ = recording
    out = ["--output", str(tmp_path / "x.mp4")]
    assert_one_line_error(run_process("reconstruct.py", tmp_path / "none.dat", *out), "none.dat", "no such")
    write_dat(tmp_path / "small.dat", random_spikes(60, 8, 8))
    np.save(tmp_path / "a.npy", random_spikes(60, 24, 32))
    (tmp_path / "pictures").mkdir()
    for arguments, words in (
        ([path, *options, "--stride", "0"], "--stride: less than a step"),
        (
            [path, *options, "--start", "5s"],
            r"--start 100000: .*rec\.dat ends before, it has 150 steps, 7.5 ms",
        ),
        ([path, "--variant", "small"], "unrecognized arguments: --variant"),
        ([path, *options, "--outputs", "all"], "--outputs all with --stride 20"),
        ([path, *options, "--tile", "10"], "--tile 10"),
        ([path, "--load_model", "none.pth"], r"none\.pth"),
        ([path, *options, "--compare", f"x={tmp_path / 'pictures'}"], "add --report"),
        (
            [path, *options, "--report", "--compare", f"x={tmp_path / 'pictures'}"],
            r"00000020\.png for one",
        ),
        (
            [path, *options, "--report", "--compare", f"SwinSF={tmp_path / 'pictures'}"],
            "the name SwinSF is taken",
        ),
        ([path, *options, "--crop", "300:400,0:50"], "--crop: 300:400 of 250 pixels"),
        ([tmp_path / "a.npy", *options, "--bit_order", "big"], "not packed as bits; leave out --bit_order"),
        (["-", "--report"], "--report with standard input"),
        (["-"], "give --height and --width"),
        (
            [tmp_path / "small.dat", *options, "--height", "8", "--width", "8"],
            "8x8; the network needs 20 pixels a side",
        ),
        ([path, *options, "--device", "cuda:77"], "cuda:77"),
    ):
        with pytest.raises(UserError, match=words):
            run(*arguments, *out)
    assert {file.name for file in tmp_path.iterdir()} == {"small.dat", "a.npy", "pictures"}


def test_a_recording_that_is_truncated_during_the_run(tmp_path, options, monkeypatch):
    write_dat(tmp_path / "rec.dat", random_spikes(100, 24, 32))
    read = job.reconstruct_binned

    def cut(*arguments, **settings):
        with open(tmp_path / "rec.dat", "r+b") as file:
            file.truncate(96 * 70)
        return read(*arguments, **settings)

    monkeypatch.setattr(job, "reconstruct_binned", cut)
    arguments = [
        tmp_path / "rec.dat",
        "--height",
        24,
        "--width",
        32,
        *options,
        "--stride",
        20,
        "--output",
        tmp_path / "x.npy",
    ]
    with pytest.raises(
        UserError, match=r"rec\.dat: became shorter .* of 3 pictures are kept in .*; the same command resumes"
    ):
        run(*arguments)
    monkeypatch.undo()
    write_dat(tmp_path / "rec.dat", random_spikes(100, 24, 32))
    assert run(*arguments) == 0 and np.load(tmp_path / "x.npy").shape == (3, 24, 32)


def test_the_default_is_a_video_of_the_shipped_weights(recording):
    path, _ = recording
    video = ROOT / "results" / "rec_test_video.mp4"
    named = path.with_name("rec_test_video.dat")
    named.write_bytes(path.read_bytes())
    try:
        result = run_script("reconstruct.py", named, "--stride", "50", "--overwrite")
        assert result.returncode == 0, result.stderr
        assert f"results/rec_test_video.mp4 (in {ROOT}): 3 pictures of steps 20 to 120" in result.stdout
        capture = cv2.VideoCapture(str(video))
        assert (capture.get(cv2.CAP_PROP_FRAME_HEIGHT), capture.get(cv2.CAP_PROP_FRAME_WIDTH)) == (250, 400)
    finally:
        video.unlink(missing_ok=True)


@pytest.mark.parametrize("method", ["tfp", "swinsf"])
def test_a_stalled_pipe_can_be_interrupted(recording, options, method, tmp_path):
    path, _ = recording
    command = f"reconstruct.py - --height 250 --width 400 --stride 10 --method {method} {' '.join(options)}"
    arguments = [sys.executable, *command.split(), "--output", str(tmp_path / "x.npy")]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(path.read_bytes())
        process.stdin.flush()
        done, deadline = tmp_path / ".x.npy.parts" / "done", time.monotonic() + 60
        while not done.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130  # though the pipe is still open
        assert b"starts again" in process.stdout.read()
        assert b"Traceback" not in (errors := process.stderr.read()) and b"terminate" not in errors


def test_other_processes_use_the_key_frames_of_the_first(tmp_path):
    """Each process opens the recording itself, and it may have grown in between."""
    write_dat(tmp_path / "rec.dat", random_spikes(100, 24, 32))
    flags = (
        "--height",
        24,
        "--width",
        32,
        "--method",
        "tfp",
        "--stride",
        10,
        "--output",
        tmp_path / "x",
        "--exposure",
        "auto",
    )
    (settings,) = batch.list_jobs(
        script.parse_settings([str(flag) for flag in (tmp_path / "rec.dat", *flags)]), 1
    )
    first = job.prepare(settings, job.Network())
    write_dat(tmp_path / "rec.dat", np.concatenate([random_spikes(100, 24, 32), np.ones((200, 24, 32))]))
    second = job.prepare(settings, job.Network(), first.plan)
    assert (second.plan, second.output.about) == (first.plan, first.output.about)
    assert job.prepare(settings, job.Network()).plan.keys != first.plan.keys


def test_tfp_is_shown_beside_each_picture(tmp_path):
    np.save(tmp_path / "a.npy", random_spikes(90, 24, 32))
    flags = [tmp_path / "a.npy", "--exposure", 1, "--stride", 10]
    run(*flags, "--method", "tfi", "--beside", "tfp", "--output", tmp_path / "both.npy")
    for method in ("tfp", "tfi"):
        run(*flags, "--method", method, "--output", tmp_path / f"{method}.npy")
    both, tfp, tfi = (np.load(tmp_path / f"{name}.npy") for name in ("both", "tfp", "tfi"))
    assert both.shape == (5, 24, 64)
    np.testing.assert_array_equal(both, np.concatenate([tfp, tfi], 2))
    for more in (["--method", "tfp"], ["--report"]):
        with pytest.raises(UserError, match=f"--beside tfp with {more[0]}"):
            run(*flags, "--beside", "tfp", *more, "--output", tmp_path / "c.npy")


def test_a_short_video_gets_advice_on_slow_motion(tmp_path, capsys):
    np.save(tmp_path / "a.npy", random_spikes(400, 24, 32))
    run(tmp_path / "a.npy", "--method", "tfp", "--output", tmp_path / "a.mp4")
    line = "video: 0.72 s; --slowmo 267 makes it about 4.5 s, with a picture every 3 steps"
    assert line in capsys.readouterr().out
    run(tmp_path / "a.npy", "--method", "tfp", "--slowmo", 267, "--output", tmp_path / "b.mp4")
    text = capsys.readouterr().out
    assert (
        "267 times slower" in text
        and "120 pictures of" in text
        and "; 4.81 s" in text
        and "video:" not in text
    )


def test_a_batch_ends_with_a_table(tmp_path, capsys):
    np.save(tmp_path / "a.npy", random_spikes(60, 24, 32))
    np.save(tmp_path / "long_name.npy", random_spikes(30, 24, 32))
    flags = ["--method", "tfp", "--exposure", 2, "--output", tmp_path / "{name}.mp4"]
    assert run(tmp_path / "a.npy", tmp_path / "long_name.npy", *flags) == 2
    table = capsys.readouterr().out.splitlines()[-3:]
    assert table == [
        "recording      pictures  bin   gain  output",
        f"a.npy                 1    1      2  {tmp_path / 'a.mp4'}",
        "long_name.npy  none, see its error",
    ]


def test_a_single_png_shows_one_moment(tmp_path):
    np.save(tmp_path / "a.npy", random_spikes(90, 24, 32))
    flags = [tmp_path / "a.npy", "--method", "tfp", "--exposure", 1]
    run(*flags, "--stride", 1, "--output", tmp_path / "all.npy")
    for more, step in (([], 40), (["--start", 33], 33)):
        run(*flags, *more, "--overwrite", "--output", tmp_path / "a.png")
        shown = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(shown, np.load(tmp_path / "all.npy")[step - 20])


def test_pictures_up_to_the_ends(tmp_path, options, capsys):
    """They equal those of a recording mirrored in time by hand; the other pictures stay the same."""
    spikes = random_spikes(90, 24, 32)
    np.save(tmp_path / "a.npy", spikes)
    np.save(tmp_path / "long.npy", np.concatenate([spikes[20:0:-1], spikes, spikes[-2:-22:-1]]))
    flags = [*options[:4], "--exposure", 1, "--stride", 1, "--bin", 1, "--repair", "none"]
    run(tmp_path / "a.npy", *flags, "--ends", "--output", tmp_path / "ends.npy")
    assert "40 pictures, the first of step 0 and the last of step 89, by" in capsys.readouterr().out
    run(tmp_path / "long.npy", *flags, "--output", tmp_path / "long_out.npy")
    ends, long = np.load(tmp_path / "ends.npy"), np.load(tmp_path / "long_out.npy")
    assert len(ends) == 90
    np.testing.assert_array_equal(ends, long)
    run(tmp_path / "a.npy", *flags[:-6], "--bin", 3, "--ends", "--output", tmp_path / "binned")
    assert len([*(tmp_path / "binned").glob("*.png")]) == 5  # a stride of 21
    run(tmp_path / "a.npy", *flags[:-4], "--stop", 1, "--ends", "--output", tmp_path / "first.npy")
    assert "ends: 1 picture, of step 0, by" in capsys.readouterr().out
    run(tmp_path / "a.npy", *flags, "--ends", "--output", tmp_path / "middle.png")
    assert "ends:" not in capsys.readouterr().out  # the one picture has a whole window
    for more in (["--report"], ["--method", "tfi"], ["--beside", "tfp"]):
        with pytest.raises(UserError, match=f"--ends with {more[0]}"):
            run(tmp_path / "a.npy", *flags, *more, "--ends", "--output", tmp_path / "c.npy")
