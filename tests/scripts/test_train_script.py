"""train.py, run as a user would: it learns, stops, resumes to the same weights, and overwrites nothing."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import test as test_script
import train
from swinsf import datasets
from swinsf.datasets import open_dataset
from swinsf.datasets.dat import write_dat
from swinsf.models import checkpoint, load_model
from swinsf.training.data import hold_out, open_data, validation_interval
from swinsf.training.log import read_lines
from swinsf.training.run import RunFolder
from swinsf.training.settings import new_settings, parse_settings
from swinsf.training.start import fresh_model
from swinsf.utils.cli import UserError
from tests.conftest import (
    ROOT,
    assert_equal,
    assert_one_line_error,
    moving_scene,
    quick,
    read_log,
    read_whole_log,
    run_process,
    run_script,
    write_png,
    write_reds,
)


def points(folder, tag):
    """[(step, value)] of a curve in TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.fixture(scope="module")
def unbroken(photos, tiny_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    result = run_script(*quick(photos, tiny_weights, folder, "unbroken"))
    assert result.returncode == 0, result.stderr
    return folder / "unbroken"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_killed_and_resumed_run_equals_the_unbroken_one(
    photos, tiny_weights, unbroken, tmp_path, monkeypatch, number
):
    at_step(monkeypatch, 25, lambda: os.kill(os.getpid(), number))  # in the middle of the second epoch
    killed = run_script(*quick(photos, tiny_weights, tmp_path, "killed"))
    monkeypatch.undo()
    assert killed.returncode == 128 + number, killed.stderr
    assert "--resume_path" in killed.stderr and "Traceback" not in killed.stderr
    stopped = checkpoint.load(tmp_path / "killed/last.pth")["training"]
    assert (stopped["epoch"], stopped["batch"], stopped["step"]) == (1, 5, 25)

    resumed = run_script("train.py", "--resume_path", tmp_path / "killed", "--workers", "0")
    assert resumed.returncode == 0, resumed.stderr
    runs = [checkpoint.load(folder / "last.pth") for folder in (unbroken, tmp_path / "killed")]
    for run in runs:
        run.pop("settings")  # the run's name and workers differ
        run["training"].pop("totals")
    assert runs[0]["step"] == 60
    assert_equal(*runs)
    logs = [read_log(folder) for folder in (unbroken, tmp_path / "killed")]
    figures = [[(line["epoch"], line["step"], line["train_loss"]) for line in log] for log in logs]
    assert len(figures[0]) == 3 and figures[0] == figures[1]
    logs = [read_whole_log(folder) for folder in (unbroken, tmp_path / "killed")]
    steps = [
        [(line["step"], line["loss"], line["lr"]) for line in log if "epoch" not in line] for log in logs
    ]
    assert [step for step, *_ in steps[0]] == [1, *range(10, 61, 10)] and steps[0] == steps[1]
    assert points(unbroken, "step/loss") == points(tmp_path / "killed", "step/loss")
    assert points(unbroken, "train/loss") == points(tmp_path / "killed", "train/loss")


def test_it_learns_on_a_dataset_and_writes_weights_that_test_py_loads(reds, tiny_weights, tmp_path):
    result = run_script(
        "train.py", "--data_mode", "250", "--dataset_path", reds, "--load_model", tiny_weights, "--lr", "3e-2",
        "--crop_size", "40", "--batch_size", "3", "--epochs", "30", "--val_every", "30", "--workers", "0", "--device", "cpu",
        "--save_path", tmp_path, "--run_name", "run",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "held out of train: 003_part1_key_id21.dat" in result.stdout
    log = read_log(tmp_path / "run")
    assert [line["epoch"] for line in log] == list(range(30)) and log[-1]["step"] == 30
    losses = [line["train_loss"] for line in log]
    assert sum(losses[20:]) < 0.92 * sum(losses[:10]), losses
    assert log[-1]["val_psnr"] > 15 and 0 < log[-1]["val_ssim"] < 1 and log[-1]["val_loss"] > 0
    assert log[0]["lr"] == 3e-2 and log[0]["train_pictures_per_second"] > 0
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"last.pth", "best.pth", "config.json", "log.jsonl", "tensorboard", ".lock"}
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["settings"]["lr"] == 3e-2 and config["config"]["channels"] == 4
    best = checkpoint.load(tmp_path / "run/best.pth")
    assert best["best_psnr"] == log[-1]["val_psnr"] and "training" not in best
    load_model(tmp_path / "run/best.pth")

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    scalars = {"train/loss", "lr", "train/pictures_per_second", "val/psnr", "val/ssim", "val/loss"}
    assert scalars <= set(events.Tags()["scalars"]) and events.Tags()["images"]
    assert [event.step for event in events.Scalars("train/loss")] == [line["step"] for line in log]


def test_a_run_never_overwrites_another(photos, tiny_weights, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/last.pth").write_text("precious")
    result = run_process(*quick(photos, tiny_weights, tmp_path, "taken"))
    assert_one_line_error(result, tmp_path / "taken", "--run_name", "--resume_path")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["last.pth"]
    assert (tmp_path / "taken/last.pth").read_text() == "precious"


def test_grad_checkpoint_and_bfloat16_train_alike(photos, tiny_weights, tmp_path, bfloat16):
    """--grad_checkpoint gives bit-identical weights, so a resumed run may use it; --amp nearly so."""
    losses = {}
    for name, options in {"plain": [], "checkpoint": ["--grad_checkpoint"], "amp": ["--amp"]}.items():
        command = quick(photos, tiny_weights, tmp_path, name, "--max_steps", "6", "--workers", "0", *options)
        assert train.main(command[1:]) == 0
        losses[name] = read_log(tmp_path / name)[-1]["train_loss"]
    weights = [
        checkpoint.load(tmp_path / name / "last.pth")["training"]["model"] for name in ("plain", "checkpoint")
    ]
    assert_equal(*weights)
    assert losses["amp"] == pytest.approx(losses["plain"], rel=0.01)


def test_a_deterministic_run_gives_the_same_weights_twice(photos, tiny_weights, tmp_path, monkeypatch):
    """With stochastic depth, workers, a moving average and validation, and also with accumulation."""
    monkeypatch.setattr(datasets, "FIXED_SCENES", 2)
    options = [
        "--deterministic",
        "--max_steps",
        "8",
        "--accumulate",
        "2",
        "--workers",
        "2",
        "--val_every",
        "1",
    ]
    for name in ("first", "second"):
        try:
            assert train.main(quick(photos, tiny_weights, tmp_path, name, *options)[1:]) == 0
            assert torch.are_deterministic_algorithms_enabled()
        finally:
            torch.use_deterministic_algorithms(False)
    states = [checkpoint.load(tmp_path / name / "last.pth")["training"] for name in ("first", "second")]
    for state in states:
        state["totals"].pop("seconds")
    assert_equal(*states)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--crop_size", "19"], "--crop_size 19"),
        (["--crop_size", "251"], "--crop_size 251"),
        (["--variant", "250", "--load_model", "w.pth"], "leave out --variant"),
        (["--run_name", "a/b"], "--run_name a/b"),
        (["--run_name", ".."], "--run_name .."),
        (["--device", "cpu", "--device_ids", "01"], "needs CUDA"),
        (["--device_ids", "0,x"], "0,x"),
        (["--load_model", "none.pth"], "none.pth"),
        (["--resume_path", "none"], "none"),
        (["--dataset_path", "none"], "none: no such dataset folder"),
        (["--dataset_path", "none"], "simulated from the REDS videos"),
        (["--dataset_path", "none"], "Without a dataset, use --dataset_path photos:DIR"),
        (["--dataset_path", "demo"], "demo"),
    ],
)
def test_contradictions_are_refused_before_anything_is_written(reds, tmp_path, arguments, words):
    with pytest.raises(UserError) as error:
        train.main(["--dataset_path", str(reds), "--save_path", str(tmp_path), *arguments])
    assert words in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_run_over_scenes_records_which_opencv_made_them(photos, tiny_weights, tmp_path, capsys):
    assert train.main(quick(photos, tiny_weights, tmp_path, "run", "--max_steps", "1")[1:]) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["made_with"]["grid"] in ("exact", "1/32 pixel")
    resume = ["--resume_path", str(tmp_path / "run"), "--save_path", str(tmp_path)]
    assert train.main(resume) == 0 and "started with" not in capsys.readouterr().out
    saved = checkpoint.load(tmp_path / "run/last.pth")
    saved["made_with"].update(opencv="4.1.0", grid="coarse")
    checkpoint.save(saved, tmp_path / "run/last.pth")
    assert train.main(resume) == 0
    assert "started with OpenCV 4.1.0 (grid coarse), now" in capsys.readouterr().out


def test_a_resumed_run_keeps_its_settings(photos, tiny_weights, tmp_path):
    arguments = quick(photos, tiny_weights, tmp_path, "run", "--max_steps", "2")[1:]
    assert train.main(arguments) == 0
    folder = str(tmp_path / "run")
    for flag, value in (
        ("--lr", "0.5"),
        ("--batch_size", "4"),
        ("--epochs", "9"),
        ("--seed", "3"),
        ("--val_every", "1"),
    ):
        with pytest.raises(UserError, match=f"{flag} .* the run has") as error:
            train.main(["--resume_path", folder, flag, value])
        start = f"new run from its weights: python train.py --load_model {folder}/last.pth --recipe modern --epochs 9 "
        assert (start in str(error.value)) == (flag == "--epochs")
    with pytest.raises(UserError, match="no run's state"):
        train.main(["--resume_path", str(tiny_weights)])
    assert (
        train.main(["--resume_path", folder, "--batch_size", "2", "--save_path", str(tmp_path)]) == 0
    )  # it has ended: nothing left to do
    assert checkpoint.load(tmp_path / "run/last.pth")["step"] == 2


def test_a_run_under_the_papers_recipe_can_be_extended(photos, tiny_weights, tmp_path):
    """Also from the middle of an epoch, with the same weights as a run of that length from the start."""
    options = ["--recipe", "paper", "--epoch_length", "6", "--workers", "0", "--log_every", "2"]
    for name, steps in (("short", "2"), ("long", "5")):
        assert (
            train.main(quick(photos, tiny_weights, tmp_path, name, *options, "--max_steps", steps)[1:]) == 0
        )
    assert train.main(["--resume_path", str(tmp_path / "short/last.pth"), "--max_steps", "5"]) == 0
    with pytest.raises(UserError, match="ends at step 3, but is already at 5"):
        train.main(["--resume_path", str(tmp_path / "short"), "--max_steps", "3"])
    short, long = (checkpoint.load(tmp_path / name / "last.pth") for name in ("short", "long"))
    assert long["step"] == 5
    assert_equal(short["model"], long["model"])
    assert_equal(short["training"]["optimizer"], long["training"]["optimizer"])
    for tag in ("step/loss", "train/loss"):
        assert points(tmp_path / "short", tag) == points(tmp_path / "long", tag)
    losses = [[line["train_loss"] for line in read_log(tmp_path / name)] for name in ("short", "long")]
    assert len(losses[0]) == 2 and losses[0] == losses[1]


def test_a_finished_run_under_the_papers_recipe_can_add_epochs(photos, tiny_weights, tmp_path, capsys):
    options = ["--recipe", "paper", "--epoch_length", "6", "--workers", "0", "--log_every", "2"]
    for name, epochs in (("short", "1"), ("long", "2")):
        assert train.main(quick(photos, tiny_weights, tmp_path, name, *options, "--epochs", epochs)[1:]) == 0
    capsys.readouterr()
    assert train.main(["--resume_path", str(tmp_path / "short"), "--epochs", "2"]) == 0
    printed = capsys.readouterr()
    # epochs count from 1 on the screen, from 0 in the log
    assert "\nepoch 2, step 6, " in printed.out and "epoch 2: " in printed.err
    assert "epoch 0" not in printed.out + printed.err
    short, long = (checkpoint.load(tmp_path / name / "last.pth") for name in ("short", "long"))
    assert (long["step"], long["training"]["epoch"]) == (6, 2)
    assert_equal(short["model"], long["model"])
    logs = [
        [(n["step"], n.get("epoch"), n.get("loss")) for n in read_whole_log(tmp_path / name)]
        for name in ("short", "long")
    ]
    assert [line[:2] for line in logs[0]] == [(1, None), (2, None), (3, 0), (4, None), (6, None), (6, 1)]
    assert logs[0] == logs[1]
    for tag in ("step/loss", "train/loss"):
        assert points(tmp_path / "short", tag) == points(tmp_path / "long", tag)


def test_a_runs_folder_is_accepted_as_weights(photos, reds, tiny_weights, tmp_path):
    """Its last.pth is used, since it has not validated."""
    options = ["--workers", "0", "--max_steps", "1"]
    assert train.main(quick(photos, tiny_weights, tmp_path, "run", *options)[1:]) == 0
    assert train.main(quick(photos, tmp_path / "run", tmp_path, "again", *options)[1:]) == 0
    place = [
        "--dataset_path",
        str(reds),
        "--save_path",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    assert test_script.main([*place, "--load_model", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["weights"] == str(
        tmp_path / "run/last.pth"
    )


def test_the_first_step_is_logged_at_once(photos, tiny_weights, tmp_path, monkeypatch):
    """In log.jsonl and TensorBoard, long before the epoch ends; each line is the mean since the last."""
    seen, is_due = [], RunFolder.is_due

    def spy(files, minutes):
        path = files.folder / "log.jsonl"
        seen.append(
            (
                files.state.totals["loss"],
                len(path.read_text().splitlines()),
                len(points(files.folder, "step/loss")),
            )
        )
        return is_due(files, minutes)

    monkeypatch.setattr(RunFolder, "is_due", spy)
    options = ["--epoch_length", "10", "--epochs", "1", "--workers", "0", "--log_every", "2"]
    assert train.main(quick(photos, tiny_weights, tmp_path, "run", *options)[1:]) == 0
    assert [lines for _, *lines in seen] == [[1, 1], [2, 2], [2, 2], [3, 3], [3, 3]]
    sums = [loss for loss, *_ in seen]
    log = read_whole_log(tmp_path / "run")
    assert [line["loss"] for line in log[:3]] == pytest.approx(
        [sums[0] / 2, (sums[1] - sums[0]) / 2, (sums[3] - sums[1]) / 4]
    )
    assert all(line["pictures_per_second"] > 0 and line["lr"] > 0 for line in log[:3])
    assert read_lines(tmp_path / "run/log.jsonl") == log[3:] and log[3]["epoch"] == 0  # for readers of epochs


def test_validation_takes_no_longer_than_training(tmp_path, capsys):
    """By default; a given flag takes precedence."""
    data = write_reds(tmp_path, train=4)
    for flags, every in (
        ([], 1),
        (["--crop_size", "50"], 14),
        (["--val_every", "2", "--crop_size", "50"], 2),
    ):
        settings = new_settings(*parse_settings(["--dataset_path", str(data), "--batch_size", "8", *flags]))
        training, val, lines = open_data(settings)
        assert (len(training), len(val)) == (3, 1)
        assert validation_interval(settings, training, val) == every  # 250 x 400 / (3 x 50 x 50) = 13.3
        assert any("after every 14 epochs" in line for line in lines) == (every == 14)
        assert "warning: --batch_size 8: there are only 3 samples to train on" in lines[-1]
    settings = new_settings(*parse_settings(["--dataset_path", str(data), "--val_every", "0"]))
    assert validation_interval(settings, *open_data(settings)[:2]) == 0


def short_run(reds, tiny_weights, folder, *more):
    """Arguments for one step on a dataset, without validation."""
    options = [
        "--crop_size",
        "20",
        "--max_steps",
        "1",
        "--val_every",
        "0",
        "--workers",
        "0",
        "--device",
        "cpu",
    ]
    place = ["--dataset_path", str(reds), "--save_path", str(folder), "--run_name", "run"]
    return [*place, "--load_model", str(tiny_weights), *options, *more]


def test_a_resumed_run_needs_the_same_dataset(reds, photos, tiny_weights, tmp_path):
    assert train.main(short_run(reds, tiny_weights, tmp_path)) == 0
    smaller = write_reds(tmp_path / "smaller", train=2)
    for other in (str(smaller), f"photos:{photos}"):
        with pytest.raises(UserError, match="not the samples that the run started with"):
            train.main(["--resume_path", str(tmp_path / "run"), "--dataset_path", other, "--max_steps", "2"])


def test_a_torn_log_does_not_stop_a_resumed_run(reds, tiny_weights, tmp_path):
    assert train.main(short_run(reds, tiny_weights, tmp_path, "--batch_size", "4")) == 0
    with open(tmp_path / "run/log.jsonl", "a") as log:
        log.write('{"epoch": 0, "st')
    assert train.main(["--resume_path", str(tmp_path / "run"), "--max_steps", "2"]) == 0
    assert [line["epoch"] for line in read_log(tmp_path / "run")] == [0, 1]


def at_step(monkeypatch, number, action):
    """Call `action()` when the run reaches iteration `number`, counted from 1."""
    steps, clip = [], torch.nn.utils.clip_grad_norm_

    def clip_and_act(*arguments):  # called once per iteration, in any recipe
        steps.append(1)
        if len(steps) == number:
            action()
        return clip(*arguments)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip_and_act)


def test_a_sample_that_becomes_damaged_ends_the_run_in_one_line_and_keeps_the_weights(
    tiny_weights, tmp_path, monkeypatch
):
    """The error is found in a worker; no worker is left for which the process would wait."""
    data = write_reds(tmp_path / "data", train=6)
    path = data / "train/input/003_part1_key_id21.dat"
    # truncated at once; found before the file is read or while it is read
    at_step(monkeypatch, 7, lambda: os.truncate(path, 512497))
    options = ["--workers", "2", "--batch_size", "1", "--epochs", "500", "--max_steps", "0"]
    result = run_script("train.py", *short_run(data, tiny_weights, tmp_path, *options))
    errors = result.stderr
    assert result.returncode == 2, errors
    for worker in multiprocessing.active_children():
        worker.join(10)
    assert not multiprocessing.active_children()
    assert (
        len(re.findall(r"error: \S+003_part1_key_id21\.dat: (?:512497 bytes|became shorter)", errors)) == 1
    ), errors
    assert "Traceback" not in errors
    assert checkpoint.load(tmp_path / "run/last.pth")["step"] >= 6


def test_a_diverging_run_keeps_a_checkpoint_and_names_the_batch(reds, tiny_weights, tmp_path):
    poisoned = checkpoint.load(tiny_weights)
    poisoned["model"]["conv_last.0.bias"][:] = float("nan")
    checkpoint.save(poisoned, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"step 0, epoch 1, batch 0: 00\d_part1"):
        train.main(short_run(reds, tmp_path / "nan.pth", tmp_path))
    assert checkpoint.load(tmp_path / "run/last.pth")["step"] == 0


def test_a_signal_that_comes_twice_still_saves(photos, tiny_weights, tmp_path):
    command = [sys.executable, *quick(photos, tiny_weights, tmp_path, "run", "--epoch_length", "2000")]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    seen = b""
    while not re.search(rb"epoch 1: .*? [1-9]\d*/1000", seen):
        byte = process.stderr.read(1)
        assert byte, seen.decode()
        seen += byte
    process.send_signal(signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)  # the workers too
    rest = process.stderr.read().decode()
    assert process.wait() == 143 and "--resume_path" in rest, rest
    assert checkpoint.load(tmp_path / "run/last.pth")["step"] > 0


def test_scenes_are_held_out_whole(tmp_path):
    write_reds(tmp_path, train=2)
    for path in list((tmp_path / "train").rglob("001_part1*")):
        path.with_name(path.name.replace("part1", "part2")).write_bytes(path.read_bytes())
    kept, held, _ = hold_out(open_dataset(tmp_path, "250", "train"))
    assert (kept, held) == ([0], [1, 2])


def test_a_single_stream_cannot_be_held_out(tmp_path):
    write_reds(tmp_path, train=1)
    with pytest.raises(UserError, match="--val_every 0"):
        hold_out(open_dataset(tmp_path, "250", "train"))


def test_the_papers_recipe_is_the_default():
    settings = new_settings(*parse_settings([]))
    assert (settings.recipe, settings.epochs, settings.lr, settings.weight_decay) == ("paper", 900, 1e-4, 0.0)
    assert (settings.data_mode, settings.crop_size, settings.save_path) == ("250", 0, "checkpoint")


def test_a_custom_architecture():
    def model(*flags):
        return fresh_model(new_settings(*parse_settings(["--variant", "small", *flags])))

    assert (model().config.tsa, model().config.skip) == ("paper", "aligned")
    config = model("--skip", "motion", "--architecture", "channels=16", "depths=2,", "mlp_ratio=2").config
    assert (config.channels, config.depths, config.mlp_ratio, config.skip, config.patch) == (
        16,
        (2,),
        2,
        "motion",
        2,
    )
    for flags in (("colour=3",), ("channels=5",), ("skip=other",)):
        with pytest.raises(UserError, match="--architecture: "):
            model("--architecture", *flags)
    for flag, value in (("--skip", "motion"), ("--architecture", "channels=8")):
        with pytest.raises(UserError, match="sets the architecture"):
            model("--load_model", "w.pth", flag, value)


def test_upright_streams_with_one_picture_each_train(tiny_weights, tmp_path, capsys):
    """Spike-Zoo's layout, and a flag of test.py: the warnings, and the run's settings."""
    for i in range(3):
        spikes = moving_scene(250, 400, 41, seed=i)
        (tmp_path / "data/train/spike").mkdir(parents=True, exist_ok=True)
        write_dat(tmp_path / f"data/train/spike/{i}.dat", spikes, flip=False)
        write_png(
            tmp_path / f"data/train/gt/{i}.png", np.clip(255 / 0.6 * spikes.mean(0), 0, 255).astype(np.uint8)
        )
    options = [
        "--dataset_path", str(tmp_path / "data"), "--load_model", str(tiny_weights), "--crop_size", "20", "--batch_size", "2",
        "--epochs", "1", "--workers", "0", "--device", "cpu", "--save_path", str(tmp_path),
    ]  # fmt: skip
    assert train.main([*options, "--run_name", "wrong"]) == 0
    assert "use --flip False" in capsys.readouterr().out
    assert train.main([*options, "--run_name", "right", "--flip", "False"]) == 0
    printed = capsys.readouterr().out
    assert "use --flip" not in printed and "for the middle picture only" in printed
    assert read_log(tmp_path / "right")[0]["val_psnr"] > read_log(tmp_path / "wrong")[0]["val_psnr"] + 3
