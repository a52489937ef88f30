"""Who may import whom, and that the README names what there is."""

import ast
import re

import pytest

from tests.conftest import ROOT

ABOVE = {"engine", "settings", "swinsf"}  # what the scripts share, above the three packages
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


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "checkpoint/README.md",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
WRITTEN = {"last.pth", "best.pth", "epoch_0007.pth", "NAME.pth"}  # by the scripts, and a name for any


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_only_files_that_exist(name):
    text = (ROOT / name).read_text()
    for file in set(re.findall(r"`((?:\w+/)*\w+\.(?:py|pth|txt|npz))`", text)) - WRITTEN:
        assert (ROOT / file).exists() or (ROOT / "checkpoint" / file).exists() or file.split("/")[-1] in files_below(), file
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / name).parent / link).exists(), link


def files_below():
    """Names of the files of `datasets/simulation`, which docs/architecture.md calls by their names alone."""
    return {path.name for path in (ROOT / "datasets/simulation").glob("*.py")} | {"weights.py"}


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 180 and len(text.split()) <= 1500


def test_the_map_names_every_file():
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [*ROOT.glob("*.py"), *(path for room in PACKAGES for path in (ROOT / room).glob("*.py"))]
    for path in rooms:
        name = str(path.relative_to(ROOT))
        assert f"`{name}`" in text or path.name == "__init__.py", name
