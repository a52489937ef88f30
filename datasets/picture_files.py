"""Reads picture files from untrusted sources as grey levels.

A file's header is checked before the file is decoded, so that no file takes more memory than its size allows.
"""

import contextlib
import io
import os
import struct
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from swinsf.utils.guard import read_plain

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
MOST_PIXELS = 200_000_000  # limit for a picture, as of the largest cameras; decoding one takes up to 1.4 GB
WHITES = (255, 1023, 4095, 16383, 65535)  # largest values of 8, 10, 12, 14 and 16 bits
LARGE_PICTURE = 2**24  # pixels or bytes; larger pictures are decoded one at a time
MOST_BYTES = 2**30  # limit for a picture file

_one_at_a_time = threading.RLock()


def taking_turns(size: int) -> contextlib.AbstractContextManager[Any]:
    """A context that lets only one thread at a time read a large file."""
    return _one_at_a_time if size > LARGE_PICTURE else contextlib.nullcontext()


def read_grey(path: str | Path) -> np.ndarray | None:
    """Read a picture file as grey uint8 (h, w); None if it has no whole picture, or more than MOST_PIXELS.

    16 bits are scaled to 8 by `white_of`. Raises OSError if it cannot be read.
    """
    picture = read_levels(path)
    return None if picture is None else to_eight_bits(picture, white_of(picture))


def read_levels(path: str | Path) -> np.ndarray | None:
    """Like `read_grey`, with the file's own values, uint8 or uint16 (h, w)."""
    with taking_turns(os.stat(path).st_size):
        return decode_levels(read_plain(path, MOST_BYTES))


def white_of(picture: np.ndarray) -> int:
    """The value of white: 255; with 16 bits the first of 1023, 4095, 16383 and 65535 that is large enough.

    Cameras store 10, 12 and 14 bits in 16. A very dark picture may seem to have fewer bits than it has.
    """
    if picture.dtype == np.uint8:
        return 255
    most = int(picture.max())
    return next(white for white in WHITES if most <= white)


def to_eight_bits(picture: np.ndarray, white: int) -> np.ndarray:
    """Scale a picture with this value of white to uint8, rounded. What is brighter becomes white."""
    if white == 255:
        return picture.astype(np.uint8)
    return np.round(np.minimum(picture, white) * np.float32(255 / white)).astype(np.uint8)


def decode_levels(data: bytes) -> np.ndarray | None:
    """Like `read_levels`, from a file's bytes."""
    # OpenCV decodes truncated files too; those have no end mark.
    if data.startswith(b"\x89PNG") and not is_whole_png(data):
        return None
    # cameras may append data after the JPEG end mark
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[len(data) // 2 :]:
        return None
    pixels = claimed_pixels(data)
    if not 0 < pixels <= MOST_PIXELS:
        return None
    # decode colour PNGs as colour: libpng would apply the file's gamma, if any, when converting to grey
    colour = data.startswith(b"\x89PNG") and data[25] & 2
    kind = cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
    with taking_turns(pixels), contextlib.suppress(cv2.error):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), kind)
        if picture is None or picture.dtype not in (np.uint8, np.uint16):
            return None
        return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if colour else picture
    return None


def is_whole_png(data: bytes) -> bool:
    """Whether the chunks of a PNG add up to the file. OpenCV allocates the length that a chunk claims."""
    at, kind = 8, b""
    while kind != b"IEND" and at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
    return kind == b"IEND" and at == len(data)


def open_header(data: bytes) -> Image.Image:
    """Image.open without Pillow's pixel limit, which is global and lower than ours."""
    Image.init()
    for name in PICTURE_FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory and accept(data[:16]) is True:
            return factory(io.BytesIO(data), "")
    raise ValueError("no picture")


def claimed_pixels(data: bytes) -> int:
    """Number of pixels according to the header, 0 if unreadable; for TIFF at least a third of its bytes."""
    try:
        with open_header(data) as image:
            pixels = image.width * image.height
            if image.format == "TIFF":  # decoded in strips, which may be as large as the picture
                bits = image.tag_v2.get(258, (1,))  # BitsPerSample of each channel
                pixels = max(pixels, pixels * sum(bits if isinstance(bits, tuple) else (bits,)) // 24)
            return pixels
    except Exception:  # a damaged header fails in many ways
        return 0
