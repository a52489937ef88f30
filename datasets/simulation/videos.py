"""Scenes from videos: frames in between by optical flow, then spikes."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from swinsf.datasets.simulation.dataset import SceneDataset
from swinsf.datasets.simulation.photos import split_by_hash
from swinsf.utils.cli import UserError
from swinsf.utils.guard import visible
from swinsf.utils.timing import STEPS

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
MEMORY = 2**30  # bytes of frames that a dataset keeps in memory
SCENE_CUT = 40  # mean change of a pixel between frames, in grey levels, that no motion makes
MARGIN = 16  # pixels round a scene that the optical flow sees too


@dataclass(frozen=True)
class VideoScene:
    """Frames uint8 (n, h, w), n odd, of which the middle one is at time 0, cut to height x width in the
    middle."""

    frames: np.ndarray
    steps_per_frame: int
    height: int
    width: int
    flows: dict = field(default_factory=dict)

    def frame(self, time):
        """Light (H, W) float32 in 0..1 at a time in steps from the middle frame."""
        # before the first frame nothing moves
        position = max(0.0, len(self.frames) // 2 + time / self.steps_per_frame)
        index = min(int(position), len(self.frames) - 2)
        if index not in self.flows:
            self.flows.clear()  # time moves forward: earlier flows are done with
            self.flows[index] = optical_flows(*self.frames[index : index + 2])
        picture = in_between(*self.frames[index : index + 2], *self.flows[index], position - index)
        top, left = (np.array(picture.shape) - (self.height, self.width)) // 2
        return np.clip(
            picture[top : top + self.height, left : left + self.width] / 255, 0, 1, dtype=np.float32
        )

    def carry(self, texture, start, time):
        """The texture as it is: a video's grain does not move with what it shows."""
        return texture


def optical_flows(first, second):
    """Dense flow (h, w, 2) float32 from the first uint8 picture to the second, and back."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return flow.calc(first, second, None), flow.calc(second, first, None)


def in_between(first, second, forth, back, part):
    """The float32 picture at `part` 0..1 of the way between two frames, from the flows between them.

    Both frames are warped to it and blended (Jiang et al., "Super SloMo", CVPR 2018, equations 1 and 4).
    """
    to_first = part * part * back - part * (1 - part) * forth
    to_second = (1 - part) ** 2 * forth - part * (1 - part) * back
    warped = [sample(frame, flow) for frame, flow in ((first, to_first), (second, to_second))]
    return (1 - part) * warped[0] + part * warped[1]


def sample(frame, flow):
    """frame (h, w) uint8 at each pixel's own place plus flow (h, w, 2), float32."""
    y, x = np.mgrid[0 : frame.shape[0], 0 : frame.shape[1]].astype(np.float32)
    return cv2.remap(
        frame.astype(np.float32),
        x + flow[..., 0],
        y + flow[..., 1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def read_clips(path, length, memory):
    """The video's clips of `length` frames, one after the other without overlap, and its number of frames.

    Returns ([(index of the first frame, uint8 (length, h, w)), ...], count). Clips across a scene cut are
    left out. Where they would take more than `memory` bytes, every second, fourth, ... one is kept. An
    unreadable video has none, nor one of which a single clip would take more.
    """
    video = cv2.VideoCapture(str(path)) if path.is_file() else cv2.VideoCapture()
    clips, frames, every, found, count = [], [], 1, 0, 0
    if length * video.get(cv2.CAP_PROP_FRAME_WIDTH) * video.get(cv2.CAP_PROP_FRAME_HEIGHT) > memory:
        return clips, count
    while True:
        there, frame = video.read()
        if not there:
            video.release()
            return clips, count
        frame = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        if frames and cv2.absdiff(frames[-1], frame).mean() > SCENE_CUT:
            frames = []
        frames.append(frame)
        count += 1
        if len(frames) == length:
            if found % every == 0:
                clips.append((count - length, np.stack(frames)))
            frames, found = [], found + 1
            if len(clips) > 1 and len(clips) * clips[0][1].nbytes > memory:
                clips, every = clips[::2], 2 * every


def find_videos(path):
    """The videos in a folder, sorted, or the one file."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such video or folder of videos; check the path after videos:")
    found = sorted(file for file in visible(path.iterdir()) if file.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise UserError(
            f"{path}: no video in it ({', '.join(sorted(VIDEO_SUFFIXES))}); check the path after videos:"
        )
    return found


class VideoScenes(SceneDataset):
    """Scenes over a folder of videos or a single one, with `steps_per_frame` steps between two frames.

    Of three videos and more, whole ones are set aside for val and test; else the last two tenths of each.
    """

    def __init__(self, path, split, *size, steps_per_frame=40, steps=STEPS, **options):
        super().__init__(split, *size, **options)
        self.steps_per_frame = steps_per_frame
        videos = find_videos(path)
        whole = len(videos) >= 3
        self.sources = split_by_hash(videos)[split] if whole else videos
        length = 1 + 2 * -(-(steps // 2) // steps_per_frame)
        self.clips, bad = [], {}
        for video in tqdm(self.sources, "reading videos", unit="video", leave=False, delay=2):
            clips, count = read_clips(video, length, MEMORY)
            parts = [clip for first, clip in clips if whole or part_in_time(first, length, count) == split]
            if not count:
                bad[video] = "unreadable, or too large"
            elif not parts:
                bad[video] = f"{count} frames, too few for {length} in a row without a cut"
            elif np.any(np.less(parts[0].shape[1:], (self.height, self.width))):
                bad[video] = f"smaller than {self.height}x{self.width}"
            else:
                self.clips += parts
            while len(self.clips) > 1 and sum(clip.nbytes for clip in self.clips) > MEMORY:
                self.clips = self.clips[::2]
        self.sources = [video for video in self.sources if video not in bad]
        faults = ", ".join(f"{video.name} ({fault})" for video, fault in bad.items())
        if not self.clips:
            raise UserError(f"{path}: no video to use for {split}: {faults}; add longer or larger ones")
        skipped = f"; {len(bad)} skipped: {faults}" if bad else ""
        self.description = (
            f"{split}: scenes of {self.height}x{self.width} over {len(self.clips)} clips of {len(self.sources)} videos of {path}"
            f", {steps_per_frame} steps a frame{skipped}"
        )

    def draw(self, rng, reach):
        clip = self.clips[rng.integers(0, len(self.clips))]
        need = np.array([self.height, self.width]) + MARGIN
        shrink = rng.uniform(min(1.0, max(self.style.shrink[0], *(need / clip.shape[1:]))), 1.0)
        size = np.minimum(np.ceil(need / shrink).astype(int), clip.shape[1:])
        top, left = rng.integers(0, np.array(clip.shape[1:]) - size + 1)
        frames = clip[:, top : top + size[0], left : left + size[1]]
        if shrink < 1:
            target = np.maximum(np.round(size * shrink).astype(int), (self.height, self.width))
            frames = np.stack(
                [cv2.resize(frame, target[::-1].tolist(), interpolation=cv2.INTER_AREA) for frame in frames]
            )
        return VideoScene(np.ascontiguousarray(frames), self.steps_per_frame, self.height, self.width)


def part_in_time(first, length, count):
    """Which split has the clip of frames first..first+length-1 of a video of `count`: eight tenths, one, one;
    None across."""
    starts = {"train": 0, "val": 0.8 * count, "test": 0.9 * count}
    ends = {"train": 0.8 * count, "val": 0.9 * count, "test": count}
    return next((split for split in starts if starts[split] <= first and first + length <= ends[split]), None)
