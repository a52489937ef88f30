"""The README's Python runs as it stands, in the order in which it stands, and gives the picture that is shown there."""

import re
import subprocess
import sys

import cv2
import numpy as np

from tests.conftest import ROOT


def test_the_examples_run_and_give_the_picture_shown(tmp_path):
    readme = (ROOT / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert len(examples) == 2
    code = f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
    code += "\n".join(examples).replace('"checkpoint/', f'"{ROOT}/checkpoint/')
    code += "\nassert pictures.middle.shape == (1, 1, 250, 400) and spikes.shape == (41, 250, 400)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    shown = cv2.imread(str(ROOT / "docs/recording.jpg"), cv2.IMREAD_GRAYSCALE)
    made = cv2.imread(str(tmp_path / "recording.png"), cv2.IMREAD_GRAYSCALE)
    assert made.shape == shown.shape == (500, 1200)
    assert np.abs(made.astype(float) - shown).mean() < 3  # what JPEG takes
    assert "docs/recording.jpg" in readme
