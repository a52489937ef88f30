"""The module that a user's program imports: `pictures`, and other packages with the names of ours."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

import swinsf
from swinsf.datasets.dat import write_dat
from swinsf.models import build_model
from swinsf.recordings import reconstructor
from swinsf.utils.cli import UserError
from tests.conftest import ROOT, uniform


@pytest.fixture(scope="module")
def model():
    """A network whose pictures are means along the motion, so that the results of `pictures` are known."""
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


def test_a_dark_recording_is_brightened_and_its_steps_binned(model, monkeypatch):
    spikes, asked = uniform(0.026, 500), {}

    def spy(spikes, model, keys, stride, bin, **options):
        asked.update(bin=bin, **options)
        return made_by(spikes, model, keys, stride, bin, **options)

    made_by = reconstructor.reconstruct_binned
    monkeypatch.setattr(reconstructor, "reconstruct_binned", spy)
    made = list(swinsf.pictures(spikes, stride=20, model=model, batch_size=2))
    assert asked["bin"] == 2 and asked["batch_size"] == 2
    assert made and all(190 < picture.mean() < 245 for _, picture in made)  # 0.9 of white is 230
    dark = list(swinsf.pictures(spikes, stride=20, model=model, exposure=1))
    assert all(picture.mean() < 20 for _, picture in dark)


def test_pictures_of_a_file_start_stop_and_gamma(model, tmp_path):
    # texture that shows the size
    waves = 0.3 + 0.2 * np.sin(np.arange(400) / 9) * np.cos(np.arange(250) / 7)[:, None]
    spikes = uniform(waves, 120, 250, 400)
    write_dat(tmp_path / "rec.dat", spikes)
    options = {"stride": 10, "start": 50, "stop": 71, "bin": 1, "exposure": 1, "model": model}
    made = dict(swinsf.pictures(tmp_path / "rec.dat", **options))
    assert list(made) == [50, 60, 70]
    bent = dict(swinsf.pictures(str(tmp_path / "rec.dat"), gamma=2.0, **options))
    assert np.abs(bent[50] - 255 * (made[50] / 255) ** 0.5).mean() < 2
    assert cv2.imwrite(str(tmp_path / "50.png"), made[50])


def test_a_bad_recording_is_one_clear_error(model, tmp_path):
    with pytest.raises(ValueError, match="a picture needs 41 steps"):
        swinsf.pictures(uniform(0.3, 40), bin=1, model=model)
    with pytest.raises(UserError, match="no such"):
        swinsf.pictures(tmp_path / "none.dat", model=model)


def test_a_program_with_packages_of_our_names_works(tmp_path):
    for name in ("datasets", "utils", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True")
    code = f"import sys; sys.path.append({str(ROOT)!r}); import datasets, utils, models, swinsf; print('torch' in sys.modules); "
    code += "swinsf.build_model('small'); print(datasets.MINE, utils.MINE, models.MINE, sys.modules['swinsf.models'].__name__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "False\nTrue True True swinsf.models\n", result.stderr
