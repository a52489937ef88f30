"""A folder of photographs: which are readable, and which belong to train, val and test."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from swinsf.utils.cli import UserError
from swinsf.utils.guard import read_grey, visible

PHOTO_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MEMORY = 2**30  # bytes of photographs that are kept
SMALLEST = 16  # pixels a side; OpenCV mirrors a picture that is one pixel wide for ever


class PhotoCache:
    """Photographs that were read, as long as they take no more than `most` bytes in all; others are read
    again each time."""

    def __init__(self, most):
        self.most, self.held, self.bytes, self.lock = most, {}, 0, threading.Lock()

    def clear(self):
        self.held, self.bytes = {}, 0

    def __call__(self, path):
        """A photograph as grey uint8 (h, w), or None where it is unreadable or a side of it is below
        SMALLEST."""
        if path in self.held:
            return self.held[path]
        photo = read_photo_file(path)
        size = 0 if photo is None else photo.nbytes
        with self.lock:
            if path not in self.held and self.bytes + size <= self.most:
                self.held[path], self.bytes = photo, self.bytes + size
        return photo


read_photo = PhotoCache(MEMORY)


def read_photo_file(path):
    try:
        photo = read_grey(path)
    except OSError:
        return None
    return photo if photo is not None and min(photo.shape) >= SMALLEST else None


def split_photos(folder):
    """{"train", "val", "test"} -> sorted lists of photographs in a folder; no photograph is in two of them.

    The split goes by a hash of the file names, so the same files are split alike everywhere: a tenth, at
    least one, for val and for test each.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of photographs; check the path after photos:")
    paths = [path for path in visible(folder.iterdir()) if path.suffix.lower() in PHOTO_SUFFIXES]
    if len(paths) < 3:
        raise UserError(
            f"{folder.absolute()}: {len(paths)} photographs; at least 3 are needed, for train, val and test"
        )
    return split_by_hash(paths)


def split_by_hash(paths):
    paths = sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path.name)).digest())
    tenth = max(1, len(paths) // 10)
    parts = {"test": paths[:tenth], "val": paths[tenth : 2 * tenth], "train": paths[2 * tenth :]}
    return {split: sorted(part) for split, part in parts.items()}


def readable(paths, is_readable, label):
    """(the paths that can be read, text on those that cannot). Raises UserError where none can."""
    with ThreadPoolExecutor() as pool:  # a bar only where there is something to wait for
        good = list(
            tqdm(
                pool.map(is_readable, paths),
                f"checking {label}s",
                len(paths),
                unit=label,
                leave=False,
                delay=2,
            )
        )
    kept, bad = ([path for path, fine in zip(paths, good) if fine is want] for want in (True, False))
    names = ", ".join(path.name for path in bad)
    if not kept:
        raise UserError(f"{paths[0].parent}: no readable {label} among {names}; replace them by whole ones")
    return kept, f"; {len(bad)} unreadable skipped: {names}" if bad else ""
