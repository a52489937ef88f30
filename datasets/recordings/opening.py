"""A recording of any kind as one thing: `.dat`, `.npy`, `.npz` or a pipe -> an array (T, H, W) that is read as it is sliced."""

import io
import sys
from pathlib import Path

from datasets.dat import LOOK, DatFile, camera_of, describe_left_over, rate_picture
from datasets.recordings.arrays import open_array
from datasets.recordings.pipes import PipedSpikes
from datasets.recordings.size import guess_camera
from utils.binning import take_as_one
from utils.cli import UserError


def open_recording(path, height=None, width=None, flip=None, bin=1):
    """(spikes, lines of text on it) of a recording: `.npy`, `.npz`, "-" for standard input, else a `.dat` file.

    spikes has `shape` (T, H, W) and gives arrays for slices; that of a pipe (`PipedSpikes`) has no T. height, width: of the steps
    of a `.dat` file or a pipe; a known sensor's are found out where they are not given. flip: whether steps are stored upside
    down; by default that goes by the sensor. bin: steps that are taken as one, see `utils.binning`. Raises UserError where the
    recording cannot be read, or its size cannot be told.
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
        spikes = PipedSpikes(pipe, camera)
        return take_as_one(spikes, bin, bin // 2) if bin > 1 else spikes, [f"standard input: {camera}"]
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
    return take_as_one(spikes, bin, bin // 2) if bin > 1 else spikes, lines
