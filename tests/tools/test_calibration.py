import re

import cv2
import numpy as np

from tools import calibration as tool


def test_the_random_camera_resembles_measured_ones():
    dark, response = tool.measured_camera(np.random.default_rng(0))
    assert 0.0039 < np.median(dark) < 0.0041 and 0.0005 < np.mean(dark > 0.02) < 0.002
    assert np.isclose(response.mean(), 1) and response[:, 0].mean() > 1.1


def test_scsims_camera_has_its_constants():
    dark, response = tool.scsim_camera(np.random.default_rng(0))
    assert np.isclose(dark.mean(), 0.00468, rtol=0.02) and np.isclose(dark.std(), 0.00184, rtol=0.05)
    # the deviations of response and threshold together
    assert np.isclose(response.std(), np.hypot(0.0577, 0.0455), rtol=0.03)


def test_the_table_shows_the_benefit_of_a_calibration(photos, tiny_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "BINS", (1, 5))
    monkeypatch.setitem(tool.CAMERAS, "measured", lambda rng: tool.measured_camera(rng, 40, 60))
    flags = [
        "--photos",
        photos,
        "--count",
        1,
        "--weights",
        tiny_weights,
        "--levels",
        0.1,
        "--steps",
        600,
        "--picture",
        tmp_path / "x.png",
    ]
    assert tool.main([*map(str, flags)]) == 0
    plain, repaired, calibrated = map(float, re.findall(r"([\d.]+) \(bin 5\)", capsys.readouterr().out))
    assert plain <= repaired < calibrated - 1
    assert cv2.imread(str(tmp_path / "x.png")).shape[:2] == (40, 120)
