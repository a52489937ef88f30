"""Shared by the tests: golden weights, tiny spike datasets on disk, scripts run in a process."""

import contextlib
import dataclasses
import importlib
import io
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

# Such small networks gain nothing from threads, and threads of several processes on few cores wait for each
# other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest
import torch

from swinsf.datasets.dat import write_dat
from swinsf.datasets.simulation.sensor import IDEAL, integrate_and_fire
from swinsf.models import SwinSF, SwinSFConfig, checkpoint
from swinsf.utils import cli, opencv
from tests.golden import formula

opencv.set_up()  # as `cli.run` does; most tests call a script's main

ROOT = Path(__file__).parent.parent
# Reference data that may not be in the repository: sample streams, NIQE's original statistics. Tests that
# need it are skipped without it.
REFERENCE = Path(os.environ.get("SWINSF_REFERENCE", ROOT.parent / "shared"))


def golden_state(variant):
    """The closed-form weights as a state_dict for `build_model(variant)`."""
    return {
        k: torch.from_numpy(v)
        for k, v in formula.weights(variant).items()
        if not k.startswith("conv_after_body")
    }


def run_process(*arguments, timeout=240):
    """Run Python with these arguments in its own process -> CompletedProcess with text output."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def run_script(*arguments, stdin=os.devnull):
    """Run `python train.py ...` or `python -m tools.results ...` in this process, through `utils.cli.run` ->
    CompletedProcess with text output.

    stdin: path of a file for standard input. A new Python and its imports would take longer than most
    scripts.
    """
    name, *flags = [str(argument) for argument in arguments if argument != "-m"]
    module = importlib.import_module(name.removesuffix(".py"))
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(mock.patch.object(sys, "argv", [name, *flags]))
        stack.enter_context(mock.patch.object(sys, "stdin", stack.enter_context(open(stdin))))
        # `run` sets it for the end of a process
        stack.callback(signal.signal, signal.SIGCHLD, signal.getsignal(signal.SIGCHLD))
        # `run` has killed them by then
        stack.callback(lambda: [child.join(10) for child in multiprocessing.active_children()])
        stack.callback(os.chdir, os.getcwd())
        os.chdir(ROOT)
        end = stack.enter_context(pytest.raises(SystemExit))
        cli.run(lambda: module.main(flags))
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(arguments, end.value.code or 0, *texts)


def forks():
    """A multiprocessing context whose processes are forks of one that has only imported everything.

    In a fork of the tests' own process, PyTorch's threads would be in a state that autograd refuses.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.conftest", "train", "test", "reconstruct"])
    return context


def run_processes(count, *arguments):
    """Run a script as `torchrun --nproc_per_node COUNT` does -> CompletedProcess with all text output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    with tempfile.TemporaryDirectory() as folder:
        running = [
            start_script(folder, *arguments, **place, RANK=rank, LOCAL_RANK=rank) for rank in range(count)
        ]
        for process in running:
            process.join(240)
        texts = [Path(folder, stream).read_text() for stream in ("out", "err")]
    codes = [process.exitcode for process in running]
    return subprocess.CompletedProcess(arguments, next((code for code in codes if code != 0), 0), *texts)


def start_script(folder, *arguments, **environment):
    """Start a script as a process, without slow imports; its output goes to `out` and `err` in a folder."""
    process = forks().Process(target=script_in_a_fork, args=(str(folder), environment, *map(str, arguments)))
    process.start()
    return process


def script_in_a_fork(folder, environment, name, *flags):
    """The process of `start_script`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            contextlib.redirect_stdout(stack.enter_context(open(f"{folder}/out", "a", buffering=1)))
        )
        stack.enter_context(
            contextlib.redirect_stderr(stack.enter_context(open(f"{folder}/err", "a", buffering=1)))
        )
        os.environ.update({key: str(value) for key, value in environment.items()})
        os.chdir(ROOT)
        torch.set_num_threads(1)
        sys.argv = [name, *flags]
        cli.run(lambda: importlib.import_module(name.removesuffix(".py")).main(list(flags)))


def assert_one_line_error(result, *words):
    """The script ended with exit status 2 and one line on stderr with all the words, without a traceback."""
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert str(word) in lines[0], lines[0]


def assert_equal(first, second, where="checkpoint"):
    """Nested values and tensors are bit-identical."""
    assert type(first) is type(second), where
    if torch.is_tensor(first):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second)):
            assert_equal(*pair, f"{where}[{index}]")
    else:
        assert first == second, where


def read_log(folder):
    """The lines for epochs in a run's log.jsonl."""
    return [line for line in read_whole_log(folder) if "epoch" in line]


def read_whole_log(folder):
    """All lines of a run's log.jsonl, for steps and epochs."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def quick(photos, weights, folder, name, *more):
    """Arguments for 3 epochs of 20 steps on scenes of 20x20, as text: the script, then its flags."""
    return [
        "train.py", "--dataset_path", f"photos:{photos}", "--load_model", str(weights), "--recipe", "modern",
        "--crop_size", "20", "--batch_size", "2", "--epoch_length", "40", "--epochs", "3", "--val_every", "0",
        "--workers", "1", "--device", "cpu", "--save_path", str(folder), "--run_name", name, *more,
    ]  # fmt: skip


def random_spikes(steps, height, width, seed=0, rate=0.3):
    return (np.random.default_rng(seed).random((steps, height, width)) < rate).astype(np.uint8)


def uniform(rate, steps, height=24, width=32):
    """Spikes at a rate, each pixel with its own phase."""
    charge = np.random.default_rng(0).random((height, width)) + rate * np.arange(1, steps + 1)[:, None, None]
    return (np.diff(np.floor(charge), axis=0, prepend=0) > 0).astype(np.uint8)


def moving_scene(height, width, steps, speed=0.2, seed=0, sensor=IDEAL, pattern=None):
    """Spikes (T, H, W) of a soft texture that moves to the left by `speed` pixels a step."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.random((height, width + int(speed * steps) + 4), np.float32), None, 3)
    texture = cv2.normalize(texture, None, 0.05, 0.95, cv2.NORM_MINMAX)
    shifts = (np.float32([[1, 0, -speed * step], [0, 1, 0]]) for step in range(steps))
    light = (
        cv2.warpAffine(texture, shift, texture.shape[::-1], flags=cv2.INTER_CUBIC)[:, :width]
        for shift in shifts
    )
    return integrate_and_fire((np.clip(frame, 0, 1) for frame in light), rng, sensor, pattern)


def write_png(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def write_video(path, frames):
    """Write grey uint8 frames as Motion JPEG, which every OpenCV supports; exact to a grey level or two."""
    height, width = frames[0].shape
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (width, height), isColor=True)
    for frame in frames:
        video.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    video.release()
    return path


def gradient_scene(seed=0, height=250, width=400, steps=41):
    """(spikes, picture) of a still scene whose grey levels rise to the right; spikes fire at 0.6 of them."""
    picture = np.tile(np.linspace(20 + seed, 235, width).astype(np.uint8), (height, 1))
    spikes = np.random.default_rng(seed).random((steps, height, width)) < 0.6 * picture / 255
    return spikes.astype(np.uint8), picture


def write_reds(folder, train=0, test=0, input_name="input"):
    """Write a spike-REDS dataset. train, test: number of streams in each split."""
    for i in range(train):
        spikes, picture = gradient_scene(i)
        name = f"{i:03d}_part1_key_"
        (folder / "train" / input_name).mkdir(parents=True, exist_ok=True)
        write_dat(folder / "train" / input_name / f"{name}id21.dat", spikes)
        for key_id in (7, 14, 21, 28, 35):
            write_png(folder / "train" / "gt" / f"{name}id{key_id}.png", picture)
    for i in range(test):
        spikes, picture = gradient_scene(50 + i, steps=301)
        (folder / "test" / input_name).mkdir(parents=True, exist_ok=True)
        write_dat(folder / "test" / input_name / f"2{i:02d}_part1_key_id151.dat", spikes)
        write_png(folder / "test" / "gt" / f"2{i:02d}_part1_key_id151.png", picture)
    return folder


@pytest.fixture(scope="session")
def bfloat16():
    """Skip if bfloat16 products kill the process: some torch builds use instructions that a VM lacks."""
    code = "import torch; x = torch.ones(1, 32, 64, 64).bfloat16(); torch.nn.functional.conv2d(x, x[0, :, None, :1, :1], groups=32)"
    code += "; torch.nn.functional.conv2d(x, torch.ones(32, 32, 3, 3).bfloat16()); x[0] @ x[0]"
    if run_process("-c", code).returncode < 0:  # ended by a signal
        pytest.skip("bfloat16 products kill the process here")


def write_tiny_weights(path):
    """A checkpoint of a tiny network, whose pictures are means along the motion to about a grey level."""
    torch.manual_seed(0)
    model = SwinSF(SwinSFConfig(channels=4, depths=(2,), patch=4, tsa="paper", skip="motion"))
    # They start at zero, which would give the mean itself.
    for last in (model.conv_last[0], model.conv_lm[0]):
        torch.nn.init.normal_(last.weight, std=0.5)
    checkpoint.save({"config": dataclasses.asdict(model.config), "model": model.state_dict()}, path)
    return path


def write_photos(folder):
    """Six small photographs of blurred noise."""
    for i in range(6):
        noise = np.random.default_rng(i).random((120, 160)).astype(np.float32)
        noise = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
        write_png(folder / f"photo{i}.png", noise.astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """See `write_tiny_weights`; read-only."""
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.pth")


@pytest.fixture(scope="session")
def reds(tmp_path_factory):
    """A spike-REDS dataset of 4 training and 2 test streams; read-only."""
    return write_reds(tmp_path_factory.mktemp("reds") / "spike_reds", train=4, test=2)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """See `write_photos`."""
    return write_photos(tmp_path_factory.mktemp("photos"))
