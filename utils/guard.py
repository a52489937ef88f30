"""Reading files that anyone may have written.

The promise: no file runs code, hangs a script, or takes more memory than a file of its kind and size has a
right to; and no result is written over what is read. What a file claims is looked at before it is believed.
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
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from swinsf.utils.cli import UserError

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
MOST_PIXELS = 200_000_000  # of a picture, as the largest cameras have; decoding one takes up to 1.4 GB
WHITES = (255, 1023, 4095, 16383, 65535)  # of 8 to 16 bits
LARGE_PICTURE = 2**24  # pixels or bytes; pictures above are decoded one at a time
MOST_BYTES = 2**30  # of a picture's file
MOST_TEXT = 2**26  # bytes of a file of JSON
MOST_UNPACKED = 2**31  # bytes of an archive of arrays
SUSPECT = 2**28, 100  # more bytes than that, unpacked from a hundredth, are no data
DEEPEST, MOST_ITEMS = 16, 4 * 10**6  # of a checkpoint's contents
# What a checkpoint may name: tensors and what they are made of. torch.load would take more, a bytearray of
# any size for one.
PLAIN = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch(\.storage)? \w*Storage|torch Size"
)
# in torch's older format, one after the other: a number, a version, the system, contents, names
OLD_PICKLES = 5


class Refused(ValueError):
    """A file of which no more is read; its text says what is wrong with it."""


_one_at_a_time = threading.RLock()


def taking_turns(size):
    """A context in which large things are read one at a time, however many threads there are."""
    return _one_at_a_time if size > LARGE_PICTURE else contextlib.nullcontext()


def read_plain(path, most):
    """The bytes of a plain file of at most `most` bytes; OSError for any other, so that a pipe or a device
    hangs nothing."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(0, "no plain file", str(path))
    if path.stat().st_size > most:
        raise OSError(0, f"more than {most:,} bytes", str(path))
    return path.read_bytes()


def read_json(path):
    """The value in a JSON file. Raises OSError, and ValueError for whatever is no JSON or nested without
    end."""
    return parse_json(read_plain(path, MOST_TEXT))


def parse_json(text):
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_archive(path):
    """Raises UserError for a zip archive of arrays that unpacks to more than it should. Any other file
    passes."""
    with (
        contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError),
        zipfile.ZipFile(path) as archive,
    ):
        unpacked = sum(entry.file_size for entry in archive.infolist())
        least, ratio = SUSPECT
        if unpacked > MOST_UNPACKED or (unpacked > least and unpacked > ratio * Path(path).stat().st_size):
            raise UserError(
                f"{path}: unpacks to {unpacked:,} bytes, and is unpacked whole; take a .npy file, which is read piece by piece"
            )


def check_pickles(path):
    """Raises `Refused` for a file of torch.save that names more than tensors, is packed, or claims more bytes
    than it has.

    Nothing of it is loaded. A damaged file fails in many other ways.
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


def check_contents(contents, size):
    """Raises `Refused` for contents of a file of `size` bytes that are small in it and endless in the memory,
    or not plain.

    Tensors are dense and on a device, none with more bytes than the whole file; what is in what is DEEPEST
    levels deep at most and has MOST_ITEMS a level; whole numbers have 64 bits.
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


def read_grey(path):
    """The picture in a file as grey uint8 (h, w), or None where it holds none, a part of one, or more than
    MOST_PIXELS.

    One of 16 bits is brought to bytes by its own `white_of`. Raises OSError where it cannot be read.
    """
    picture = read_levels(path)
    return None if picture is None else to_eight_bits(picture, white_of(picture))


def read_levels(path):
    """`read_grey` with the values that the file has: uint8 or uint16 (h, w)."""
    with taking_turns(os.stat(path).st_size):
        return decode_levels(read_plain(path, MOST_BYTES))


def white_of(picture):
    """The value that stands for white, by the largest that is there: 255, or 1023, 4095, 16383, 65535 of
    pictures of 16 bits.

    Cameras store 10, 12 and 14 bits in 16. A picture that is dark all over is taken for one of fewer bits.
    """
    if picture.dtype == np.uint8:
        return 255
    most = int(picture.max())
    return next(white for white in WHITES if most <= white)


def to_eight_bits(picture, white):
    """Grey uint8 of a picture whose white is `white`, rounded."""
    if white == 255:
        return picture.astype(np.uint8)
    return np.round(picture * np.float32(255 / white)).astype(np.uint8)


def decode_levels(data):
    """`read_levels` of a file's bytes."""
    # OpenCV returns what it could decode of a file that is cut short; such a file has no end mark.
    if data.startswith(b"\x89PNG") and not is_whole_png(data):
        return None
    # cameras may add something after it
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[len(data) // 2 :]:
        return None
    pixels = claimed_pixels(data)
    if not 0 < pixels <= MOST_PIXELS:
        return None
    # libpng makes grey of colour by the file's gamma, where it has one: other levels for the same picture.
    colour = data.startswith(b"\x89PNG") and data[25] & 2
    kind = cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
    with taking_turns(pixels), contextlib.suppress(cv2.error):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), kind)
        if picture is None or picture.dtype not in (np.uint8, np.uint16):
            return None
        return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if colour else picture
    return None


def is_whole_png(data):
    """Whether the chunks of a PNG fill it to its end mark. OpenCV takes the memory that a chunk claims before
    it reads it."""
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


def claimed_pixels(data):
    """How many pixels a picture has by its header, 0 where that cannot be read; one of a TIFF counts by its
    bytes, in threes."""
    try:
        with open_header(data) as image:
            pixels = image.width * image.height
            if image.format == "TIFF":  # decoded in strips, which may be as large as the picture
                bits = image.tag_v2.get(258, (1,))  # of each channel
                pixels = max(pixels, pixels * sum(bits if isinstance(bits, tuple) else (bits,)) // 24)
            return pixels
    except Exception:  # a damaged header fails in many ways
        return 0


def visible(paths):
    """The paths without hidden files, such as the `._NAME` that macOS adds to every file."""
    return [path for path in paths if not path.name.startswith(".")]


def real_path(path):
    """A path with its links followed; Path.resolve raises RuntimeError where links go round in circles."""
    return Path(os.path.realpath(path))


def keep_out(folder, flag, files, trees=(), places=()):
    """Raises UserError where results would go to a folder that has one of `files`, which are read, or is one
    of `places`.

    trees: folders that are protected with all that is below them. Links are followed: where a file or a
    folder of a dataset is one, what it leads to is the dataset's as well.
    """
    place = real_path(folder)
    taken = {real_path(path).parent for path in files} | {
        real_path(path) for path in (*places, *(f.parent for f in files))
    }
    if place in taken or {real_path(tree) for tree in trees} & {place, *place.parents}:
        raise UserError(
            f"{flag} {folder}: lies in the dataset or among what is compared; take another, lest files be lost"
        )
