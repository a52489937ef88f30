"""Packed spike streams, `.dat`: for each step height x width bits in row-major order, 8 to a byte, the lowest bit first."""

from pathlib import Path

import numpy as np

from utils.checkpoint import replacing
from utils.cli import UserError

KNOWN_SIZES = ((250, 400), (250, 416), (1000, 1000))  # of sensors: the 250x400 family, its raw dump, spike-X4K


def count_steps(path, height, width):
    """The number of steps in a `.dat` file of this size, from the file's length alone.

    Raises UserError where the file is missing or empty, or its length is no multiple of a step.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such spike stream; check the path")
    if height * width % 8:
        raise UserError(f"{path}: a step of {height}x{width} is no whole number of bytes; check height and width")
    length, step = path.stat().st_size, height * width // 8
    if length == 0 or length % step:
        fits = [f"{h}x{w} ({length // (h * w // 8)} steps)" for h, w in KNOWN_SIZES if length and length % (h * w // 8) == 0]
        raise UserError(
            f"{path}: {length} bytes are no whole number of {height}x{width} steps of {step} bytes; "
            + (f"sizes that fit: {', '.join(fits)}" if fits else "no known sensor size fits, so the file may be cut short")
        )
    return length // step


def read_dat(path, height, width, start=0, stop=None, flip=True):
    """Steps start..stop-1 of a `.dat` file -> uint8 (T, height, width) of 0 and 1. Only these are read from the disk.

    `flip` turns each step upright, for cameras and simulators that store it upside down (the 250x400 family).
    Raises UserError where the file does not fit the size (see `count_steps`), does not have the steps or loses them meanwhile.
    """
    total = count_steps(path, height, width)
    stop = total if stop is None else stop
    if not 0 <= start <= stop <= total:
        raise UserError(f"{path}: steps {start} to {stop - 1} were asked for, but it has {total}; ask for steps below {total}")
    step = height * width // 8
    # Read, not mapped: a mapped file that another program cuts short ends the process with a bus error.
    packed = np.fromfile(path, np.uint8, (stop - start) * step, offset=start * step)
    if packed.size < (stop - start) * step:
        raise UserError(f"{path}: became shorter while it was read; restore the stream")
    if flip and width % 8 == 0:  # whole bytes a row: an eighth of the memory to turn
        packed, flip = packed.reshape(-1, height, width // 8)[:, ::-1], False
    spikes = np.unpackbits(packed.reshape(-1), bitorder="little").reshape(-1, height, width)
    return np.ascontiguousarray(spikes[:, ::-1]) if flip else spikes


def write_dat(path, spikes, flip=True):
    """Write spikes (T, H, W), zero or not, as a `.dat` file: the inverse of `read_dat`. H*W must be a multiple of 8."""
    spikes = np.asarray(spikes) != 0
    if spikes.ndim != 3 or spikes[0].size % 8:
        raise ValueError(f"spikes of shape {spikes.shape}: expected (T, H, W) with H*W a multiple of 8")
    spikes = spikes[:, ::-1] if flip else spikes
    with replacing(path) as file:
        file.write(np.packbits(spikes.reshape(len(spikes), -1), axis=1, bitorder="little").tobytes())
