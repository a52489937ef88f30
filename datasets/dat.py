"""Packed spike streams, `.dat`: for each step height x width bits in row-major order, 8 to a byte, the lowest bit first."""

import warnings
from pathlib import Path

import numpy as np

from utils.checkpoint import replacing
from utils.cli import UserError

KNOWN_SIZES = ((250, 400), (250, 416), (1000, 1000))  # of sensors: the 250x400 family, its raw dump, spike-X4K


def whole_steps(path, height, width):
    """(number of whole steps in a `.dat` file of this size, number of bytes left over), from the file's length alone.

    Raises UserError where the file is missing or empty, or a step is no whole number of bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such spike stream; check the path")
    if height < 1 or width < 1 or height * width % 8:
        raise UserError(f"{path}: a step of {height}x{width} is no whole number of bytes; check height and width")
    length = path.stat().st_size
    if length == 0:
        raise UserError(f"{path}: 0 bytes, an empty file; record it anew, or check the path")
    return divmod(length, height * width // 8)


def count_steps(path, height, width):
    """The number of steps in a `.dat` file of this size, from the file's length alone.

    Raises UserError as `whole_steps` does, and where the length is no multiple of a step.
    """
    steps, left_over = whole_steps(path, height, width)
    if left_over:
        length = Path(path).stat().st_size
        fits = [f"{h}x{w} ({length // (h * w // 8)} steps)" for h, w in KNOWN_SIZES if length % (h * w // 8) == 0]
        raise UserError(
            f"{path}: {length} bytes are no whole number of {height}x{width} steps of {height * width // 8} bytes; "
            + (f"sizes that fit: {', '.join(fits)}" if fits else "no known sensor size fits, so the file may be cut short")
        )
    return steps


def read_dat(path, height, width, start=0, stop=None, flip=True):
    """Steps start..stop-1 of a `.dat` file -> uint8 (T, height, width) of 0 and 1. Only these are read from the disk.

    `flip` turns each step upright, for cameras and simulators that store it upside down (the 250x400 family).
    Raises UserError where the file does not fit the size (see `count_steps`), does not have the steps or loses them meanwhile.
    """
    total = count_steps(path, height, width)
    stop = total if stop is None else stop
    if not 0 <= start <= stop <= total:
        raise UserError(f"{path}: steps {start} to {stop - 1} were asked for, but it has {total}; ask for steps below {total}")
    return read_steps(path, height, width, start, stop, flip)


def read_steps(path, height, width, start, stop, flip):
    """`read_dat` of a file that is known to have the steps."""
    step = height * width // 8
    # Read, not mapped: a mapped file that another program cuts short ends the process with a bus error.
    packed = np.fromfile(path, np.uint8, (stop - start) * step, offset=start * step)
    if packed.size < (stop - start) * step:
        raise UserError(f"{path}: became shorter while it was read; restore the stream")
    return unpack(packed, height, width, flip)


def unpack(packed, height, width, flip):
    """The bytes of whole steps -> uint8 (T, height, width) of 0 and 1."""
    if flip and width % 8 == 0:  # whole bytes a row: an eighth of the memory to turn
        packed, flip = packed.reshape(-1, height, width // 8)[:, ::-1], False
    spikes = np.unpackbits(packed.reshape(-1), bitorder="little").reshape(-1, height, width)
    return np.ascontiguousarray(spikes[:, ::-1]) if flip else spikes


class DatFile:
    """A `.dat` file as a read-only array (T, H, W) of uint8 0 and 1, whose steps are read when they are asked for.

    Takes integers, slices and tuples of them, as numpy does: `file[300:341]`, `file[20]`, `file[::100, :50, :50]`. T is the
    number of whole steps when the file was opened; `left_over` the number of bytes after them. columns: the first columns of
    each row that are the picture, where a raw dump has more. Raises UserError as `read_dat` does, but for a length that does
    not fit.
    """

    dtype, ndim = np.dtype(np.uint8), 3

    def __init__(self, path, height, width, flip=True, columns=None):
        self.path, self.height, self.width, self.flip = Path(path), height, width, flip
        self.columns = columns or width
        steps, self.left_over = whole_steps(path, height, width)
        if not steps:
            raise UserError(f"{path}: {self.left_over} bytes, less than a step of {height}x{width}; check the file and its size")
        self.shape = (steps, height, self.columns)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        index, *rest = index if isinstance(index, tuple) else (index,)
        steps = range(len(self))[index]  # IndexError, as of any array
        if isinstance(steps, int):
            block = self.read(steps, steps + 1)[0]
            return block[tuple(rest)]
        if abs(steps.step) == 1 or len(steps) < 2:
            block = self.read(min(steps, default=0), max(steps, default=-1) + 1)[:: 1 if steps.step > 0 else -1]
        else:
            block = np.concatenate([self.read(step, step + 1) for step in steps])
        return block[(slice(None), *rest)]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)

    def read(self, start, stop):
        """Steps start..stop-1, uint8 (stop - start, H, W)."""
        return read_steps(self.path, self.height, self.width, start, stop, self.flip)[..., : self.columns]


def open_dat(path, height, width, flip=True):
    """A `.dat` file of any length as an array (T, height, width) that is read as it is sliced: a `DatFile`.

    Bytes that are left after the last whole step are warned of.
    """
    file = DatFile(path, height, width, flip)
    if file.left_over:
        warnings.warn(f"{path}: {describe_left_over(file)}", stacklevel=2)
    return file


def describe_left_over(file):
    """A few words on the bytes after a `DatFile`'s last whole step."""
    step = file.height * file.width // 8
    return (
        f"the last {file.left_over} bytes are no whole step of {file.height}x{file.width} ({step} bytes); "
        f"the {len(file)} steps before them are used"
    )


def write_dat(path, spikes, flip=True):
    """Write spikes (T, H, W), zero or not, as a `.dat` file: the inverse of `read_dat`. H*W must be a multiple of 8."""
    spikes = np.asarray(spikes) != 0
    if spikes.ndim != 3 or spikes[0].size % 8:
        raise ValueError(f"spikes of shape {spikes.shape}: expected (T, H, W) with H*W a multiple of 8")
    spikes = spikes[:, ::-1] if flip else spikes
    with replacing(path) as file:
        file.write(np.packbits(spikes.reshape(len(spikes), -1), axis=1, bitorder="little").tobytes())
