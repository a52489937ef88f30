"""A recording of any kind as one thing: `.dat`, `.npy`, `.npz` or a pipe -> an array (T, H, W) that is read
as it is sliced."""

import io
import os
import sys
import weakref
from pathlib import Path

from swinsf.datasets.dat import LOOK, DatFile, bit_order_of, camera_of, describe_left_over, rate_picture
from swinsf.datasets.size import describe_better, describe_bit_order, guess_camera
from swinsf.recordings.arrays import open_array
from swinsf.recordings.beginnings import GZIP, NUMPY, first_bytes, refuse_other_kinds, unpack_gzip
from swinsf.recordings.binning import bin_steps
from swinsf.recordings.pipes import PipedSpikes
from swinsf.utils.cli import UserError


def open_recording(path, height=None, width=None, flip=None, bin=1, bitorder=None):
    """(spikes, lines of text on it) of a recording: `.npy`, `.npz`, "-" for standard input, else a `.dat`
    file, also in gzip.

    spikes has `shape` (T, H, W) and gives arrays for slices; that of a pipe (`PipedSpikes`) has no T. height,
    width: of the steps of a `.dat` file or a pipe; a known sensor's are found out where they are not given.
    flip: whether steps are stored upside down; by default that goes by the sensor. bin: steps that are taken
    as one, see `recordings.binning`. bitorder: "little" or "big", the bit of a byte that is first; by default
    it is found out. Raises UserError where the recording cannot be read, or its size cannot be told.
    """
    path = str(path)
    if (height is None) != (width is None):
        raise UserError(f"--height {height} --width {width}: give both, or none to have the size found out")
    if path == "-":
        spikes, lines = open_pipe(height, width, flip, bitorder)
    else:
        head = first_bytes(path)
        if Path(path).suffix.lower() in (".npy", ".npz") or head.startswith(NUMPY):
            if height:
                raise UserError(f"{path}: has its size in it; leave out --height and --width")
            spikes, lines = open_array(path, flip), []
        elif head.startswith(GZIP):
            spikes, lines = open_gzip(path, height, width, flip, bitorder)
        else:
            refuse_other_kinds(path, head)
            spikes, lines = open_dat_file(path, height, width, flip, bitorder)
        lines = lines or [f"{path}: {len(spikes)} steps of {spikes.shape[1]}x{spikes.shape[2]}"]
        seen = rate_picture(spikes)
        if seen.min() == seen.max() and seen.min() in (0, 1):
            always = "not one spike" if seen.max() == 0 else "a spike of every pixel at every step"
            lines.append(
                f"warning: {path}: {always} in the {LOOK} steps in its middle; the pictures will show nothing"
            )
    return (bin_steps(spikes, bin, bin // 2) if bin > 1 else spikes), lines


def open_dat_file(path, height, width, flip, bitorder):
    """(`DatFile`, lines on it)"""
    camera, text = (camera_of(height, width), "as given") if height else guess_camera(path)
    if flip is not None:
        camera = camera._replace(flip=flip)
    spikes = DatFile(path, camera)
    lines = [f"{path}: {len(spikes)} steps of {camera} ({text})"]
    if spikes.left_over:
        lines.append(f"warning: {path}: {describe_left_over(spikes)}")
    middle = max(0, (len(spikes) - LOOK) // 2)
    if height:
        with open(path, "rb") as file:
            step = height * width // 8
            file.seek(middle * step)
            lines += describe_better(path, file.read(LOOK * step), camera)
    spikes.bitorder = bitorder or bit_order_of(path, camera.height, camera.width)
    return spikes, lines + describe_bit_order(path, spikes.bitorder, bitorder)


def open_gzip(path, height, width, flip, bitorder):
    """`open_dat_file` of what a gzip file holds: unpacked to a temporary file, which goes when nobody reads
    it any more."""
    unpacked = unpack_gzip(path)
    try:
        head = first_bytes(unpacked)
        if head.startswith(NUMPY):
            raise UserError(f"{path}: holds a .npy file; unpack it by gunzip")
        refuse_other_kinds(path, head)
        spikes, lines = open_dat_file(unpacked, height, width, flip, bitorder)
    except UserError as error:
        os.unlink(unpacked)
        raise UserError(str(error).replace(unpacked, path)) from None
    weakref.finalize(spikes, Path(unpacked).unlink, missing_ok=True)
    return spikes, [line.replace(unpacked, path) for line in lines]


def open_pipe(height, width, flip, bitorder):
    """(`PipedSpikes` of standard input, lines on it)"""
    if not height:
        raise UserError("standard input: its size cannot be looked for; give --height and --width")
    if sys.stdin is None:
        raise UserError("standard input: it is closed; name a file")
    # Unbuffered: a thread that waits in a buffered file would hold its lock, which the end of the process
    # wants.
    pipe = io.FileIO(sys.stdin.fileno(), closefd=False)
    spikes = PipedSpikes(pipe, camera_of(height, width, flip), bitorder)
    return spikes, [f"standard input: {spikes.camera}", *spikes.look()]
