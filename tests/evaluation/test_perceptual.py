"""LPIPS, with the package lpips if it is installed, otherwise with a stand-in."""

import csv
import functools
import json
import sys
import types
from urllib.error import URLError

import numpy as np
import pytest
import torch

import test as script
from swinsf.datasets.dat import write_dat
from swinsf.evaluation.perceptual import load_lpips
from swinsf.utils.cli import UserError
from tests.conftest import random_spikes


class Difference(torch.nn.Module):
    """The mean absolute difference of pictures (1, 3, H, W) in -1..1."""

    def __init__(self, net, verbose):
        super().__init__()
        assert net == "alex" and not verbose

    def forward(self, picture, truth):
        assert picture.shape == truth.shape and picture.shape[:2] == (1, 3)
        assert picture.min() >= -1 and picture.max() <= 1
        return (picture - truth).abs().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def stand_in(monkeypatch):
    package = types.ModuleType("lpips")
    package.LPIPS = Difference
    monkeypatch.setitem(sys.modules, "lpips", package)
    return package


def options(path, weights, folder):
    named = {"--dataset_path": path, "--load_model": weights, "--save_path": folder}
    fixed = ["--device", "cpu", "--workers", "0", "--lpips"]
    return [*map(str, (part for pair in named.items() for part in pair)), *fixed]


def test_lpips_is_in_every_table(stand_in, reds, tiny_weights, tmp_path, capsys):
    assert script.main([*options(reds, tiny_weights, tmp_path), "--report"]) == 0
    assert "PSNR / SSIM / LPIPS (released)" in capsys.readouterr().out
    means = json.loads((tmp_path / "metrics.json").read_text())["means"]
    for figures in means.values():
        assert list(figures) == ["psnr", "ssim", "lpips", "seconds"]
        assert 0 < figures["lpips"] < 1
    assert means["TFP41"]["lpips"] != means["TFI"]["lpips"]
    with open(tmp_path / "metrics.csv") as file:
        assert next(csv.reader(file))[:5] == ["name", "psnr", "ssim", "lpips", "seconds"]
    assert '"lpips"' in (tmp_path / "report.html").read_text()


def test_pictures_are_clamped_grey_levels(stand_in):
    distance = load_lpips()
    truth, picture = np.full((64, 80), 255.0), np.full((64, 80), 127.5, np.float32)
    assert distance(picture, truth) == pytest.approx(1.0)
    assert distance(truth + 100, truth) == 0.0
    with pytest.raises(UserError, match="pictures of 63x80; it needs 64 pixels a side"):
        distance(picture[1:], truth[1:])


def test_errors_name_what_is_missing(stand_in, tiny_weights, tmp_path, monkeypatch):
    (tmp_path / "classA/test").mkdir(parents=True)
    write_dat(tmp_path / "classA/test/car.dat", random_spikes(345, 250, 400))
    with pytest.raises(UserError, match="--lpips: there is no ground truth"):
        script.main([*options(tmp_path / "classA", tiny_weights, tmp_path / "out"), "--data_mode", "no_gt"])

    def offline(**_):
        raise URLError("no network")

    monkeypatch.setattr(stand_in, "LPIPS", offline)
    with pytest.raises(UserError, match=r"cannot be loaded \(.*no network.*put alexnet-owt-7be5be79\.pth"):
        load_lpips()
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UserError, match="--lpips: the package lpips is missing; pip install lpips"):
        load_lpips()


def test_lpips_equals_that_of_the_package(monkeypatch):
    """With random weights, since the trained ones are a download."""
    lpips = pytest.importorskip("lpips")
    monkeypatch.setattr(lpips, "LPIPS", functools.partial(lpips.LPIPS, pnet_rand=True))
    torch.manual_seed(0)
    distance = load_lpips()
    torch.manual_seed(0)
    theirs = lpips.LPIPS(net="alex", verbose=False)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (70, 90, 1)).astype(np.uint8).repeat(3, 2)
    picture = np.clip(truth + rng.integers(-30, 31, (70, 90, 1)), 0, 255).astype(np.uint8)
    with torch.no_grad():
        expected = theirs(lpips.im2tensor(picture), lpips.im2tensor(truth)).item()
    found = distance(picture[..., 0].astype(np.float32), truth[..., 0])
    assert found == pytest.approx(expected, rel=1e-5) and expected > 0
    assert distance(truth[..., 0], truth[..., 0]) == 0.0
