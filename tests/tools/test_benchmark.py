import json

import pytest
import torch

from swinsf.models import build_model
from swinsf.utils.cli import UserError
from tests.conftest import run_script
from tools import benchmark, benchmark_processes, benchmark_recordings
from tools.arithmetic import multiply_adds
from tools.benchmark import PeakMemory, format_results, list_cases, measure, parse_settings


def cases(*arguments):
    return list_cases(parse_settings(arguments))


def test_cases():
    assert [case["variant"] for case in cases("--parts", "inference", "--precisions", "fp32")] == [
        "250",
        "1000",
        "small",
    ]
    training = cases(
        "--variants", "small", "--parts", "training", "--precisions", "fp32", "--crop_size", "60"
    )
    assert [case["grad_checkpoint"] for case in training] == [False, True]
    assert all((case["batch"], case["height"], case["width"]) == (4, 60, 60) for case in training)
    pixels = [case["height"] * case["width"] for case in cases("--variants", "250", "--parts", "scaling")]
    assert (pixels[0], pixels[-1]) == (10**4, 4 * 10**6) and pixels == sorted(pixels)


@pytest.mark.parametrize("part, skip", [("inference", None), ("training", "none")])
def test_a_case_is_measured(part, skip, monkeypatch):
    monkeypatch.setattr(benchmark, "PRODUCT", 64)
    size = {"batch": 2, "height": 30, "width": 40}
    case = {
        "part": part,
        "variant": "small",
        "skip": skip,
        "precision": "fp32",
        "compile": False,
        "tf32": False,
        "runs": 3,
        **size,
        "grad_checkpoint": False,
    }
    result = measure(case, "cpu")
    passes = 3 if part == "training" else 1
    assert result["multiply_adds_drawn"] == passes * 2 * multiply_adds(
        build_model("small", skip=skip or "aligned"), 30, 40
    )
    assert 0 < result["multiply_adds_done"] < result["multiply_adds_drawn"]
    assert len(result["all_seconds"]) == 3 and min(result["all_seconds"]) <= result["seconds"] <= max(
        result["all_seconds"]
    )
    assert result["share"] == pytest.approx(result["rate"] / result["product_rate"])
    assert result["rate"] == pytest.approx(2 * result["multiply_adds_drawn"] / result["seconds"])
    assert f"small {part} 2x30x40" in format_results([result])


def test_peak_memory_includes_freed_memory():
    with PeakMemory(torch.device("cpu")) as memory:
        torch.ones(50_000_000).sum()
    assert 190e6 < memory.bytes < 260e6


@pytest.mark.slow
def test_the_script_writes_its_table_and_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "SCALES", ((40, 40),))
    arguments = [
        "--variants",
        "small",
        "--parts",
        "scaling",
        "--precisions",
        "fp32",
        "--runs",
        "1",
        "--device",
        "cpu",
    ]
    assert benchmark.main([*arguments, "--save_path", str(tmp_path)]) == 0
    contents = json.loads((tmp_path / "benchmark.json").read_text())
    assert [case["height"] for case in contents["cases"]] == [40] and contents["device"]
    assert (tmp_path / "scaling.png").stat().st_size > 1000
    assert "small scaling 1x40x40" in capsys.readouterr().out


@pytest.mark.slow
def test_recordings(tmp_path, capsys):
    options = ["--sizes", "24x32", "--lengths", "80", "--pictures", "3", "--save_path", str(tmp_path)]
    assert benchmark_recordings.main(options) == 0
    cases = json.loads((tmp_path / "recordings.json").read_text())["cases"]
    assert [(case["steps"], case["method"], case["pictures"]) for case in cases] == [
        *((80, "swinsf", 4), (80, "swinsf_all", 3), (80, "tfp", 40), (80, "tfi", 40)),
    ]
    assert all(0 < case["memory_before"] <= case["memory"] for case in cases)
    assert "24x32, 80 steps, tfi: 40 pictures, stride 1" in capsys.readouterr().out


@pytest.mark.slow
def test_several_processes_against_one(tmp_path):
    options = [
        "--processes",
        "2",
        "--steps",
        "2",
        "--epochs",
        "2",
        "--rounds",
        "1",
        "--crop_size",
        "20",
        "--batch_size",
        "2",
    ]
    result = run_script("-m", "tools.benchmark_processes", *options, "--save_path", tmp_path)
    assert result.returncode == 0, result.stderr
    rates = json.loads((tmp_path / "processes.json").read_text())["rates"]
    assert [len(values) for values in rates.values()] == [1, 1, 1] and all(
        value[0] > 0 for value in rates.values()
    )
    assert result.stdout.count("efficiency") == 2
    with pytest.raises(UserError, match="--batch_size 1"):
        benchmark_processes.main(["--processes", "2", "--batch_size", "1", "--save_path", str(tmp_path)])
