import errno
import io
import shlex
import subprocess
import sys

import pytest
import torch

from swinsf.training.devices import check_machine, data_parallel, parse_device_ids
from swinsf.training.settings import TrainSettings
from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import check_compiler, pick_device
from tests.conftest import ROOT


def ends(main, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.run(main)
    return exit.value.code, capsys.readouterr().err


def raising(error):
    def main():
        raise error

    return main


def test_errors_end_in_one_line(capsys):
    assert ends(raising(UserError("a.dat: bad")), capsys) == (2, "error: a.dat: bad\n")
    from_worker = UserError(
        "Caught UserError in worker\nTraceback\n  line\nswinsf.utils.cli.UserError: a.dat: bad\n"
    )
    assert ends(raising(from_worker), capsys) == (2, "error: a.dat: bad\n")
    full = OSError(errno.ENOSPC, "No space left on device", "out.png")
    code, text = ends(raising(full), capsys)
    assert (
        code == 2 and text.startswith("error: out.png: No space left on device; ") and text.count("\n") == 1
    )
    assert ends(raising(KeyboardInterrupt()), capsys)[0] == 130
    assert ends(lambda: 0, capsys) == (0, "")


def test_an_internal_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(raising(ZeroDivisionError()))


def test_out_of_memory_names_the_flag():
    for error in (
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried"),
        RuntimeError("can't allocate memory: 9 GB"),
    ):
        with (
            pytest.raises(UserError, match="out of memory; lower --batch_size"),
            cli.memory_errors("lower --batch_size"),
        ):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), cli.memory_errors(""):
        raise RuntimeError("shapes do not fit")


def test_the_work_continues_after_the_reader_of_its_output_has_gone(tmp_path):
    code = f"from swinsf.utils import cli; cli.show_log(); [cli.log('x' * 70000) for _ in range(9)]; open({str(tmp_path / 'done')!r}, 'w').close()"
    command = f"{sys.executable} -c {shlex.quote(code)} | head -c 1"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stderr == ""
    assert (tmp_path / "done").exists()


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", "cuda")
    for name in ("gpu", "cuda:99", "meta"):
        with pytest.raises(UserError, match=name):
            pick_device(name)


def test_each_process_of_torchrun_uses_its_own_gpu(monkeypatch):
    current = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", current.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device() == pick_device("cuda") == torch.device("cuda:1")
    pick_device("cuda:0")
    pick_device("cpu")
    assert [str(device) for device in current] == ["cuda:1", "cuda:1", "cuda:0"]


def test_a_missing_compiler_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"--compile: no C\+\+ compiler found \(g\+\+\); install"):
        check_compiler(torch.device("cpu"))
    compiler = tmp_path / "my-c++"
    compiler.write_text("")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    check_compiler(torch.device("cpu"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="triton is missing"):
        check_compiler(torch.device("cuda"))


def test_device_ids():
    assert parse_device_ids("01") == [0, 1]
    assert parse_device_ids("0,1,10") == [0, 1, 10]
    assert parse_device_ids("") == []
    for text in ("0,a", "00", "-1", "0,,1"):
        with pytest.raises(UserError, match="--device_ids"):
            parse_device_ids(text)
    model = torch.nn.Identity()
    assert data_parallel(model, "") is model
    with pytest.raises(UserError, match="needs CUDA"):
        check_machine(TrainSettings(device_ids="01"), torch.device("cpu"))


def test_a_count_has_its_plural():
    assert [cli.plural(n, "stream") for n in (0, 1, 1000)] == ["0 streams", "1 stream", "1,000 streams"]


def refused(arguments, parser):
    with pytest.raises(cli.UsageError) as error:
        parser.parse_args(arguments)
    return str(error.value)


def test_an_unknown_flag_is_refused_with_the_nearest_ones():
    parser = cli.Parser("")
    for name in ("threshold_spread", "steps_per_frame", "stride", "output", "outputs"):
        parser.add_argument(f"--{name}")
    parser.add_argument("rest", nargs="*")
    assert "--threshold; did you mean --threshold_spread?;" in refused(["--threshold", "2"], parser)
    assert "--steps; did you mean --steps_per_frame" in refused(["--steps=3"], parser)
    assert "--outptu; did you mean --output or --outputs?" in refused(["--outptu", "x"], parser)
    assert "arguments: --zzz; " in refused(["--zzz"], parser)
    assert "did you mean" not in refused(["---"], parser)
    assert parser.parse_args(["--output", "x", "--", "--steps"]).rest == ["--steps"]
    assert parser.parse_args(["--output=--steps"]).output == "--steps"


class Tee:
    """A replacement for sys.stdout with which a program keeps a log."""

    def __init__(self):
        self.texts = []

    def write(self, text):
        self.texts.append(text)

    def flush(self):
        pass


def test_a_line_goes_to_an_output_of_any_kind(monkeypatch):
    for output, written in (
        (io.StringIO(), lambda o: o.getvalue()),
        (Tee(), lambda o: "".join(o.texts)),
        (io.TextIOWrapper(io.BytesIO(), "utf-8"), lambda o: o.buffer.getvalue().decode()),
    ):
        monkeypatch.setattr(sys, "stdout", output)
        cli.log("\u76f4 5 dB")
        assert written(output) == "\u76f4 5 dB\n"
    ascii_alone = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", ascii_alone)
    cli.log("\u76f4 5 dB")
    assert ascii_alone.buffer.getvalue() == b"\\u76f4 5 dB\n"

    class Gone(Tee):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    cli.log("to nobody")


def test_trouble_goes_to_stderr_and_to_a_programs_log(capsys, caplog):
    cli.show_log()
    with caplog.at_level("INFO", "swinsf"):
        cli.log("warning: the disk is full", trouble=True)
        cli.log("saved again", trouble=True)
        cli.log("warning: dark")
    out, err = capsys.readouterr()
    assert (out, err) == ("warning: dark\n", "warning: the disk is full\nsaved again\n")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_a_python_without_the_packages_names_the_environment(tmp_path):
    """`-S -I` leaves out site-packages, like another Python on the machine without them."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['reconstruct.py', 'README.md']; "
    code += "import runpy; runpy.run_path('reconstruct.py', run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert f"error: {sys.executable} lacks torch, " in result.stderr
    assert ".venv/bin/" in result.stderr


def test_the_remedy_names_an_existing_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "utils/cli.py"))
    monkeypatch.setattr(cli, "PACKAGES", ("swinsf_no_such_package",))
    with pytest.raises(UserError, match="install them: python3 -m venv"):
        cli.check_packages()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"run \.venv/bin/python instead, or first: source \.venv/bin/activate$"
    ):
        cli.check_packages()
