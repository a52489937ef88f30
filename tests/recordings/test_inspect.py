import io

import cv2
import numpy as np
import pytest

import reconstruct as script
from swinsf.datasets.dat import write_dat
from swinsf.datasets.simulation.sensor import Sensor, draw_pattern
from swinsf.recordings.inspect import describe, inspect
from swinsf.utils.cli import UserError
from tests.conftest import moving_scene


def places(marks):
    return {tuple(place) for place in np.argwhere(marks)}


SENSOR = Sensor(hot=0.003, dead=0.001)


@pytest.mark.parametrize("speed", [0.0, 0.1, 0.3])
def test_motion_and_bad_pixels_match_the_simulation(speed):
    pattern = draw_pattern(SENSOR, 120, 160, np.random.default_rng(1))
    facts = inspect(moving_scene(120, 160, 150, speed, sensor=SENSOR, pattern=pattern))
    median, fast = facts["motion"]
    assert median == pytest.approx(speed, abs=0.02) and fast < speed + 0.06
    weak, strong = places(pattern.dark > 0), places(pattern.dark > 0.4)  # a bright scene hides the weak ones
    hot, dead = facts["hot"], np.argwhere(np.isinf(pattern.threshold))
    assert len(strong) > 5 and len(dead) > 5
    found = {tuple(place) for place in hot}
    # neighbouring hot pixels hide each other
    assert found <= weak and len(strong & found) > 0.85 * len(strong)
    np.testing.assert_array_equal(facts["dead"], dead)
    text = "\n".join(describe(facts, 20000))
    assert (
        f"hot pixels: {len(hot)}: ({hot[0][0]}, {hot[0][1]})" in text and f"dead pixels: {len(dead)}" in text
    )


def test_rate_over_time_and_saturation(monkeypatch):
    spikes = np.zeros((410, 20, 32), np.uint8)
    spikes[::4] = 1
    spikes[205:] = 0  # the light turns off
    spikes[:, :5] = 1  # a quarter of the picture saturates
    facts = inspect(spikes)
    assert facts["rates"][0] == pytest.approx((0.25 * 41 + 0.75 * 11) / 41)
    assert facts["rates"][-1] == pytest.approx(0.25)
    assert facts["saturated"] == pytest.approx(0.25) and 0.3 < facts["dark"] < 0.45
    assert len(facts["pictures"]) == 12 and facts["starts"][-1] == 410 - 41
    assert facts["motion"] is None  # less than 32 rows
    lines = describe(facts, 20000)
    assert any(line.startswith("over time: █") and line.endswith("▅") for line in lines)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "cp1252"))
    assert any(line.startswith("over time: 8") and line.endswith("5") for line in describe(facts, 20000))


def test_a_recording_shorter_than_a_window():
    facts = inspect(moving_scene(40, 48, 10))
    assert len(facts["rates"]) == 1 and facts["pictures"][0].shape == (40, 48)
    assert len(facts["hot"]) == len(facts["dead"]) == 0  # too few steps for evidence


def test_a_dark_recording_with_specks():
    """Motion is measured, specks are found, and windows are as long as the light requires."""
    sensor = Sensor(rate=0.06, hot=0.006)
    pattern = draw_pattern(sensor, 120, 160, np.random.default_rng(1))
    dim = pattern._replace(dark=pattern.dark / 6)  # specks that a bright scene would hide
    facts = inspect(moving_scene(120, 160, 700, 0.1, sensor=sensor, pattern=dim))
    assert facts["length"] == 328 and facts["motion"][0] == pytest.approx(0.1, abs=0.02)
    strong, found = places(pattern.dark > 0.2), {tuple(place) for place in facts["hot"]}
    assert len(strong) > 30 and found <= places(pattern.dark > 0)
    assert len(strong & found) > 0.85 * len(strong)  # neighbouring hot pixels hide each other
    assert "advice: --bin 2 (auto takes it), since bright pixels have 0.037" in "\n".join(
        describe(facts, 20000)
    )


def test_the_script(tmp_path, capsys):
    write_dat(tmp_path / "rec.dat", moving_scene(250, 400, 60))
    assert script.main([str(tmp_path / "rec.dat"), "--inspect", "--output", str(tmp_path / "sheet.png")]) == 0
    text = capsys.readouterr().out
    for words in (
        "60 steps of 250x400",
        "0.003 s at 20000",
        "firing rate: 0.3",
        "motion: median 0.2",
        "dead pixels: 0",
        "advice: ",
    ):
        assert words in text, words
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] > 1000
    assert {file.name for file in tmp_path.iterdir()} == {"rec.dat", "sheet.png"}


def test_bad_flags_are_refused(tmp_path):
    write_dat(tmp_path / "a.dat", moving_scene(40, 48, 60))
    with pytest.raises(UserError, match="name a file"):
        script.main(["-", "--inspect"])
    for path in ("a.dat", "."):
        with pytest.raises(UserError, match="the sheet of --inspect is a PNG"):
            script.main([str(tmp_path / "a.dat"), "--inspect", "--output", str(tmp_path / path)])


def test_a_sheet_replaces_only_a_sheet(tmp_path):
    write_dat(tmp_path / "a.dat", moving_scene(40, 48, 60))
    truth = tmp_path / "truth.png"
    cv2.imwrite(str(truth), np.full((40, 48), 7, np.uint8))
    before = truth.read_bytes()
    arguments = [
        str(tmp_path / "a.dat"),
        "--height",
        "40",
        "--width",
        "48",
        "--inspect",
        "--output",
        str(truth),
    ]
    with pytest.raises(
        UserError, match=r"truth\.png: already exists, and not a sheet of --inspect; add --overwrite"
    ):
        script.main(arguments)
    assert truth.read_bytes() == before
    assert script.main([*arguments, "--overwrite"]) == 0
    assert truth.read_bytes() != before and script.main(arguments) == 0


def test_a_table_has_the_bad_pixels(tmp_path):
    spikes = moving_scene(40, 48, 200)
    spikes[:, 7, 30], spikes[:, 20, 11] = 1, 0
    np.save(tmp_path / "a.npy", spikes)
    arguments = [str(tmp_path / "a.npy"), "--inspect", "--output", str(tmp_path / "a.png"), "--bad_pixels"]
    table = tmp_path / "bad.csv"
    assert script.main([*arguments, str(table)]) == 0
    assert table.read_text() == "row,column,rate,kind\n7,30,1,hot\n20,11,0,dead\n"
    assert script.main([*arguments, str(tmp_path / "part.csv"), "--crop", "4:36,20:48"]) == 0
    assert (tmp_path / "part.csv").read_text() == "row,column,rate,kind\n7,30,1,hot\n"
    for name, words in (("bad.csv", "already exists; add --overwrite"), ("bad.txt", r"ends in \.csv")):
        with pytest.raises(UserError, match=words):
            script.main([*arguments, str(tmp_path / name)])
    with pytest.raises(UserError, match="--inspect finds them; add it"):
        script.main([str(tmp_path / "a.npy"), "--bad_pixels", str(tmp_path / "b.csv")])
