"""Other methods in test.py."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch

import test as script
from swinsf.evaluation.evaluate import BASELINES
from swinsf.evaluation.methods import compared, method_of, motion_mean, own_methods
from swinsf.evaluation.tables import write_metrics
from swinsf.utils.cli import UserError
from tests.conftest import moving_scene

CODE = """
import torch

def rate(spikes):
    return spikes.mean(1) * 425

class Net(torch.nn.Module):
    def forward(self, spikes):
        assert not self.training
        return 425 * spikes[:, 10:31].mean(1, keepdim=True)

def small(spikes):
    return spikes[:, 0, :-1]

def nothing(spikes):
    return spikes[:, 0] / 0

number = 5
"""
CPU = torch.device("cpu")


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "others_code.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_function_and_a_network_are_columns(place, reds, tiny_weights, capsys):
    options = [
        "--dataset_path",
        str(reds),
        "--load_model",
        str(tiny_weights),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    named = [
        "--method",
        "A=others_code:rate",
        "--method",
        "B=others_code:Net",
        "--save_path",
        str(place / "out"),
    ]
    assert script.main([*options, *named]) == 0
    assert "PSNR / SSIM (released)" in capsys.readouterr().out
    means = json.loads((place / "out/metrics.json").read_text())["means"]
    assert list(means) == ["TFI", "TFP41", "TFP21", "A", "B", "SwinSF"]
    for own, ours in (("A", "TFP41"), ("B", "TFP21")):
        assert means[own]["psnr"] == pytest.approx(means[ours]["psnr"], abs=0.01)
    with open(place / "out/metrics.csv") as file:
        assert "A_psnr" in next(csv.reader(file))
    plain, more = place / "plain", place / "out"
    assert script.main([*options, "--save_path", str(plain)]) == 0
    widths = [cv2.imread(str(folder / "comparison.png")).shape[1] for folder in (plain, more)]
    assert widths[1] / widths[0] == pytest.approx(7 / 5, rel=0.02)  # pictures in a row


def test_which_pictures_are_compared():
    names = ("TFI", "TFP41", "TFP21", "A", "SwinSF", "B")
    assert list(compared(dict.fromkeys(names, np.zeros((2, 2))))) == ["TFI", "TFP21", "A", "B", "SwinSF"]


def test_the_mean_along_the_motion_is_sharper_than_a_mean_at_rest():
    spikes = torch.from_numpy(moving_scene(60, 80, 41, speed=0.4))[None].float()
    mean, still = motion_mean(spikes), torch.full((1, 41, 30, 30), 1.0)
    assert mean.shape == (1, 60, 80)
    torch.testing.assert_close(motion_mean(still), torch.full((1, 30, 30), 255 / 0.6))
    detail = [
        picture[0].diff(dim=-1).square().mean().item()
        for picture in (mean, BASELINES["TFP41"](spikes, "middle"))
    ]
    assert detail[0] > 1.2 * detail[1]


def test_a_calibration_corrects_other_methods_too(place):
    """As for the baselines: less dark charge, divided by the response, each sample with its own maps."""
    spikes = torch.from_numpy(np.random.default_rng(0).random((2, 41, 20, 30)) < 0.3)
    maps = torch.stack([torch.full((2, 20, 30), 0.06), torch.full((2, 20, 30), 0.8)], 1)
    maps[1, 1, :, :10] = 1.25
    for name in ("rate", "Net"):  # (B, H, W) and (B, 1, H, W)
        method = method_of(f"others_code:{name}", CPU)
        plain, calibrated = method(spikes, "middle"), method(spikes, "middle", maps)
        torch.testing.assert_close(calibrated[0], (plain[0] - 0.06 * 425) / 0.8)
        torch.testing.assert_close(calibrated[1, :, :10], (plain[1, :, :10] - 0.06 * 425) / 1.25)
        torch.testing.assert_close(calibrated[1, :, 10:], (plain[1, :, 10:] - 0.06 * 425) / 0.8)
    ours = BASELINES["TFP41"](spikes, "middle", maps)
    torch.testing.assert_close(method_of("others_code:rate", CPU)(spikes, "middle", maps), ours)


def test_methods_that_cannot_be_scored_are_refused(place):
    spikes = torch.zeros(2, 41, 20, 30)
    for name, words in (("none", "cannot be loaded"), ("number", "a int; name a function")):
        with pytest.raises(UserError, match=words):
            method_of(f"others_code:{name}", CPU)
    with pytest.raises(UserError, match="no_such_module"):
        method_of("no_such_module:f", CPU)
    for name, words in (("small", r"\(2, 19, 30\); return a tensor \(2, 20, 30\)"), ("nothing", "NaN")):
        with pytest.raises(UserError, match=words):
            method_of(f"others_code:{name}", CPU)(spikes, "middle")
    with pytest.raises(UserError, match="--key_id"):
        method_of("others_code:rate", CPU)(spikes, "left")
    for taken in ("TFI", "SwinSF", "name", "ground truth"):
        with pytest.raises(UserError, match=f"the name {taken} is taken"):
            own_methods([(taken, "others_code:rate")], CPU)


def test_metrics_json_has_null_for_an_unknown_figure(tmp_path):
    figures = {"psnr": float("inf"), "ssim": 1.0, "seconds": float("nan")}
    write_metrics(tmp_path, [{"name": "a", "SwinSF": figures}], "SwinSF", {})
    means = json.loads((tmp_path / "metrics.json").read_text())["means"]
    assert means["SwinSF"] == {"psnr": "inf", "ssim": 1.0, "seconds": None}
