"""Opens the output of a recording, and lists the settings that its pictures depend on."""

import hashlib
import math
from pathlib import Path

import numpy as np

from swinsf.evaluation import tables
from swinsf.recordings.formats import FORMATS, TIFF
from swinsf.recordings.plan import Plan
from swinsf.recordings.recording import Recording
from swinsf.recordings.writers import PictureFile, PngFolder
from swinsf.utils.cli import UserError
from swinsf.utils.timing import STEPS

WIDE = {8: FORMATS, 16: (".npy", *TIFF, ".png"), 32: (".npy", *TIFF)}  # bits per grey level -> file types
# Most pictures a second. Browsers slow down a faster GIF; faster Motion JPEG fails or gets another speed.
MOST_FPS = {".gif": 50, ".avi": 1000}


def fingerprint(recording: Recording, key: int) -> str:
    """A hash of the window around a key frame. Detects a replaced file; appended steps do not matter."""
    window = np.asarray(recording[max(0, key - STEPS // 2) : key + STEPS // 2 + 1]) != 0
    return hashlib.sha256(window.tobytes()).hexdigest()


def describe_settings(settings, recording: Recording, plan: Plan, weights: Path | None) -> dict:
    """name -> plain value of each setting that the pictures depend on. Some flags are left out if unused."""
    piped = recording.length is None
    about = {
        "recording": "-" if piped else str(Path(settings.recording).resolve()),
        "size": "x".join(map(str, recording.size)),
        "contents": None if piped else fingerprint(recording, plan.keys[0]),
        "pictures": "as many as come" if piped else len(plan.keys),
        **{"first": plan.keys.start, "stride": plan.keys.step, "bin": plan.bin, "method": settings.method},
        **{"exposure": plan.curve.exposure, "gamma": plan.curve.gamma, "flip": settings.flip},
    }
    used = {
        "bit_order": None,
        "crop": None,
        "stamp": False,
        "bits": 8,
        "beside": None,
        "ends": False,
        "rate": None,
    }
    about.update(
        {name: getattr(settings, name) for name, unused in used.items() if getattr(settings, name) != unused}
    )
    if weights:
        about.update(
            {name: getattr(settings, name) for name in ("precision", "tile", "outputs")},
            weights=tables.sha256(weights),
        )
    if plan.pixels.bad.any():
        rows, columns = np.nonzero(plan.pixels.bad)
        places = tables.sha256_of(np.stack([rows, columns]).astype("<i8").tobytes())
        about["repair"] = f"{len(rows)} pixels ({places[:8]})"
    if settings.calibration:
        about["calibration"] = tables.sha256(settings.calibration)
    if "tfp" in (settings.method, settings.beside):
        about["window"] = settings.window
    if settings.stamp:
        about["steps_per_second"] = settings.steps_per_second
    return about


def open_output(path, about, shape, keys, piped=False, fps=25.0, bits=8, folder=False):
    """The output at `path`: one of `FORMATS`, or a folder of PNGs. Raises UserError for other types of files.

    about: plain values that the pictures depend on; an unfinished output is resumed only if they are equal.
    shape: (H, W) of a picture. keys: the key frames, a range. piped: whether the recording is a pipe, whose
    length is unknown and which cannot be resumed. fps: pictures per second of a video. bits: per grey level.
    folder: whether it is a folder, whatever its name.
    """
    path = Path(path)
    if folder and bits < 32:
        return PngFolder(path, about, shape, keys, piped, fps, bits)
    kind = path.suffix.lower()
    if kind not in WIDE[bits] and (kind in FORMATS or bits == 32):
        wide = {16: "PNGs, .tif and .npy files", 32: ".tif and .npy files"}[bits]
        raise UserError(f"--output {path} with --bits {bits}: these are for {wide}; take one, or --bits 8")
    if kind == ".png" and len(keys) != 1 and not path.is_dir():
        raise UserError(
            f"--output {path}: one picture, but {len(keys):,} are to be shown; leave out --stop, or take .tif, "
            "or a folder for PNGs"
        )
    if fps > MOST_FPS.get(kind, math.inf):
        raise UserError(
            f"--output {path}: {kind} shows {MOST_FPS[kind]} pictures a second at most, not {fps:g}; "
            "lower --fps, or take .mp4"
        )
    if kind in FORMATS and not (kind == ".png" and path.is_dir()):
        return PictureFile(path, about, shape, keys, piped, fps, bits)
    if path.suffix and not path.is_dir():
        raise UserError(
            f"--output {path}: {path.suffix} is not written; take {', '.join(FORMATS)}, or a folder for PNGs"
        )
    return PngFolder(path, about, shape, keys, piped, fps, bits)
