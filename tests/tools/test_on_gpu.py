import json
import sys

import pytest

from swinsf.utils.cli import UserError
from tests.conftest import read_log
from tools import on_gpu
from tools.on_gpu import Task, list_tasks, parse_settings

ALL = ["--parts", "tests", "speed", "profile", "recordings", "train"]


def flags_of(step):
    return " ".join(step.command)


def test_the_tasks_cover_all_checks_on_a_gpu(tmp_path):
    settings = parse_settings([*ALL, "--photos", "DIR", "--save_path", str(tmp_path)])
    steps = {step.name: flags_of(step) for step in list_tasks(settings, "cuda:0")}
    assert "tests/models" in steps["tests"]
    speed = [text for name, text in steps.items() if name.startswith("speed")]
    for words in (
        ["--tf32"],
        ["--compile"],
        ["--batch_size 1 "],
        ["--batch_size 8 "],
        ["fp32 bf16"],
        ["training"],
    ):
        assert any(all(word in text for word in words) for text in speed), words
    assert "250x400 1000x1000" in steps["recordings_250_bf16"] and "--profile 250" in steps["profile_250"]
    assert "--variant 250" in steps["train_250"] and "--amp" in steps["train_250"]
    assert (
        f"--save_path {tmp_path}/runs --run_name small" in steps["train_small"]
        and "photos:DIR" in steps["train_small"]
    )


def test_a_training_resumes_from_a_copy_of_an_earlier_run(tmp_path):
    last = tmp_path / "one/runs/small/last.pth"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"state")
    options = [
        "--parts",
        "train",
        "--photos",
        "DIR",
        "--trainings",
        "small",
        "--save_path",
        str(tmp_path / "two"),
    ]
    (step,) = list_tasks(parse_settings([*options, "--resume_path", str(tmp_path / "one")]), "cpu")
    assert f"--resume_path {tmp_path}/two/runs/small" in flags_of(step) and "--lr" not in flags_of(step)
    assert (tmp_path / "two/runs/small/last.pth").read_bytes() == last.read_bytes()
    with pytest.raises(UserError, match=r"none.*last\.pth"):
        list_tasks(parse_settings([*options[:-1], str(tmp_path / "three"), "--resume_path", "none"]), "cpu")
    with pytest.raises(UserError, match="--photos"):
        list_tasks(parse_settings(["--parts", "train"]), "cpu")


def test_a_slow_task_is_stopped_and_its_output_kept(tmp_path, capsys, monkeypatch):
    slow = "import time; print('begun', flush=True); time.sleep(60)"
    fast, wrong = "print('quick')", "raise SystemExit(3)"
    steps = [Task(name, [sys.executable, "-S", "-c", code]) for name, code in zip("abc", (slow, fast, wrong))]
    monkeypatch.setattr(on_gpu, "list_tasks", lambda *_: steps)
    monkeypatch.setattr(on_gpu, "LEAST", 1.0)
    case = {
        "variant": "small",
        "part": "inference",
        "precision": "fp32",
        "batch": 1,
        "height": 20,
        "width": 20,
    }
    figures = dict.fromkeys(
        ("seconds", "peak_bytes", "multiply_adds_drawn", "multiply_adds_done", "rate", "product_rate"), 1.0
    )
    (tmp_path / "speed/x").mkdir(parents=True)
    (tmp_path / "speed/x/benchmark.json").write_text(
        json.dumps({"cases": [{**case, **figures, "share": 0.5}]})
    )
    assert on_gpu.main(["--save_path", str(tmp_path), "--minutes", "0.05", "--device", "cpu"]) == 1
    said = capsys.readouterr().out
    table = [" ".join(line.split()[:5]) for line in said.splitlines()]
    for words in (
        "a stopped at its time",
        "b done after 0 s",
        "c status 3 after 0",
        "small inference 1x20x20 fp32 1.000",
    ):
        assert any(line.startswith(words) for line in table), said
    assert (tmp_path / "a.log").read_text() == "begun\n" and (tmp_path / "b.log").read_text() == "quick\n"


@pytest.mark.slow
def test_a_training_in_pieces(photos, tmp_path):
    options = [
        "--parts",
        "train",
        "--photos",
        str(photos),
        "--trainings",
        "small",
        "--quick",
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    options += ["--max_steps", "40"]
    assert on_gpu.main([*options, "--minutes", "0.4", "--save_path", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one/runs/small/last.pth").is_file()
    assert (
        on_gpu.main(
            [
                *options,
                "--minutes",
                "5",
                "--save_path",
                str(tmp_path / "two"),
                "--resume_path",
                str(tmp_path / "one"),
            ]
        )
        == 0
    )
    assert read_log(tmp_path / "two/runs/small")[-1]["step"] == 40
