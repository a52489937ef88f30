"""A folder of photographs: checks which are readable, and splits them into train, val and test."""

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
MEMORY = 2**30  # maximum bytes of photographs kept in memory
# Photographs with numbered names are frames of a video if, in up to PAIRS pairs of neighbours, the median
# correlation exceeds ALIKE.
PAIRS, ALIKE = 9, 0.5
SMALLEST = 16  # minimum side in pixels; OpenCV would mirror a picture one pixel wide forever


class PhotoCache:
    """Reads photographs and keeps up to `most` bytes of them in memory; others are read again each time."""

    def __init__(self, most):
        self.most, self.held, self.bytes, self.lock = most, {}, 0, threading.Lock()

    def clear(self):
        self.held, self.bytes = {}, 0

    def __call__(self, path):
        """A photograph as grey uint8 (h, w), or None if it is unreadable or has a side below SMALLEST."""
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

    No photograph is in two lists, and neither are frames of one video (see `grouped`). The split uses a hash
    of the names, so the same files are split alike everywhere. val and test each get a tenth, at least one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of photographs; check the path after photos:")
    paths = [path for path in visible(folder.iterdir()) if path.suffix.lower() in PHOTO_SUFFIXES]
    if len(paths) < 3:
        raise UserError(
            f"{folder.absolute()}: {len(paths)} photographs; add some: train, val and test need at least 3"
        )
    groups = grouped(paths)
    if len(set(groups.values())) >= 3:
        return split_by_hash(paths, groups), None
    paths, tenth = sorted(paths, key=natural), max(1, len(paths) // 10)
    parts = {"train": paths[: -2 * tenth], "val": paths[-2 * tenth : -tenth], "test": paths[-tenth:]}
    return parts, (
        f"{folder}: names and contents look like frames of fewer than three videos; the last tenths are val "
        "and test, and resemble the frames just before them; add other videos or photographs"
    )


def grouped(paths):
    """Photograph -> the video that it is a frame of, or its own name.

    Photographs whose names differ only in their last number are one video's frames if neighbours look alike.
    Names alone do not show it, since cameras number any photographs.
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
    """Correlation of two photographs, shrunk to 32x24 pixels; 0 if one is unreadable or flat."""
    photos = [read_photo(path) for path in paths]
    if any(photo is None for photo in photos):
        return 0.0
    small = [cv2.resize(photo, (32, 24), interpolation=cv2.INTER_AREA).ravel() for photo in photos]
    return np.corrcoef(small)[0, 1] if all(np.ptp(photo) for photo in small) else 0.0


def split_by_hash(paths, groups):
    """{"train", "val", "test"} -> sorted paths; val and test each get at least a tenth.

    groups: path -> its group, of which there must be three or more. No group is divided.
    """
    members = {}
    for path in sorted(paths):
        members.setdefault(groups[path], []).append(path)
    order = sorted(members, key=lambda group: hashlib.sha256(os.fsencode(group)).digest())
    tenth = max(1, len(paths) // 10)
    parts = {"test": [], "val": [], "train": []}
    for group in order:
        part = next((part for part in ("test", "val") if len(parts[part]) < tenth), "train")
        parts[part] += members[group]
    if not all(parts.values()):  # groups of very different sizes: train on the largest
        order = sorted(order, key=lambda group: -len(members[group]))
        shares = {"test": order[1::2], "val": order[2::2], "train": order[:1]}
        parts = {part: [path for group in share for path in members[group]] for part, share in shares.items()}
    return {part: sorted(paths) for part, paths in parts.items()}


def readable(paths, is_readable, label):
    """(the readable paths, a text on the others). Raises UserError if none is readable."""
    with ThreadPoolExecutor() as pool:  # the bar shows only after two seconds
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
        raise UserError(f"{paths[0].parent}: no readable {label} among {names}; replace them with whole ones")
    return kept, f"; {len(bad)} unreadable skipped: {names}" if bad else ""
