"""A whole video as one long stream, with a picture of every frame."""

import cv2
import numpy as np

from swinsf.datasets.dat import camera_of
from swinsf.datasets.picture_files import read_levels
from swinsf.datasets.simulation.footage import decode, pairs
from swinsf.datasets.simulation.sensor import draw_pattern, stream
from swinsf.datasets.simulation.videos import MARGIN, VideoScene
from swinsf.utils.cli import UserError
from swinsf.utils.timing import STEPS


class LongScene:
    """The longest part of a footage without a cut or gap, shrunk to cover height x width and cropped to it.

    steps: length of its stream; frame i is shown at step shown[i]. notes: lines on what was found.
    """

    def __init__(self, footage, height, width, steps_per_frame):
        footage.look(0)
        edges = [0, *footage.breaks, footage.count]
        first, stop = max(pairs(edges), key=lambda pair: pair[1] - pair[0])
        times = np.asarray(footage.times[first:stop])
        self.footage, self.name, self.notes = footage, footage.name, [*footage.notes]
        if stop - first < 2 or (times[-1] - times[0]) * steps_per_frame < STEPS - 1:
            raise UserError(
                f"{footage.path}: no {STEPS} steps without a cut or a gap in {footage.count} frames; use a "
                "longer video"
            )
        if np.any(np.less(footage.shape, (height, width))):
            raise UserError(f"{footage.path}: smaller than {height}x{width}; use a larger video")
        if stop - first < footage.count:
            self.notes.append(
                f"uses the longest part without a cut or a gap, {stop - first} of {footage.count} frames"
            )
        indices = footage.indices[first:stop]
        view = view_of(footage.shape, height, width)
        frames = PassingFrames((view(frame) for frame in frames_of(footage, indices)), len(indices))
        self.scene = VideoScene(
            frames, steps_per_frame, height, width, times=times - times[0], white=footage.white
        )
        self.shown = np.round(self.scene.times * steps_per_frame).astype(int)
        self.steps = int(self.shown[-1]) + 1

    def stream(self, rng, sensor):
        """Yields (spikes bool (H, W), picture or None) for each step. Can be called once."""
        pattern = draw_pattern(sensor, self.scene.height, self.scene.width, rng)
        return stream(self.scene, rng, 0, self.steps, set(self.shown.tolist()), sensor, pattern)


class PassingFrames:
    """Frames from an iterator, of which two are in memory: `[i : i + 2]` gives a pair, for increasing i."""

    def __init__(self, frames, count):
        self.frames, self.count, self.seen, self.pair = frames, count, 0, ()

    def __len__(self):
        return self.count

    def __getitem__(self, wanted):
        while self.seen < wanted.stop:
            self.pair = (*self.pair, next(self.frames))[-2:]
            self.seen += 1
        return self.pair


def frames_of(footage, indices):
    """Yields the frames of a footage with these indices."""
    if footage.pictures:
        for index in indices:
            frame = read_levels(footage.pictures[index])
            if frame is None or frame.shape != footage.shape:
                raise UserError(
                    f"{footage.pictures[index]}: not a readable frame of the first one's size; remove it"
                )
            yield frame
        return
    needed = set(indices.tolist())
    yield from (frame for index, (_, frame) in enumerate(decode(footage.path)) if index in needed)


def view_of(shape, height, width):
    """A function that shrinks a frame to just cover height x width, and crops it to that plus any margin."""
    shrink = max(height / shape[0], width / shape[1])
    size = [int(np.ceil(side * shrink)) for side in shape]
    size = [max(side, least) for side, least in zip(size, (height, width))]
    top, left = ((side - least) // 2 for side, least in zip(size, (height, width)))
    rows = slice(max(0, top - MARGIN // 2), top + height + MARGIN // 2)
    columns = slice(max(0, left - MARGIN // 2), left + width + MARGIN // 2)

    def view(frame):
        if shrink < 1:
            frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
        return frame[rows, columns]

    return view


def pack(spikes, flip):
    """The bytes of one step in a `.dat` file."""
    spikes = spikes[::-1] if camera_of(*spikes.shape, flip).flip else spikes
    return np.packbits(spikes.ravel(), bitorder="little").tobytes()
