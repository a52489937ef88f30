"""What a flag's value may be: argparse types that several scripts share."""

import argparse
import ast
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


def truth(text: str) -> bool:
    """argparse type for True or False in the usual spellings."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return words[text.lower()]


def assignment(text: str) -> list[Any]:
    """argparse type for NAME=VALUE -> [name, value]: a number, a tuple of numbers such as 6,6, or text."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        value = ast.literal_eval(value)
    return [name, value]


def number(kind: type, least: float, most: float) -> Callable[[str], Any]:
    """argparse type for a number (int or float) from least to most."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {'an integer' if kind is int else 'a number'}"
            ) from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
        return value

    return parse


def named_folder(text: str) -> tuple[str, str]:
    """argparse type for NAME=DIR -> (name, folder); the folder must exist."""
    name, equals, folder = text.partition("=")
    if not (name and equals and Path(folder).is_dir()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR with an existing folder")
    return name, folder


def named_function(text: str) -> tuple[str, str]:
    """argparse type for NAME=MODULE:FUNCTION -> (name, "module:function")."""
    name, _, place = text.partition("=")
    if not (name and re.fullmatch(r"[\w.]+:[\w.]+", place)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=MODULE:FUNCTION, such as Mine=my_code:reconstruct"
        )
    return name, place


def word_or(kind, *words):
    """argparse type for one of `words`, or a value that `kind` parses."""
    return lambda text: text if text in words else kind(text)


def part(text):
    """argparse type for y0:y1,x0:x1 -> ((y0, y1), (x0, x1)). Each number may be left out and is then None."""
    found = re.fullmatch(r"(\d*):(\d*),(\d*):(\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not y0:y1,x0:x1, such as 0:100,50:250")
    ends = [int(number) if number else None for number in found.groups()]
    return tuple(ends[:2]), tuple(ends[2:])


def moment(text: str) -> tuple[float, str]:
    """argparse type for a time: "300" -> (300, "steps"); "0.5s" or "20ms" -> (seconds, "seconds")."""
    for unit, seconds in (("ms", 1e-3), ("s", 1.0)):
        if text.endswith(unit):
            return number(float, 0, 1e9)(text.removesuffix(unit)) * seconds, "seconds"
    return count(text), "steps"


count = number(int, 0, 2**31)
positive_int = number(int, 1, 2**31)
# Limits catch typos that would exhaust the machine.
workers = number(int, 0, 512)
batch_size = number(int, 1, 4096)
crop_size = number(int, 0, 4096)
rate = number(float, 1e-3, 2)  # spikes per step at white
side = number(int, 1, 16384)  # height or width of a recording, in pixels
samples = number(int, 1, 10**7)
