"""Videos and folders of frames: examines their frames and finds clips without cuts or gaps."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np

from swinsf.datasets.picture_files import MOST_PIXELS, read_levels, white_of
from swinsf.datasets.series import group_of, natural, series_of
from swinsf.datasets.simulation.photos import PHOTO_SUFFIXES
from swinsf.utils.cli import UserError
from swinsf.utils.guard import visible

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
BLURRED = {"blur", "blur_gamma"}  # GoPro's blurred frames, beside sharp/
SCENE_CUT = 40  # mean change of a pixel between frames, in grey levels, above which there is a cut
# A frame is a duplicate if it changes by less than this many grey levels, and by less than this fraction of
# the changes' 90th percentile.
DOUBLED = (0.5, 0.1)
STILL = 5  # with this many duplicates in a row, the scene stands still
PADDED = 0.1  # fraction of duplicates above which a converter made them, if the other frames are even
LONGEST_GAP = 4  # typical intervals; a clip never spans a longer gap


@dataclass
class Footage:
    """A video, or a series of frames: `pictures`, in order.

    name: its path below the folder. group: the video that it is a part of. `look` sets the rest. times: of
    each frame that is used, in typical frame intervals. indices: the frames' numbers in the file. breaks:
    positions in `times` at which a clip must end. white: grey level of white. notes: lines on what was found.
    """

    path: Path
    name: str
    pictures: list | None = None
    times: np.ndarray = ()
    indices: np.ndarray = ()
    breaks: tuple = ()
    white: int = 255
    shape: tuple = (0, 0)
    notes: tuple = ()

    @property
    def group(self):
        return group_of(self.name)

    @property
    def count(self):
        return len(self.times)

    def look(self, most):
        """Examine the frames and set the attributes. Returns the frames if they take up to `most` bytes, else
        None. A video that is unreadable, or whose frames are too large, counts as having no frames."""
        if self.pictures:
            return self.look_at_pictures()
        kept, frames, seconds, changes, damaged, before, most_level = [], [], [], [], [], None, 0
        resized = []
        for second, frame in decode(self.path):
            other_size = frame is not None and before is not None and frame.shape != before.shape
            if frame is None or other_size:
                (resized if other_size else damaged).append(len(changes))
                changes.append(np.inf)
                seconds.append(None if frame is None else second)
                frames.append(None)
                continue
            level = 255 if frame.dtype == np.uint8 else 65535
            changes.append(np.inf if before is None else cv2.absdiff(before, frame).mean() * 255 / level)
            seconds.append(second)
            most_level = max(most_level, int(frame.max()))
            before = frame
            if kept is not None:
                frames.append(frame)
                kept = frames if len(frames) * frame.nbytes <= most else None
                frames = frames if kept is not None else []
        if before is None:
            return None
        self.shape = before.shape
        self.white = 255 if before.dtype == np.uint8 else white_of(np.array([max(most_level, 1)], np.uint16))
        # changes were relative to 16 bits
        changes = np.array(changes) * (65535 / self.white if self.white != 255 else 1)
        unusable = damaged + resized
        self.indices, self.times, notes = frame_times(seconds, changes, unusable)
        gaps = np.diff(self.times) > LONGEST_GAP
        lost = [np.any((np.array(unusable) > a) & (np.array(unusable) < b)) for a, b in pairs(self.indices)]
        lost = np.array(lost, bool)  # empty for a single frame
        cut = changes[self.indices[1:]] > SCENE_CUT
        self.breaks = tuple(np.flatnonzero(gaps | lost | cut) + 1)
        left_out = {"damaged": damaged, "not {}x{}, left out".format(*self.shape): resized}
        self.notes = (*(f"{what}: {runs_of(frames)}" for what, frames in left_out.items() if frames), *notes)
        return kept

    def look_at_pictures(self):
        numbers = np.array([series_number(path) for path in self.pictures], float)
        whole = np.array([is_whole(path) for path in self.pictures])
        self.indices = np.flatnonzero(whole)
        if not len(self.indices):
            return None
        first = read_levels(self.pictures[self.indices[0]])
        if first is None:
            raise UserError(f"{self.pictures[self.indices[0]]}: not a readable frame; remove it")
        self.shape, self.white = first.shape, self.white_of_pictures(first)
        unit = np.median(np.diff(numbers)) if len(numbers) > 1 else 1
        self.times = (numbers[self.indices] - numbers[self.indices[0]]) / unit
        self.breaks = tuple(np.flatnonzero(np.diff(self.times) > 1.5) + 1)
        gaps = [(int(a) + 1, int(b) - 1) for a, b in pairs(numbers) if b - a > 1.5 * unit]
        bad = ", ".join(self.pictures[i].name for i in np.flatnonzero(~whole))
        self.notes = (*([f"missing: {runs(gaps)}"] if gaps else []), *([f"unreadable: {bad}"] if bad else []))
        return None

    def white_of_pictures(self, first):
        """The value of white of the usable `pictures`. Reads 16-bit ones until it is certain: a later frame may be
        brighter than the first."""
        white = white_of(first)
        for index in self.indices[1:]:
            if white in (255, 65535):
                break
            frame = read_levels(self.pictures[index])
            white = white if frame is None else max(white, white_of(frame))
        return white

    def clips(self, reach, start=0, stop=None):
        """[(first, last)] positions of consecutive clips in `times`. Each has at least `reach` intervals on
        either side of a middle frame, and no break."""
        found, at = [], start
        edges = [*(b for b in self.breaks if b > start), len(self.times)]
        stop = len(self.times) if stop is None else stop
        while at < stop:
            end = min(stop, next(edge for edge in edges if edge > at))
            middle = at + np.searchsorted(self.times[at:end], self.times[at] + reach)
            last = middle + np.searchsorted(self.times[middle:end], self.times[min(middle, end - 1)] + reach)
            if middle >= end or last >= end:
                at = end
                continue
            found.append((at, int(last)))
            at = int(last) + 1
        return found

    def read(self, clips):
        """The frames (n, h, w) of each clip; a video is decoded only once."""
        if self.pictures:
            return [self.read_pictures(first, last) for first, last in clips]
        needed = {index for first, last in clips for index in self.indices[first : last + 1]}
        frames = {i: frame for i, (_, frame) in enumerate(decode(self.path)) if i in needed}
        return [np.stack([frames[i] for i in self.indices[first : last + 1]]) for first, last in clips]

    def read_pictures(self, first, last):
        paths = [self.pictures[i] for i in self.indices[first : last + 1]]
        frames = [read_levels(path) for path in paths]
        for path, frame in zip(paths, frames):
            if frame is None or frame.shape != self.shape:
                raise UserError(f"{path}: not a readable frame of {self.shape[0]}x{self.shape[1]}; remove it")
        return np.stack(frames)


def frame_times(seconds, changes, unusable=()):
    """(indices of the frames to use, their times in typical intervals, notes).

    seconds: each frame's time stamp, or None if unknown. changes: from the previous frame, in grey levels.
    unusable: indices of frames to skip. Duplicates are skipped, too. Times are the time stamps. But if a
    converter to a fixed rate duplicated frames, the remaining ones are evenly spaced.
    """
    count, notes = len(changes), []
    known = [second for second in seconds if second is not None]
    good = np.setdiff1d(np.arange(count), unusable)
    if len(known) < len(good) or np.any(np.diff(known) <= 0):
        seconds = np.arange(count, dtype=float)
        notes += ["its time stamps are not in order; assuming evenly spaced frames"] if any(known) else []
    else:
        places = [i for i, second in enumerate(seconds) if second is not None]
        seconds = np.interp(np.arange(count), places, known)
    finite = changes[np.isfinite(changes)]
    least, part = DOUBLED
    limit = min(least, part * np.percentile(finite, 90)) if len(finite) else 0
    same = (changes < limit) & np.isfinite(changes)
    for first, last in stretches(same):
        if last - first >= STILL:
            same[first:last] = False
    used = good[~same[good]]
    doubled = len(good) - len(used)
    times = seconds[used] - seconds[used[0]]
    line = (
        np.polyval(np.polyfit(np.arange(len(used)), times, 1), np.arange(len(used)))
        if len(used) > 2
        else times
    )
    usual = np.median(np.diff(seconds)) if count > 1 else 1
    if doubled >= PADDED * len(good) and np.abs(times - line).max() <= usual:
        times = np.arange(len(used), dtype=float)
    elif len(used) > 1:
        steps = np.diff(times) / np.median(np.diff(times))
        # containers round their time stamps
        steps = np.where(np.abs(steps - np.round(steps)) < 0.1, np.round(steps), steps)
        times = np.concatenate([[0], np.cumsum(np.maximum(steps, 1e-3))])
        if not unusable and np.any(np.abs(steps - 1) > 0.1):
            notes.append("its frames are unevenly spaced; using their time stamps")
    if doubled:
        notes.append(f"{doubled} duplicate frames are left out")
    return used, times, notes


def decode(path):
    """Yields (seconds or None, frame) for each frame of a video: grey (h, w) uint8, or uint16 if it has more
    bits. A damaged frame is None."""
    if not Path(path).is_file():  # opening a pipe would wait forever
        return
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.width * stream.height > MOST_PIXELS:
                return
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    yield None, None
                    continue
                for frame in frames:
                    time = None if frame.pts is None else float(frame.pts * frame.time_base)
                    yield time, None if frame.is_corrupt else grey(frame)
    except (av.error.FFmpegError, IndexError, OSError):  # no video, or truncated
        return


def grey(frame):
    """A PyAV frame as grey levels (h, w), rotated upright."""
    if max(component.bits for component in frame.format.components) <= 8:
        picture = cv2.cvtColor(frame.to_ndarray(format="bgr24"), cv2.COLOR_BGR2GRAY)
    elif len(frame.format.components) == 1:
        picture = frame.to_ndarray(format="gray16le")
    else:
        picture = cv2.cvtColor(frame.to_ndarray(format="rgb48le"), cv2.COLOR_RGB2GRAY)
    return np.rot90(picture, frame.rotation // 90)


def find_videos(path):
    """[`Footage`] of the videos in and below a folder, in natural order, or of a single file."""
    path = Path(path)
    if path.is_file():
        return [Footage(path, path.name)]
    if not path.is_dir():
        raise UserError(f"{path}: no such video or folder of videos; check the path after videos:")
    found = [file for file in below(path) if file.suffix.lower() in VIDEO_SUFFIXES]
    if not found:
        raise UserError(
            f"{path}: no video in it ({', '.join(sorted(VIDEO_SUFFIXES))}); check the path after videos:"
        )
    return [Footage(file, file.relative_to(path).as_posix()) for file in found]


def find_frames(path):
    """[`Footage`] of the series of frames in and below a folder, in natural order.

    A series is the files of a folder whose names differ only in their last number. Skips GoPro's blurred
    frames.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder of frames; check the path after frames:")
    series = {}
    for file in below(path):
        parts = file.relative_to(path).parts
        if file.suffix.lower() in PHOTO_SUFFIXES and not BLURRED & set(parts[:-1]):
            stem, number = (file.parent / series_of(file.name)[0], series_of(file.name)[1])
            stem = file.parent / "#" if file.stem.isdigit() else stem
            if number is not None or file.stem.isdigit():
                series.setdefault(stem, []).append(file)
    found = []
    for stem, files in series.items():
        place = stem.relative_to(path).parent
        place = place.parent if place.name == "sharp" else place
        several = sum(other.parent == stem.parent for other in series) > 1 or place == Path()
        name = place / stem.stem.replace("#", "").rstrip("_- ") if several else place
        if len(files) > 1:
            found.append(
                Footage(stem.parent, (name if name != Path() else Path(path.name)).as_posix(), files)
            )
    if not found:
        raise UserError(
            f"{path}: no numbered frames in it, such as 00000000.png, 00000001.png; check the path after frames:"
        )
    return found


def below(path):
    """The files below a folder in natural order, except hidden ones."""
    found = []
    for file in sorted(visible(path.iterdir()), key=natural):
        found += below(file) if file.is_dir() and not file.is_symlink() else [file]
    return found


def series_number(path):
    return int(path.stem) if path.stem.isdigit() else series_of(path.name)[1]


def is_whole(path):
    """Whether a picture file looks complete. Checks only that it has bytes and, for PNG, an end mark."""
    if not path.is_file():  # opening a pipe would wait forever
        return False
    with open(path, "rb") as file:
        head = file.read(8)
        file.seek(max(0, path.stat().st_size - 12))
        tail = file.read()
    return bool(head) and (not head.startswith(b"\x89PNG") or tail[4:8] == b"IEND")


def pairs(values):
    return list(pairwise(values))


def stretches(flags):
    """[(first, last + 1)] of each run of True."""
    edges = np.flatnonzero(np.diff([False, *flags, False]))
    return list(zip(edges[::2], edges[1::2]))


def runs_of(indices):
    """Describe the frames at these indices, counted from 1: "frame 3, frames 7 to 9"."""
    return runs([(first + 1, last) for first, last in stretches(np.isin(range(max(indices) + 1), indices))])


def runs(stretches):
    """The same for (first, last) pairs, already counted from 1."""
    texts = [f"frames {a} to {b}" if b > a else f"frame {a}" for a, b in stretches]
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
