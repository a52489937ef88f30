"""The wheel: built, installed into an empty environment, and used beside packages with our names."""

import subprocess
import sys
import sysconfig
import zipfile

import numpy as np
import pytest

from tests.conftest import ROOT, moving_scene

COMMANDS = ("swinsf-train", "swinsf-test", "swinsf-reconstruct", "swinsf-simulate")


def run(*command, cwd=ROOT, status=0):
    result = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=240)
    assert result.returncode == status, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    return next(folder.glob("swinsf-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The bin folder of an environment with the wheel and this environment's packages."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "bin/python",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        wheel,
    )
    return folder / "bin"


@pytest.fixture
def place(tmp_path):
    """A folder with a recording, and packages that would break ours."""
    np.save(tmp_path / "rec.npy", moving_scene(24, 32, 61))
    for name in ("utils", "datasets", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    return tmp_path


def test_the_wheel_has_all_files_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {
        "swinsf",
        next(iter(n for n in names if "dist-info" in n)).split("/")[0],
    }
    rooms = ("models", "datasets", "recordings", "training", "evaluation", "utils")
    code = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    weights = list((ROOT / "checkpoint").glob("*.pth"))
    scripts = [path for path in ROOT.glob("*.py") if path.name != "swinsf.py"]
    for path in [*code, *weights, *scripts]:
        assert f"swinsf/{path.relative_to(ROOT)}" in names, path
    assert {
        "swinsf/__init__.py",
        "swinsf/evaluation/page.html",
        "swinsf/evaluation/niqe_pristine.npz",
        "swinsf/py.typed",
    } <= names
    assert not [
        name
        for name in names
        if name.startswith(("swinsf/tests", "swinsf/tools", "swinsf/docs", "swinsf/swinsf.py"))
    ]


def test_a_command_works_beside_packages_with_our_names(environment, place):
    flags = ["--stride", "20", "--output", "out.npy", "--device", "cpu"]
    run(environment / "swinsf-reconstruct", "rec.npy", *flags, cwd=place)
    made = np.load(place / "out.npy")
    assert made.shape == (2, 24, 32) and made.dtype == np.uint8 and made.std() > 5
    code = (
        "import utils, datasets, models, swinsf, sys; assert utils.MINE and datasets.MINE and models.MINE; "
    )
    code += "assert 'environment' in swinsf.__file__ and 'torch' not in sys.modules; import numpy; "
    code += "made = [p for _, p in swinsf.pictures('rec.npy')]; assert numpy.array_equal(made, numpy.load('out.npy'))"
    run(environment / "python", "-c", code, cwd=place)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_behave_like_the_scripts(environment, place, command):
    assert (
        "--save_path" in run(environment / command, "-h", cwd=place).stdout or command == "swinsf-reconstruct"
    )
    error = run(environment / command, "--tpyo", cwd=place, status=2).stderr
    assert error.count("\n") == 1 and error.startswith("error: ")


def test_a_command_that_starts_processes(environment, place, photos):
    flags = ["--source", f"photos:{photos}", "--save_path", "sim", "--count", "2", "--workers", "2"]
    run(environment / "swinsf-simulate", *flags, cwd=place)
    assert len([*place.glob("sim/train/input/*.dat")]) == 2
