"""Several processes on the CPU give the results of one: gradients, weights, scores."""

import argparse
import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
import torch.multiprocessing
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.parallel import gather as gather_outputs
from torch.nn.parallel import parallel_apply, scatter
from torch.nn.parallel._functions import Gather, Scatter

import train
from swinsf.datasets.augment import Augmented, EpochBatches
from swinsf.datasets.dat import write_dat
from swinsf.datasets.loader import make_loader
from swinsf.datasets.simulation.dataset import PhotoScenes
from swinsf.models import SKIP_CHOICES, Reconstruction, SwinSF, SwinSFConfig, checkpoint, fast
from swinsf.models.attention import TSA_CHOICES
from swinsf.training.epoch import Forward, backward, train_one_epoch
from swinsf.training.recipes import RECIPES, make_optimizer
from swinsf.training.state import TrainingState
from swinsf.utils.distributed import (
    gather,
    interleaved,
    processes,
    rank_and_size,
    share_weights,
    sum_over_processes,
)
from tests.conftest import (
    ROOT,
    assert_equal,
    assert_one_line_error,
    forks,
    gradient_scene,
    quick,
    read_log,
    run_processes,
    run_script,
    write_png,
)

CPU = torch.device("cpu")
NETWORKS = [
    SwinSFConfig(channels=8, depths=(2, 1), patch=patch, tsa=tsa, skip=skip, drop_path=0.0)
    for patch, tsa, skip in zip((1, 2, 4) * 2, TSA_CHOICES * 3, SKIP_CHOICES * 2)
]


def torchrun(count, *arguments, timeout=240):
    """Run a script of the project under torchrun on this machine -> CompletedProcess with text output."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        count,
        *arguments,
    ]
    return subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def train_a_little(photos, pieces=1):
    """For each of NETWORKS: (gradients of the first batch, weights after 4 steps, totals), float64, in one
    process."""
    rank, count = rank_and_size()
    results = []
    for config in NETWORKS:
        torch.manual_seed(0)
        model = SwinSF(config).double()
        settings = argparse.Namespace(
            recipe="modern", lr=1e-3, weight_decay=1e-4, amp=False, accumulate=pieces
        )
        state = TrainingState(model, make_optimizer(model, settings))
        forward = Forward(model)
        scenes = PhotoScenes(photos, "train", 20, 20, 13)
        # batches of 4, 4, 4 and 1: a process may have no sample
        batches = EpochBatches(13, 4, 0, 0, 0, rank, count, pieces)
        loader = make_loader(Augmented(scenes, 20, 0), 0, CPU, batch_sampler=batches)
        first = [piece for piece, _ in zip(loader, range(pieces))]
        backward(forward, first, RECIPES[settings.recipe].loss, CPU)
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        train_one_epoch(state, forward, loader, settings, 4, CPU)
        results.append(
            (gradients, model.state_dict(), {key: state.totals[key] for key in ("loss", "pictures")})
        )
    return results


def one_of_several(rank, count, port, photos, pieces, path):
    """One process, as torchrun would start it."""
    torch.set_num_threads(1)
    place = {
        "RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_RANK": rank,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in place.items()})
    with processes(CPU, 60):
        assert sum_over_processes(rank, 1) == [count * (count - 1) / 2, count]
        assert gather({"rank": rank}) == [{"rank": r} for r in range(count)]
        assert interleaved([*range(rank, 7, count)]) == [*range(7)]
        layer = torch.nn.Linear(1, 1).requires_grad_(False).apply(lambda layer: layer.weight.fill_(rank))
        share_weights(layer)
        assert layer.weight.item() == 0
        torch.save(train_a_little(photos, pieces), f"{path}.{rank}")


def start(function, arguments, nprocs):
    """Run function(rank, *arguments) in `nprocs` processes, see `forks`."""
    forks()
    torch.multiprocessing.start_processes(function, arguments, nprocs, start_method="forkserver")


@pytest.fixture(scope="module")
def by_one(photos):
    return train_a_little(photos)


@pytest.mark.parametrize("count, pieces", [(1, 2), (3, 1), (2, 2)])
def test_processes_and_pieces_train_like_one(photos, by_one, tmp_path, count, pieces):
    """Gradients and weights to 1e-6 in float64, without stochastic depth, and the same loss."""
    if count == 1:
        results = [train_a_little(photos, pieces)]
    else:
        port = 20000 + os.getpid() % 20000 + 10 * count + pieces
        arguments = (count, port, photos, pieces, tmp_path / "result")
        start(one_of_several, arguments, nprocs=count)
        results = [torch.load(tmp_path / f"result.{rank}") for rank in range(count)]
    for result in results:
        for (gradients, weights, totals), expected in zip(result, by_one):
            assert gradients.keys() == expected[0].keys() and len(gradients) > 20
            for found, wanted in ((gradients, expected[0]), (weights, expected[1])):
                for name, value in wanted.items():
                    torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6)
            assert totals["pictures"] == 13 and totals["loss"] == pytest.approx(expected[2]["loss"], rel=1e-6)


def resume_as_one_of_several(rank, port, photos, weights, folder):
    """One of 4 processes. With 3, then with 4 processes, it trains a run of 6 steps without interruption, and
    one that is resumed after 3."""
    torch.set_num_threads(1)
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"})
    options = [
        "--recipe",
        "paper",
        "--lr",
        "1e-2",
        "--batch_size",
        "4",
        "--epoch_length",
        "40",
        "--workers",
        "0",
    ]
    for count in (3, 4):
        runs = [
            quick(photos, weights, folder, f"unbroken{count}", *options, "--max_steps", "6")[1:],
            quick(photos, weights, folder, f"resumed{count}", *options, "--max_steps", "3")[1:],
            ["--resume_path", str(folder / f"resumed{count}"), "--max_steps", "6"],
        ]
        for number, arguments in enumerate(runs if rank < count else []):
            os.environ.update({"WORLD_SIZE": str(count), "MASTER_PORT": str(port + 10 * count + number)})
            assert train.main([*arguments, "--timeout", "100"]) == 0


def test_more_than_two_processes_resume_to_the_same_weights(photos, tiny_weights, tmp_path):
    """A sum of two is the same in any order. A sum of three or four is the same only if gradients are added
    in the same order again."""
    arguments = (20000 + os.getpid() % 20000 + 100, photos, tiny_weights, tmp_path)
    start(resume_as_one_of_several, arguments, nprocs=4)
    for count in (3, 4):
        states = [
            checkpoint.load(tmp_path / f"{name}{count}/last.pth")["training"]
            for name in ("unbroken", "resumed")
        ]
        for state in states:
            state.pop("totals")  # seconds
        assert states[0]["step"] == 6 and len(states[0]["random"]) == count
        assert_equal(*states)


def on_cpu_alone(inputs, modules, monkeypatch):
    """Replaces DataParallel's pass from inputs through replicas to one output, with the CPU for each GPU."""
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device=None: contextlib.nullcontext())
    monkeypatch.setattr(torch.accelerator, "device_index", lambda index: contextlib.nullcontext())
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: CPU)
    monkeypatch.setattr(Gather, "apply", lambda device, dim, *outputs: torch.cat(outputs, dim))
    monkeypatch.setattr(Scatter, "apply", lambda devices, sizes, dim, whole: whole.chunk(len(devices), dim))
    scattered = [arguments for (arguments,) in zip(scatter(inputs, [0, 1]))]
    return gather_outputs(parallel_apply(modules, scattered, devices=[0, 1]), "cpu")


def test_data_parallel_runs_the_network(monkeypatch):
    """Packed spikes are scattered, threads compute replicas in bfloat16, a `Reconstruction` is gathered."""
    torch.manual_seed(0)
    model = SwinSF(SwinSFConfig(channels=4, depths=(2,), patch=4, tsa="paper", drop_path=0.0))
    seen, forward = [], fast.forward

    def spy(model, x, calibration=None):
        seen.append(
            (
                threading.current_thread(),
                torch.is_autocast_enabled("cpu"),
                torch.get_autocast_dtype("cpu"),
                x.shape,
            )
        )
        with torch.autocast("cpu", enabled=False):  # bfloat16 products kill the process on some machines
            return forward(model, x, calibration)

    packed = torch.from_numpy(np.packbits(np.random.default_rng(0).random((4, 41, 20, 20)) < 0.3, axis=1))
    expected = Forward(model)(packed)
    sum(picture.sum() for picture in expected).backward()
    gradient = model.conv_first.weight.grad.clone()
    model.zero_grad()
    monkeypatch.setattr(fast, "forward", spy)
    for amp in (True, False):
        # Like those of `replicate`, the replicas have their parameters as attributes.
        replicas = [replica_of(Forward(model, amp)) for _ in range(2)]
        pictures = on_cpu_alone(packed, replicas, monkeypatch)
        assert isinstance(pictures, Reconstruction)
        for name, picture in pictures._asdict().items():
            torch.testing.assert_close(picture, getattr(expected, name))
    assert [(on, str(dtype)) for _, on, dtype, _ in seen[:2]] == [(True, "torch.bfloat16")] * 2
    assert not any(on for _, on, _, _ in seen[2:])
    assert all(shape == (2, 41, 20, 20) for *_, shape in seen)
    assert threading.main_thread() not in {thread for thread, *_ in seen}
    sum(picture.sum() for picture in pictures).backward()
    assert gradient.abs().sum() > 0
    torch.testing.assert_close(model.conv_first.weight.grad, gradient)


def replica_of(module):
    """A copy of a module like those of torch.nn.parallel.replicate: parameters are attributes, not leaves."""
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        replica._modules[name] = child and replica_of(child)
    for name, parameter in module._parameters.items():
        replica._parameters.pop(name, None)
        setattr(replica, name, None if parameter is None else parameter.view_as(parameter))
    return replica


def write_small_reds(folder, count):
    """Write a spike-REDS test split of `count` different streams of 41 steps."""
    (folder / "test/input").mkdir(parents=True)
    for i in range(count):
        spikes, picture = gradient_scene(i)
        write_dat(folder / f"test/input/{i:03d}id21.dat", spikes)
        write_png(folder / f"test/gt/{i:03d}id21.png", picture)
    return folder


def test_each_picture_is_scored_once_by_any_number_of_processes(tiny_weights, tmp_path):
    data = write_small_reds(tmp_path / "data", 5)
    options = [
        "--dataset_path",
        data,
        "--load_model",
        tiny_weights,
        "--device",
        "cpu",
        "--save_image",
        "--report",
    ]
    tables, means, pages = [], [], []
    for count in (1, 3):
        out = tmp_path / f"out{count}"
        result = run_processes(count, "test.py", *options, "--save_path", out)
        assert result.returncode == 0, result.stderr
        assert len([line for line in result.stdout.splitlines() if line.startswith("mean of 5")]) == 1
        with open(out / "metrics.csv") as file:
            tables.append(
                [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]
            )
        contents = json.loads((out / "metrics.json").read_text())
        means.append({(m, f): contents["means"][m][f] for m in contents["means"] for f in ("psnr", "ssim")})
        assert len(list(out.glob("*.png"))) == 3 * 5 + 1
        pages.append(re.findall(r"\d{3}id21", (out / "report.html").read_text()))
    assert [row["name"] for row in tables[0]] == [f"{i:03d}id21" for i in range(5)]
    for table, mean, page in zip(tables[1:], means[1:], pages[1:]):
        assert [row["name"] for row in table] == [row["name"] for row in tables[0]]
        for row, expected in zip(table, tables[0]):
            assert all(
                float(row[k]) == pytest.approx(float(v), abs=1e-3) for k, v in expected.items() if k != "name"
            )
        assert mean == pytest.approx(means[0], abs=1e-4)
        assert page == pages[0]
    last = [(tmp_path / f"out{count}/004id21_gt.png").read_bytes() for count in (1, 3)]
    assert last[0] == last[1]


# 22 samples make 6 batches; the last has two.
SHORT = ["--batch_size", "4", "--epoch_length", "22", "--epochs", "2", "--workers", "0"]


def test_a_run_of_two_processes_equals_that_of_one(photos, tiny_weights, tmp_path):
    """The same log up to rounding, one writer, a checkpoint with both random states; more processes may
    resume it."""
    for name, count in (("one", 1), ("two", 2)):
        result = run_processes(count, *quick(photos, tiny_weights, tmp_path, name, *SHORT))
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("done: 12 steps") == 1 and result.stdout.count("epoch 2, ") == 1
    logs = [read_log(tmp_path / name) for name in ("one", "two")]
    assert [line["step"] for line in logs[1]] == [6, 12]
    for one, two in zip(*logs):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3) and two["lr"] == one["lr"]
    states = [checkpoint.load(tmp_path / name / "last.pth")["training"] for name in ("one", "two")]
    assert [len(state["random"]) for state in states] == [1, 2]
    assert not torch.equal(states[1]["random"][0]["torch"], states[1]["random"][1]["torch"])
    files = {path.name for path in (tmp_path / "two").iterdir()}
    assert files == {"config.json", "last.pth", "log.jsonl", "tensorboard", ".lock"}
    result = run_processes(3, "train.py", "--resume_path", tmp_path / "two")
    assert result.returncode == 0 and "and is already there" in result.stdout, result.stderr


def test_validation_with_fewer_pictures_than_processes(reds, tiny_weights, tmp_path):
    """One of four streams is held out; both processes have its figures, and the first shows it."""
    options = [
        "--dataset_path",
        str(reds),
        "--max_steps",
        "2",
        "--val_every",
        "1",
        "--epochs",
        "1",
        "--workers",
        "0",
    ]
    result = run_processes(2, *quick(reds, tiny_weights, tmp_path, "run", *options))
    assert result.returncode == 0, result.stderr
    (line,) = read_log(tmp_path / "run")
    best = checkpoint.load(tmp_path / "run/best.pth")
    assert line["val_psnr"] == best["best_psnr"] > 10
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert events.Tags()["images"]


def test_an_error_is_printed_once(photos, tiny_weights, tmp_path):
    for run, options, words in (
        (run_processes, ["--batch_size", "1"], ["--batch_size 1", "2 processes"]),
        (run_processes, ["--device_ids", "01"], ["--device_ids 01", "torchrun"]),
        (torchrun, ["--load_model", "none.pth"], ["none.pth"]),
        (run_processes, ["--colour", "red"], ["--colour"]),
    ):
        result = run(2, *quick(photos, tiny_weights, tmp_path, "run", *SHORT, *options))
        said = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert result.returncode and len(said) == 1 and all(word in said[0] for word in words), result.stderr
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").touch()
    result = run_processes(2, *quick(photos, tiny_weights, tmp_path, "run", *SHORT))
    assert result.returncode == 2 and len(re.findall("error: ", result.stderr)) == 1, result.stderr


def test_a_world_size_without_a_rank_is_refused(photos, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert_one_line_error(
        run_script(*quick(photos, tiny_weights, tmp_path, "run")), "WORLD_SIZE=2 without RANK", "torchrun"
    )


def test_auto_resume_needs_a_run_name(photos, tiny_weights, tmp_path):
    assert_one_line_error(
        run_script(*quick(photos, tiny_weights, tmp_path, "", "--auto_resume")), "--auto_resume", "--run_name"
    )


def test_a_dead_process_ends_the_others_in_one_line(photos, tiny_weights, tmp_path):
    """The processes are started by hand, without torchrun to end them."""
    place = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(20000 + os.getpid() % 20000 + 50),
    }
    command = [
        sys.executable,
        *map(str, quick(photos, tiny_weights, tmp_path, "run", "--epoch_length", "4000", "--workers", "0")),
    ]
    both = [
        subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={**os.environ, **place, "RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    while not (tmp_path / "run/last.pth").exists():
        assert both[0].poll() is None, both[0].stderr.read()
        time.sleep(0.1)
    both[1].kill()
    _, errors = both[0].communicate(timeout=60)
    both[1].communicate()
    assert both[0].returncode == 2 and "Traceback" not in errors
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "process 0 has lost the others" in said[0], errors
    assert np.isfinite(checkpoint.load(tmp_path / "run/last.pth")["training"]["step"])
