"""Several steps of a recording taken as one.

An integrate-and-fire pixel that gathers L thresholds of light a step is, looked at every N steps, a pixel
that gathers N L: as long as that is at most one spike, "any of them" loses nothing. So a dark recording
becomes a brighter one that moves N times as fast, and pictures that are made of it, divided by N, have the
grey levels of the recording.
"""

import numpy as np

from swinsf.utils.cli import UserError
from swinsf.utils.timing import KEY_FRAMES, STEPS

BLOCK = 64  # steps that are read at a time


def first_key(bin):
    """The first step that has a whole window of 41 times `bin` steps round it."""
    return KEY_FRAMES["middle"] * bin + bin // 2


def last_key(steps, bin):
    """The last such step of a recording of so many steps; less than `first_key` where there is none."""
    return steps - STEPS * bin + first_key(bin)


def check_bin(bin, stride):
    """Raises UserError where pictures would not be whole bins apart."""
    if bin < 1:
        raise UserError(f"--bin {bin}: steps that are taken as one; take 1 or more")
    if stride % bin:
        near = sorted({max(1, stride // bin) * bin, -(-stride // bin) * bin})
        raise UserError(
            f"--bin {bin} with --stride {stride}: pictures are a multiple of {bin} steps apart; "
            f"take --stride {' or '.join(map(str, near))}"
        )


def bin_steps(spikes, bin, key=0):
    """A recording with `bin` steps as one: `Binned`, or `PipedBinned` where its length is not known.

    spikes: an array (T, H, W) of spikes, or whatever gives one for a slice. key: a step that is to lie in the
    middle of a bin, and so is every bin-th before and after it.
    """
    return (Binned if hasattr(spikes, "__len__") else PipedBinned)(spikes, bin, key)


class PipedBinned:
    """`bin` steps as one: gives uint8 (t, H, W) of 0 and 1 for a slice. Reads `BLOCK` steps, or one bin, at a
    time."""

    def __init__(self, spikes, bin, key=0):
        self.spikes, self.bin = spikes, bin
        self.first = (key - bin // 2) % bin  # step of the recording that the first bin begins at
        self.ended = False
        self.none = None  # no steps, of the size that steps had

    @property
    def shape(self):
        """(None, H, W)"""
        return None, *self.spikes.shape[-2:]

    def bin_of(self, key):
        """The bin whose middle a step of the recording is."""
        return (key - self.first) // self.bin

    def key_of(self, index):
        """The step of the recording that is a bin's middle."""
        return self.first + index * self.bin + self.bin // 2

    @property
    def position(self):
        """Of a recording from a pipe: how many bins were read."""
        return max(0, self.spikes.position - self.first) // self.bin

    def __getitem__(self, bins):
        whole, at_a_time = [], max(1, BLOCK // self.bin)
        for start in range(bins.start, bins.stop, at_a_time):
            if self.ended:
                break
            stop = min(start + at_a_time, bins.stop)
            steps = np.asarray(self.spikes[self.first + start * self.bin : self.first + stop * self.bin])
            fired = (steps != 0).view(np.uint8)
            if self.bin > 1:
                fired = fired[: len(fired) // self.bin * self.bin].reshape(-1, self.bin, *fired.shape[1:])
                fired = np.bitwise_or.reduce(fired, axis=1)
            whole.append(fired)
            self.ended, self.none = len(fired) < stop - start, fired[:0]
        if whole:
            return np.concatenate(whole)
        return np.zeros((0, *self.shape[1:]), np.uint8) if self.none is None else self.none


class Binned(PipedBinned):
    """`PipedBinned` of a recording whose length is known."""

    @property
    def shape(self):
        """(T, H, W)"""
        # whatever gives arrays need not have a shape itself
        return len(self), *np.shape(self.spikes[0:0])[-2:]

    def __len__(self):
        return max(0, len(self.spikes) - self.first) // self.bin

    def __getitem__(self, bins):
        start, stop, step = bins.indices(len(self))
        if step != 1:
            raise ValueError(f"{bins}: bins are taken in a row")
        return super().__getitem__(slice(start, stop))
