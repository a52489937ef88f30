"""Opens a recording of any kind: `.dat`, plain or gzipped, `.npy`, `.npz`, standard input."""

import io
import math
import os
import sys
import weakref
from pathlib import Path

import numpy as np

from swinsf.datasets.dat import (
    Camera,
    DatFile,
    StepFile,
    camera_of,
    check_size,
    describe_better,
    describe_bit_order,
    describe_left_over,
    read_exactly,
    step_bytes,
    unpack,
)
from swinsf.datasets.likeness import LOOK, likely_bit_order, rate_picture
from swinsf.datasets.size import guess_camera
from swinsf.recordings.axes import time_is_last
from swinsf.recordings.beginnings import GZIP, NUMPY, first_bytes, refuse_other_kinds, unpack_gzip
from swinsf.recordings.binning import bin_steps
from swinsf.recordings.recording import Recording
from swinsf.utils.cli import UserError
from swinsf.utils.guard import MOST_UNPACKED, check_archive
from swinsf.utils.spikes import validate_spikes


def open_recording(
    path: str | Path,
    height: int | None = None,
    width: int | None = None,
    flip: bool | None = None,
    bin: int = 1,
    bitorder: str | None = None,
) -> tuple[Recording, list[str]]:
    """(`Recording`, lines of text on it). path: `.npy`, `.npz`, "-" for standard input, or else a `.dat`
    file, plain or gzipped.

    height, width: the size of a `.dat` file or a pipe, by default detected; a pipe needs it. flip: whether
    steps are stored upside down; by default as usual for the size. bin: steps a bin, see
    `recordings.binning`. bitorder: "little" or "big", the bit of a byte that comes first; by default
    detected. Raises UserError if the recording cannot be read or its size cannot be detected.
    """
    path = str(path)
    if (height is None) != (width is None):
        raise UserError(f"--height {height} --width {width}: give both, or neither to have the size detected")
    camera = camera_of(height, width, flip) if height else None
    name = "standard input" if path == "-" else path
    source, lines = open_pipe(camera) if path == "-" else open_file(path, camera, flip)
    if isinstance(source, DatFile | PipedSpikes):
        packed = source.packed_look()
        if camera:
            lines += [f"warning: {text}" for text in describe_better(name, packed, camera)]
        source.bitorder = bitorder or likely_bit_order(packed, *source.camera[:2])
        if not bitorder:
            lines += describe_bit_order(name, source.bitorder)
    elif bitorder:
        raise UserError(f"{path}: an array, whose steps are not packed as bits; leave out --bit_order")
    recording = Recording(source, name)
    if recording.length is not None:
        lines += describe_nothing(recording)
    return (bin_steps(recording, bin, bin // 2) if bin > 1 else recording), lines


def describe_nothing(recording):
    """A warning if the middle of a recording has no spikes, or nothing but spikes."""
    seen = rate_picture(recording)
    if seen.min() != seen.max() or seen.min() not in (0, 1):
        return []
    always = "not one spike" if seen.max() == 0 else "a spike of every pixel at every step"
    return [
        f"warning: {recording.name}: {always} in the {LOOK} steps in its middle; the pictures will show nothing"
    ]


def open_file(path: str, camera: Camera | None, flip: bool | None):
    """(an array or an object with slices like one, lines on it) of a file."""
    head = first_bytes(path)
    if Path(path).suffix.lower() in (".npy", ".npz") or head.startswith(NUMPY):
        if camera:
            raise UserError(f"{path}: has its size in it; leave out --height and --width")
        return open_array(path, flip)
    if not head.startswith(GZIP):
        return open_dat_file(path, camera, flip)
    plain = unpack_gzip(path)
    try:
        spikes, lines = open_dat_file(plain, camera, flip)
    except UserError as error:
        os.unlink(plain)
        raise UserError(str(error).replace(plain, path)) from None
    weakref.finalize(spikes, Path(plain).unlink, missing_ok=True)  # once nobody reads it
    return spikes, [line.replace(plain, path) for line in lines]


def open_dat_file(path, camera, flip):
    """(`DatFile`, lines on it)."""
    refuse_other_kinds(path, first_bytes(path))
    text = "as given"
    if not camera:
        camera, text = guess_camera(path)
        camera = camera if flip is None else camera._replace(flip=flip)
    spikes = DatFile(path, camera)
    lines = [f"{path}: {len(spikes)} steps of {camera} ({text})"]
    if spikes.left_over:
        lines.append(f"warning: {path}: {describe_left_over(spikes)}")
    return spikes, lines


class NpyFile(StepFile):
    """An array (T, H, W) of numbers or booleans in a `.npy` file, with two values, see `validate_spikes`.
    Raises UserError for any other."""

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
            order = " in Fortran order" if by_columns else ""
            raise UserError(
                f"{path}: an array {self.shape} of {self.stored}{order}; spikes are numbers (T, H, W) in C order"
            )
        check_size(path, *self.shape[1:])
        if Path(path).stat().st_size < self.offset + math.prod(self.shape) * self.stored.itemsize:
            raise UserError(f"{path}: cut short, it should have {self.shape[0]} steps; take a whole copy")

    def read(self, start, stop):
        """Steps start..stop-1, uint8 (stop - start, H, W). Like a `.dat` file, it is read, not mapped."""
        pixels = self.shape[1] * self.shape[2]
        offset = self.offset + start * pixels * self.stored.itemsize
        values = read_exactly(self.path, self.stored, (stop - start) * pixels, offset)
        steps = validate_spikes(values, self.path).reshape(-1, *self.shape[1:])
        return steps[:, ::-1] if self.flip else steps


def open_array(path, flip=False):
    """(spikes (T, H, W), lines on them) of a `.npy` file, read by slices, or of the only array in a `.npz`
    file.

    An array (H, W, T) is transposed, so it is read whole. Raises UserError for anything else.
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
        raise UserError(f"{path}: {len(found)} arrays of spikes (T, H, W) among {shapes}; save only one")
    check_size(path, *found[0].shape[1:])
    return validate_spikes(found[0], path)


def open_pipe(camera):
    """(`PipedSpikes` of standard input, lines on it)"""
    if not camera:
        raise UserError("standard input: its size cannot be detected; give --height and --width")
    if sys.stdin is None:
        raise UserError("standard input: it is closed; name a file")
    # Unbuffered: a thread waiting in a buffered file holds its lock, which the process needs to exit.
    spikes = PipedSpikes(io.FileIO(sys.stdin.fileno(), closefd=False), camera)
    refuse_other_kinds("standard input", spikes.peek_bytes(64))
    return spikes, [f"standard input: {camera}"]


class PipedSpikes:
    """A `.dat` stream from a pipe. Its steps are read in order, each once; their number is unknown."""

    def __init__(self, file, camera, bitorder="little"):
        self.file, self.camera, self.position, self.bitorder = file, camera, 0, bitorder
        self.step_bytes = step_bytes("standard input", camera.height, camera.width)
        self.shape = None, camera.height, camera.columns
        self.left_over = 0
        self.ready = b""  # bytes read by `peek`, for the next slices

    def __getitem__(self, steps):
        """Steps start..stop-1 as uint8 (t, H, W), fewer at the end. A step cannot be read twice."""
        if steps.start < self.position:
            raise ValueError(f"step {steps.start} of a pipe that is at step {self.position}")
        skipped = self.read((steps.start - self.position) * self.step_bytes, keep=False)
        packed = self.read((steps.stop - steps.start) * self.step_bytes)
        whole, left_over = divmod(skipped + len(packed), self.step_bytes)
        self.left_over += left_over
        self.position += whole
        return self.unpack(packed)

    def unpack(self, packed):
        """The whole steps in packed bytes, uint8 (t, H, W)."""
        packed = np.frombuffer(packed, np.uint8, len(packed) // self.step_bytes * self.step_bytes)
        spikes = unpack(packed, self.camera.height, self.camera.width, self.camera.flip, self.bitorder)
        return spikes[..., : self.camera.columns]

    def peek(self, steps):
        """The next steps as uint8 (t, H, W), fewer at the end. Later slices return them again."""
        return self.unpack(self.peek_bytes(steps * self.step_bytes))

    def peek_bytes(self, count):
        """The next `count` bytes, which are kept."""
        ready, self.ready = self.ready, b""
        self.ready = ready + self.read(count - len(ready))
        return self.ready[:count]

    def packed_look(self):
        """The bytes of the next whole steps, up to `LOOK`, which are kept."""
        packed = self.peek_bytes(LOOK * self.step_bytes)
        return np.frombuffer(packed, np.uint8, len(packed) // self.step_bytes * self.step_bytes)

    def read(self, count, keep=True):
        """The next `count` bytes, fewer at the end; if they are not kept, their number."""
        part, self.ready = self.ready[:count], self.ready[count:]
        parts, length = [part] if keep else [], len(part)
        while length < count and (part := self.file.read(min(count - length, 1 << 24))):
            length += len(part)
            if keep:
                parts.append(part)
        return b"".join(parts) if keep else length
