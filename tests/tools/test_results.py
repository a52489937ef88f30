"""results.py: the table, with messages about missing columns."""

import json
import re

import pytest
import torch

from swinsf.utils.cli import UserError
from tests.conftest import ROOT, assert_one_line_error, run_script
from tools import results as script


def test_the_table(reds, tiny_weights, tmp_path):
    tiny_weights.with_name("tiny_1.jsonl").write_text('{"epoch": 0, "step": 5, "val_psnr": 30.0}\n')
    options = (
        "--weights",
        tiny_weights,
        "--sample",
        reds,
        "--save_path",
        tmp_path,
        "--workers",
        "0",
        "--device",
        "cpu",
    )
    result = run_script("-m", "tools.results", *options)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "results.md").read_text()
    assert text == result.stdout
    assert "validation columns left out: no --photos" in text and "no --sample" not in text
    lines = text.splitlines()
    header = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert header == [
        "",
        "demo",
        "200_part1",
        "201_part1",
        "parameters",
        "GFLOP at 250x400",
        "seconds at 250x400",
    ]
    assert [line.split("|")[1].strip() for line in lines[2:7]] == [
        "TFI",
        "TFP41",
        "TFP21",
        "TFP, best",
        "`tiny.pth`",
    ]
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]["sample"]
    cells = [cell.strip() for cell in lines[6].strip("|").split("|")]
    assert cells[2] == f"{rows[0]['`tiny.pth`']['psnr']:.2f} / {rows[0]['`tiny.pth`']['ssim']:.3f}"
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_long_windows_of_tfp_are_only_in_the_row_of_the_best():
    figures = {
        "TFI": (20.0, 0.1),
        "TFP41": (22.0, 0.2),
        "TFP21": (21.0, 0.3),
        "TFP161": (25.0, 0.4),
        "N": (30.0, 0.9),
    }
    shown = script.with_best(figures)
    assert list(shown) == ["TFI", "TFP41", "TFP21", "TFP, best", "N"] and shown["TFP, best"] == (25.0, 0.4)


def test_cameras_by_light_level():
    rows = [{"name": f"scene{i}", "N": {"psnr": 30.0 + i}} for i in range(24)]
    lines = script.level_table(rows)
    assert lines[0] == "| PSNR, plain; spikes per step at white | 0.5 | 0.15 | 0.05 | 0.02 |"
    assert lines[2::4] == [f"| N | {n}.00 | {n + 1}.00 | {n + 2}.00 | {n + 3}.00 |" for n in (36, 40, 44)]


def test_methods_use_the_middle_of_a_long_stream():
    """A light turns on at step 154 of 329: a window of 21 sees only lit steps, one of 161 just over half."""
    spikes = torch.zeros(1, script.LONG, 20, 20)
    spikes[:, 154:] = 1
    methods = script.methods_of("camera", {"N": lambda spikes, output, maps: spikes.float().mean(1)})
    assert methods["TFP21"](spikes, "middle")[0, 0, 0] == pytest.approx(255 / 0.6)
    assert methods["TFP161"](spikes, "middle")[0, 0, 0] == pytest.approx(255 / 0.6 * 91 / 161)
    assert methods["TFI"](spikes, "middle")[0, 0, 0] == pytest.approx(255 / 0.6)
    assert methods["N"](spikes, "middle")[0, 0, 0] == pytest.approx(31 / 41)  # steps 144 to 184


def test_a_network_bins_steps_of_a_dark_camera():
    """With a spike every hundred steps, one of twenty bins of five fires. The picture has a step's light."""
    spikes, seen = torch.zeros(1, script.LONG, 20, 20), []
    spikes[:, ::100] = 1
    methods = script.methods_of(
        "camera", {"N": lambda spikes, output, maps: seen.append(spikes) or spikes.float().mean(1)}
    )
    assert methods["N"](spikes, "middle")[0, 0, 0] == pytest.approx(0.01, rel=0.05)
    assert seen[0].shape == (1, 41, 20, 20) and seen[0].float().mean() == pytest.approx(0.05, rel=0.05)


def test_a_cell_is_empty_if_a_network_does_not_fit_the_column():
    lines = script.make_table(
        {"demo": {"TFI": (20.0, 0.5), "N": (30.0, 0.9)}, "large": {"TFI": (21.0, 0.6)}}, {"N": (5, 1.5, 0.25)}
    )
    assert lines[2] == "| TFI | 20.00 / 0.500 | 21.00 / 0.600 |  |  |  |"
    assert lines[3] == "| N | 30.00 / 0.900 |  | 5 | 1.5 | 0.25 |"


README = """Some text.

| variant | channels |
| --- | --- |
| a | 1 |

| | demo | validation | parameters | seconds at 250x400 |
| --- | --- | --- | --- | --- |
| TFI | 24.49 / 0.617 | 23.16 / 0.525 |  |  |
| `small.pth` | 39.92 / 0.966 |  | 380,579 | 0.28 |

Text after it.
"""


def held(readme, made):
    return script.check("README.md", script.read_table(readme), script.read_table(made))


def test_a_table_is_read_as_it_is_written():
    scores = {
        "demo": {"TFI": (24.49, 0.617), "`small.pth`": (39.92, 0.966)},
        "validation": {"TFI": (23.16, 0.525)},
    }
    lines = script.make_table(scores, {"`small.pth`": (380579, 35.9, 0.28)})
    table = script.read_table("\n".join(lines))
    assert list(table) == ["TFI", "`small.pth`"]
    assert table["TFI"]["demo"] == "24.49 / 0.617" and table["TFI"]["parameters"] == ""
    assert table["`small.pth`"] == {
        "demo": "39.92 / 0.966", "validation": "", "parameters": "380,579", "GFLOP at 250x400": "35.9",
        "seconds at 250x400": "0.28",
    }  # fmt: skip
    assert script.read_table("no table\n| a | b |\n") == {}


def test_tables_that_differ_only_in_seconds_are_equal():
    assert held(README, README.replace("0.28", "3.50")) == (0, ["README.md: 4 cells compared, all equal"])


@pytest.mark.parametrize(
    "shown, now, where",
    [
        ("24.49 / 0.617", "24.48 / 0.617", "TFI, demo"),
        ("39.92 / 0.966", "39.92 / 0.967", "`small.pth`, demo"),
        ("380,579", "380,578", "`small.pth`, parameters"),
        ("23.16 / 0.525", "", "TFI, validation"),
    ],
)
def test_one_digit_off_is_named(shown, now, where):
    status, lines = held(README, README.replace(shown, now))
    assert status == 1
    assert lines[:2] == [
        "README.md: 4 cells compared, 1 differ:",
        f"{where}: was {shown}, is {now or 'empty'}",
    ]


@pytest.mark.parametrize("text, words", [
    ("scenes by OpenCV 4.12.0, grid coarse, sampler bicubic", "other scenes: those of README.md are by OpenCV 4.12.0"),
    ("", "the scenes may differ: OpenCV 4.10.0 samples on a grid of 1/32 pixel"),
    ("scenes by OpenCV 4.9.0, grid 1/32 pixel, sampler bicubic", "figures depend on photographs"),
])  # fmt: skip
def test_a_difference_is_explained_by_other_scenes(monkeypatch, text, words):
    monkeypatch.setattr(
        script.sampling, "maker", lambda: {"opencv": "4.10.0", "grid": "1/32 pixel", "sampler": "bicubic"}
    )
    tables = script.read_table(README), script.read_table(README.replace("24.49", "24.48"))
    status, lines = script.check("README.md", *tables, text)
    assert status == 1 and lines[2].startswith(words)


def test_a_method_that_the_readme_lacks_differs():
    status, lines = held(re.sub("\\| TFI .*\n", "", README), README)
    assert status == 1 and "TFI, demo: was empty, is 24.49 / 0.617" in lines


def test_a_column_without_data_is_unchecked():
    without = (
        README.replace(" validation |", "").replace(" 23.16 / 0.525 |", "").replace("0.966 |  |", "0.966 |")
    )
    assert held(README, without) == (
        0,
        ["README.md: 3 cells compared, all equal", "unchecked, no data: validation"],
    )
    assert held(without, README)[1][1:] == ["unchecked, not in README.md: validation"]


def test_the_check_sets_the_exit_status(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "SHIPPED", tmp_path)  # no weights: only TFI and TFP on the demo
    table = script.read_table((ROOT / "README.md").read_text())
    baselines = {method: row["demo"] for method, row in table.items() if not method.startswith("`")}
    lines = ["| | demo |", "| --- | --- |", *(f"| {method} | {cell} |" for method, cell in baselines.items())]
    readme = tmp_path / "README.md"
    options = [
        "--check",
        str(readme),
        "--save_path",
        str(tmp_path / "out"),
        "--workers",
        "0",
        "--device",
        "cpu",
    ]
    readme.write_text("\n".join(lines))
    assert script.main(options) == 0
    assert "4 cells compared, all equal" in capsys.readouterr().out
    readme.write_text("\n".join(lines).replace(baselines["TFI"], "24.50 / 0.617"))
    assert script.main(options) == 1
    assert f"TFI, demo: was 24.50 / 0.617, is {baselines['TFI']}" in capsys.readouterr().out


def test_bad_arguments_of_the_check_end_in_one_line(tmp_path):
    out = ["--save_path", str(tmp_path / "out")]
    assert_one_line_error(
        run_script("-m", "tools.results", "--check", tmp_path / "none.md", *out),
        "none.md: no such file",
        "--check",
    )
    (tmp_path / "empty.md").write_text("no table")
    for arguments, words in (
        (["--check", str(tmp_path / "empty.md")], r"empty\.md: no table that begins with"),
        (["--check", "README.md", "--weights", "a.pth"], "leave out --weights"),
        (["--check", "README.md", "--protocol", "kair"], "under protocol released; leave out .*--protocol"),
    ):
        with pytest.raises(UserError, match=words):
            script.main([*arguments, *out])
    assert not (tmp_path / "out").exists()


def test_missing_photographs_end_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no such folder of photographs"):
        script.main(["--photos", str(tmp_path / "none"), "--save_path", str(tmp_path)])
