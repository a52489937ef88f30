"""A folder of photographs: which are readable, and which belong to train, val and test."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from swinsf.datasets.picture_files import read_grey
from swinsf.datasets.series import natural, series_of
from swinsf.utils.cli import UserError
from swinsf.utils.guard import visible

PHOTO_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MEMORY = 2**30  # bytes of photographs that are kept
PAIRS, ALIKE = 9, 0.5  # of photographs whose names may be those of frames; correlation above which they are
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
    """({"train", "val", "test"} -> sorted lists of photographs in a folder, a warning or None).

    No photograph is in two lists, nor are frames of one video, which `grouped` tells by their names and looks.
    The split goes by a hash of the names, so the same files are split alike everywhere: a tenth, at least one,
    for val and for test each.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of photographs; check the path after photos:")
    paths = [path for path in visible(folder.iterdir()) if path.suffix.lower() in PHOTO_SUFFIXES]
    if len(paths) < 3:
        raise UserError(
            f"{folder.absolute()}: {len(paths)} photographs; at least 3 are needed, for train, val and test"
        )
    groups = grouped(paths)
    if len(set(groups.values())) >= 3:
        return split_by_hash(paths, groups), None
    paths, tenth = sorted(paths, key=natural), max(1, len(paths) // 10)
    parts = {"train": paths[: -2 * tenth], "val": paths[-2 * tenth : -tenth], "test": paths[-tenth:]}
    few = f"{folder}: frames of fewer than three videos, by their names and looks; the last tenths are val and test"
    return (
        parts,
        f"{few}, and their first frames look like the last ones before; add other videos or photographs",
    )


def grouped(paths):
    """Photograph -> the video that it is a frame of, or its own name.

    Names that differ only in their last number are a video's if neighbours look alike; a camera's counter
    gives such names to any photographs. Up to PAIRS of neighbours are looked at.
    """
    named, groups = {}, {path: path.name for path in paths}
    for path in sorted(paths, key=natural):
        named.setdefault(series_of(path.name)[0], []).append(path)
    for name, members in named.items():
        if len(members) > 1:
            firsts = np.linspace(0, len(members) - 2, min(PAIRS, len(members) - 1)).astype(int)
            if np.median([likeness(*members[first : first + 2]) for first in firsts]) > ALIKE:
                groups.update(dict.fromkeys(members, name))
    return groups


def likeness(*paths):
    """Correlation of two photographs that are shrunk to 32x24 pixels; 0 if one is unreadable or flat."""
    photos = [read_photo(path) for path in paths]
    if any(photo is None for photo in photos):
        return 0.0
    small = [cv2.resize(photo, (32, 24), interpolation=cv2.INTER_AREA).ravel() for photo in photos]
    return np.corrcoef(small)[0, 1] if all(np.ptp(photo) for photo in small) else 0.0


def split_by_hash(paths, groups):
    """{"train", "val", "test"} -> sorted paths, a tenth, at least, for val and test. groups: path -> its group,
    whole in one of them; three at least."""
    members = {}
    for path in sorted(paths):
        members.setdefault(groups[path], []).append(path)
    order = sorted(members, key=lambda group: hashlib.sha256(os.fsencode(group)).digest())
    tenth = max(1, len(paths) // 10)
    parts = {"test": [], "val": [], "train": []}
    for group in order:
        part = next((part for part in ("test", "val") if len(parts[part]) < tenth), "train")
        parts[part] += members[group]
    if not all(parts.values()):  # groups of very different sizes: the largest is to train on
        order = sorted(order, key=lambda group: -len(members[group]))
        shares = {"test": order[1::2], "val": order[2::2], "train": order[:1]}
        parts = {part: [path for group in share for path in members[group]] for part, share in shares.items()}
    return {part: sorted(paths) for part, paths in parts.items()}


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
