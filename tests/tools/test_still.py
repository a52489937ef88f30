import re

import numpy as np
import pytest

from swinsf.utils.cli import UserError
from tools import still


def test_the_amplitude_of_a_band_is_that_of_its_waves():
    rows, columns = np.mgrid[:64, :96]
    slow, fast = np.sin(2 * np.pi * 0.08 * columns), np.sin(2 * np.pi * 0.35 * rows)
    parts, change = still.compare([slow + 0.5 * fast, slow + 0.3 * fast], slow + fast)
    assert parts[0] == pytest.approx(1, abs=0.01) and parts[-1] == pytest.approx(0.4, abs=0.01)
    assert change == pytest.approx(0.2 * np.abs(fast).mean())


def test_the_table_of_a_recording(tiny_weights, tmp_path, capsys):
    light = np.random.default_rng(0).uniform(0.1, 0.5, (40, 60))
    counts = np.floor(light * np.arange(1, 125)[:, None, None] + 0.5)
    np.save(tmp_path / "still.npy", np.diff(counts, axis=0, prepend=0).astype(np.uint8))
    still.main([str(tmp_path / "still.npy"), "--weights", str(tiny_weights)])
    out = capsys.readouterr().out
    figures = list(map(float, re.search(r"\| TFP41 \| (.*) \|", out).group(1).split(" | ")))
    assert "3 key frames of 124 steps" in out and figures[:-1] == pytest.approx([1] * 5, abs=0.05)
    assert 0 < figures[-1] < 255 / 0.6 / 41 and tiny_weights.name in out


def test_a_recording_of_one_window_is_too_short(tmp_path):
    np.save(tmp_path / "short.npy", np.random.default_rng(0).integers(0, 2, (60, 40, 60), np.uint8))
    with pytest.raises(UserError, match="hold one window"):
        still.main([str(tmp_path / "short.npy")])
