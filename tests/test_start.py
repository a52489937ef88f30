"""What a script imports before it has checked its command line, and before it is needed."""

import dataclasses
import json
import subprocess
import sys

import pytest

from swinsf.datasets import layout, paired
from swinsf.datasets.simulation.sensor import SENSORS
from swinsf.evaluation import metrics, niqe
from swinsf.models import PRECISIONS, SKIP_CHOICES, TSA_CHOICES, VARIANTS
from swinsf.training.recipes import RECIPES
from swinsf.utils import choices, cli
from swinsf.utils.cli import UserError
from tests.conftest import ROOT

SLOW = {"torch", "timm", "torchvision", "tensorboard", "matplotlib", "scipy", "skimage", "av", "einops"}
COMMANDS = [  # (command, exit status)
    *(
        ([script, flag], status)
        for script in ("train", "test", "reconstruct", "simulate", "calibrate")
        for flag, status in (("-h", 0), ("--tpyo", 2))
    ),
    (["train", "--dataset_path", "none"], 2),
    (["train", "--resume_path", "none"], 2),
    (["train", "--dataset_path", "photos:none", "--load_model", "none.pth"], 2),
    (["test", "--dataset_path", "none"], 2),
    (["test", "--load_model", "none.pth"], 2),
    (["reconstruct", "none.dat"], 2),
    (["reconstruct", "README.md", "--calibration", "none.npz"], 2),
    (["simulate", "--source", "photos:none", "--save_path", "none"], 2),
    (["calibrate", "--dark", "none.dat", "--flat", "none.dat", "--output", "x.npz"], 2),
]
CODE = """
import contextlib, importlib, io, json, runpy, sys
found = []
for name, *flags in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = [f"{name}.py", *flags]
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
        try:
            runpy.run_path(f"{name}.py", run_name="__main__")
        except SystemExit as end:
            found.append([end.code or 0, err.getvalue(), sorted({module.partition(".")[0] for module in sys.modules})])
for name in ("train", "test", "reconstruct", "simulate", "calibrate"):
    importlib.import_module(name)
print(json.dumps([found, sorted({module.partition(".")[0] for module in sys.modules})]))
"""


def test_flags_and_paths_are_checked_before_slow_imports():
    commands = json.dumps([command for command, _ in COMMANDS])
    result = subprocess.run([sys.executable, "-c", CODE, commands], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found, imported = json.loads(result.stdout)
    assert len(found) == len(COMMANDS)
    for (command, status), (code, errors, modules) in zip(COMMANDS, found):
        assert code == status, command
        assert errors.count("error: ") == len(errors.splitlines()) == (1 if status else 0), errors
        assert not SLOW & set(modules), command
    # skimage loads its parts lazily
    assert SLOW & set(imported) == {"torch", "einops", "av", "skimage"}


def test_choices_of_flags_match_the_code():
    assert tuple(VARIANTS) == choices.VARIANTS and tuple(RECIPES) == choices.RECIPES
    assert tuple(PRECISIONS) == choices.PRECISIONS and tuple(SENSORS) == choices.SENSORS
    assert TSA_CHOICES == choices.TSA and SKIP_CHOICES == choices.SKIP
    assert tuple(paired.PAIRED) == choices.PAIRED and tuple(layout.SPLITS) == choices.SPLITS
    assert metrics.PROTOCOLS == choices.PROTOCOLS
    assert niqe.PRISTINE.is_file() and dataclasses.is_dataclass(VARIANTS["250"])


def test_under_torchrun_the_command_line_is_not_checked_early(monkeypatch):
    looked = []
    monkeypatch.setenv("RANK", "1")
    cli.begin(lambda: looked.append(1))
    assert not looked
    monkeypatch.delenv("RANK")
    cli.begin(lambda: looked.append(1))
    assert looked


def test_the_early_check_names_missing_paths_and_accepts_others(tmp_path):
    for look, path in (
        (choices.look_at_dataset, tmp_path / "none"),
        (choices.look_at_weights, tmp_path / "none.pth"),
        (choices.look_at_recording, str(tmp_path / "none.dat")),
    ):
        with pytest.raises(UserError, match=r"none.*: no such .*; check"):
            look(path)
        look(str(tmp_path))
    choices.look_at_dataset("demo")
    choices.look_at_dataset("videos:none")  # opening it raises the error
    choices.look_at_weights(None)
    for name in ("-", "*.dat"):
        choices.look_at_recording(name)


def test_weights_are_checked_without_pytorchs_compiler():
    """Computing on the meta device, as the check of a file's architecture could do, would import it."""
    code = "import sys; from swinsf import models; models.load_model(models.shipped_weights()); print({'torch._dynamo', 'timm'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


def test_scoring_does_not_import_slow_packages():
    code = "import sys, numpy; from swinsf.evaluation.metrics import psnr_ssim; print(psnr_ssim(*numpy.eye(20).reshape(2, 10, 20)).psnr); "
    code += "print({'scipy.stats', 'matplotlib'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.endswith("set()\n") and float(result.stdout.split()[0]) > 40, result.stderr
