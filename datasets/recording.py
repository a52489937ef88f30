"""A recording of any kind as one thing: `.dat`, `.npy`, `.npz` or a pipe -> an array (T, H, W) that is read as it is sliced."""

import io
import math
import sys
from pathlib import Path

import numpy as np

from datasets.dat import CAMERAS, DatFile, StepFile, camera_of, check_size, describe_left_over, unpack
from utils.cli import UserError
from utils.guard import check_archive

LOOK = 64  # steps in the middle of a recording that are looked at
LIKE_A_PICTURE = 0.6  # least correlation of neighbours; known sizes have 0.92 and more, wrong ones 0.55 and less
MARGIN = 0.2  # by which the best candidate must lead


def open_recording(path, height=None, width=None, flip=None):
    """(spikes, lines of text on it) of a recording: `.npy`, `.npz`, "-" for standard input, else a `.dat` file.

    spikes has `shape` (T, H, W) and gives arrays for slices; that of a pipe (`PipedSpikes`) has no T. height, width: of the steps
    of a `.dat` file or a pipe; a known sensor's are found out where they are not given. flip: whether steps are stored upside
    down; by default that goes by the sensor. Raises UserError where it cannot be read, or its size cannot be told.
    """
    path = str(path)
    if (height is None) != (width is None):
        raise UserError(f"--height {height} --width {width}: give both, or none to have the size found out")
    if Path(path).suffix.lower() in (".npy", ".npz"):
        if height:
            raise UserError(f"{path}: has its size in it; leave out --height and --width")
        spikes, text = open_array(path, flip), ""
    elif path == "-":
        if not height:
            raise UserError("standard input: its size cannot be looked for; give --height and --width")
        if sys.stdin is None:
            raise UserError("standard input: it is closed; name a file")
        camera = camera_of(height, width, flip)
        # Unbuffered: a thread that waits in a buffered file would hold its lock, which the end of the process wants.
        pipe = io.FileIO(sys.stdin.fileno(), closefd=False)
        return PipedSpikes(pipe, camera), [f"standard input: {camera}"]
    else:
        camera, text = (camera_of(height, width, flip), "as given") if height else guess_camera(path)
        if flip is not None:
            camera = camera._replace(flip=flip)
        spikes = DatFile(path, camera)
        text = f" of {camera} ({text})"
    steps, rows, columns = spikes.shape
    lines = [f"{path}: {steps} steps{text or f' of {rows}x{columns}'}"]
    if getattr(spikes, "left_over", 0):
        lines.append(f"warning: {path}: {describe_left_over(spikes)}")
    seen = rate_picture(spikes)
    if seen.min() == seen.max() and seen.min() in (0, 1):
        always = "not one spike" if seen.max() == 0 else "a spike of every pixel at every step"
        lines.append(f"warning: {path}: {always} in the {LOOK} steps in its middle; the pictures will show nothing")
    return spikes, lines


def guess_camera(path):
    """(the known camera that a `.dat` file is of, how that was told). Raises UserError with the candidates where none stands out.

    Under the right size neighbours in the picture of firing rates are alike, along rows and along columns. Under a wrong one
    a pixel's upper neighbour comes from elsewhere, and each step is displaced against the one before.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: no plain file; name a .dat file, or - to read a pipe from standard input")
    if not path.is_file():
        raise UserError(f"{path}: no such spike stream; check the path")
    length = path.stat().st_size
    if not length:
        raise UserError(f"{path}: 0 bytes, an empty file; record it anew, or check the path")
    likeness = {}
    for camera in CAMERAS:
        if length >= camera.height * camera.width // 8:
            likeness[camera] = min(neighbour_correlations(rate_picture(DatFile(path, camera))))
    ranking = sorted(likeness, key=likeness.get, reverse=True)
    fits = {camera: length % (camera.height * camera.width // 8) for camera in ranking}
    found = [
        f"{camera.height}x{camera.width} {likeness[camera]:.2f}" + (f" ({fits[camera]} bytes left over)" if fits[camera] else "")
        for camera in ranking
    ]
    scores = [likeness[camera] for camera in ranking] + [-1, -1]
    alone = bool(ranking) and not fits[ranking[0]] and all(fits[camera] for camera in ranking[1:])  # that divides the length
    if scores[0] >= LIKE_A_PICTURE and (alone or scores[0] - scores[1] >= MARGIN):
        return ranking[0], f"by its looks: neighbours correlate by {found[0]}; other sizes: {', '.join(found[1:]) or 'none'}"
    middle = np.unique(np.fromfile(path, np.uint8, 1 << 20, offset=length // 2)).tolist()
    reason = {(0,): "it has not one spike", (255,): "every pixel fires at every step"}.get(tuple(middle))
    raise UserError(
        f"{path}: its size cannot be told from its {length} bytes"
        + (f", since {reason}" if reason else "")
        + (
            f"; neighbours correlate as {', '.join(found)}; wanted is one of {LIKE_A_PICTURE} with a lead of {MARGIN}"
            if found
            else ", less than a step of any known sensor"
        )
        + "; give --height and --width"
    )


def rate_picture(spikes):
    """(H, W) mean of the `LOOK` steps in the middle of a recording."""
    start = max(0, (len(spikes) - LOOK) // 2)
    stop = min(len(spikes), start + LOOK)
    fired = sum(np.count_nonzero(spikes[step : min(step + 8, stop)], axis=0) for step in range(start, stop, 8))
    return fired / (stop - start)


def neighbour_correlations(picture):
    """Pearson's correlation of a picture's pixels with their neighbours (below, to the right); 0 where all are alike."""

    def correlation(a, b):
        a, b = a - a.mean(), b - b.mean()
        size = np.sqrt((a * a).sum() * (b * b).sum())
        return float((a * b).sum() / size) if size > 1e-9 else 0.0

    return correlation(picture[1:], picture[:-1]), correlation(picture[:, 1:], picture[:, :-1])


class NpyFile(StepFile):
    """An array (T, H, W) of numbers or booleans in a `.npy` file; what is not zero is a spike. Raises UserError for any other."""

    def __init__(self, path, flip=False):
        self.path, self.flip = path, flip
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version](file)
            self.offset = file.tell()
        self.shape, by_columns, self.stored = header
        if len(self.shape) != 3 or self.stored.kind not in "buif" or min(self.shape) < 1 or by_columns:
            order = " by columns" if by_columns else ""
            raise UserError(f"{path}: an array {self.shape} of {self.stored}{order}; spikes are numbers (T, H, W) in C order")
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
        steps = (values != 0).view(np.uint8).reshape(-1, *self.shape[1:])
        return steps[:, ::-1] if self.flip else steps


def open_array(path, flip=False):
    """The array of spikes (T, H, W) in a `.npy` file, read as it is sliced, or the only one in a `.npz` file; or UserError."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file of spikes; check the path")
    check_archive(path)
    try:
        if Path(path).suffix.lower() == ".npy":
            return NpyFile(path, flip)
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (UserError, OSError):
        raise
    except Exception as error:  # numpy and zipfile fail in many ways
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise UserError(f"{path}: not an array that numpy reads ({first}); save spikes (T, H, W) by numpy.save") from None
    found = [array for array in arrays.values() if array.ndim == 3 and array.dtype.kind in "buif" and array.size]
    if len(found) != 1:
        shapes = ", ".join(f"{name} {array.shape} {array.dtype}".strip() for name, array in arrays.items())
        raise UserError(f"{path}: {len(found)} arrays of spikes (T, H, W), of {shapes}; save one alone")
    check_size(path, *found[0].shape[1:])
    return found[0][:, ::-1] if flip else found[0]


class PipedSpikes:
    """A `.dat` stream that comes through a pipe: steps are read in order, each once; how many there are shows at the end."""

    def __init__(self, file, camera):
        self.file, self.camera, self.position = file, camera, 0
        self.step_bytes, rest = divmod(camera.height * camera.width, 8)
        check_size("standard input", camera.height, camera.width)
        if rest or not self.step_bytes:
            raise UserError(f"standard input: a step of {camera.height}x{camera.width} is no whole number of bytes; check both")
        self.shape = None, camera.height, camera.columns
        self.left_over = 0

    def __getitem__(self, steps):
        """Steps start..stop-1 as uint8 (t, H, W), or as many as come; start is no step that was read before."""
        if steps.start < self.position:
            raise ValueError(f"step {steps.start} of a pipe that is at step {self.position}")
        self.read((steps.start - self.position) * self.step_bytes, keep=False)
        packed = self.read((steps.stop - steps.start) * self.step_bytes)
        whole = len(packed) // self.step_bytes
        self.left_over += len(packed) % self.step_bytes
        self.position = steps.start + whole
        packed = np.frombuffer(packed, np.uint8, whole * self.step_bytes)
        spikes = unpack(packed, self.camera.height, self.camera.width, self.camera.flip)
        return spikes[..., : self.camera.columns]

    def read(self, count, keep=True):
        """`count` bytes, or as many as come before the end."""
        parts = []
        while count > 0:
            part = self.file.read(min(count, 1 << 24))
            if not part:
                break
            count -= len(part)
            if keep:
                parts.append(part)
        return b"".join(parts)
