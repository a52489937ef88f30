"""Where the pictures of a recording go: a folder of PNGs, a `.npy` file or a video. Any of them can be
stopped and resumed.

Pictures come in any order and from any number of processes. Those of a file wait in a hidden folder next to
it, `.NAME.parts`. The file takes its name once it is complete. One run at a time writes an output, which it
locks.
"""

import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from swinsf.datasets.picture_files import read_levels
from swinsf.evaluation.metrics import to_bytes
from swinsf.evaluation.tables import write_picture
from swinsf.recordings.formats import FORMATS, VIDEOS, decode, encode
from swinsf.recordings.tone import picture_name
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write, is_clutter, lock_folder, sync
from swinsf.utils.guard import read_json

RECORD = "reconstruct.json"  # what an output was made from and by
HEADER = 128  # bytes before the first picture of a .npy file


TYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}  # of pictures, by bits


class Output:
    """What the outputs share. `workplace`: the folder where the pictures lie until they are whole, with a
    record of their making.

    A subclass sets `workplace` and implements `refuse_foreign`, `clear`, `done`, `write`, `read`,
    `finish`, `discard` and `finished_record`.
    """

    def __init__(self, path, about, shape, keys, piped, fps=25.0, bits=8):
        self.fps, self.type = fps, np.dtype(TYPES[bits])
        self.path, self.about, self.shape = path, json.loads(json.dumps(about)), shape
        self.keys, self.piped, self.lock, self.frames = keys, piped, None, None

    def claim(self, overwrite=False):
        """Make the workplace, or find that of an interrupted run of the same settings. Of several processes
        one does it.

        Raises UserError where something is there that may not be written over, where another run is at it, or
        where the disk has no room.
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
                f"--output {self.path}: another run is writing it; wait for it, or take another name"
            ) from None
        record = read_record(self.workplace / RECORD)
        unfinished = record and not record["whole"] and not self.piped
        if unfinished and record["about"] == self.about:
            return
        if unfinished and not overwrite:
            raise UserError(
                f"{self.workplace}: an unfinished run lies there, with {describe_change(record['about'], self.about)}"
            )
        self.clear()
        self.check_room()
        self.save_record(whole=False)

    def close(self):
        """Give the lock back; the end of the process does so too."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def kept(self):
        """A line on what an interrupted run leaves."""
        if self.piped:
            return "A recording from a pipe starts again"
        return f"{len(self.done())} of {len(self.keys)} pictures are kept in {self.workplace}; the same command resumes"

    def check_room(self):
        """Raises UserError where the place may not be written to, or its disk has no room for a file's
        pictures."""
        place = self.workplace.absolute()
        folder = next(folder for folder in (place, *place.parents) if folder.is_dir())
        if not os.access(folder, os.W_OK):
            raise UserError(f"--output {self.path}: {folder} may not be written to; take another place")
        disk = shutil.disk_usage(folder)
        need = len(self.keys) * self.shape[0] * self.shape[1] * self.type.itemsize
        known = disk.total > 0  # some network file systems do not say
        if isinstance(self, PictureFile) and not self.piped and known and need > disk.free:
            raise UserError(
                f"--output {self.path}: {len(self.keys)} pictures need {need / 1e6:,.1f} MB, and {folder} has {disk.free / 1e6:,.1f} "
                "MB free; raise --stride, narrow --start and --stop, or take another disk"
            )

    def save_record(self, whole, path=None, **more):
        with atomic_write(path or self.workplace / RECORD, "w") as file:
            json.dump(
                {"made_by": "reconstruct.py", "whole": whole, "about": self.about, **more}, file, indent=1
            )

    def place(self):
        """Where it is, as text: below the working directory, which a relative path does not say."""
        return str(self.path) if self.path.is_absolute() else f"{self.path} (in {Path.cwd()})"

    def read_bytes(self, key):
        """A picture that was written, as uint8 whatever its bits."""
        picture = self.read(key)
        return (picture >> 8).astype(np.uint8) if picture.dtype == np.uint16 else to_bytes(picture)

    def is_finished(self):
        """Whether all is there already, made by the same settings. Never of a recording from a pipe."""
        if self.piped:
            return False
        record = self.finished_record()
        return bool(
            record
            and record["whole"]
            and record["about"] == self.about
            and record.get("fps", self.fps) == self.fps
        )


class PngFolder(Output):
    """One PNG a key frame, named by its step, in a folder."""

    PICTURE = re.compile(r"\d{8,}\.png")

    @property
    def workplace(self):
        return self.path

    def picture_path(self, key):
        return self.path / f"{picture_name(key)}.png"

    def finished_record(self):
        return read_record(self.path / RECORD) if len(self.done()) == len(self.keys) else None

    def refuse_foreign(self, record, overwrite):
        if self.path.exists() and not self.path.is_dir():
            raise UserError(
                f"--output {self.path}: is a file; take a folder, or a name that ends in {', '.join(FORMATS)}"
            )
        if self.path.is_dir() and not record and foreign_files(self.path):
            raise UserError(
                f"--output {self.path}: has files but no {RECORD}, so it is not of this script; take a new folder"
            )
        if record and record["whole"] and not overwrite:
            changed = describe_change(record["about"], self.about, "")
            raise UserError(
                f"--output {self.path}: is there already{changed}; add --overwrite, or take another folder"
            )

    def clear(self):
        for file in self.path.glob("*"):
            if self.PICTURE.fullmatch(file.name):
                file.unlink()

    def done(self):
        """The key frames whose pictures are there, a set."""
        names = (file.name for file in self.path.glob("*.png"))
        return {
            key
            for key in (int(name[:-4]) for name in names if self.PICTURE.fullmatch(name))
            if key in self.keys
        }

    def write(self, key, picture):
        if picture.dtype == np.uint8:
            return write_picture(self.picture_path(key), picture)
        with atomic_write(self.picture_path(key)) as file:
            file.write(cv2.imencode(".png", picture)[1].tobytes())

    def read(self, key):
        path = self.picture_path(key)
        picture = read_levels(path)
        if picture is None or picture.shape != tuple(self.shape) or picture.dtype != self.type:
            raise UserError(
                f"{path}: no picture of this recording; remove it, and the same command makes it again"
            )
        return picture

    def finish(self, count):
        for torn in self.path.glob(".*.png.*"):  # of writes that were killed
            torn.unlink()
        self.save_record(whole=True)

    def discard(self):
        """What a run that came to nothing leaves; here nothing that could not be of use."""


class PictureFile(Output):
    """All pictures in one file, `.npy` (N, H, W), TIFF, a video, or one PNG. Until then `pictures` has their bytes and `done`
    a byte for each."""

    @property
    def workplace(self):
        return self.path.with_name(f".{self.path.name}.parts")

    def refuse_foreign(self, record, overwrite):
        if self.path.is_dir():
            raise UserError(f"--output {self.path}: is a folder; take the name of a file")
        if self.path.exists() and not overwrite:
            record = self.finished_record()
            changed = describe_change(record["about"], self.about, "") if record else ""
            raise UserError(
                f"--output {self.path}: is there already{changed}; add --overwrite, or take another name"
            )
        place = self.workplace
        foreign = not record and place.exists() and not (place.is_dir() and not foreign_files(place))
        if foreign or place.is_symlink():
            raise UserError(
                f"{place}: is where pictures wait, but not of this script; move it, or take another --output"
            )

    @property
    def finished_place(self):
        """Where the record of the finished file is, hidden next to it."""
        return self.path.with_name(f".{self.path.name}.json")

    def finished_record(self):
        """The record of the finished file; None where it is not there, or the file is not the one that was
        written."""
        record = read_record(self.finished_place)
        return record if record and self.path.is_file() and record.get("file") == self.seen() else None

    def seen(self):
        """What tells the finished file from another of its name."""
        stat = self.path.stat()
        return [stat.st_size, stat.st_mtime_ns]

    def clear(self):
        for file in self.workplace.iterdir():
            if not is_clutter(file):
                file.unlink()

    def discard(self):
        """Remove the workplace."""
        shutil.rmtree(self.workplace, ignore_errors=True)

    def open(self, name):
        return os.open(
            self.workplace / name,
            os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0),
            0o666,  # less the umask
        )

    def done(self):
        """The key frames whose pictures are there, a set."""
        path = self.workplace / "done"
        return {self.keys[i] for i, mark in enumerate(path.read_bytes()) if mark} if path.is_file() else set()

    def write(self, key, picture):
        """The picture's bytes first, then the mark that they are there: a kill between the two costs one
        picture."""
        index = self.keys.index(key)
        for name, offset, data in (
            ("pictures", HEADER + index * picture.nbytes, picture.tobytes()),
            ("done", index, b"\1"),
        ):
            file = self.open(name)
            try:
                while data:
                    written = write_at(file, data, offset)
                    data, offset = data[written:], offset + written
            except OSError as error:  # a full disk names no file
                raise OSError(error.errno, error.strerror, str(self.path)) from None
            finally:
                os.close(file)

    def read(self, key):
        """A picture that was written; of a finished video as it shows it, where keys rise from one call to
        the next."""
        height, width = self.shape
        if not (self.workplace / "pictures").is_file():
            return self.read_finished(self.keys.index(key))
        offset = HEADER + self.keys.index(key) * height * width * self.type.itemsize
        return np.fromfile(self.workplace / "pictures", self.type, height * width, offset=offset).reshape(
            height, width
        )

    def read_finished(self, index):
        """A picture of the finished file."""
        height, width = self.shape
        if self.path.suffix.lower() == ".npy":
            return np.load(self.path, mmap_mode="r")[index]
        self.frames = self.frames or enumerate(decode(self.path))
        return next(frame for i, frame in self.frames if i == index)[:height, :width]

    def finish(self, count):
        if self.path.suffix.lower() == ".npy":
            whole = self.workplace / "pictures"
            with open(whole, "r+b") as file:
                shape = (count, *self.shape)
                np.lib.format.write_array_header_1_0(
                    file, {"descr": self.type.str, "fortran_order": False, "shape": shape}
                )
                assert file.tell() == HEADER
        else:
            whole = self.workplace / f"encoded{self.path.suffix.lower()}"
            pictures = map(self.read, self.keys[:count])
            shown = tqdm(pictures, "encode", count, unit="picture", dynamic_ncols=True, leave=False)
            encode(whole, shown, self.fps, count * self.shape[0] * self.shape[1] * self.type.itemsize)
        with open(whole, "rb") as file:
            sync(file)
        os.replace(whole, self.path)
        video = {"fps": self.fps} if self.path.suffix.lower() in VIDEOS else {}
        self.save_record(True, self.finished_place, file=self.seen(), **video)
        self.discard()


def write_at(file, data, offset):
    """`os.pwrite`, which Windows has not."""
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.write(file, data)


def read_record(path):
    """What an output's record says, None where there is none of ours."""
    try:
        record = read_json(path)
        ours = (
            record["made_by"] == "reconstruct.py" and "whole" in record and isinstance(record["about"], dict)
        )
        return record if ours else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def foreign_files(folder):
    """The files of a folder that has no record, except those of a run that was killed before it wrote one,
    and the system's."""
    return [
        file for file in folder.iterdir() if not file.name.startswith(f".{RECORD}.") and not is_clutter(file)
    ]


def describe_change(old, new, remedy=None):
    """The settings that differ, as text, and how to resume; remedy: in place of the latter, and text only
    where any differ."""
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    text = "; ".join(f"{name} {old.get(name)!s:.80}, not {new.get(name)!s:.80}" for name in changed)
    if remedy is not None:
        return f", with {text}{remedy}" if changed else ""
    if changed == ["pictures"] and isinstance(old["pictures"], int):  # as where the recording has grown
        stop = old["first"] + (old["pictures"] - 1) * old["stride"] + 1
        return f"{text}; add --stop {stop} to resume, or --overwrite to start again"
    return f"{text}; take the same to resume, or --overwrite to start again"
