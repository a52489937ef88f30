"""Every command line and flag in the documents is one that the scripts accept."""

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import sys

import pytest
from torch.distributed.run import get_args_parser as torchrun_parser

from swinsf.utils.cli import UserError
from tests.conftest import ROOT

SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py") if "__main__" in path.read_text())
TOOLS = sorted(
    f"tools.{path.stem}" for path in (ROOT / "tools").glob("*.py") if "__main__" in path.read_text()
)
MODULES = ["swinsf.training.ship", "swinsf.evaluation.niqe", *TOOLS]  # modules with a command line
OTHER_PROGRAMS = {"export", "pip", "zcat"}
# flags of pip, pytest-xdist and torchrun
OTHER_FLAGS = {
    "--quiet",
    "--disable-pip-version-check",
    "--maxprocesses",
    "--dist",
    *torchrun_parser()._option_string_actions,
}
PLACEHOLDERS = {"STEPS": ["300"], "FLAGS": []}  # placeholders in docs/design.md for numbers and flags


def source(module):
    return ROOT / (module.removeprefix("swinsf.").replace(".", "/") + ".py")


def recipes():
    """The Makefile with Python commands as indented blocks, and WORDS for each $(if $(NAME),WORDS)."""
    text = (ROOT / "Makefile").read_text().replace("\t$(BIN)/python", "    python")
    return re.sub(r'\$\(if \$\(\w+\),(--\w+) "\$\(\w+\)"\)', r"\1 DIR", text)


DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "checkpoint/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
TEXTS |= {
    module: ast.get_docstring(ast.parse(source(module).read_text()), clean=False)
    for module in SCRIPTS + MODULES
}
TEXTS["Makefile"] = recipes()


def command_lines(text):
    """The commands in a text: lines of indented blocks, continued ones joined, and those in backticks."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    lines = re.findall(r"^    (\S.*)$", re.sub(r"\\\n\s*", " ", text), re.M)
    spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text))
    lines += [span for span in spans if re.match(r"((python3?|torchrun|make) |\w+\.py .*--)", span)]
    return [line for line in lines if shlex.split(line, comments=True)]


def parse(module, arguments, monkeypatch):
    """Let one of our modules only parse its arguments. Raises SystemExit or UserError if it refuses them."""
    module = importlib.import_module(module)
    if hasattr(module, "parse_settings"):
        module.parse_settings(arguments)
    elif hasattr(module, "main"):

        class Parsed(BaseException):
            pass

        def parse_and_stop(parser, *_):
            parse_args(parser, arguments)
            raise Parsed

        parse_args = argparse.ArgumentParser.parse_args
        with monkeypatch.context() as patch, pytest.raises(Parsed):
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
            patch.setattr(sys, "argv", [module.__name__, *arguments])  # not pytest's own flags
            module.main()


def run_by_python(words, monkeypatch):
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]), f"no module {words[1]}"
        if source(words[1]).is_file():
            parse(words[1], words[2:], monkeypatch)
    else:
        assert words[0].removesuffix(".py") in SCRIPTS, f"no script {words[0]}"
        parse(words[0].removesuffix(".py"), words[1:], monkeypatch)


def run_by_make(words):
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        variable, equals, _ = word.partition("=")
        wanted = rf"\$\({variable}\)" if equals else rf"^{word}:"
        assert re.search(wanted, makefile, re.M), (
            f"no {'variable' if equals else 'target'} {variable} in the Makefile"
        )


def parse_line(line, monkeypatch):
    """Run a command up to the parsing of its arguments. Raises SystemExit, UserError or AssertionError."""
    for part in line.split(" | "):
        program, *words = shlex.split(part, comments=True)
        program = program.removeprefix(".venv/bin/")
        words = [taken for word in words for taken in PLACEHOLDERS.get(word, [word])]
        if program.endswith(".py"):
            run_by_python([program, *words], monkeypatch)
        elif program in ("python", "python3"):
            run_by_python(words, monkeypatch)
        elif program == "torchrun":
            settings = torchrun_parser().parse_args(words)
            run_by_python([settings.training_script, *settings.training_script_args], monkeypatch)
        elif program == "make":
            run_by_make(words)
        else:
            assert program in OTHER_PROGRAMS, f"unknown program {program}"


def flags_in(text):
    return set(re.findall(r"--[a-z][\w-]*", text))


def flags_of(module, monkeypatch, capsys):
    """The flags that a module's help lists."""
    with pytest.raises(SystemExit):
        parse(module, ["--help"], monkeypatch)
    return flags_in(" ".join(re.findall(r"^  (-.*)", capsys.readouterr().out, re.M)))


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A working folder with the folders that the commands call DIR."""
    for name in ("DIR", "DIR2"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name, line", [(name, line) for name, text in TEXTS.items() for line in command_lines(text)]
)
def test_every_documented_command_parses(name, line, places, monkeypatch):
    parse_line(line, monkeypatch)


def test_the_documents_have_commands_for_everything():
    lines = {name: command_lines(text) for name, text in TEXTS.items()}
    without = {
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/network.md",
        "docs/python.md",
    }  # these need none
    assert len(lines["README.md"]) > 12 and len(lines["checkpoint/README.md"]) > 6
    assert sum(map(len, lines.values())) > 80
    assert all(lines[name] for name in lines.keys() - without)
    every = "\n".join(line for some in lines.values() for line in some)
    for command in [f"{script}.py" for script in SCRIPTS] + [f"-m {module}" for module in MODULES]:
        assert command in every
    targets = set(re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)[0].split())
    assert targets - set(re.findall(r"make ([\w-]+)", every)) == {"clean"}


@pytest.mark.parametrize(
    "line",
    [
        "python train.py --data_mode 250 --no_such_flag 1",
        "python test.py --data_mode 251",
        "python tset.py",
        "test.py --split vall",
        "python -m datasets.inspcet REC.dat",
        "python reconstruct.py REC.dat --inspect --hieght 250",
        "python -m swinsf.evaluation.niqe PHOTOS",
        "zcat REC.dat.gz | python reconstruct.py - --out_put X.mp4",
        "torchrun --nproc_per_nod_e 8 reconstruct.py REC.dat",
        "torchrun --nproc_per_node 8 reconstruct.py REC.dat --gama 2",
        "python test.py --compare WGSE=NO_SUCH_DIR",
        "make result",
        "make results SAMPEL=x",
        "pyhton train.py",
    ],
)
def test_a_wrong_command_is_refused(line, places, monkeypatch):
    with pytest.raises((SystemExit, UserError, AssertionError)):
        parse_line(line, monkeypatch)


def test_command_lines_are_found():
    text = "Text, `make demo`, `python test.py\n--split val` and `test.py`.\n\n"
    text += "    # small\n    python a.py \\\n        --b 1  # c\n```python\n    make = 1\n```\n"
    assert command_lines(text) == ["python a.py  --b 1  # c", "make demo", "python test.py --split val"]


def test_every_documented_flag_exists(monkeypatch, capsys):
    flags = set().union(
        *(flags_of(module, monkeypatch, capsys) for module in [*SCRIPTS, *TOOLS, "tests.robustness.fuzz"])
    )
    assert {"--resume_path", "--compare", "--dark", "--parts", "--check", "--steps_per_second"} <= flags
    assert flags_in("| `--sensor reds` | `--made_up` |\n| --- | --- |") - flags == {"--made_up"}
    for name, text in TEXTS.items():
        assert flags_in(text) <= flags | OTHER_FLAGS, name
