"""`Reconstructor`: windows, whole recordings, and errors."""

import copy
import logging
import re

import numpy as np
import pytest
import torch

import swinsf
from swinsf.datasets.simulation.sensor import integrate_and_fire
from swinsf.models import build_model
from swinsf.recordings import Calibration
from swinsf.utils import cli
from tests.conftest import ROOT, uniform


@pytest.fixture(scope="module")
def held():
    torch.manual_seed(0)
    return swinsf.Reconstructor(
        build_model("small", skip="motion", depths=(1,), channels=4, heads=2).eval(), precision="fp32"
    )


def test_windows_and_batches_give_the_networks_pictures(held):
    batch = np.stack([uniform(0.3, 41), uniform(0.1, 41)])
    with torch.no_grad():
        truth = held.model(torch.from_numpy(batch)).middle[:, 0].numpy()
    made = held(batch)
    assert made.shape == (2, 24, 32) and made.dtype == np.float32
    np.testing.assert_allclose(made, truth, atol=0.01)
    np.testing.assert_allclose(held(batch[1] * np.uint8(255)), truth[1], atol=0.01)
    of_tensor = held(torch.from_numpy(batch[0] > 0))
    assert torch.is_tensor(of_tensor) and of_tensor.shape == (24, 32) and not of_tensor.requires_grad
    np.testing.assert_allclose(of_tensor.numpy(), truth[0], atol=0.01)


def test_a_calibration_corrects_windows_like_recordings(held):
    light = np.full((24, 32), 0.5, np.float32)
    response = np.where(np.arange(32) < 16, 0.8, 1.2).astype(np.float32) * np.ones((24, 1), np.float32)
    spikes = integrate_and_fire([light * response] * 101, np.random.default_rng(0))
    bad = np.zeros((24, 32), np.uint8)
    bad[5, 6] = 1
    spikes[:, 5, 6] = 1  # a hot pixel
    none = np.zeros((24, 32), np.float32)
    calibrated = swinsf.Reconstructor(held.model, calibration=Calibration(none, response, bad, none, none))
    picture = calibrated(spikes[30:71])
    assert np.abs(picture - 127.5).max() < 20 and np.abs(held(spikes[30:71]) - 127.5).max() > 30
    shown = dict(calibrated.recording(spikes, start=50, stop=51, bin=1, exposure=1))[50]
    assert np.abs(shown - picture).max() < 1.01


def test_a_recording_reports_the_choices(held):
    shown = held.recording(uniform(0.026, 500), stride=1)
    assert shown.bin == 2 and shown.gain == pytest.approx(0.9 * 0.6 / 0.026, rel=0.2)
    assert shown.steps == range(41, 460) and len(shown) == 419 and shown.size == (24, 32)
    assert any("2 steps a bin" in line for line in shown.lines) and not shown.warnings
    assert not any("--" in line for line in shown.lines)
    few = held.recording(uniform(0.026, 500), start=200, stop=203, stride=1, bin=2)
    assert [step for step, _ in few] == [step for step, _ in few] == [200, 201, 202]
    assert all(picture.dtype == np.uint8 and 190 < picture.mean() < 245 for _, picture in few)
    black = held.recording(np.zeros((50, 24, 32), np.uint8), bin=1)
    assert black.gain == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"gamma": 0}, "gamma 0: take a number from 0.1 to 10"),
        ({"stride": 0}, "stride 0: take a whole number, 1 or more"),
        ({"stride": 2.5}, "stride 2.5: take a whole number"),
        ({"start": -5}, "start -5: take a whole number, 0 or more"),
        ({"bin": 0}, "bin 0: take a whole number, 1 or more"),
        ({"bin": "many"}, "bin 'many'"),
        ({"exposure": -1}, "exposure -1"),
        ({"repair": "all"}, "repair 'all': choose from auto, none"),
        ({"start": 5000}, "^start 5000: the recording ends before"),
        ({"bin": 10}, "a picture needs 410 steps.* or take a smaller bin than 10"),
    ],
)
def test_values_out_of_range_are_errors_that_name_the_argument(held, arguments, words):
    with pytest.raises(swinsf.Error, match=words) as caught:
        held.recording(uniform(0.3, 101), **arguments)
    assert isinstance(caught.value, ValueError) and "--" not in str(caught.value)


def test_bad_windows_and_weights_are_errors(held, tmp_path):
    for wrong in (np.zeros((24, 32)), np.zeros((40, 24, 32)), np.zeros((1, 1, 41, 24, 32))):
        with pytest.raises(swinsf.Error, match=r"expected a window \(41, H, W\)"):
            held(wrong)
    with pytest.raises(swinsf.Error, match="spikes have two values"):
        held(np.random.default_rng(0).random((41, 24, 32)))
    with pytest.raises(swinsf.Error, match=r"expected \(T, H, W\)"):
        held.recording(np.zeros((24, 32), np.uint8))
    with pytest.raises(swinsf.Error, match="precision int8: choose from auto, fp32"):
        swinsf.Reconstructor(precision="int8")
    with pytest.raises(ValueError, match="precision int8"):
        swinsf.load_model(tmp_path, precision="int8")
    with pytest.raises(swinsf.Error, match=r"^device nonsense: not a device"):
        swinsf.Reconstructor(device="nonsense")
    with pytest.raises(swinsf.Error, match="an array without a spike frame"):
        held.recording(np.zeros((0, 24, 32), np.uint8))
    with pytest.raises(swinsf.Error, match=r"a network in torch\.float64; choose from fp32"):
        swinsf.Reconstructor(copy.deepcopy(held.model).double())
    with pytest.raises(swinsf.Error, match="tile -1: take a whole number, 0 or more"):
        next(swinsf.reconstruct(uniform(0.3, 101), held.model, tile=-1))
    assert len(held.recording(uniform(0.3, 101).tolist(), stride=10**12)) == 1
    for arguments in ({"stride": 0}, {"start": -5}, {"bin": 0}, {"rate": 0}, {"batch_size": 0}):
        with pytest.raises(swinsf.Error, match=f"{next(iter(arguments))} "):
            swinsf.reconstruct(uniform(0.3, 101), held.model, **arguments)


def test_saved_weights_load_unchanged(held, tmp_path):
    swinsf.save_model(held.model, tmp_path / "own.pth")
    again = swinsf.Reconstructor(tmp_path / "own.pth", device="cpu", precision="fp32")
    assert again.weights == tmp_path / "own.pth" and again.model.config == held.model.config
    window = uniform(0.3, 41)
    np.testing.assert_array_equal(again(window), held(window))


def test_a_programs_logging_gets_the_lines_and_scripts_print_them(caplog, capsys):
    with caplog.at_level(logging.INFO, "swinsf"):
        cli.log("a line")
        cli.log("warning: another")
    assert [(r.levelname, r.name) for r in caplog.records] == [("INFO", "swinsf"), ("WARNING", "swinsf")]
    cli.show_log()
    cli.show_log()
    cli.log("once")
    cli.logger.error("error: bad")
    out, err = capsys.readouterr()
    assert out.endswith("once\n") and out.count("once") == 1 and err == "error: bad\n"
    assert cli.without_flags("a--b.dat: --bin 3 (--repair none) x--y") == "a--b.dat: bin 3 (repair none) x--y"


def test_the_version_is_that_of_the_last_release():
    assert swinsf.__version__ == "0.1" and "__version__" in dir(swinsf)


def test_the_documented_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    np.save("rec.npy", uniform(0.3, 61))
    names = {}
    for recipe in re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S):
        exec(recipe, names)
    assert names["picture"].shape == (24, 32) and len(names["every"]) == 3 and len(names["batch"]) == 2
    assert re.search(r"1\.\d+ missing\.dat: no such", capsys.readouterr().out)
