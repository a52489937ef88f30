"""Scenes from videos and folders of frames, interpolated by optical flow."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from swinsf.datasets.picture_files import to_eight_bits
from swinsf.datasets.simulation.dataset import SceneDataset
from swinsf.datasets.simulation.footage import SCENE_CUT, find_frames, find_videos
from swinsf.datasets.simulation.photos import split_by_hash
from swinsf.datasets.simulation.sampling import Picture
from swinsf.utils.cli import UserError
from swinsf.utils.timing import STEPS

MEMORY = 2**30  # bytes of frames that a dataset keeps in memory
LONGEST = 301  # steps of the longest stream; each split of a video is at least this long if possible
DRAWS = 20  # maximum number of clips on disk to try until one has no scene cut
MARGIN = 16  # extra height and width in pixels of frames, for the optical flow


@dataclass(frozen=True)
class VideoScene:
    """Frames uint8 or uint16 (n, h, w), or `PassingFrames`, cropped to the middle height x width.

    times: of each frame, in typical intervals from time 0. By default they are even, n is odd, and the middle
    one is 0. white: the frames' value for white.
    """

    frames: Any
    steps_per_frame: int
    height: int
    width: int
    flows: dict = field(default_factory=dict)
    times: np.ndarray | None = None
    white: int = 255

    def frame(self, time):
        """Light (H, W) float32 in 0..1 at a time in steps from time 0."""
        times = np.arange(len(self.frames)) - len(self.frames) // 2 if self.times is None else self.times
        # nothing moves before the first frame or after the last one
        position = min(max(times[0], time / self.steps_per_frame), times[-1])
        index = min(int(np.searchsorted(times, position, "right")) - 1, len(times) - 2)
        pair = self.frames[index : index + 2]
        if index not in self.flows:
            self.flows.clear()  # time moves forward: earlier flows are no longer needed
            self.flows[index] = optical_flows(*(to_eight_bits(frame, self.white) for frame in pair))
        part = (position - times[index]) / (times[index + 1] - times[index])
        picture = in_between(*pair, *self.flows[index], part)
        top, left = (np.array(picture.shape) - (self.height, self.width)) // 2
        return np.clip(
            picture[top : top + self.height, left : left + self.width] / self.white, 0, 1, dtype=np.float32
        )

    def carry(self, texture, start, time):
        """Returns the texture unchanged: a video's grain does not move with its content."""
        return texture


def optical_flows(first, second):
    """Dense flow (h, w, 2) float32 from the first uint8 picture to the second, and back."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return flow.calc(first, second, None), flow.calc(second, first, None)


def in_between(first, second, forth, back, part):
    """The float32 picture at the fraction `part` of the way between two frames, from the flows between them.

    Both frames are warped and blended (Jiang et al., "Super SloMo", CVPR 2018, equations 1 and 4).
    """
    to_first = part * part * back - part * (1 - part) * forth
    to_second = (1 - part) ** 2 * forth - part * (1 - part) * back
    warped = [sample(frame, flow) for frame, flow in ((first, to_first), (second, to_second))]
    return (1 - part) * warped[0] + part * warped[1]


def sample(frame, flow):
    """Sample a frame (h, w) at each pixel plus flow (h, w, 2) -> float32 (h, w)."""
    y, x = np.mgrid[0 : frame.shape[0], 0 : frame.shape[1]].astype(np.float32)
    return Picture(frame.astype(np.float32)).at(x + flow[..., 0], y + flow[..., 1])


@dataclass(frozen=True)
class Clip:
    """A clip of a footage: its first and last position, and its frames if they are in memory."""

    footage: object
    first: int
    last: int
    frames: np.ndarray | None = None

    def read(self):
        return self.footage.read([(self.first, self.last)])[0] if self.frames is None else self.frames

    def scene(self, frames, reach, *options):
        """A `VideoScene` of `frames`, cropped from the clip's. Time 0 is `reach` intervals from the first."""
        times = self.footage.times[self.first : self.last + 1]
        middle = np.searchsorted(times, times[0] + reach)
        return VideoScene(frames, *options, times=times - times[middle], white=self.footage.white)


def open_clips(footage, reach, part, memory):
    """The `Clip`s of a footage, or of a part of it: `part(count)` -> (first, stop).

    A video's clips hold their frames; if these exceed `memory` bytes, every other clip is dropped until they
    fit. Frames on disk are read when needed.
    """
    frames = footage.look(memory)
    clips = footage.clips(reach, *(part(footage.count) if part else ()))
    if footage.pictures:
        return [Clip(footage, *clip) for clip in clips]
    size = footage.shape[0] * footage.shape[1] * (1 if footage.white == 255 else 2)
    while len(clips) > 1 and sum(last + 1 - first for first, last in clips) * size > memory:
        clips = clips[::2]
    if clips and (clips[0][1] + 1 - clips[0][0]) * size > memory:
        return []
    if frames is None:
        return [Clip(footage, *clip, read) for clip, read in zip(clips, footage.read(clips))]
    return [Clip(footage, a, b, np.stack([frames[i] for i in footage.indices[a : b + 1]])) for a, b in clips]


class VideoScenes(SceneDataset):
    """Scenes over videos or folders of frames, with `steps_per_frame` steps between two frames.

    Three or more videos are split as whole videos; one or two are each split in time.
    """

    find = staticmethod(find_videos)
    label = "videos"

    def __init__(self, path, split, *size, steps_per_frame=40, steps=STEPS, **options):
        super().__init__(split, *size, **options)
        self.steps_per_frame, self.reach = steps_per_frame, -(-(steps // 2) // steps_per_frame)
        found, length, longest = (
            self.find(path),
            1 + 2 * self.reach,
            1 + 2 * -(-(LONGEST // 2) // steps_per_frame),
        )
        groups, self.warnings = groups_of(found)
        parts = split_by_hash([footage.name for footage in found], groups) if len(found) >= 3 else None
        taken = [footage for footage in found if parts is None or footage.name in parts[split]]
        part = None if parts else lambda count: part_in_time(split, count, longest)
        self.clips, bad = [], {}
        for footage in tqdm(taken, f"reading {self.label}", unit="video", leave=False, delay=2):
            clips, count = open_clips(footage, self.reach, part, MEMORY), footage.count
            self.warnings += [f"{footage.name}: {note}" for note in footage.notes]
            if not count:
                bad[footage.name] = "unreadable, or too large"
            elif not clips:
                first, stop = part(count) if part else (0, count)
                own = (
                    ""
                    if parts
                    else f"; {split} has {stop - first} of them; use {3 * longest} frames or 3 videos"
                )
                bad[footage.name] = (
                    f"{count} frames, too few for {length} in a row without a cut or a gap{own}"
                )
            elif np.any(np.less(footage.shape, (self.height, self.width))):
                bad[footage.name] = f"smaller than {self.height}x{self.width}"
            self.clips += [] if footage.name in bad else clips
            while len(self.clips) > 1 and sum(in_memory(clip) for clip in self.clips) > MEMORY:
                self.clips = self.clips[::2]
        self.footages = [footage for footage in taken if footage.name not in bad]
        faults = ", ".join(f"{name} ({fault})" for name, fault in bad.items())
        if not self.clips:
            raise UserError(f"{path}: no video to use for {split}: {faults}; add longer or larger ones")
        skipped = f"; {len(bad)} skipped: {faults}" if bad else ""
        self.description = (
            f"{split}: scenes of {self.height}x{self.width} over {len(self.clips)} clips of {len(self.footages)} videos of {path}"
            f", {steps_per_frame} steps a frame{skipped}"
        )

    @property
    def sources(self):
        return [footage.path for footage in self.footages]

    @property
    def source_sizes(self):
        """Name -> bytes of each video, or number of frames of each series."""
        return {f.name: len(f.pictures) if f.pictures else f.path.stat().st_size for f in self.footages}

    @property
    def files(self):
        """The paths of the videos, or of the first frame of each series."""
        return [(footage.pictures or [footage.path])[0] for footage in self.footages]

    def draw(self, rng, reach):
        clip, frames = self.draw_clip(rng)
        need = np.array([self.height, self.width]) + MARGIN
        shrink = rng.uniform(min(1.0, max(self.style.shrink[0], *(need / frames.shape[1:]))), 1.0)
        size = np.minimum(np.ceil(need / shrink).astype(int), frames.shape[1:])
        top, left = rng.integers(0, np.array(frames.shape[1:]) - size + 1)
        frames = frames[:, top : top + size[0], left : left + size[1]]
        if shrink < 1:
            target = np.maximum(np.round(size * shrink).astype(int), (self.height, self.width))
            frames = shrunk(frames, target)
        frames = np.ascontiguousarray(frames)
        return clip.scene(frames, self.reach, self.steps_per_frame, self.height, self.width)

    def draw_clip(self, rng):
        """(a `Clip`, its frames). A scene cut in frames on disk shows only now; then draws another clip."""
        for _ in range(DRAWS):
            clip = self.clips[rng.integers(0, len(self.clips))]
            frames = clip.read()
            levels = 255 / clip.footage.white
            if clip.frames is not None or not any(
                cv2.absdiff(a, b).mean() * levels > SCENE_CUT for a, b in pairwise(frames)
            ):
                break
        return clip, frames


class FrameScenes(VideoScenes):
    """Scenes over folders of frames."""

    find = staticmethod(find_frames)
    label = "frames"

    @property
    def names(self):
        """Names of the series in training, of the scenes in val and test."""
        return [f.name for f in self.footages] if self.split == "train" else super().names


def groups_of(footages):
    """(name -> the video that it is a part of, warnings)."""
    groups = {footage.name: footage.group for footage in footages}
    if len(set(groups.values())) >= 3 or len(footages) < 3:
        return groups, []
    text = "names differ only in their last numbers; assuming that they are different videos"
    return {name: name for name in groups}, [text]


def in_memory(clip):
    return 0 if clip.frames is None else clip.frames.nbytes


def shrunk(frames, size):
    """Frames (n, h, w) shrunk to size (H, W) by area averaging."""
    size = [int(side) for side in reversed(size)]
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def part_in_time(split, count, longest):
    """(first, stop) of a split in a video of `count` frames. test is the last tenth, val the one before.

    Both are at least `longest` frames long if the video has three times as many.
    """
    tenth = (count + 9) // 10
    size = max(tenth, longest) if count >= 3 * longest else tenth
    edges = max(0, count - 2 * size), max(0, count - size), count
    return {"train": (0, edges[0]), "val": edges[:2], "test": edges[1:]}[split]
