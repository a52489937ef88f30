"""Binning: several steps of a recording become one.

A pixel that gathers L thresholds of light per step gathers N L in N steps. If N L is at most 1, it fires at
most once in them, so a bin that is 1 if any of its steps is 1 loses nothing. Binning thus turns a dark
recording into a brighter one with N times the motion per step. Its pictures, divided by N, have the grey
levels of the recording.

`recordings.stream` does its own binning for the network's windows.
"""

import sys

import numpy as np

from swinsf.recordings.recording import Recording

BLOCK = 64  # steps read at a time


class Binned(Recording):
    """A recording with `bin` steps a bin; slices are uint8 (t, H, W). Reads `BLOCK` steps, or a bin, at a
    time."""

    def __init__(self, spikes, bin: int, key: int = 0):
        self.steps, self.bin = Recording.of(spikes), bin
        self.first = (key - bin // 2) % bin  # step of the recording at which the first bin begins
        self.name, self.size = self.steps.name, self.steps.size
        length = self.steps.length
        self.length = None if length is None else max(0, length - self.first) // bin
        self.ended = False  # whether a pipe has ended, and its last, incomplete bin was read

    def bin_of(self, key: int) -> int:
        """The bin around a step `key` of the recording."""
        return (key - self.first) // self.bin

    @property
    def position(self) -> int:
        """Number of bins read from a pipe."""
        return max(0, self.steps.source.position - self.first) // self.bin

    def __getitem__(self, bins):
        start, stop, step = bins.indices(sys.maxsize if self.length is None else self.length)
        if step != 1:
            raise ValueError(f"{bins}: bins are read in a row, with a step of 1")
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
    """Bin the steps of a recording, `bin` steps a bin.

    spikes: a `Recording`, an array (T, H, W), or an object whose slices are such arrays. key: a step that
    becomes the middle of a bin.
    """
    return Binned(spikes, bin, key)
