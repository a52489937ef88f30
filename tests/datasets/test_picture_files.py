"""The size that a picture claims, read without changing a setting of Pillow."""

import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from swinsf.datasets.picture_files import MOST_PIXELS, claimed_pixels, decode_levels


@pytest.mark.parametrize("kind", [".png", ".jpg", ".tiff", ".bmp", ".webp"])
def test_pixels_by_the_header(kind):
    _, data = cv2.imencode(kind, np.full((20, 30), 9, np.uint8))
    assert claimed_pixels(data.tobytes()) == 600
    assert decode_levels(data.tobytes()).shape == (20, 30)
    assert claimed_pixels(data.tobytes()[:6]) == 0 and claimed_pixels(b"GIF89a" + bytes(50)) == 0


@pytest.mark.parametrize("height, width", [(20000, 9999), (20000, 10001)])
def test_our_pixel_limit_applies_and_not_pillows(height, width):
    """Pillow's limit is lower, and global."""
    data = bytearray(cv2.imencode(".png", np.zeros((20, 30), np.uint8))[1].tobytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    assert height * width > 2 * Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert claimed_pixels(bytes(data)) == height * width
    if height * width > MOST_PIXELS:
        assert decode_levels(bytes(data)) is None
