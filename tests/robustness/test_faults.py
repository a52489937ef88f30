"""Faults of long runs: a scheduler's warnings, kills, a full disk, a broken network. Nothing is lost."""

import contextlib
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

import train
from swinsf.models import checkpoint
from swinsf.training import run, validation
from swinsf.utils.cli import UserError
from tests.conftest import ROOT, assert_equal, assert_one_line_error, quick, read_log, run_process, run_script
from tests.robustness import two_hosts

LONG = ["--epoch_length", "120"]  # 60 steps an epoch: time to catch a process within one


def read_until(process, pattern):
    """Read the process's stderr until the pattern appears; returns the text read."""
    seen = b""
    while not re.search(pattern, seen):
        byte = process.stderr.read(1)
        assert byte, seen.decode()
        seen += byte
    return seen.decode()


def assert_same_run(*folders):
    """The runs ended with the same weights, optimiser, average, random states and log."""
    states = [checkpoint.load(folder / "last.pth")["training"] for folder in folders]
    for state in states:
        state.pop("totals")  # seconds
    assert_equal(*states)
    logs = [
        [(line["epoch"], line["step"], line["train_loss"]) for line in read_log(folder)] for folder in folders
    ]
    assert logs[0] == logs[1] and len(logs[0]) > 1


@pytest.fixture(scope="module")
def unbroken(photos, tiny_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert train.main(quick(photos, tiny_weights, folder, "unbroken", *LONG)[1:]) == 0
    return folder / "unbroken"


def torchrun(*arguments):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        *arguments,
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )


@pytest.mark.slow
def test_two_processes_stop_together_and_resume_to_the_same_weights(photos, tiny_weights, tmp_path):
    """torchrun passes SIGTERM on. A warning to only one process, SIGUSR1, stops both and is no failure."""
    process = torchrun(*quick(photos, tiny_weights, tmp_path, "whole", *LONG))
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()

    process = torchrun(*quick(photos, tiny_weights, tmp_path, "stopped", *LONG))
    read_until(process, rb"epoch 1: .*? [1-9]\d*/60")
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read().decode()
    process.wait()
    assert rest.count("stopped at step") == 1, rest
    steps = [checkpoint.load(tmp_path / "stopped/last.pth")["step"]]

    process = torchrun("train.py", "--resume_path", str(tmp_path / "stopped"))
    read_until(process, rb"epoch 2: .*? [1-9]\d*/60")
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True
    ).stdout.split()[2:]
    children = [int(pid) for pid, parent in zip(listed[::2], listed[1::2]) if int(parent) == process.pid]
    assert len(children) >= 2
    os.kill(max(children), signal.SIGUSR1)
    rest = process.stderr.read().decode()
    assert process.wait() == 0 and rest.count("stopped at step") == 1, rest
    steps.append(checkpoint.load(tmp_path / "stopped/last.pth")["step"])
    assert 0 < steps[0] < 60 < steps[1] < 180

    process = torchrun("train.py", "--resume_path", str(tmp_path / "stopped"))
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def torn(folder):
    """Whether a save of last.pth is under way in a folder, or was killed."""
    return any(name.startswith(".last.pth.") for name in os.listdir(folder))


@pytest.mark.slow
def test_thirty_kills_lose_nothing(photos, tiny_weights, tmp_path):
    """SIGKILL at the start, within steps and within saves: last.pth can always be loaded, and the run ends
    like the uninterrupted one."""
    # the run ends in the middle of the second epoch
    options = ["--epoch_length", "1200", "--batch_size", "2", "--max_steps", "900"]
    assert train.main(quick(photos, tiny_weights, tmp_path, "unbroken", *options)[1:]) == 0
    again = [
        *quick(photos, tiny_weights, tmp_path, "killed", *options),
        "--auto_resume",
        "--save_minutes",
        "0",
    ]
    folder, rng, steps, within_saves = tmp_path / "killed", random.Random(0), [], 0
    for kill in range(30):
        before = (folder / "last.pth").stat().st_mtime_ns if kill else 0
        with open(tmp_path / "errors", "w") as errors:
            process = subprocess.Popen(
                [sys.executable, *again], cwd=ROOT, stderr=errors, stdout=subprocess.DEVNULL
            )
        if kill % 10 == 9:
            time.sleep(rng.uniform(0, 5))  # while it starts
        else:
            while not (folder / "last.pth").exists() or (folder / "last.pth").stat().st_mtime_ns == before:
                assert process.poll() is None, (tmp_path / "errors").read_text()
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.4))
            while kill % 2 and not torn(folder):
                assert process.poll() is None
        process.kill()
        process.wait()
        within_saves += torn(folder)
        steps.append(checkpoint.load(folder / "last.pth")["step"])
    assert steps == sorted(steps) and 30 < steps[-1] < 900, steps
    assert within_saves >= 5
    result = run_script(*again[:-2])
    assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path / "unbroken", folder)
    assert [name for name in os.listdir(folder) if name.startswith(".")] == [".lock"]
    print(f"killed at steps {steps}, {within_saves} times within a save")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("name", ["last.pth", "best.pth", "log.jsonl"])
def test_a_disk_that_refuses_for_a_while(photos, tiny_weights, tmp_path, monkeypatch, capsys, number, name):
    """The run continues, the old file stays whole, and the end is that of an undisturbed run, with one
    warning and one all-clear."""
    options = [
        "--max_steps",
        "12",
        "--epoch_length",
        "8",
        "--epochs",
        "9",
        "--save_minutes",
        "0",
        "--workers",
        "0",
    ]
    assert train.main(quick(photos, tiny_weights, tmp_path, "calm", *options)[1:]) == 0
    replace, refused = os.replace, []

    def refusing(source, target):
        step = (
            checkpoint.load(tmp_path / "run/last.pth")["step"] if (tmp_path / "run/last.pth").exists() else -1
        )
        if os.path.basename(target) == name and step >= 2 and len(refused) < 3:
            refused.append(step)
            raise OSError(number, os.strerror(number), str(target))
        return replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    monkeypatch.setattr(run, "RETRY", 0.0)
    if name == "best.pth":
        options += ["--val_every", "1"]
        monkeypatch.setattr(
            validation, "validate", lambda *_: ({"psnr": 30.0, "ssim": 0.9, "loss": 1.0}, None)
        )
    assert train.main(quick(photos, tiny_weights, tmp_path, "run", *options)[1:]) == 0
    errors = capsys.readouterr().err
    assert len(refused) == 3 and len(set(refused)) == 1, "the last state on the disk stayed, and whole"
    warned = [line for line in errors.splitlines() if "warning: " in line]
    assert len(warned) == 1 and os.strerror(number) in warned[0] and f"{tmp_path}/run/{name}" in warned[0]
    assert errors.count("saved again") == 1
    states = [checkpoint.load(tmp_path / run / "last.pth") for run in ("calm", "run")]
    assert_equal(states[0]["model"], states[1]["model"])
    assert [line["epoch"] for line in read_log(tmp_path / "run")] == [0, 1, 2]
    assert (tmp_path / "run/best.pth").exists() == (name == "best.pth")


def test_a_run_that_cannot_be_saved_at_its_end_waits_until_it_is_stopped(
    photos, tiny_weights, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(train.stopping.Stopper, "__call__", lambda self: len(asked) > 5)

    def refuse(*_):
        asked.append(1)
        raise OSError(errno.ENOSPC, "No space left on device", "last.pth")

    options = ["--max_steps", "1", "--workers", "0"]
    monkeypatch.setattr(
        train, "finish_epoch", lambda *_: monkeypatch.setattr(checkpoint, "save", refuse) or True
    )
    monkeypatch.setattr(run, "RETRY", 0.0)
    with pytest.raises(UserError, match=r"No space left.*not saved: last\.pth"):
        train.main(quick(photos, tiny_weights, tmp_path, "run", *options)[1:])
    assert len(asked) > 5 and checkpoint.load(tmp_path / "run/last.pth")["step"] == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", place], capture_output=True
    ).returncode:
        pytest.skip("a small file system cannot be mounted here; root can")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.skipif(not shutil.which("mount"), reason="no program mount")
def test_a_disk_that_fills_up_within_a_file(small_disk):
    """An OSError, which a run survives, at any place in the file."""
    checkpoint.save({"weights": torch.ones(3)}, small_disk / "file.pth")
    for count in (10**5, 3 * 10**5, 10**6):
        with pytest.raises(OSError, match=r"No space left .*file\.pth"):
            checkpoint.save({"weights": [torch.zeros(count) for _ in range(10)]}, small_disk / "file.pth")
    assert checkpoint.load(small_disk / "file.pth")["weights"].sum() == 3
    assert os.listdir(small_disk) == ["file.pth"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mount"), reason="no program mount")
def test_a_disk_that_is_really_full(photos, tiny_weights, unbroken, small_disk):
    """Full from the middle of the first epoch to that of the second, so curves and log are affected, too."""
    code = "import sys, train; from swinsf.utils import cli; from swinsf.training import run; run.RETRY = 0.2; cli.run(lambda: train.main(sys.argv[1:]))"
    arguments = quick(photos, tiny_weights, small_disk, "run", *LONG, "--save_minutes", "0")[1:]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    read_until(process, rb"epoch 1: .*? [1-9]\d*/60")
    with open(small_disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(1024))
    assert "No space left" in read_until(process, rb"warning: [^\n]*\n")
    held = checkpoint.load(small_disk / "run/last.pth")["step"]
    read_until(process, rb"epoch 2: .*? [1-9]\d*/60")
    assert 0 < held == checkpoint.load(small_disk / "run/last.pth")["step"] < 60
    (small_disk / "filler").unlink()
    seen = read_until(process, rb"saved again")
    assert checkpoint.load(small_disk / "run/last.pth")["step"] > 60
    rest = process.stderr.read().decode()
    assert process.wait() == 0 and "Traceback" not in seen + rest, seen + rest
    assert_same_run(unbroken, small_disk / "run")


def test_the_last_epochs_are_kept_and_can_be_resumed(photos, tiny_weights, tmp_path):
    options = ["--epoch_length", "20", "--epochs", "5", "--workers", "0", "--keep_last", "2"]
    assert train.main(quick(photos, tiny_weights, tmp_path, "run", *options)[1:]) == 0
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.glob("epoch_*")) == ["epoch_0004.pth", "epoch_0005.pth"]
    steps = [checkpoint.load(folder / f"{name}.pth")["step"] for name in ("epoch_0004", "epoch_0005", "last")]
    assert steps == [40, 50, 50]
    end = checkpoint.load(folder / "last.pth")["training"]
    assert train.main(["--resume_path", str(folder / "epoch_0004.pth")]) == 0
    again = checkpoint.load(folder / "last.pth")["training"]
    for state in (end, again):
        state.pop("totals")
    assert_equal(end, again)
    assert [line["epoch"] for line in read_log(folder)] == [0, 1, 2, 3, 4]


def test_a_job_that_starts_again_resumes(photos, tiny_weights, tmp_path):
    """The same command starts a run, even in an empty folder that a kill left, resumes it, and does nothing
    once it has ended."""
    arguments = quick(
        photos, tiny_weights, tmp_path, "run", "--epoch_length", "4", "--auto_resume", "--workers", "0"
    )[1:]
    (tmp_path / "run").mkdir()
    for _ in range(2):
        assert train.main(arguments) == 0
        assert [line["step"] for line in read_log(tmp_path / "run")] == [2, 4, 6]
    with pytest.raises(UserError, match=r"--lr 0\.5: the run has"):
        train.main([*arguments, "--lr", "0.5"])
    (tmp_path / "link").symlink_to(tmp_path / "run")
    assert train.main([*arguments, "--run_name", "link"]) == 0
    for name in ("best.pth", "epoch_0002.pth", "notes.txt"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / name).write_text("precious")
        with pytest.raises(UserError, match="other: already exists"):
            train.main([*arguments, "--run_name", "other"])
        assert [path.name for path in (tmp_path / "other").iterdir()] == [name]
        shutil.rmtree(tmp_path / "other")


def test_a_bad_lock_file(photos, tiny_weights, tmp_path):
    """A link is not followed, and a pipe does not hang."""
    assert (
        train.main(quick(photos, tiny_weights, tmp_path, "run", "--max_steps", "1", "--workers", "0")[1:])
        == 0
    )
    lock = tmp_path / "run/.lock"
    lock.unlink()
    (tmp_path / "precious").write_text("precious")
    lock.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"\.lock"):
        train.main(["--resume_path", str(tmp_path / "run")])
    assert (tmp_path / "precious").read_text() == "precious"
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(UserError, match=r"\.lock: not a regular file"):
        train.main(["--resume_path", str(tmp_path / "run")])


@pytest.mark.slow
def test_a_job_that_follows_another_resumes_from_its_last_save(photos, tiny_weights, tmp_path):
    """It waits for the lock before it reads last.pth."""
    command = [
        sys.executable,
        *quick(photos, tiny_weights, tmp_path, "run", "--epoch_length", "9000", "--auto_resume"),
    ]

    def start():
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)

    def stop(process):
        process.terminate()
        process.stderr.read()
        assert process.wait() == 143
        return checkpoint.load(tmp_path / "run/last.pth")["step"], process.stdout.read().decode()

    first = start()
    read_until(first, rb"epoch 1: .*? [1-9]\d*/4500")
    second = start()
    time.sleep(5)  # by then it waits for the lock
    step, _ = stop(first)
    read_until(second, rb"epoch 1: .*? [1-9]\d*/4500")
    later, said = stop(second)
    assert f"from step {step}\n" in said and later > step > 0


def test_one_run_at_a_time_writes_a_folder(photos, tiny_weights, tmp_path):
    command = [sys.executable, *quick(photos, tiny_weights, tmp_path, "run", "--epoch_length", "4000")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    read_until(process, rb"epoch 1: .*? [1-9]\d*/2000")
    step = checkpoint.load(tmp_path / "run/last.pth")["step"]
    assert_one_line_error(
        run_script("train.py", "--resume_path", tmp_path / "run"), tmp_path / "run", "another process"
    )
    process.terminate()
    process.stderr.read()
    assert process.wait() == 143 and checkpoint.load(tmp_path / "run/last.pth")["step"] > step


def test_sigterm_ends_a_script_with_its_workers(photos, tmp_path):
    command = [sys.executable, "simulate.py", "--source", f"photos:{photos}", "--save_path", tmp_path / "out"]
    command += ["--count", "500", "--workers", "2"]
    process = subprocess.Popen([*map(str, command)], cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)
    read_until(process, rb" [1-9]/500")
    process.terminate()
    process.stderr.read()
    assert process.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.slow
def test_two_hosts():
    result = run_process("-m", "tests.robustness.two_hosts", timeout=900)
    if result.returncode == two_hosts.SKIPPED:
        pytest.skip(result.stdout.strip().removeprefix("skipped: "))
    assert result.returncode == 0, result.stdout + result.stderr
    # the kill takes one restart and the cut one or two, depending on when each host notices it
    assert int(re.search(r"(\d+) restarts", result.stdout)[1]) >= 2 and "to the bit" in result.stdout
