"""Reading files that anyone may have written.

No file runs code, hangs a script or takes more memory than its size allows, and no result overwrites an input.
What a file claims is checked first.
"""

import contextlib
import io
import json
import os
import pickletools
import re
import struct
import threading
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from swinsf.utils.cli import UserError

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
MOST_PIXELS = 200_000_000  # of a picture, as the largest cameras have; decoding one takes up to 1.4 GB
WHITES = (255, 1023, 4095, 16383, 65535)  # of 8 to 16 bits
LARGE_PICTURE = 2**24  # pixels or bytes; larger pictures are decoded one at a time
MOST_BYTES = 2**30  # of a picture file
MOST_TEXT = 2**26  # bytes of a JSON file
MOST_UNPACKED = 2**31  # bytes of an archive of arrays
SUSPECT = 2**28, 100  # no archive of arrays unpacks to more bytes than this by this factor
DEEPEST, MOST_ITEMS = 16, 4 * 10**6  # of a checkpoint's contents
# What a checkpoint may name: tensors and their parts. torch.load allows more, such as a bytearray of any size.
PLAIN = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch(\.storage)? \w*Storage|torch Size"
)
# torch's older format has five in a row: a number, a version, the system, contents, names
OLD_PICKLES = 5


class Refused(ValueError):
    """A file that is not read further. Its text says why."""


_one_at_a_time = threading.RLock()


def taking_turns(size: int) -> contextlib.AbstractContextManager[Any]:
    """A context in which large files are read one at a time, by any number of threads."""
    return _one_at_a_time if size > LARGE_PICTURE else contextlib.nullcontext()


def read_plain(path: str | Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes. Raises OSError for others, as a pipe may hang."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(0, "no plain file", str(path))
    if path.stat().st_size > most:
        raise OSError(0, f"more than {most:,} bytes", str(path))
    return path.read_bytes()


def read_json(path: str | Path) -> Any:
    """The value in a JSON file. Raises OSError, and ValueError if it is not JSON or nested too deeply."""
    return parse_json(read_plain(path, MOST_TEXT))


def parse_json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_archive(path: str | Path) -> None:
    """Raises UserError for a zip archive that unpacks to too much. Other files pass."""
    with (
        contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError),
        zipfile.ZipFile(path) as archive,
    ):
        unpacked = sum(entry.file_size for entry in archive.infolist())
        least, ratio = SUSPECT
        if unpacked > MOST_UNPACKED or (unpacked > least and unpacked > ratio * Path(path).stat().st_size):
            raise UserError(
                f"{path}: unpacks to {unpacked:,} bytes, and is unpacked whole; use a .npy file, which is read piece by piece"
            )


def check_pickles(path: Path) -> None:
    """Raises `Refused` if a file of torch.save names more than tensors, is packed, or claims too many bytes.

    Loads nothing. A damaged file fails in many other ways.
    """
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > size:
                raise Refused("it is packed or claims more bytes than it has")
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
    """Raises `Refused` for contents of a file of `size` bytes that need far more memory, or are not plain.

    Tensors are dense and no larger than the file. Nesting has at most DEEPEST levels with MOST_ITEMS each.
    Whole numbers have 64 bits.
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


def read_grey(path: str | Path) -> np.ndarray | None:
    """A picture file as grey uint8 (h, w); None if it has no whole picture, or more than MOST_PIXELS.

    16 bits are scaled to 8 by `white_of`. Raises OSError if it cannot be read.
    """
    picture = read_levels(path)
    return None if picture is None else to_eight_bits(picture, white_of(picture))


def read_levels(path: str | Path) -> np.ndarray | None:
    """`read_grey` with the values of the file, uint8 or uint16 (h, w)."""
    with taking_turns(os.stat(path).st_size):
        return decode_levels(read_plain(path, MOST_BYTES))


def white_of(picture: np.ndarray) -> int:
    """The value of white: 255; with 16 bits 1023, 4095, 16383 or 65535, the first that is large enough.

    Cameras store 10, 12 and 14 bits in 16. So a very dark picture seems to have fewer bits than it has.
    """
    if picture.dtype == np.uint8:
        return 255
    most = int(picture.max())
    return next(white for white in WHITES if most <= white)


def to_eight_bits(picture: np.ndarray, white: int) -> np.ndarray:
    """A picture with this value of white as uint8, rounded."""
    if white == 255:
        return picture.astype(np.uint8)
    return np.round(picture * np.float32(255 / white)).astype(np.uint8)


def decode_levels(data: bytes) -> np.ndarray | None:
    """`read_levels` of a file's bytes."""
    # OpenCV also decodes a file that is cut short; such a file has no end mark.
    if data.startswith(b"\x89PNG") and not is_whole_png(data):
        return None
    # cameras may add something after it
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[len(data) // 2 :]:
        return None
    pixels = claimed_pixels(data)
    if not 0 < pixels <= MOST_PIXELS:
        return None
    # libpng would apply the file's gamma, if any, when it turns colour into grey
    colour = data.startswith(b"\x89PNG") and data[25] & 2
    kind = cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
    with taking_turns(pixels), contextlib.suppress(cv2.error):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), kind)
        if picture is None or picture.dtype not in (np.uint8, np.uint16):
            return None
        return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if colour else picture
    return None


def is_whole_png(data: bytes) -> bool:
    """Whether the chunks of a PNG fill it to its end mark. OpenCV allocates what a chunk claims."""
    at, kind = 8, b""
    while kind != b"IEND" and at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
    return kind == b"IEND" and at == len(data)


def open_header(data: bytes) -> Image.Image:
    """Image.open without Pillow's limit of pixels, which is global and lower than ours."""
    Image.init()
    for name in PICTURE_FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory and accept(data[:16]) is True:
            return factory(io.BytesIO(data), "")
    raise ValueError("no picture")


def claimed_pixels(data: bytes) -> int:
    """Number of pixels by the header, 0 if it is unreadable; for TIFF at least a third of its bytes."""
    try:
        with open_header(data) as image:
            pixels = image.width * image.height
            if image.format == "TIFF":  # decoded in strips, which may be as large as the picture
                bits = image.tag_v2.get(258, (1,))  # of each channel
                pixels = max(pixels, pixels * sum(bits if isinstance(bits, tuple) else (bits,)) // 24)
            return pixels
    except Exception:  # a damaged header fails in many ways
        return 0


def visible(paths: Iterable[Path]) -> list[Path]:
    """The paths without hidden files, such as the `._NAME` that macOS adds to each file."""
    return [path for path in paths if not path.name.startswith(".")]


def real_path(path: str | Path) -> Path:
    """A path with its links followed; Path.resolve raises RuntimeError for circular links."""
    return Path(os.path.realpath(path))


def keep_out(
    folder: str | Path,
    flag: str,
    files: Collection[Path],
    trees: Iterable[str | Path] = (),
    places: Iterable[str | Path] = (),
) -> None:
    """Raises UserError if results would go to a folder of inputs: one with a file of `files`, or a place.

    trees: folders that are protected with everything below them. Links are followed.
    """
    place = real_path(folder)
    taken = {real_path(path).parent for path in files} | {
        real_path(path) for path in (*places, *(f.parent for f in files))
    }
    if place in taken or {real_path(tree) for tree in trees} & {place, *place.parents}:
        raise UserError(f"{flag} {folder}: is inside the dataset or a --compare folder; choose another")
