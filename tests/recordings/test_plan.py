"""Choices by the flags: strides given as times, and gains."""

import re

import numpy as np
import pytest

import reconstruct as script
from swinsf.datasets.simulation.sensor import integrate_and_fire
from swinsf.models import shipped_weights
from swinsf.recordings.calibration import make_calibration
from swinsf.recordings.plan import describe_rounding, resolve_gain
from swinsf.recordings.survey import Survey
from swinsf.utils.cli import UserError
from tests.cameras import record
from tests.conftest import random_spikes


def run(*arguments):
    return script.main([*map(str, arguments)])


@pytest.mark.parametrize(
    "stride, words",
    [
        # 0.333 of 666.667 steps are 0.5 ms per second, or 20 ms in 40 s
        (
            "33.3333ms",
            r"33\.3333 ms is 666\.666 steps, rounded to 667, 33\.35 ms; .* come 0\.501 ms later with each",
        ),
        (
            "0.07ms",
            r"0\.07 ms is 1\.4 steps, rounded to 1, 0\.05 ms; .* come 286 ms earlier with each second",
        ),
        ("0.5ms", None),
        ("7", None),
        (None, None),
    ],
)
def test_a_line_reports_how_a_stride_in_time_is_rounded(stride, words):
    flags = ["--stride", stride] if stride else []
    lines = describe_rounding(script.parse_settings(["a.dat", *flags]))
    assert len(lines) == (words is not None) and all(re.search(words, line) for line in lines)


def test_more_than_8_bits_keep_the_scale_unless_told_otherwise():
    seen = Survey(0.05, 0.1, 0.0, 1000)
    for flags, gain in (
        ([], 0.9 * 0.6 / 0.1),
        (["--bits", "16"], 1.0),
        (["--bits", "32"], 1.0),
        (["--bits", "16", "--exposure", "auto"], 5.4),
        (["--exposure", "3"], 3.0),
        (["--rate", "0.3"], 1.0),
        (["--rate", "0.3", "--exposure", "auto"], 2.7),
    ):
        assert resolve_gain(seen, script.parse_settings(["a.dat", *flags]))[0] == pytest.approx(gain)


def test_an_automatic_gain_ignores_dark_charge():
    """0.02 of 0.1 spikes a step come without light, and calibrated pictures do not show them."""
    seen = Survey(0.05, 0.1, 0.0, 1000)
    for flags in ([], ["--bits", "16", "--exposure", "auto"]):
        gain, (line,) = resolve_gain(seen, script.parse_settings(["a.dat", *flags]), dark=0.02)
        assert gain == pytest.approx(0.9 * 0.6 / 0.08) and "times 6.75, so that bright pixels" in line
    settings = script.parse_settings(["a.dat"])
    assert resolve_gain(seen, settings, dark=0.2)[0] == 1.0  # nothing but dark charge


@pytest.mark.parametrize("exposure", [[], ["--exposure", "batch"]])
def test_bright_pixels_are_white_even_if_half_of_the_spikes_are_dark_charge(tmp_path, exposure):
    camera = tuple(np.full((24, 32), value, np.float32) for value in (0.015, 1.0))
    make_calibration(*camera).save(tmp_path / "camera.npz")
    np.save(tmp_path / "a.npy", record(0.015, camera, 420))
    flags = ["--method", "tfp", "--window", 201, "--calibration", tmp_path / "camera.npz", *exposure]
    assert run(tmp_path / "a.npy", *flags, "--output", tmp_path / "x.npy") == 0
    assert np.load(tmp_path / "x.npy").mean() == pytest.approx(0.9 * 255, rel=0.08)


def test_16_bits_are_linear_and_clipped_pixels_are_counted(tmp_path, capsys):
    light = np.full((24, 32), 0.5, np.float32)
    light[:, :8] = 1.5  # a quarter is above white
    np.save(tmp_path / "a.npy", integrate_and_fire([light] * 60, np.random.default_rng(0)))
    arguments = [tmp_path / "a.npy", "--method", "tfp", "--bits", 16, "--output"]
    run(*arguments, tmp_path / "x.npy")
    text = capsys.readouterr().out
    assert "grey levels times 1, so that numbers stay as they are" in text
    assert (
        "clipped: 25.0% of the pixels are above white, 65535; --exposure 0.6 shows a spike at every step"
        in text
    )
    picture = np.load(tmp_path / "x.npy")[0]
    assert picture[:, 8:].mean() == pytest.approx(65535 * 0.5, rel=0.05) and (picture[:, :8] == 65535).all()
    run(*arguments, tmp_path / "y.npy", "--exposure", 0.6)
    assert "clipped: 0.0% of the pixels are above white, 65535\n" in capsys.readouterr().out


def test_one_gain_for_a_batch_is_that_of_the_brightest(tmp_path, capsys):
    for name, level in (("dim", 0.1), ("bright", 0.5)):
        light = np.full((24, 32), level, np.float32)
        np.save(tmp_path / f"{name}.npy", integrate_and_fire([light] * 400, np.random.default_rng(0)))
    np.save(tmp_path / "bad.npy", np.arange(60 * 24 * 32).reshape(60, 24, 32) % 7)
    arguments = [
        "--method",
        "tfp",
        "--window",
        201,
        "--exposure",
        "batch",
        "--output",
        tmp_path / "{name}_out.npy",
    ]
    assert run(*(tmp_path / f"{name}.npy" for name in ("dim", "bright")), *arguments) == 0
    means = {name: np.load(tmp_path / f"{name}_out.npy").mean() for name in ("dim", "bright")}
    assert means["bright"] == pytest.approx(0.9 * 255, rel=0.08)
    assert means["dim"] == pytest.approx(means["bright"] / 5, rel=0.05)
    assert "in all 2 recordings" in capsys.readouterr().out
    # a bad recording stops only itself
    assert run(tmp_path / "bad.npy", tmp_path / "dim.npy", *arguments, "--overwrite") == 2
    assert np.load(tmp_path / "dim_out.npy").mean() == pytest.approx(0.9 * 255, rel=0.08)
    with pytest.raises(UserError, match="--exposure batch with standard input"):
        run("-", "--height", 24, "--width", 32, *arguments)


def test_weights_are_named_or_a_file(tmp_path):
    np.save(tmp_path / "a.npy", random_spikes(60, 24, 32))
    flags = ["--device", "cpu", "--stop", 21, "--output"]
    with pytest.raises(UserError, match=r"smal: no such weights file"):
        run(tmp_path / "a.npy", "--load_model", "smal", *flags, tmp_path / "x.npy")
    run(tmp_path / "a.npy", "--load_model", "small", *flags, tmp_path / "x.npy")
    run(tmp_path / "a.npy", "--load_model", shipped_weights("small"), *flags, tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), np.load(tmp_path / "y.npy"))
