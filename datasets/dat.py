"""Packed spike streams, `.dat`: height x width bits per step in row-major order, 8 per byte.

The lowest bit of a byte comes first. In files from numpy.packbits with its default order, the highest does.
"""

import functools
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from swinsf.datasets.likeness import LIKE_A_PICTURE, LOOK, likely_bit_order, neighbour_correlations
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write
from swinsf.utils.spikes import validate_spikes


class Camera(NamedTuple):
    """The format of a `.dat` file: the size of its steps and how they are stored."""

    height: int
    width: int
    columns: int  # picture columns in a row; the rest is trailer data
    flip: bool  # whether steps are stored upside down

    def __str__(self):
        trailer = (
            f", {self.width - self.columns} trailer columns left out" if self.columns < self.width else ""
        )
        return f"{self.height}x{self.width}, stored {'upside down' if self.flip else 'upright'}{trailer}"


MARGIN = 0.2  # minimum lead of the best size's correlation over the next one's
MOST_PIXELS = 2**21  # limit for a step; known cameras have a million
# 250x400 cameras, their raw dump, spike-X4K
CAMERAS = (Camera(250, 400, 400, True), Camera(250, 416, 400, True), Camera(1000, 1000, 1000, False))


def camera_of(height, width, flip=None):
    """The known format of this size, else an upright one without trailer. flip: overrides the format's."""
    known = {(camera.height, camera.width): camera for camera in CAMERAS}
    camera = known.get((height, width), Camera(height, width, width, False))
    return camera if flip is None else camera._replace(flip=flip)


def whole_steps(path, height, width):
    """(whole steps in a `.dat` file of this size, bytes left over), from the file's length alone.

    Raises UserError if the file is missing or empty, or if a step is not a whole number of bytes.
    """
    step = step_bytes(path, height, width)
    return divmod(stream_length(path), step)


def stream_length(path):
    """Length of a `.dat` file in bytes. Raises UserError if it is missing, empty or not a regular file."""
    path = Path(path)
    if not path.is_file():
        wrong = "not a regular file; give a .dat file, or - to read a pipe" if path.exists() else ""
        raise UserError(f"{path}: {wrong or 'no such spike stream; check the path'}")
    length = path.stat().st_size
    if not length:
        raise UserError(f"{path}: 0 bytes, an empty file; record it again, or check the path")
    return length


def step_bytes(name, height, width):
    """Bytes per packed step. Raises UserError if that is not a whole number, or too large."""
    check_size(name, height, width)
    if height < 1 or width < 1 or height * width % 8:
        raise UserError(
            f"{name}: a step of {height}x{width} is not a whole number of bytes; check height and width"
        )
    return height * width // 8


def check_size(path, height, width):
    """Raises UserError for steps so large that a few dozen would fill memory."""
    if height * width > MOST_PIXELS:
        raise UserError(
            f"{path}: steps of {height}x{width} exceed {MOST_PIXELS:,} pixels; check height and width"
        )


def count_steps(path, height, width):
    """Number of steps in a `.dat` file of this size, from the file's length alone.

    Raises UserError as `whole_steps` does, and if the length is not a multiple of a step.
    """
    steps, left_over = whole_steps(path, height, width)
    if left_over:
        length = Path(path).stat().st_size
        fits = [
            f"{h}x{w} ({length // (h * w // 8)} steps)" for h, w, *_ in CAMERAS if length % (h * w // 8) == 0
        ]
        raise UserError(
            f"{path}: {length} bytes are not a whole number of {height}x{width} steps "
            f"({height * width // 8} bytes each); "
            + (f"sizes that fit: {', '.join(fits)}" if fits else "no known size fits; is the file cut short?")
        )
    return steps


def middle_bytes(path, height, width):
    """The bytes of up to `LOOK` whole steps in the middle of a `.dat` file."""
    step = height * width // 8
    total, _ = whole_steps(path, height, width)
    look = min(LOOK, total)
    packed = np.fromfile(path, np.uint8, look * step, offset=(total - look) // 2 * step)
    return packed[: packed.size // step * step]


def better_camera(packed, camera):
    """A format that fits packed steps far better than `camera`, or None.

    Returns (format, its likeness, the likeness of `camera`). Likeness is the smaller of
    `neighbour_correlations`. Tries known formats, and height and width swapped.
    """

    def likeness(camera):
        step = camera.height * camera.width // 8
        steps = len(packed) // step if camera.height * camera.width % 8 == 0 else 0
        if not steps:
            return -1.0
        whole = (np.frombuffer(packed, np.uint8, step, i * step) for i in range(steps))
        fired = sum(unpack(one, camera.height, camera.width, False)[0].astype(np.int32) for one in whole)
        return min(neighbour_correlations(fired[:, : camera.columns] / steps))

    given = likeness(camera)
    if given >= LIKE_A_PICTURE:
        return None
    others = [
        other for other in (*CAMERAS, camera_of(camera.width, camera.height)) if other[:2] != camera[:2]
    ]
    best, other = max((likeness(other), other) for other in others)
    return (other, best, given) if best >= max(LIKE_A_PICTURE, given + MARGIN) else None


def look_at(path, height, width):
    """(bit order, warnings) of a `.dat` file read at this size. Cached, so each file is examined once."""
    stat = Path(path).stat()
    return _look_at(str(path), height, width, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _look_at(path, height, width, *_):
    packed = middle_bytes(path, height, width)
    order = likely_bit_order(packed, height, width)
    texts = describe_better(path, packed, camera_of(height, width)) + describe_bit_order(path, order)
    return order, tuple(texts)


def describe_better(name, packed, camera):
    """A list with a warning if packed steps fit another size far better (see `better_camera`), else empty."""
    better = better_camera(packed, camera)
    if not better:
        return []
    other, its, given = better
    return [
        f"{name}: looks like {other.height}x{other.width}, not like {camera.height}x{camera.width} "
        f"(neighbour correlations {its:.2f} and {given:.2f}); check height and width"
    ]


def describe_bit_order(name, found):
    """A list with a warning if the bit order found is not the usual one, else empty."""
    if found == "little":
        return []
    return [
        f"{name}: reading the highest bit of each byte first, as its picture suggests; --bit_order or bitorder "
        "sets it"
    ]


def read_dat(
    path: str | Path,
    height: int,
    width: int,
    start: int = 0,
    stop: int | None = None,
    flip: bool | None = None,
    bitorder: str | None = None,
) -> np.ndarray:
    """Read steps start..stop-1 of a `.dat` file -> uint8 (T, height, width) of 0 and 1.

    Reads only these steps, and a few in the middle to check size and bit order. Warns if they look wrong.
    Removes the trailer columns of known sizes.

    flip: whether steps are stored upside down and must be flipped (default: as in the known format of this
    size). bitorder: "little" or "big", for the lowest or the highest bit of a byte first (default: detected).

    Raises UserError if the file does not fit the size (see `count_steps`), lacks the steps, or shrinks while
    being read.
    """
    total = count_steps(path, height, width)
    stop = total if stop is None else stop
    if not 0 <= start <= stop <= total:
        raise UserError(
            f"{path}: steps {start} to {stop - 1} were requested, but it has {total}; stay below {total}"
        )
    if bitorder is None:
        bitorder, texts = look_at(path, height, width)
        for text in texts:
            warnings.warn(text, stacklevel=2)
    camera = camera_of(height, width, flip)
    return read_steps(path, height, width, start, stop, camera.flip, bitorder)[..., : camera.columns]


def read_steps(path, height, width, start, stop, flip, bitorder="little"):
    """Read steps start..stop-1 with all columns, without checks; see `read_dat`."""
    step = height * width // 8
    # Not memory-mapped: if another program truncated the file, the process would die of a bus error.
    try:
        packed = read_exactly(path, np.uint8, (stop - start) * step, start * step)
        return unpack(packed, height, width, flip, bitorder)
    except MemoryError:
        raise UserError(
            f"{path}: steps {start} to {stop - 1} are {(stop - start) * step * 8:,} pixels, more than memory "
            "holds; read fewer"
        ) from None


def read_exactly(path, dtype, count, offset):
    """Read `count` numbers from byte `offset` of a file. Raises UserError if the file has become shorter."""
    numbers = np.fromfile(path, dtype, count, offset=offset)
    if numbers.size < count:
        raise UserError(f"{path}: became shorter while being read; restore the file")
    return numbers


def unpack(packed, height, width, flip, bitorder="little"):
    """Packed whole steps -> uint8 (T, height, width) of 0 and 1. bitorder: "little" or "big"."""
    if flip and width % 8 == 0:  # flip the packed rows, an eighth of the data
        packed, flip = packed.reshape(-1, height, width // 8)[:, ::-1], False
    spikes = np.unpackbits(packed.reshape(-1), bitorder=bitorder).reshape(-1, height, width)
    return np.ascontiguousarray(spikes[:, ::-1]) if flip else spikes


class StepFile:
    """A file of steps as a read-only array (T, H, W) of uint8 0 and 1. Indexing reads from the file.

    Indices are integers, slices or tuples of them, as in numpy: `file[300:341]`, `file[20]` or
    `file[::100, :50, :50]`. A subclass sets `shape` and implements `read(start, stop)`.
    """

    dtype, ndim = np.dtype(np.uint8), 3

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        index, *rest = index if isinstance(index, tuple) else (index,)
        steps = range(len(self))[index]  # IndexError, as for any array
        if isinstance(steps, int):
            return self.read(steps, steps + 1)[0][tuple(rest)]
        if abs(steps.step) == 1 or len(steps) < 2:
            block = self.read(min(steps, default=0), max(steps, default=-1) + 1)[
                :: 1 if steps.step > 0 else -1
            ]
        else:
            block = np.concatenate([self.read(step, step + 1) for step in steps])
        return block[(slice(None), *rest)]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)


class DatFile(StepFile):
    """A `.dat` file of a given format. T is the number of whole steps when it is opened.

    `left_over`: number of bytes after the last whole step. bitorder: "little" or "big". Raises UserError as
    `read_dat` does, but accepts any length of at least one step.
    """

    def __init__(self, path, camera, bitorder="little"):
        self.path, self.camera, self.bitorder = Path(path), camera, bitorder
        steps, self.left_over = whole_steps(path, camera.height, camera.width)
        if not steps:
            raise UserError(
                f"{path}: {self.left_over} bytes, less than a step of {camera.height}x{camera.width}; check "
                "the file and its size"
            )
        self.shape = (steps, camera.height, camera.columns)

    def packed_look(self):
        """The packed bytes of up to `LOOK` steps in the middle."""
        return middle_bytes(self.path, *self.camera[:2])

    def read(self, start, stop):
        """Steps start..stop-1 as uint8 (stop - start, H, W)."""
        camera = self.camera
        steps = read_steps(self.path, camera.height, camera.width, start, stop, camera.flip, self.bitorder)
        return steps[..., : camera.columns]


def open_dat(
    path: str | Path, height: int, width: int, flip: bool | None = None, bitorder: str | None = None
) -> "DatFile":
    """Open a `.dat` file of any length as a `DatFile`, a uint8 array (T, height, width) read when sliced.

    flip, bitorder: see `read_dat`. Warns if bytes follow the last whole step, or if size or bit order look
    wrong. Raises UserError as `DatFile` does.
    """
    file = DatFile(path, camera_of(height, width, flip))
    order, texts = look_at(path, height, width) if bitorder is None else (bitorder, ())
    file.bitorder = order
    for text in (*texts, *([f"{path}: {describe_left_over(file)}"] if file.left_over else [])):
        warnings.warn(text, stacklevel=2)
    return file


def describe_left_over(file):
    """A warning about the bytes after a `DatFile`'s last whole step."""
    height, width, *_ = file.camera
    return (
        f"the last {file.left_over} bytes are not a whole step of {height}x{width} ({height * width // 8} "
        f"bytes); the {len(file)} steps before them are used"
    )


def write_dat(path: str | Path, spikes: np.ndarray, flip: bool | None = None) -> None:
    """Write spikes (T, H, W) of 0 and 1 (or 255) as a `.dat` file: the inverse of `read_dat`.

    H*W must be a multiple of 8. flip: whether to store steps upside down (default: as in the known format of
    this size). Raises ValueError for another shape or other values.
    """
    spikes = np.asarray(spikes)
    if spikes.ndim != 3 or not len(spikes) or spikes[0].size % 8:
        raise ValueError(f"spikes of shape {spikes.shape}: expected (T, H, W) with H*W a multiple of 8")
    spikes = validate_spikes(spikes)
    if camera_of(*spikes.shape[1:], flip).flip:
        spikes = spikes[:, ::-1]
    with atomic_write(path) as file:
        file.write(np.packbits(spikes.reshape(len(spikes), -1), axis=1, bitorder="little").tobytes())
