"""Checkpoint files: writing is atomic, and loading cannot run code from a file."""

import io
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write

DEEPEST, MOST_ITEMS = 16, 4 * 10**6  # limits for a checkpoint's contents: levels of nesting, items per level
# Names a checkpoint may use: tensors and their parts. torch.load allows more, such as bytearrays of any size.
PLAIN = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch(\.storage)? \w*Storage|torch Size"
)
# torch's older format has five pickles in a row: a number, a version, the system, contents, names
OLD_PICKLES = 5
ZIP = b"PK\x03\x04"  # first bytes of a zip file


def save(contents: dict[str, Any], path: str | Path) -> None:
    """Write a dict of tensors and plain values atomically."""
    # Serialise to memory first: with a full disk, torch.save would raise PyTorch's own error, not an OSError.
    data = io.BytesIO()
    torch.save(contents, data)
    with atomic_write(path) as file:
        file.write(data.getbuffer())


def load(path: str | Path) -> dict[str, Any]:
    """Load a file written by `save` or torch.save onto the CPU; tensors and plain values only.

    Raises UserError if the file is missing, damaged, not a checkpoint, or could run code on loading.
    """
    path = Path(path)
    if not path.is_file():
        folder = " (a folder)" if path.is_dir() else ""
        raise UserError(f"{path}: no such weights file{folder}; check the path")
    try:
        check_pickles(path)
        with warnings.catch_warnings():  # about the pickle's protocol
            warnings.simplefilter("ignore")
            contents = torch.load(path, map_location="cpu", weights_only=True)
        check_contents(contents, path.stat().st_size)
    except Refused as reason:
        raise UserError(
            f"{path}: refused, since {reason}; use a file from train.py, or save the weights again where they"
            " load: torch.save(model.state_dict(), PATH)"
        ) from None
    except Exception as error:  # a damaged file fails in many ways
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise UserError(
            f"{path}: not a checkpoint, or damaged ({first:.300}); use an undamaged copy"
        ) from None
    if not isinstance(contents, dict):
        kind = type(contents).__name__
        raise UserError(
            f"{path}: holds a {kind}, not a dict of weights; use torch.save(model.state_dict(), PATH)"
        )
    return contents


class Refused(ValueError):
    """Raised for a file that must not be loaded. The text says why."""


def check_pickles(path: Path) -> None:
    """Raises `Refused` if a torch.save file names more than tensors, is compressed, or claims too many bytes.

    Loads nothing. A damaged file raises other exceptions.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        zipped = file.read(len(ZIP)) == ZIP  # as torch.load decides
    if zipped:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > size:
                raise Refused("it is compressed or claims more bytes than it has")
            pickles = [
                io.BytesIO(archive.read(entry)) for entry in entries if entry.filename.endswith("data.pkl")
            ]
    else:
        pickles = [io.BytesIO(path.read_bytes())] * OLD_PICKLES
    for file in pickles:
        operations = pickletools.genops(file) if file.tell() < len(file.getbuffer()) else ()
        names = (
            str(value) for code, value, _ in operations if code.name in ("GLOBAL", "STACK_GLOBAL", "INST")
        )
        foreign = next((name for name in names if not PLAIN.fullmatch(name)), None)
        if foreign:
            raise Refused(
                f"it holds more than tensors and plain values ({foreign.replace(' ', '.'):.80}) and could run code on loading"
            )


def check_contents(contents: Any, size: int) -> None:
    """Raises `Refused` if the contents of a file of `size` bytes need far more memory, or are not plain.

    Tensors must be dense and no larger than the file, and integers at most 64 bits. Contents may have up to
    DEEPEST levels with MOST_ITEMS each.
    """
    level = [contents]
    for _ in range(DEEPEST):
        inner = []
        for value in level:
            if torch.is_tensor(value):
                dense = value.layout == torch.strided and not value.is_meta and not value.is_nested
                if not dense or value.numel() * value.element_size() > size:
                    raise Refused("a tensor in it claims more than the file has")
            elif isinstance(value, dict):
                inner += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple | set):
                inner += value
            elif isinstance(value, int) and abs(value) >= 2**64:
                raise Refused("it has a number of more than 64 bits")
            if len(inner) > MOST_ITEMS:
                raise Refused("its contents are nested without end")
        if not inner:
            return
        level = inner
    raise Refused("its contents are nested without end")
