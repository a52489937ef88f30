"""Turns grey levels into pictures to show: the tone curve, and a stamp of step and time."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from swinsf.evaluation.metrics import to_bytes


@dataclass(frozen=True)
class ToneCurve:
    """Maps grey levels to shown ones: 255 (exposure x grey / 255) ^ (1 / gamma), clamped to 0..255 and
    truncated to bytes.

    exposure: the gain. bits: 8; 16 for 0..65535 instead of 0..255; 32 for unclamped floats, exposure x grey.
    """

    exposure: float = 1.0
    gamma: float = 1.0
    bits: int = 8

    def clipped(self, picture):
        """The part of a picture's pixels, (H, W) floats, above white."""
        return float(np.mean(picture * self.exposure > 255))

    def __call__(self, picture):
        """(H, W) floats -> (H, W) uint8, uint16 or float32."""
        if self.bits == 32:
            return (picture * self.exposure).astype(np.float32)
        if self.bits == 16:
            return np.round(
                65535 * np.clip(picture * (self.exposure / 255), 0, 1) ** (1 / self.gamma)
            ).astype(np.uint16)
        if self.exposure == self.gamma == 1:
            return to_bytes(picture)
        return to_bytes(255 * np.clip(picture * (self.exposure / 255), 0, 1) ** (1 / self.gamma))


def picture_name(key):
    """The file name of a key frame's picture, without .png."""
    return f"{key:08d}"


def moment_name(key, steps_per_second):
    """A step and its time, as text."""
    return f"step {key}, {in_ms(key, steps_per_second)}"


def in_ms(steps, steps_per_second):
    """A number of steps as text, in milliseconds, to the microsecond."""
    return f"{round(1e3 * steps / steps_per_second, 3):.15g} ms"


def stamp(picture, text):
    """A copy of a picture (H, W), uint8 or uint16, with outlined text in its lower left corner."""
    height, width = picture.shape
    size = max(11, height // 23)  # font size in pixels
    font, rows = ImageFont.load_default(size), min(height, 2 * size)
    place, white = (size // 2, rows - size // 2), np.iinfo(picture.dtype).max
    stamped = picture.copy()
    for level, stroke in ((0, max(1, size // 10)), (white, 0)):
        mask = Image.new("L", (width, rows))
        ImageDraw.Draw(mask).text(place, text, 255, font, anchor="ls", stroke_width=stroke)
        weight = np.asarray(mask, np.float32) / 255
        strip = stamped[height - rows :]
        strip[:] = np.round(strip + weight * (level - strip.astype(np.float32)))
    return stamped
