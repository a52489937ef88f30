"""What a program of one's own imports: `pictures`, and what is said where another package has the name of one of ours."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

import swinsf
from datasets.dat import write_dat
from models import build_model
from tests.conftest import ROOT, uniform
from utils.cli import UserError


@pytest.fixture(scope="module")
def model():
    """A network whose pictures are means along the motion, so that it can be told what `pictures` makes of them."""
    torch.manual_seed(0)
    return build_model("small", skip="motion", depths=(1,), channels=4, heads=2).eval()


def test_pictures_of_an_array_have_the_steps_and_levels_of_a_mean(model):
    spikes = uniform(0.3, 101)
    made = list(swinsf.pictures(spikes, stride=20, exposure=1, bin=1, model=model))
    assert [step for step, _ in made] == [20, 40, 60, 80]
    for step, picture in made:
        assert picture.dtype == np.uint8 and picture.shape == (24, 32)
        with torch.inference_mode():
            truth = model(torch.from_numpy(spikes[None, step - 20 : step + 21])).middle[0, 0].numpy()
        assert np.abs(picture - truth.clip(0, 255)).max() < 1.01
        assert abs(picture.mean() - 127.5) < 4


def test_a_dark_recording_is_brightened_and_its_steps_taken_as_one(model, monkeypatch):
    spikes, asked = uniform(0.026, 500), {}

    def spy(spikes, model, stride, start, stop, bin, **options):
        asked.update(bin=bin, **options)
        return reconstruct(spikes, model, stride, start, stop, bin, **options)

    reconstruct = swinsf.reconstruct
    monkeypatch.setattr(swinsf, "reconstruct", spy)
    made = list(swinsf.pictures(spikes, stride=20, model=model, batch_size=2))
    assert asked["bin"] == 2 and asked["batch_size"] == 2
    assert made and all(190 < picture.mean() < 245 for _, picture in made)  # 0.9 of white is 230
    dark = list(swinsf.pictures(spikes, stride=20, model=model, exposure=1))
    assert all(picture.mean() < 20 for _, picture in dark)


def test_pictures_of_a_file_start_stop_and_gamma(model, tmp_path):
    waves = 0.3 + 0.2 * np.sin(np.arange(400) / 9) * np.cos(np.arange(250) / 7)[:, None]  # by which the size is told
    spikes = uniform(waves, 120, 250, 400)
    write_dat(tmp_path / "rec.dat", spikes)
    options = {"stride": 10, "start": 50, "stop": 71, "bin": 1, "exposure": 1, "model": model}
    made = dict(swinsf.pictures(tmp_path / "rec.dat", **options))
    assert list(made) == [50, 60, 70]
    bent = dict(swinsf.pictures(str(tmp_path / "rec.dat"), gamma=2.0, **options))
    assert np.abs(bent[50] - 255 * (made[50] / 255) ** 0.5).mean() < 2
    assert cv2.imwrite(str(tmp_path / "50.png"), made[50])


def test_what_is_no_recording_is_one_clear_error(model, tmp_path):
    with pytest.raises(ValueError, match="a picture wants 41 steps"):
        swinsf.pictures(uniform(0.3, 40), bin=1, model=model)
    with pytest.raises(UserError, match="no such"):
        swinsf.pictures(tmp_path / "none.dat", model=model)


@pytest.mark.parametrize("how", ["hidden", "imported"])
def test_another_package_of_our_name_is_named(tmp_path, how):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/__init__.py").write_text("def load_dataset(): raise SystemExit('code of another package ran')")
    lines = ["import datasets"] if how == "imported" else []  # the current folder comes first on sys.path
    lines += [f"import sys; sys.path.{'insert(0, ' if how == 'imported' else 'append('}{str(ROOT)!r})", "import swinsf"]
    result = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the package datasets is ")
    for word in (str(tmp_path / "datasets"), f"sys.path.insert(0, {str(ROOT)!r})", "another process"):
        assert word in last
