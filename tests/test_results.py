"""results.py: the table, with what is not at hand named."""

import json

import pytest

import results as script
from tests.conftest import run_script
from utils.cli import UserError


def test_the_table(reds, tiny_weights, tmp_path):
    tiny_weights.with_suffix(".jsonl").write_text('{"epoch": 0, "step": 5, "val_psnr": 30.0}\n')
    options = ("--weights", tiny_weights, "--sample", reds, "--save_path", tmp_path, "--workers", "0", "--device", "cpu")
    result = run_script("results.py", *options)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "results.md").read_text()
    assert text == result.stdout
    assert "validation: left out, no --photos" in text and "no --sample" not in text
    lines = text.splitlines()
    header = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert header == ["", "demo", "200_part1", "201_part1", "parameters", "GFLOP at 250x400", "seconds at 250x400"]
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["TFI", "TFP41", "TFP21", "`tiny.pth`"]
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]["sample"]
    cells = [cell.strip() for cell in lines[5].strip("|").split("|")]
    assert cells[2] == f"{rows[0]['`tiny.pth`']['psnr']:.2f} / {rows[0]['`tiny.pth`']['ssim']:.3f}"
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_an_empty_cell_where_a_network_does_not_fit_a_column():
    lines = script.make_table(
        {"demo": {"TFI": (20.0, 0.5), "N": (30.0, 0.9)}, "large": {"TFI": (21.0, 0.6)}}, {"N": (5, 1.5, 0.25)}
    )
    assert lines[2] == "| TFI | 20.00 / 0.500 | 21.00 / 0.600 |  |  |  |"
    assert lines[3] == "| N | 30.00 / 0.900 |  | 5 | 1.5 | 0.25 |"


def test_missing_photographs_end_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no such folder of photographs"):
        script.main(["--photos", str(tmp_path / "none"), "--save_path", str(tmp_path)])
