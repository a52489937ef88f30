"""Writers of a recording's pictures: a folder of PNGs, or a single file. Both can be stopped and resumed.

Pictures come in any order and from any number of processes. The pictures of a single file are collected in a
hidden folder next to it, `.NAME.parts`; the file gets its name once it is complete. A run locks its output.
"""

import os
import re
import shutil

import cv2
import numpy as np
from tqdm import tqdm

from swinsf.datasets.picture_files import read_levels
from swinsf.evaluation.tables import write_picture
from swinsf.recordings.formats import FORMATS, VIDEOS, decode, encode
from swinsf.recordings.tone import picture_name
from swinsf.recordings.workplace import RECORD, Output, describe_change, foreign_files, read_record
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write, is_clutter, sync

HEADER = 128  # bytes before the first picture of a .npy file


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
                f"--output {self.path}: has files but no {RECORD}, so it is not from this script; take a new folder"
            )
        if record and record["whole"] and not overwrite and not self.can_resume(record):
            changed = describe_change(record["about"], self.about, "")
            raise UserError(
                f"--output {self.path}: already exists{changed}; add --overwrite, or choose another folder"
            )

    def clear(self):
        for file in self.path.glob("*"):
            if self.PICTURE.fullmatch(file.name):
                file.unlink()

    def done(self):
        """The set of key frames whose pictures are written."""
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
                f"{path}: not a picture of this recording; remove it, and the same command makes it again"
            )
        return picture

    def finish(self, count):
        for torn in self.path.glob(".*.png.*"):  # left by killed writes
            torn.unlink()
        self.save_record(whole=True)

    def discard(self):
        """Clean up after a run without pictures: nothing to do for a folder of PNGs."""


class PictureFile(Output):
    """All pictures in one file: `.npy` (N, H, W), TIFF, a video, or one PNG.

    Until it is complete, `pictures` in the workplace holds their bytes, and `done` one byte for each.
    """

    one_file = True

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
                f"--output {self.path}: already exists{changed}; add --overwrite, or choose another name"
            )
        place = self.workplace
        foreign = not record and place.exists() and not (place.is_dir() and not foreign_files(place))
        if foreign or place.is_symlink():
            raise UserError(
                f"{place}: pictures would be collected here, but it is not from this script; move it, or choose another "
                "--output"
            )

    @property
    def finished_place(self):
        """The path of the finished file's record, hidden next to it."""
        return self.path.with_name(f".{self.path.name}.json")

    def finished_record(self):
        """The record of the finished file; None if either is missing, or the file was replaced."""
        record = read_record(self.finished_place)
        return record if record and self.path.is_file() and record.get("file") == seen(self.path) else None

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
        """The set of key frames whose pictures are written."""
        path = self.workplace / "done"
        if not path.is_file() or not (self.workplace / "pictures").is_file():
            return set()
        return {self.keys[i] for i, mark in enumerate(path.read_bytes()) if mark}

    def write(self, key, picture):
        """Write the picture's bytes, then the mark that they are written: a kill in between loses one
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
        """A written picture, decoded if it is from a finished video, whose keys must then increase."""
        height, width = self.shape
        if not (self.workplace / "pictures").is_file():
            return self.read_finished(self.keys.index(key))
        offset = HEADER + self.keys.index(key) * height * width * self.type.itemsize
        return np.fromfile(self.workplace / "pictures", self.type, height * width, offset=offset).reshape(
            height, width
        )

    def read_finished(self, index):
        """The picture at an index in the finished file."""
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
        video = {"fps": self.fps} if self.path.suffix.lower() in VIDEOS else {}
        # first, since without a record the finished file would count as another program's
        self.save_record(True, self.finished_place, file=seen(whole), **video)
        os.replace(whole, self.path)
        self.discard()


def seen(path):
    """A file's size and modification time, which a rename keeps, to detect a replaced one."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def write_at(file, data, offset):
    """`os.pwrite`, also on Windows, which lacks it."""
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.write(file, data)
