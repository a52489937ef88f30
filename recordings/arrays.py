"""Spikes in `.npy` and `.npz` files."""

import math
from pathlib import Path

import numpy as np

from swinsf.datasets.dat import StepFile, check_size
from swinsf.recordings.axes import time_is_last
from swinsf.utils.cli import UserError
from swinsf.utils.guard import MOST_UNPACKED, check_archive
from swinsf.utils.spikes import describe_spikes


class NpyFile(StepFile):
    """An array (T, H, W) of numbers or booleans in a `.npy` file; what is not zero is a spike. Raises
    UserError for any other."""

    def __init__(self, path, flip=False):
        self.path, self.flip = path, flip
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version](file)
            self.offset = file.tell()
        self.shape, by_columns, self.stored = header
        if len(self.shape) != 3 or self.stored.kind not in "buif" or min(self.shape) < 1 or by_columns:
            order = " by columns" if by_columns else ""
            raise UserError(
                f"{path}: an array {self.shape} of {self.stored}{order}; spikes are numbers (T, H, W) in C order"
            )
        check_size(path, *self.shape[1:])
        if Path(path).stat().st_size < self.offset + math.prod(self.shape) * self.stored.itemsize:
            raise UserError(f"{path}: cut short, it should have {self.shape[0]} steps; take a whole copy")

    def read(self, start, stop):
        """Steps start..stop-1, uint8 (stop - start, H, W). Read, not mapped, as of a `.dat` file."""
        pixels = self.shape[1] * self.shape[2]
        offset = self.offset + start * pixels * self.stored.itemsize
        values = np.fromfile(self.path, self.stored, (stop - start) * pixels, offset=offset)
        if values.size < (stop - start) * pixels:
            raise UserError(f"{self.path}: became shorter while it was read; restore it")
        wrong = describe_spikes(values)
        if wrong:
            raise UserError(f"{self.path}: {wrong}")
        steps = (values != 0).view(np.uint8).reshape(-1, *self.shape[1:])
        return steps[:, ::-1] if self.flip else steps


def open_array(path, flip=False):
    """(spikes (T, H, W), lines on them) of a `.npy` file, read as they are sliced, or of the only array in a
    `.npz` file.

    An array (H, W, T) is turned, and so is read whole. Raises UserError for anything else.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file of spikes; check the path")
    check_archive(path)
    try:
        spikes = NpyFile(path) if Path(path).suffix.lower() != ".npz" else read_archive(path)
    except (UserError, OSError):
        raise
    except Exception as error:  # numpy and zipfile fail in many ways
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise UserError(
            f"{path}: not an array that numpy reads ({first}); save spikes (T, H, W) by numpy.save"
        ) from None
    turned = ""
    if time_is_last(spikes, path):
        turned = f", turned from (H, W, T) {spikes.shape}, since its last axis is time"
        if math.prod(spikes.shape) > MOST_UNPACKED:
            raise UserError(f"{path}: (H, W, T), and too large to turn; save numpy.moveaxis(spikes, -1, 0)")
        spikes = np.ascontiguousarray(np.moveaxis(spikes[:], -1, 0))
        check_size(path, *spikes.shape[1:])
    count, height, width = spikes.shape
    lines = [f"{path}: {count} steps of {height}x{width}{turned}"]
    if flip and isinstance(spikes, NpyFile):
        spikes.flip = True
    elif flip:
        spikes = spikes[:, ::-1]
    return spikes, lines


def read_archive(path):
    """The only array of spikes in a `.npz` file, as uint8 (T, H, W) of 0 and 1."""
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    found = [
        array for array in arrays.values() if array.ndim == 3 and array.dtype.kind in "buif" and array.size
    ]
    if len(found) != 1:
        shapes = ", ".join(f"{name} {array.shape} {array.dtype}".strip() for name, array in arrays.items())
        raise UserError(f"{path}: {len(found)} arrays of spikes (T, H, W), of {shapes}; save one alone")
    check_size(path, *found[0].shape[1:])
    wrong = describe_spikes(found[0])
    if wrong:
        raise UserError(f"{path}: {wrong}")
    return (found[0] != 0).view(np.uint8)
