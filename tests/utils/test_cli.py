import argparse
import errno
import shlex
import subprocess
import sys

import pytest
import torch

from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import (
    check_compiler,
    check_parallel,
    data_parallel,
    parse_device_ids,
    pick_device,
)
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


def test_a_fault_of_ours_keeps_its_traceback():
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


def test_the_work_continues_where_the_reader_of_its_output_has_gone(tmp_path):
    code = f"from swinsf.utils import cli; [cli.log('x' * 70000) for _ in range(9)]; open({str(tmp_path / 'done')!r}, 'w').close()"
    command = f"{sys.executable} -c {shlex.quote(code)} | head -c 1"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stderr == ""
    assert (tmp_path / "done").exists()


def test_truth_and_numbers():
    assert [cli.truth(word) for word in ("True", "false", "1", "no")] == [True, False, True, False]
    assert cli.positive_int("3") == 3 and cli.count("0") == 0
    for parse, text in (
        (cli.truth, "maybe"),
        (cli.positive_int, "0"),
        (cli.count, "-1"),
        (cli.number(float, 0, 1), "nan"),
        (cli.positive_int, "2.5"),
    ):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", "cuda")
    for name in ("gpu", "cuda:99", "meta"):
        with pytest.raises(UserError, match=name):
            pick_device(name)


def test_each_process_of_torchrun_has_the_gpu_of_its_number_for_its_own(monkeypatch):
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
    assert data_parallel(model, []) is model
    with pytest.raises(UserError, match="needs CUDA"):
        check_parallel(torch.device("cpu"), [0, 1])


def test_assignments():
    assert cli.assignment("channels=64") == ["channels", 64]
    assert cli.assignment("depths=6,6") == ["depths", (6, 6)] and cli.assignment("depths=8,") == [
        "depths",
        (8,),
    ]
    assert cli.assignment("mlp_ratio=2.5") == ["mlp_ratio", 2.5] and cli.assignment("tsa=paper") == [
        "tsa",
        "paper",
    ]
    for text in ("channels", "channels=", "=3", "a b=3"):
        with pytest.raises(argparse.ArgumentTypeError, match="not NAME=VALUE"):
            cli.assignment(text)


def test_a_count_has_its_plural():
    assert [cli.plural(n, "stream") for n in (0, 1, 1000)] == ["0 streams", "1 stream", "1,000 streams"]
