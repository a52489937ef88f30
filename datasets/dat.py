"""Packed spike streams, `.dat`: for each step height x width bits in row-major order, 8 to a byte.

The lowest bit of a byte is the first, but in files that were packed by plain `numpy.packbits`: there it is
the highest.
"""

import functools
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write
from swinsf.utils.spikes import describe_spikes


class Camera(NamedTuple):
    """The size of a sensor's steps in a `.dat` file."""

    height: int
    width: int
    columns: int  # the first of a row that are the picture; what follows is trailer data
    flip: bool  # whether steps are stored upside down

    def __str__(self):
        trailer = (
            f", {self.width - self.columns} trailer columns left out" if self.columns < self.width else ""
        )
        return f"{self.height}x{self.width}, stored {'upside down' if self.flip else 'upright'}{trailer}"


LOOK = 64  # steps in the middle of a recording that are looked at
# least correlation of neighbours; known sizes have 0.92 and more, wrong ones 0.55 and less
LIKE_A_PICTURE = 0.6
MARGIN = 0.2  # by which the best candidate must lead
MOST_PIXELS = 2**21  # of a step; known sensors have a million
# The 250x400 family, its raw dump, spike-X4K.
CAMERAS = (Camera(250, 400, 400, True), Camera(250, 416, 400, True), Camera(1000, 1000, 1000, False))


def camera_of(height, width, flip=None):
    """The known camera of that size; else one whose steps are upright and picture to the last column. flip:
    overrides its own."""
    known = {(camera.height, camera.width): camera for camera in CAMERAS}
    camera = known.get((height, width), Camera(height, width, width, False))
    return camera if flip is None else camera._replace(flip=flip)


def whole_steps(path, height, width):
    """(number of whole steps in a `.dat` file of this size, number of bytes left over), from the file's
    length alone.

    Raises UserError where the file is missing or empty, or a step is no whole number of bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such spike stream; check the path")
    if height < 1 or width < 1 or height * width % 8:
        raise UserError(
            f"{path}: a step of {height}x{width} is no whole number of bytes; check height and width"
        )
    check_size(path, height, width)
    length = path.stat().st_size
    if length == 0:
        raise UserError(f"{path}: 0 bytes, an empty file; record it again, or check the path")
    return divmod(length, height * width // 8)


def check_size(path, height, width):
    """Raises UserError for steps so large that a few dozen of them would fill the memory."""
    if height * width > MOST_PIXELS:
        raise UserError(
            f"{path}: steps of {height}x{width}; no more than {MOST_PIXELS:,} pixels are taken, so check its size"
        )


def count_steps(path, height, width):
    """The number of steps in a `.dat` file of this size, from the file's length alone.

    Raises UserError as `whole_steps` does, and where the length is no multiple of a step.
    """
    steps, left_over = whole_steps(path, height, width)
    if left_over:
        length = Path(path).stat().st_size
        fits = [
            f"{h}x{w} ({length // (h * w // 8)} steps)" for h, w, *_ in CAMERAS if length % (h * w // 8) == 0
        ]
        raise UserError(
            f"{path}: {length} bytes are no whole number of {height}x{width} steps of {height * width // 8} bytes; "
            + (
                f"sizes that fit: {', '.join(fits)}"
                if fits
                else "no known sensor size fits, so the file may be cut short"
            )
        )
    return steps


def likely_bit_order(packed, height, width):
    """Which bit of a byte is the first, "little" or "big", by the bytes of whole steps of one scene (`LOOK`
    of them are plenty).

    Inside a byte neighbours are alike under either order. The two pixels at a byte's edge are neighbours
    under the right order, and 15 pixels apart under the other. "little", the usual one, where the scene is
    too dark or too flat to tell.
    """
    counts = np.zeros((height * width // 8, 8), np.uint32)
    for step in np.asarray(packed, np.uint8).reshape(-1, height * width // 8):
        counts += np.unpackbits(step, bitorder="little").reshape(-1, 8)
    rate = counts.astype(np.float32)
    inside = np.abs(np.diff(rate, axis=1)).mean()
    little, big = np.abs(rate[1:, 0] - rate[:-1, 7]), np.abs(rate[1:, 7] - rate[:-1, 0])
    # each from all over the picture
    parts = [(little - big)[i::31].mean() for i in range(31) if i + 31 < len(little)]
    if len(parts) < 31 or not np.mean(parts) > 4 * np.std(parts, ddof=1) / np.sqrt(len(parts)):
        return "little"
    return "big" if big.mean() - inside < 0.5 * (little.mean() - inside) else "little"


def bit_order_of(path, height, width):
    """`likely_bit_order` of a `.dat` file, by the steps in its middle."""
    return likely_bit_order(middle_bytes(path, height, width), height, width)


def middle_bytes(path, height, width):
    """The bytes of `LOOK` whole steps in the middle of a `.dat` file, or of as many as there are."""
    step = height * width // 8
    total, _ = whole_steps(path, height, width)
    look = min(LOOK, total)
    packed = np.fromfile(path, np.uint8, look * step, offset=(total - look) // 2 * step)
    return packed[: packed.size // step * step]


def rate_picture(spikes):
    """(H, W) mean of the `LOOK` steps in the middle of a recording."""
    start = max(0, (len(spikes) - LOOK) // 2)
    stop = min(len(spikes), start + LOOK)
    fired = sum(
        np.count_nonzero(spikes[step : min(step + 8, stop)], axis=0) for step in range(start, stop, 8)
    )
    return fired / (stop - start)


def correlation(a, b):
    """Pearson's correlation of two pictures; 0 if one is flat, or has no pixels."""
    if not a.size:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size > 1e-9 else 0.0


def neighbour_correlations(picture):
    """The `correlation` of a picture's pixels with their neighbours (below, to the right)."""
    return correlation(picture[1:], picture[:-1]), correlation(picture[:, 1:], picture[:, :-1])


def better_camera(packed, camera):
    """(the camera that bytes of steps look like far more than like steps of `camera`, its likeness, the given
    one's), or None. Likeness is the smaller of `neighbour_correlations`.

    Known sensors are tried, and height and width exchanged. None too if the bytes look like a picture under
    no size.
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
    """(bit order, warnings) on a `.dat` file that is taken for steps of this size; each file is looked at
    once."""
    stat = Path(path).stat()
    return _look_at(str(path), height, width, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _look_at(path, height, width, *_):
    order, texts = bit_order_of(path, height, width), []
    better = better_camera(middle_bytes(path, height, width), camera_of(height, width))
    if better:
        camera, its, given = better
        texts.append(
            f"{path}: looks like {camera.height}x{camera.width}, not like {height}x{width} (neighbours correlate by "
            f"{its:.2f} and by {given:.2f}); check its size"
        )
    if order != "little":
        texts.append(
            f"{path}: the highest bit of a byte is taken as the first, judged by the picture; bitorder sets it"
        )
    return order, tuple(texts)


def read_dat(
    path: str | Path,
    height: int,
    width: int,
    start: int = 0,
    stop: int | None = None,
    flip: bool | None = None,
    bitorder: str | None = None,
) -> np.ndarray:
    """Steps start..stop-1 of a `.dat` file -> uint8 (T, height, width) of 0 and 1. Only these are read, and a
    few in the middle.

    flip: whether steps are stored upside down, and are turned upright; by default as the known sensor of that
    size stores them, which also says which columns are no picture. bitorder: "little" or "big" (the lowest or the
    highest bit of a byte comes first); by default it is found out. What looks wrong is warned of.

    Raises UserError where the file does not fit the size (see `count_steps`), does not have the steps or
    loses them meanwhile.
    """
    total = count_steps(path, height, width)
    stop = total if stop is None else stop
    if not 0 <= start <= stop <= total:
        raise UserError(
            f"{path}: steps {start} to {stop - 1} were asked for, but it has {total}; ask for steps below {total}"
        )
    if bitorder is None:
        bitorder, texts = look_at(path, height, width)
        for text in texts:
            warnings.warn(text, stacklevel=2)
    camera = camera_of(height, width, flip)
    return read_steps(path, height, width, start, stop, camera.flip, bitorder)[..., : camera.columns]


def read_steps(path, height, width, start, stop, flip, bitorder="little"):
    """All columns of steps of a file that is known to have them, see `read_dat`."""
    step = height * width // 8
    # Read, not mapped: a mapped file that another program cuts short ends the process with a bus error.
    try:
        packed = np.fromfile(path, np.uint8, (stop - start) * step, offset=start * step)
        if packed.size < (stop - start) * step:
            raise UserError(f"{path}: became shorter while it was read; restore the stream")
        return unpack(packed, height, width, flip, bitorder)
    except MemoryError:
        raise UserError(
            f"{path}: steps {start} to {stop - 1} are {(stop - start) * step * 8:,} pixels, more than fit; ask for fewer"
        ) from None


def unpack(packed, height, width, flip, bitorder="little"):
    """The bytes of whole steps -> uint8 (T, height, width) of 0 and 1. bitorder: "little" or "big"."""
    if flip and width % 8 == 0:  # whole bytes a row: an eighth of the memory to turn
        packed, flip = packed.reshape(-1, height, width // 8)[:, ::-1], False
    spikes = np.unpackbits(packed.reshape(-1), bitorder=bitorder).reshape(-1, height, width)
    return np.ascontiguousarray(spikes[:, ::-1]) if flip else spikes


class StepFile:
    """A file of steps as a read-only array (T, H, W) of uint8 0 and 1, whose steps are read when they are
    asked for.

    Takes integers, slices and tuples of them, as numpy does: `file[300:341]`, `file[20]`, `file[::100, :50,
    :50]`. A subclass sets `shape` and implements `read(start, stop)`.
    """

    dtype, ndim = np.dtype(np.uint8), 3

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        index, *rest = index if isinstance(index, tuple) else (index,)
        steps = range(len(self))[index]  # IndexError, as of any array
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
    """A `.dat` file of a `Camera`. T is the number of whole steps when it was opened; `left_over` the number
    of bytes after them.

    bitorder: "little" or "big".

    Raises UserError as `read_dat` does, but for a length that does not fit.
    """

    def __init__(self, path, camera, bitorder="little"):
        self.path, self.camera, self.bitorder = Path(path), camera, bitorder
        steps, self.left_over = whole_steps(path, camera.height, camera.width)
        if not steps:
            raise UserError(
                f"{path}: {self.left_over} bytes, less than a step of {camera.height}x{camera.width}; check the file and its size"
            )
        self.shape = (steps, camera.height, camera.columns)

    def read(self, start, stop):
        """Steps start..stop-1, uint8 (stop - start, H, W)."""
        camera = self.camera
        steps = read_steps(self.path, camera.height, camera.width, start, stop, camera.flip, self.bitorder)
        return steps[..., : camera.columns]


def open_dat(
    path: str | Path, height: int, width: int, flip: bool | None = None, bitorder: str | None = None
) -> "DatFile":
    """A `.dat` file of any length as an array (T, height, width) of uint8 that is read as it is sliced: a
    `DatFile`.

    flip, bitorder: see `read_dat`. Bytes that are left after the last whole step are warned of, and so is
    what looks wrong. Raises UserError as `DatFile` does.
    """
    file = DatFile(path, camera_of(height, width, flip))
    order, texts = look_at(path, height, width) if bitorder is None else (bitorder, ())
    file.bitorder = order
    for text in (*texts, *([f"{path}: {describe_left_over(file)}"] if file.left_over else [])):
        warnings.warn(text, stacklevel=2)
    return file


def describe_left_over(file):
    """A few words on the bytes after a `DatFile`'s last whole step."""
    height, width, *_ = file.camera
    return (
        f"the last {file.left_over} bytes are no whole step of {height}x{width} ({height * width // 8} bytes); "
        f"the {len(file)} steps before them are used"
    )


def write_dat(path: str | Path, spikes: np.ndarray, flip: bool | None = None) -> None:
    """Write spikes (T, H, W), of 0 and 1 or 255, as a `.dat` file: the inverse of `read_dat`. H*W must be a
    multiple of 8.

    flip: whether steps are stored upside down; by default as the known sensor of that size stores them.
    Raises ValueError for another shape or other values.
    """
    spikes = np.asarray(spikes)
    if spikes.ndim != 3 or not len(spikes) or spikes[0].size % 8:
        raise ValueError(f"spikes of shape {spikes.shape}: expected (T, H, W) with H*W a multiple of 8")
    wrong = describe_spikes(spikes)
    if wrong:
        raise ValueError(f"an array {spikes.shape} of {wrong}")
    spikes = spikes[:, ::-1] != 0 if camera_of(*spikes.shape[1:], flip).flip else spikes != 0
    with atomic_write(path) as file:
        file.write(np.packbits(spikes.reshape(len(spikes), -1), axis=1, bitorder="little").tobytes())
