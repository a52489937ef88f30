"""Who may import whom, and that the README names what there is."""

import ast
import re

import pytest

from tests.conftest import ROOT

ABOVE = {"engine", "settings"}  # what the scripts share, above the three packages
PACKAGES = {"models", "datasets", "utils"}
ROOMS = {"utils": {"utils"}, "models": {"models", "utils"}, "datasets": {"datasets", "utils"}}  # what each may import of ours
SCRIPTS = {path.stem for path in ROOT.glob("*.py")} - ABOVE
OWN = PACKAGES | ABOVE | SCRIPTS | {"tools", "tests"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_they_may(room):
    for path in (ROOT / room).rglob("*.py"):
        assert set(imported(path)) & OWN <= ROOMS[room], path


def test_nothing_imports_a_script():
    for name in ABOVE:
        assert not set(imported(ROOT / f"{name}.py")) & (SCRIPTS | {"tools", "tests"}), name


def test_every_dependency_is_in_the_requirements():
    names = {"cv2": "opencv-python-headless", "skimage": "scikit-image", "PIL": "pillow"}
    required = set(re.findall(r"^([\w-]+)>=", (ROOT / "requirements.txt").read_text(), re.M))
    import sys

    for path in (p for p in ROOT.rglob("*.py") if ".venv" not in p.parts and "results" not in p.parts):
        for module in set(imported(path)) - OWN - set(sys.stdlib_module_names):
            assert names.get(module, module) in required, f"{path} imports {module}"


def test_the_readme_names_only_files_that_exist():
    readme = (ROOT / "README.md").read_text()
    for file in set(re.findall(r"`((?:\w+/)*\w+\.(?:py|pth|txt|npz))`", readme)):
        if not file.startswith("datasets/spike"):
            assert (
                (ROOT / file).exists()
                or (ROOT / "checkpoint" / file).exists()
                or file in ("last.pth", "best.pth", "epoch_0007.pth")
            ), file
