"""Pictures of any depth and colour as grey levels; locks; paths."""

import ast
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

import reconstruct
from swinsf.datasets.picture_files import read_grey
from swinsf.datasets.simulation.folder import claim_folder
from swinsf.datasets.simulation.photos import split_photos
from swinsf.datasets.simulation.videos import find_videos
from swinsf.evaluation import page
from swinsf.recordings import output
from swinsf.training.run import RunLock, create_folder
from swinsf.utils import cli, files
from swinsf.utils.cli import UserError
from tests.conftest import ROOT, random_spikes
from tests.test_house import ROOMS

COLOUR = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
GREY = cv2.cvtColor(COLOUR, cv2.COLOR_BGR2GRAY)


def png_with(data, kind, body):
    """A PNG with another chunk after its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("gamma", [None, 45455, 100000, 22000])
@pytest.mark.parametrize(
    "picture", [COLOUR, np.dstack([COLOUR, GREY]), GREY], ids=["colour", "transparent", "grey"]
)
def test_a_png_has_the_same_grey_levels_with_any_gamma(tmp_path, picture, gamma):
    data = cv2.imencode(".png", picture)[1].tobytes()
    (tmp_path / "a.png").write_bytes(png_with(data, b"gAMA", struct.pack(">I", gamma)) if gamma else data)
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png"), GREY)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_range_of_a_16_bit_picture_is_detected(tmp_path, bits, suffix):
    for picture in (GREY, COLOUR):
        path = tmp_path / f"a{suffix}"
        bright = picture.copy()
        bright.flat[0] = 255
        assert cv2.imwrite(str(path), np.round(bright * ((2**bits - 1) / 255)).astype(np.uint16))
        expected = bright if bright.ndim == 2 else cv2.cvtColor(bright, cv2.COLOR_BGR2GRAY)
        assert np.abs(read_grey(path)[1:].astype(int) - expected[1:]).max() <= 1


def test_a_compared_picture_of_16_bits_is_refused(tmp_path):
    assert cv2.imwrite(str(tmp_path / "a.png"), GREY.astype(np.uint16))
    with pytest.raises(UserError, match=r"a\.png: a picture of 16 bits"):
        page.read_compared(tmp_path, "a", GREY.shape)


def test_hidden_photographs_and_videos_change_no_split(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
        (tmp_path / f"{i}.MP4").write_bytes(b"")
    before = split_photos(tmp_path), find_videos(tmp_path)
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"._{path.name}").write_bytes(b"")
    assert (split_photos(tmp_path), find_videos(tmp_path)) == before


@pytest.mark.parametrize("argument, expected", [
    ("~/x.mp4", "HOME/x.mp4"), ("~", "HOME"), ("--output=~/x.mp4", "--output=HOME/x.mp4"), ("photos:~/p", "photos:HOME/p"),
    ("--dataset_path=videos:~/v", "--dataset_path=videos:HOME/v"), ("WGSE=~/w", "WGSE=HOME/w"),
    ("--compare=WGSE=~/w", "--compare=WGSE=HOME/w"), ("a~b", "a~b"), ("/x/~", "/x/~"), ("a=b=~", "a=b=~"),
    ("--output", "--output"),
])  # fmt: skip
def test_a_home_folder_in_any_argument(monkeypatch, tmp_path, argument, expected):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.expand_home(argument) == expected.replace("HOME", str(tmp_path))
    parser = cli.Parser("")
    parser.add_argument("--output", type=Path)
    assert parser.parse_args(["--output", "~/x"]).output == tmp_path / "x"


def test_locks_are_used_if_the_platform_has_them(tmp_path, monkeypatch):
    """Only one module uses them; without fcntl, as on Windows, everything imports and nothing is locked."""
    for path in (*ROOT.glob("*.py"), *(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))):
        names = {
            n.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for n in node.names
        }
        assert path.name == "files.py" or not names & {"fcntl", "msvcrt"}, path
    handle = files.lock_folder(tmp_path)
    with pytest.raises(BlockingIOError):
        files.lock_folder(tmp_path)
    os.close(handle)
    with open(tmp_path / "file", "wb") as file:
        files.lock_file(file.fileno(), "file")
        code = "import sys; from swinsf.utils import files; file = open(sys.argv[1], 'r+b'); files.lock_file(file.fileno(), 'file')"
        other = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "file"], cwd=ROOT, capture_output=True, text=True
        )
        assert other.returncode == 1 and "BlockingIOError" in other.stderr
    monkeypatch.setattr(files, "fcntl", None)
    assert files.lock_folder(tmp_path) is None and files.lock_folder(tmp_path) is None


def test_reconstruct_in_a_thread_as_a_notebook_may_call_it(tmp_path):
    np.save(tmp_path / "rec.npy", random_spikes(60, 24, 32))
    status = []
    arguments = [
        str(tmp_path / "rec.npy"),
        "--method",
        "tfp",
        "--output",
        str(tmp_path / "out.npy"),
        "--device",
        "cpu",
    ]
    thread = threading.Thread(target=lambda: status.append(reconstruct.main(arguments)))
    thread.start()
    thread.join()
    assert status == [0] and len(np.load(tmp_path / "out.npy")) == 1


def refusing(number):
    def call(*_):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_mistaken_for_another_process(
    tmp_path, monkeypatch, capsys, number
):
    monkeypatch.setattr(files.fcntl, "lockf", refusing(number))
    monkeypatch.setattr(files.fcntl, "flock", refusing(number))
    cli.show_log()
    RunLock().take(tmp_path)
    os.close(files.lock_folder(tmp_path))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(f"{tmp_path}: no locks on this file system" in line for line in lines)
    for number in (errno.EAGAIN, errno.EACCES):
        monkeypatch.setattr(files.fcntl, "lockf", refusing(number))
        with pytest.raises(UserError, match="another process uses this run"):
            RunLock().take(tmp_path)


def test_a_file_system_that_refuses_chmod_or_fsync_can_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "chmod", refusing(errno.EPERM))
    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL))
    with files.atomic_write(tmp_path / "a") as file:
        file.write(b"all of it")
    assert (tmp_path / "a").read_bytes() == b"all of it"
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))  # lost data are a real error
    with pytest.raises(OSError, match=str(tmp_path / "a")), files.atomic_write(tmp_path / "a") as file:
        file.write(b"something else")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"all of it")]


@pytest.mark.parametrize("umask, rights", [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_permissions_of_the_umask(tmp_path, umask, rights):
    """With 002 a group can resume a run, since all members can write to its lock file."""
    before = os.umask(umask)
    try:
        with files.atomic_write(tmp_path / "last.pth") as file:
            file.write(b"")
        lock = RunLock()
        lock.take(tmp_path)
        lock.release()
        out = output.open_output(tmp_path / "x.npy", {}, (6, 10), range(20, 40))
        out.claim()
        out.write(20, np.zeros((6, 10), np.uint8))
        out.close()
    finally:
        os.umask(before)
    names = ("last.pth", ".lock", ".x.npy.parts/pictures", ".x.npy.parts/reconstruct.json")
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {rights}


def test_text_is_utf_8_in_any_locale(tmp_path):
    """A locale's encoding may be another one, such as GBK on Chinese Windows; here Python is set to ASCII."""
    code = "import sys; from swinsf.utils.files import atomic_write; file = atomic_write(sys.argv[1], 'w'); "
    code += "file.__enter__().write('\\u76f4\\u5347\\u673a \\xe9'); file.__exit__(None, None, None)"
    ascii_alone = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "a"], cwd=ROOT, env=ascii_alone, check=True)
    assert (tmp_path / "a").read_text("utf-8") == "\u76f4\u5347\u673a \xe9"


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "lost+found/", "._rec.dat"])
def test_system_files_do_not_make_a_folder_foreign(tmp_path, name):
    left = tmp_path / name
    if name.endswith("/"):
        left.mkdir()
    else:
        left.write_bytes(b"x")
    create_folder(tmp_path)
    claim_folder(tmp_path, "train", {"sensors": {}, "count": 1})
    (tmp_path / "meta.json").unlink()
    out = output.open_output(tmp_path, {}, (6, 10), range(20, 40))
    out.claim()
    out.close()
    assert left.exists()
