"""Binning: several steps of a recording become one.

A pixel that gathers L thresholds of light per step gathers N L in N steps. While N L is at most 1, it fires at
most once in them, so a bin that is 1 if any of its steps is 1 loses nothing. A dark recording so becomes a
brighter one that moves N times as fast. Its pictures, divided by N, have the grey levels of the recording.

`recordings.stream` bins the windows of the network itself.
"""

import sys

import numpy as np

from swinsf.recordings.recording import Recording

BLOCK = 64  # steps that are read at a time


class Binned(Recording):
    """A recording with `bin` steps a bin: uint8 (t, H, W) of 0 and 1 for a slice. Reads `BLOCK` steps, or one
    bin, at a time."""

    def __init__(self, spikes, bin: int, key: int = 0):
        self.steps, self.bin = Recording.of(spikes), bin
        self.first = (key - bin // 2) % bin  # step of the recording that the first bin begins at
        self.name, self.size = self.steps.name, self.steps.size
        length = self.steps.length
        self.length = None if length is None else max(0, length - self.first) // bin
        self.ended = False  # a pipe: the steps of its last, incomplete bin are read already

    def bin_of(self, key: int) -> int:
        """The bin whose middle a step of the recording is."""
        return (key - self.first) // self.bin

    def key_of(self, index: int) -> int:
        """The step of the recording that is a bin's middle."""
        return self.first + index * self.bin + self.bin // 2

    @property
    def position(self) -> int:
        """Number of bins of a pipe that were read."""
        return max(0, self.steps.source.position - self.first) // self.bin

    def __getitem__(self, bins):
        start, stop, step = bins.indices(sys.maxsize if self.length is None else self.length)
        if step != 1:
            raise ValueError(f"{bins}: bins are taken in a row")
        whole, at_a_time = [np.zeros((0, *self.size), np.uint8)], max(1, BLOCK // self.bin)
        for begin in range(start, stop, at_a_time) if not self.ended else ():
            end = min(begin + at_a_time, stop)
            steps = np.asarray(self.steps[self.first + begin * self.bin : self.first + end * self.bin])
            fired = (steps != 0).view(np.uint8)
            if self.bin > 1:
                fired = fired[: len(fired) // self.bin * self.bin].reshape(-1, self.bin, *fired.shape[1:])
                fired = np.bitwise_or.reduce(fired, axis=1)
            whole.append(fired)
            if len(fired) < end - begin:  # the recording ends
                self.ended = self.length is None
                break
        return np.concatenate(whole) if len(whole) != 2 else whole[1]


def bin_steps(spikes, bin: int, key: int = 0) -> Binned:
    """Bin the steps of a recording, `bin` of them in each.

    spikes: a `Recording`, an array (T, H, W), or whatever gives one for a slice. key: a step that is to lie in
    the middle of a bin, and so is every bin-th before and after it.
    """
    return Binned(spikes, bin, key)
