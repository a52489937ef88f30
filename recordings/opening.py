"""Opens a recording of any kind: `.dat`, `.npy`, `.npz`, gzip, standard input."""

import io
import os
import sys
import weakref
from pathlib import Path

from swinsf.datasets.dat import (
    LOOK,
    DatFile,
    bit_order_of,
    camera_of,
    describe_left_over,
    middle_bytes,
    rate_picture,
)
from swinsf.datasets.size import describe_better, describe_bit_order, guess_camera
from swinsf.recordings.arrays import open_array
from swinsf.recordings.beginnings import GZIP, NUMPY, first_bytes, refuse_other_kinds, unpack_gzip
from swinsf.recordings.binning import bin_steps
from swinsf.recordings.pipes import PipedSpikes
from swinsf.recordings.recording import Recording
from swinsf.utils.cli import UserError


def open_recording(
    path: str | Path,
    height: int | None = None,
    width: int | None = None,
    flip: bool | None = None,
    bin: int = 1,
    bitorder: str | None = None,
) -> tuple[Recording, list[str]]:
    """(`Recording`, lines of text on it): `.npy`, `.npz`, "-" for standard input, else a `.dat` file, also in
    gzip.

    height, width: of the steps of a `.dat` file or a pipe; by default the size is found out, which a pipe
    does not allow. flip: whether steps are stored upside down; by default as the camera of that size stores
    them. bin: number of steps to bin, see `recordings.binning`. bitorder: "little" or "big", the bit of a
    byte that is first; by default it is found out. Raises UserError if the recording cannot be read, or its
    size cannot be told.
    """
    path = str(path)
    if (height is None) != (width is None):
        raise UserError(f"--height {height} --width {width}: give both, or none to have the size found out")
    if path == "-":
        source, lines = open_pipe(height, width, flip, bitorder)
        recording = Recording(source, "standard input")
    else:
        source, lines = open_file(path, height, width, flip, bitorder)
        recording = Recording(source, path)
        lines = [*lines, *describe_nothing(recording)]
    return (bin_steps(recording, bin, bin // 2) if bin > 1 else recording), lines


def open_file(path, height, width, flip, bitorder):
    """(an array or what is sliced like one, lines on it) of a plain file."""
    head = first_bytes(path)
    if Path(path).suffix.lower() in (".npy", ".npz") or head.startswith(NUMPY):
        if height:
            raise UserError(f"{path}: has its size in it; leave out --height and --width")
        return open_array(path, flip)
    plain = unpack_gzip(path) if head.startswith(GZIP) else path
    try:
        spikes, lines = open_dat_file(plain, height, width, flip, bitorder)
    except UserError as error:
        if plain != path:
            os.unlink(plain)
        raise UserError(str(error).replace(plain, path)) from None
    if plain != path:  # a temporary file, which goes when nobody reads it any more
        weakref.finalize(spikes, Path(plain).unlink, missing_ok=True)
    return spikes, [line.replace(plain, path) for line in lines]


def describe_nothing(recording):
    """A warning if a recording has no spikes, or nothing but spikes."""
    seen = rate_picture(recording)
    if seen.min() != seen.max() or seen.min() not in (0, 1):
        return []
    always = "not one spike" if seen.max() == 0 else "a spike of every pixel at every step"
    return [
        f"warning: {recording.name}: {always} in the {LOOK} steps in its middle; the pictures will show nothing"
    ]


def open_dat_file(path, height, width, flip, bitorder):
    """(`DatFile`, lines on it)"""
    head = first_bytes(path)
    if head.startswith(NUMPY):
        raise UserError(f"{path}: holds a .npy file; unpack it by gunzip")
    refuse_other_kinds(path, head)
    camera, text = (camera_of(height, width), "as given") if height else guess_camera(path)
    if flip is not None:
        camera = camera._replace(flip=flip)
    spikes = DatFile(path, camera)
    lines = [f"{path}: {len(spikes)} steps of {camera} ({text})"]
    if spikes.left_over:
        lines.append(f"warning: {path}: {describe_left_over(spikes)}")
    if height:
        lines += describe_better(path, middle_bytes(path, height, width), camera)
    spikes.bitorder = bitorder or bit_order_of(path, camera.height, camera.width)
    return spikes, lines + describe_bit_order(path, spikes.bitorder, bitorder)


def open_pipe(height, width, flip, bitorder):
    """(`PipedSpikes` of standard input, lines on it)"""
    if not height:
        raise UserError("standard input: its size cannot be looked for; give --height and --width")
    if sys.stdin is None:
        raise UserError("standard input: it is closed; name a file")
    # Unbuffered: a thread that waits in a buffered file would hold its lock, which the process needs to end.
    pipe = io.FileIO(sys.stdin.fileno(), closefd=False)
    spikes = PipedSpikes(pipe, camera_of(height, width, flip), bitorder)
    return spikes, [f"standard input: {spikes.camera}", *spikes.look()]
