"""The folder in which an output is made.

One run at a time owns it. A record in it holds the settings, so that the same command resumes.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np

from swinsf.evaluation.metrics import to_bytes
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write, is_clutter, lock_folder
from swinsf.utils.guard import read_json

RECORD = "reconstruct.json"  # the settings of an output
TYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}  # bits -> type of the pictures


class Output:
    """The base class of the writers.

    A subclass has `workplace`, the folder of unfinished pictures and their record, and sets `one_file` if all
    pictures go into one file. It implements `refuse_foreign`, `clear`, `done`, `write`, `read`, `finish`,
    `discard` and `finished_record`.
    """

    one_file = False

    def __init__(self, path, about, shape, keys, piped, fps=25.0, bits=8):
        self.fps, self.type = fps, np.dtype(TYPES[bits])
        self.path, self.about, self.shape = path, json.loads(json.dumps(about)), shape
        self.keys, self.piped, self.lock, self.frames = keys, piped, None, None

    def claim(self, overwrite=False):
        """Make the workplace, or resume in that of an interrupted run with the same settings. Only one
        process calls this.

        Raises UserError if files would be overwritten, another run owns the folder, or the disk is full.
        """
        self.refuse_foreign(read_record(self.workplace / RECORD), overwrite)
        if not self.workplace.is_dir():
            self.check_room()
            self.workplace.mkdir(parents=True)
        self.close()
        try:
            self.lock = lock_folder(self.workplace)
        except BlockingIOError:
            raise UserError(
                f"--output {self.path}: another run is writing it; wait for it, or choose another name"
            ) from None
        record = read_record(self.workplace / RECORD)
        unfinished = record and not record["whole"] and not self.piped
        if record and self.can_resume(record):
            return
        if unfinished and not overwrite:
            raise UserError(
                f"{self.workplace}: has an unfinished run with {describe_change(record['about'], self.about)}"
            )
        self.clear()
        self.check_room()
        self.save_record(whole=False)

    def can_resume(self, record):
        """Whether a record is of the same settings, and pictures are missing: of a run that was interrupted, or
        removed since."""
        missing = not record["whole"] or len(self.done()) < len(self.keys)
        return not self.piped and record["about"] == self.about and missing

    def close(self):
        """Release the lock, as the end of the process would."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def kept(self):
        """A line on what an interrupted run keeps."""
        if self.piped:
            return "A recording from a pipe starts again"
        return f"{len(self.done())} of {len(self.keys)} pictures are kept in {self.workplace}; the same command resumes"

    def check_room(self):
        """Raises UserError if the folder is not writable, or its disk lacks room for a file of pictures."""
        place = self.workplace.absolute()
        folder = next(folder for folder in (place, *place.parents) if folder.is_dir())
        if not os.access(folder, os.W_OK):
            raise UserError(f"--output {self.path}: {folder} is not writable; take another folder")
        disk = shutil.disk_usage(folder)
        need = len(self.keys) * self.shape[0] * self.shape[1] * self.type.itemsize
        known = disk.total > 0  # some network file systems report 0
        if self.one_file and not self.piped and known and need > disk.free:
            raise UserError(
                f"--output {self.path}: {len(self.keys)} pictures need {need / 1e6:,.1f} MB, and {folder} has {disk.free / 1e6:,.1f} "
                "MB free; raise --stride, narrow --start and --stop, or choose another disk"
            )

    def save_record(self, whole, path=None, **more):
        with atomic_write(path or self.workplace / RECORD, "w") as file:
            json.dump(
                {"made_by": "reconstruct.py", "whole": whole, "about": self.about, **more}, file, indent=1
            )

    def place(self):
        """The path as text, a relative one with the working directory."""
        return str(self.path) if self.path.is_absolute() else f"{self.path} (in {Path.cwd()})"

    def read_bytes(self, key):
        """A written picture as uint8, whatever its bits."""
        picture = self.read(key)
        return (picture >> 8).astype(np.uint8) if picture.dtype == np.uint16 else to_bytes(picture)

    def is_finished(self):
        """Whether the output is complete, with the same settings. Never true for a pipe."""
        if self.piped:
            return False
        record = self.finished_record()
        return bool(
            record
            and record["whole"]
            and record["about"] == self.about
            and record.get("fps", self.fps) == self.fps
        )


def read_record(path):
    """The record of an output; None if there is none or reconstruct.py did not write it."""
    try:
        record = read_json(path)
        ours = (
            record["made_by"] == "reconstruct.py" and "whole" in record and isinstance(record["about"], dict)
        )
        return record if ours else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def foreign_files(folder):
    """The files in a folder without a record, except the system's and temporary records of killed runs."""
    return [
        file for file in folder.iterdir() if not file.name.startswith(f".{RECORD}.") and not is_clutter(file)
    ]


def describe_change(old, new, remedy=None):
    """The settings that differ, as text, with a remedy, by default how to resume.

    With a remedy given, the text is empty if no setting differs.
    """
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    text = "; ".join(f"{name} {old.get(name)!s:.80}, not {new.get(name)!s:.80}" for name in changed)
    if remedy is not None:
        return f", with {text}{remedy}" if changed else ""
    if changed == ["pictures"] and isinstance(old["pictures"], int):  # the recording has grown
        stop = old["first"] + (old["pictures"] - 1) * old["stride"] + 1
        # by default, both are chosen by what is seen before --stop
        chosen = "" if old.get("rate") else f" --exposure {old['exposure']!r} --bin {old['bin']}"
        return f"{text}; add --stop {stop}{chosen} to resume, or --overwrite to start again"
    return f"{text}; take the same to resume, or --overwrite to start again"
