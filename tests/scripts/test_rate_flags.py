"""--rate in test.py, train.py and reconstruct.py, and datasets with other rates."""

import csv
import json

import numpy as np
import pytest
import torch

import reconstruct
import simulate
import swinsf
import test as test_script
import train
from swinsf.datasets import open_dataset
from swinsf.datasets.dat import write_dat
from swinsf.models import checkpoint, load_model
from swinsf.models.swinsf import Reconstruction
from swinsf.recordings.stream import reconstruct as reconstruct_stream
from swinsf.training.recipes import RECIPES, reconstruction_loss
from swinsf.utils.cli import UserError
from tests.conftest import assert_equal, assert_one_line_error, read_log, run_process, uniform, write_png
from tests.datasets.test_rates import fire, texture


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A read-only dataset whose white fires at every second step: 4 streams in train, 2 in test."""
    folder = tmp_path_factory.mktemp("half") / "spikes"
    for split, count in (("train", 4), ("test", 2)):
        (folder / split / "input").mkdir(parents=True)
        for i in range(count):
            light = texture(10 + i)
            write_dat(folder / split / "input" / f"a{i}id21.dat", fire(light, 0.5, i))
            for key_id in (14, 21, 28):
                write_png(
                    folder / split / "gt" / f"a{i}id{key_id}.png", np.round(255 * light).astype(np.uint8)
                )
    return folder


def score(dataset, weights, out, *more):
    """The rows of metrics.csv."""
    options = [
        "--dataset_path",
        str(dataset),
        "--load_model",
        str(weights),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    assert test_script.main([*options, "--save_path", str(out), *more]) == 0
    with open(out / "metrics.csv") as file:
        return list(csv.DictReader(file))


def test_test_py_measures_and_prints_the_rate(half, tiny_weights, tmp_path, capsys):
    measured = score(half, tiny_weights, tmp_path / "a")
    assert (
        "white fires 0.5 times a step in these streams (measured over 2; 0.6 is usual)"
        in capsys.readouterr().out
    )
    assert "white fires 0.5 times a step" in json.loads((tmp_path / "a/metrics.json").read_text())["dataset"]
    said = score(half, tiny_weights, tmp_path / "b", "--rate", "0.5")
    assert "measured" not in capsys.readouterr().out
    left = score(half, tiny_weights, tmp_path / "c", "--rate", "0.6")
    for method in ("", "TFP41_", "TFP21_", "TFI_"):
        assert measured[0][f"{method}psnr"] == said[0][f"{method}psnr"]
    for method in ("", "TFP41_"):
        assert float(measured[0][f"{method}psnr"]) > float(left[0][f"{method}psnr"]) + 5
    for flag in ("0", "2.5", "nan", "x"):
        assert_one_line_error(run_process("test.py", "--dataset_path", half, "--rate", flag), "--rate", flag)
    with pytest.raises(UserError, match=r"--rate 0\.5 with demo"):
        test_script.main(["--rate", "0.5"])


def test_a_simulated_dataset_records_its_rate(photos, tiny_weights, tmp_path):
    flags = [
        "--save_path",
        str(tmp_path),
        "--split",
        "test",
        "--count",
        "2",
        "--rate",
        "0.35",
        "--workers",
        "1",
    ]
    assert simulate.main(["--source", f"photos:{photos}", "--sensor", "ideal", *flags]) == 0
    dataset = open_dataset(tmp_path)
    assert [dataset[i]["rate"] for i in range(2)] == [0.35] * 2 and not dataset.warnings
    (tmp_path / "meta.json").unlink()
    assert open_dataset(tmp_path)[0]["rate"] == pytest.approx(0.35, rel=0.02)


def run(folder, name, half, weights, *more):
    """Run train.py for 6 steps in 3 epochs."""
    flags = [
        "--dataset_path",
        str(half),
        "--load_model",
        str(weights),
        "--lr",
        "1e-3",
        "--crop_size",
        "40",
        "--batch_size",
        "2",
    ]
    flags += [
        "--epochs",
        "3",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--save_path",
        str(folder),
        "--run_name",
        name,
    ]
    assert train.main([*flags, *more]) == 0
    return folder / name


def test_training_at_another_rate_validates_in_its_levels_and_resumes_exactly(
    half, tiny_weights, tmp_path, capsys
):
    whole = run(tmp_path, "whole", half, tiny_weights)
    assert "white fires 0.5 times a step in these streams" in capsys.readouterr().out
    said = run(tmp_path, "said", half, tiny_weights, "--rate", "0.5")
    run(tmp_path, "stopped", half, tiny_weights, "--max_steps", "3")
    assert train.main(["--resume_path", str(tmp_path / "stopped"), "--max_steps", "0"]) == 0
    weights = [
        checkpoint.load(folder / "last.pth")["training"]["model"]
        for folder in (whole, said, tmp_path / "stopped")
    ]
    assert_equal(*weights[:2])
    assert_equal(*weights[::2])
    # best.pth is like any other: on the scale of 0.6, which test.py scales to that of the dataset.
    load_model(whole / "best.pth")
    # The network begins with means of spikes. They fit at once if the pictures are scaled to it.
    log, left = read_log(whole), read_log(run(tmp_path, "left", half, tiny_weights, "--rate", "0.6"))
    assert log[0]["train_loss"] < 0.5 * left[0]["train_loss"] and log[-1]["val_psnr"] > left[-1]["val_psnr"]
    with pytest.raises(UserError, match=r"--rate 0\.6: the run has None, and a resumed run keeps it"):
        train.main(["--resume_path", str(whole), "--rate", "0.6"])


def test_a_run_of_an_older_version_keeps_its_rate(half, tiny_weights, tmp_path, capsys):
    """It assumed 0.6 for every dataset; its resumed weights are those of an uninterrupted run."""
    left = run(tmp_path, "left", half, tiny_weights, "--rate", "0.6")
    run(tmp_path, "old", half, tiny_weights, "--rate", "0.6", "--max_steps", "3")
    state = checkpoint.load(tmp_path / "old/last.pth")
    del state["settings"]["rate"]
    checkpoint.save(state, tmp_path / "old/last.pth")
    assert train.main(["--resume_path", str(tmp_path / "old"), "--max_steps", "0"]) == 0
    assert_equal(
        *(checkpoint.load(folder / "last.pth")["training"]["model"] for folder in (left, tmp_path / "old"))
    )


def test_the_loss_holds_the_network_to_its_own_scale():
    pictures = Reconstruction(*(torch.full((2, 1, 4, 4), level) for level in (100.0, 100.0, 100.0)))
    batch = {
        "rate": torch.tensor([0.5, 1.0], dtype=torch.float64),
        "middle": torch.tensor([120.0, 60.0]).view(2, 1, 1, 1),
    }
    batch["middle"] = batch["middle"].expand(2, 1, 4, 4)
    assert reconstruction_loss(pictures, batch, RECIPES["paper"].loss).item() == pytest.approx(0, abs=1e-5)


def test_reconstruct_py_accepts_the_rate_of_white(tmp_path, capsys):
    np.save(tmp_path / "a.npy", uniform(0.2, 101, 40, 60))

    def mean(name, *flags):
        arguments = [tmp_path / "a.npy", "--method", "tfp", *flags, "--output", tmp_path / name]
        assert reconstruct.main([str(argument) for argument in arguments]) == 0
        return np.load(tmp_path / name).mean()

    assert mean("plain.npy", "--exposure", 1) == pytest.approx(85, abs=2)
    # a given white turns off the automatic gain
    assert mean("half.npy", "--rate", 0.5) == pytest.approx(102, abs=2)
    assert mean("double.npy", "--rate", 0.5, "--exposure", 2) == pytest.approx(204, abs=3)
    assert mean("floats.npy", "--rate", 0.4, "--bits", 32) == pytest.approx(127.5, abs=2)
    auto = mean("auto.npy")
    assert mean("auto_half.npy", "--rate", 0.5, "--exposure", "auto") == pytest.approx(auto, abs=1)


def test_pictures_and_reconstruct_accept_it_too(tiny_weights):
    model, spikes = load_model(tiny_weights), uniform(0.2, 61, 24, 32)
    whites = {rate: next(reconstruct_stream(spikes, model, rate=rate)) for rate in (0.6, 0.4)}
    np.testing.assert_allclose(whites[0.4], 1.5 * whites[0.6], rtol=1e-5)
    np.testing.assert_array_equal(whites[0.6], next(reconstruct_stream(spikes, model)))
    (_, picture), *_ = swinsf.pictures(spikes, bin=1, model=model, rate=0.4)
    np.testing.assert_array_equal(picture, whites[0.4].clip(0, 255).astype(np.uint8))
