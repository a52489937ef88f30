"""The documents' Python code runs unchanged from any folder and makes the picture shown; the notebook
runs."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import torch

from tests.conftest import ROOT
from tools.notebook import code_cells, run_cells


def examples(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S)


def test_the_examples_run_from_any_folder_and_make_the_shown_picture(tmp_path):
    readme, recordings = examples("README.md"), examples("docs/recordings.md")
    assert len(readme) == 1 and len(recordings) == 2
    shorter = "import os; os.truncate('rec.dat', 61 * 250 * 400 // 8)"  # two pictures are enough
    code = "\n".join([f"import sys; sys.path.insert(0, {str(ROOT)!r})", *recordings, shorter, *readme])
    code += "\nassert window.middle.shape == (1, 1, 250, 400) and spikes.shape == (41, 250, 400)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr
    shown = cv2.imread(str(ROOT / "docs/recording.jpg"), cv2.IMREAD_GRAYSCALE)
    made = cv2.imread(str(tmp_path / "recording.png"), cv2.IMREAD_GRAYSCALE)
    assert made.shape == shown.shape == (500, 1200)
    assert np.abs(made.astype(float) - shown).mean() < 3  # the loss of JPEG
    assert "(recording.jpg)" in (ROOT / "docs/recordings.md").read_text()
    steps = sorted(int(path.stem) for path in tmp_path.glob("*.png") if path.stem.isdigit())
    assert steps == [20, 40]
    picture = cv2.imread(str(tmp_path / "40.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (250, 400) and picture.dtype == np.uint8 and picture.std() > 20


def test_the_notebook_runs_and_prints_the_shown_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    notebook = json.loads((ROOT / "docs/tour.ipynb").read_text())
    kept = [figures(cell) for cell in code_cells(notebook)]
    threads = torch.get_num_threads()
    try:
        names = run_cells(notebook)
    finally:
        torch.set_num_threads(threads)
    made = [figures(cell) for cell in code_cells(notebook)]
    assert len(kept[3]) == 4 and len(made) == len(kept) == 5
    for before, now in zip(kept[3], made[3]):
        assert before == now or abs(before - now) < 0.1
    psnr = dict(zip(("TFI", "TFP41", "TFP21", "SwinSF"), made[3]))
    assert psnr["SwinSF"] > psnr["TFP21"] + 5
    assert names["log"][-1]["step"] == 10
    images = [
        output["data"] for cell in code_cells(notebook) for output in cell["outputs"] if "data" in output
    ]
    assert len(images) == 3 and all("image/jpeg" in data for data in images)


def test_the_notebook_has_outputs_without_machine_names():
    text = (ROOT / "docs/tour.ipynb").read_text()
    assert all(cell["execution_count"] for cell in code_cells(json.loads(text)))
    assert str(ROOT) not in text and "/home/" not in text and len(text) < 200_000


def figures(cell):
    """The PSNRs that a cell printed."""
    printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
    return [float(number) for number in re.findall(r"([\d.]+) dB", printed)]
