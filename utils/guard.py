"""Reads files from untrusted sources.

No file hangs a script or takes more memory than its size allows, and no result overwrites an input. Headers
are checked first. `datasets.picture_files` reads pictures, `models.checkpoint` checkpoints.
"""

import contextlib
import json
import os
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from swinsf.utils.cli import UserError

MOST_TEXT = 2**26  # limit for a JSON file, in bytes
MOST_UNPACKED = 2**31  # limit for an unpacked archive of arrays, in bytes
SUSPECT = 2**28, 100  # limits of unpacked bytes and of the compression ratio; an archive may exceed only one


def read_plain(path: str | Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes. Raises OSError for other files, since a pipe may hang."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(0, "not a regular file", str(path))
    if path.stat().st_size > most:
        raise OSError(0, f"more than {most:,} bytes", str(path))
    return path.read_bytes()


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises OSError, and ValueError if it is not JSON or nested too deeply."""
    return parse_json(read_plain(path, MOST_TEXT))


def parse_json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_archive(path: str | Path) -> None:
    """Raises UserError for a zip archive that unpacks to too many bytes. Other files pass."""
    with (
        contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError),
        zipfile.ZipFile(path) as archive,
    ):
        unpacked = sum(entry.file_size for entry in archive.infolist())
        least, ratio = SUSPECT
        if unpacked > MOST_UNPACKED or (unpacked > least and unpacked > ratio * Path(path).stat().st_size):
            raise UserError(
                f"{path}: unpacks to {unpacked:,} bytes, all in memory; use a .npy file, which is read in parts"
            )


def visible(paths: Iterable[Path]) -> list[Path]:
    """The paths without hidden files, such as the `._NAME` that macOS adds to each file."""
    return [path for path in paths if not path.name.startswith(".")]


def real_path(path: str | Path) -> Path:
    """A path with links followed. Unlike Path.resolve, accepts circular links."""
    return Path(os.path.realpath(path))


def keep_out(
    folder: str | Path,
    flag: str,
    files: Collection[Path],
    trees: Iterable[str | Path] = (),
    places: Iterable[str | Path] = (),
) -> None:
    """Raises UserError if results would go to a folder of inputs: a folder of one of `files`, or of `places`.

    trees: folders that are protected including their subfolders. Links are followed.
    """
    place = real_path(folder)
    taken = {real_path(path).parent for path in files} | {
        real_path(path) for path in (*places, *(f.parent for f in files))
    }
    if place in taken or {real_path(tree) for tree in trees} & {place, *place.parents}:
        raise UserError(f"{flag} {folder}: is inside a folder of inputs; choose another")
