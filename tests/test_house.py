"""Which packages may import which, and that documents and files agree."""

import ast
import re
import subprocess
import sys

import pytest

import swinsf
from tests.conftest import ROOT

BELOW = {"utils", "models", "datasets"}
ROOMS = {  # our packages that each may import
    "utils": {"utils"},
    "models": {"models", "utils"},
    "datasets": {"datasets", "utils"},
    "evaluation": {"evaluation"} | BELOW,
    "training": {"training", "evaluation"} | BELOW,
    "recordings": {"recordings", "evaluation"} | BELOW,
}
SCRIPTS = {path.stem for path in ROOT.glob("*.py")} - {"swinsf"}
FILES = [path for path in ROOT.rglob("*.py") if not {".venv", "results", "findings"} & set(path.parts)]


def imported(path):
    """Dotted names of a file's imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(path):
    """The parts of swinsf that a file imports from."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("swinsf.")}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_they_may(room):
    for path in (ROOT / room).rglob("*.py"):
        assert rooms_of(path) <= ROOMS[room], path


def test_own_imports_begin_with_swinsf():
    for path in FILES:
        tops = {name.split(".")[0] for name in imported(path)}
        assert not tops & ROOMS.keys(), path
        if "tests" not in path.parts:
            assert not tops & SCRIPTS and not rooms_of(path) & SCRIPTS - {"reconstruct"}, (
                path
            )  # the function has the script's name


def test_public_names_exist_and_static_and_lazy_imports_agree():
    tree = ast.parse((ROOT / "swinsf.py").read_text())
    static = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name in swinsf.__all__:
        assert static[name] == f"swinsf.{swinsf._HOMES[name]}" and callable(getattr(swinsf, name)), name
    assert set(swinsf.__all__) == swinsf._HOMES.keys() <= set(dir(swinsf))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = swinsf.no_such_name


def test_every_dependency_is_in_the_requirements():
    names = {"cv2": "opencv-python-headless", "skimage": "scikit-image", "PIL": "pillow"}
    required = set(re.findall(r"^([\w-]+)>=", (ROOT / "requirements.txt").read_text(), re.M))
    required |= {"onnxruntime", "lpips"}  # from the extras
    own = SCRIPTS | {"swinsf", "tests", "tools"}
    for path in FILES:
        for module in {name.split(".")[0] for name in imported(path)} - own - set(sys.stdlib_module_names):
            assert names.get(module, module) in required, f"{path} imports {module}"


def test_pyproject_and_requirements_txt_agree():
    text = (ROOT / "requirements.txt").read_text()
    package = (ROOT / "pyproject.toml").read_text()
    package = re.sub(r"\n(export|lpips) = \[.*?\]", "", package, flags=re.DOTALL)
    asked = set(re.findall(r'"([\w-]+>=[\d.]+)"', package))
    assert set(re.findall(r"^([\w-]+>=[\d.]+)", text, re.M)) == asked


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "checkpoint/README.md",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
WRITTEN = {
    "last.pth",
    "best.pth",
    "epoch_0007.pth",
    "NAME.pth",
}  # files that the scripts write, and a placeholder


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_only_files_that_exist(name):
    text = (ROOT / name).read_text()
    for file in set(re.findall(r"`((?:\w+/)*\w+\.(?:py|pth|txt|npz))`", text)) - WRITTEN:
        assert (
            (ROOT / file).exists()
            or (ROOT / "checkpoint" / file).exists()
            or file.split("/")[-1] in files_below()
        ), file
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / name).parent / link).exists(), link


def files_below():
    """Names of the files in `datasets/simulation`, which docs/architecture.md gives without their folder."""
    return {path.name for path in (ROOT / "datasets/simulation").glob("*.py")} | {"weights.py"}


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 180 and len(text.split()) <= 1500


def test_long_files_have_a_documented_reason():
    section = (ROOT / "docs/architecture.md").read_text().split("## Long files and functions")[1]
    reasons = section.split("\n## ")[0]
    rooms = [
        *ROOT.glob("*.py"),
        *(path for room in (*ROOMS, "tools") for path in (ROOT / room).rglob("*.py")),
    ]
    for path in rooms:
        lines, name = len(path.read_text().splitlines()), str(path.relative_to(ROOT))
        assert lines <= 300 or f"`{name}`" in reasons, f"{name}: {lines} lines"


def test_the_architecture_page_names_every_file():
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).glob("*.py"))]
    for path in rooms:
        name = str(path.relative_to(ROOT))
        assert f"`{name}`" in text or path.name == "__init__.py", name


@pytest.mark.parametrize("script, lines, names", [("train.py", 150, 16), ("test.py", 150, 28)])
def test_scripts_only_wire(script, lines, names):
    text = (ROOT / script).read_text()
    assert len(text.splitlines()) < lines
    assert len([name for name in imported(ROOT / script) if name.startswith("swinsf.")]) <= names


@pytest.mark.parametrize("room", ["training", "evaluation"])
def test_functions_and_fields_have_type_hints(room):
    for path in (ROOT / room).rglob("*.py"):
        tree = ast.parse(path.read_text())
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        for function in [*tree.body, *(member for c in classes for member in c.body)]:
            if isinstance(function, ast.FunctionDef):
                arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
                bare = [a.arg for a in arguments if a.annotation is None and a.arg != "self"]
                done = function.returns or function.name == "__init__"
                assert done and not bare, f"{path}: {function.name} {bare}"


def test_importing_swinsf_changes_no_global_state():
    """No setting of OpenCV, Pillow or PyTorch, no signal, no environment variable changes."""
    code = """
import importlib, os, pathlib, signal, sys
import cv2, numpy, torch, PIL.Image
def look():
    return (cv2.getNumThreads(), cv2.utils.logging.getLogLevel(), PIL.Image.MAX_IMAGE_PIXELS, dict(os.environ),
            torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.initial_seed(), numpy.geterr(),
            [signal.getsignal(s) for s in signal.valid_signals()])
before = look()
import swinsf
root = pathlib.Path(swinsf.__file__).parent
for path in root.glob("*/**/*.py"):
    if path.relative_to(root).parts[0] in sys.argv[1:]:
        importlib.import_module("swinsf." + ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
assert "swinsf.evaluation.page" in sys.modules and look() == before
"""
    result = subprocess.run([sys.executable, "-c", code, *ROOMS], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
