"""One type for recordings of every kind: files, pipes and arrays.

What opens them is in `recordings.opening`.
"""

import copy
import os
import warnings
from collections.abc import Callable

import numpy as np

from swinsf.recordings.axes import time_is_last
from swinsf.utils.cli import ArgumentError, UserError
from swinsf.utils.spikes import validate_spikes
from swinsf.utils.timing import STEPS


def spread(count: int, first: int, last: int) -> list[int]:
    """Up to `count` whole numbers from first to last, evenly spread."""
    return sorted({first + (last - first) * i // max(1, count - 1) for i in range(count)})


class Recording:
    """Spikes (T, H, W), read as they are sliced, and looked at as they are read: 0 and 1, or 0 and 255.

    length: T, or None for a pipe, whose end is not known yet; its steps are read in order, each once.
    size: (H, W). shape: (length, H, W). source: what is sliced: an array, a `DatFile`, a `PipedSpikes`, or
    any object that gives an array (t, H, W) for a slice. name: what messages call it.

    Raises TypeError for a path, and ValueError for an array that has not three dimensions, and later for what
    is no spikes.
    """

    def __init__(self, source, name: str = "the recording"):
        if isinstance(source, str | os.PathLike):
            raise TypeError(
                f"{source!s:.80}: a {type(source).__name__}, not an array of spikes (T, H, W); open a file by open_dat"
            )
        if len(getattr(source, "shape", "THW")) != 3:
            raise ArgumentError(f"spikes of shape {tuple(source.shape)}: expected (T, H, W)")
        self.source, self.name, self.changes = source, name, ()
        self.length = len(source) if hasattr(source, "__len__") else None
        self.size = tuple((source if hasattr(source, "shape") else np.asarray(source[0:0])).shape[1:])

    @classmethod
    def of(cls, spikes) -> "Recording":
        """Spikes of any kind as a `Recording`. One stays as it is.

        An array whose last axis is time is turned, with a warning; see `recordings.axes`.
        """
        if isinstance(spikes, Recording):
            return spikes
        array = isinstance(spikes, np.ndarray) and spikes.ndim == 3
        if array:
            validate_spikes(spikes[len(spikes) // 2 :][:STEPS])  # other values would mislead the next look
        if array and time_is_last(spikes, "the array"):
            warnings.warn(
                f"an array {spikes.shape} is taken as (H, W, T), since its last axis is time", stacklevel=3
            )
            spikes = np.moveaxis(spikes, -1, 0)
        return cls(spikes)

    @property
    def shape(self) -> tuple:
        """(T, H, W)"""
        return self.length, *self.size

    def __len__(self):
        if self.length is None:
            raise TypeError(f"{self.name}: comes through a pipe, and its length is not known")
        return self.length

    def __getitem__(self, index):
        """Steps as uint8 of 0 and 1; integers, slices and tuples of them, as of an array."""
        steps, *rest = index if isinstance(index, tuple) else (index,)
        found = self.changed_steps(validate_spikes(self.source[steps]))
        return found[(slice(None), *rest)] if isinstance(steps, slice) else found[tuple(rest)]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)

    def peek(self, steps: int) -> np.ndarray:
        """The next steps of a pipe, which are kept for later slices; the first of any other recording."""
        if self.length is None:
            return self.changed_steps(validate_spikes(self.source.peek(steps)))
        return self[: min(steps, self.length)]

    def changed_steps(self, steps):
        for change in self.changes:
            steps = change(steps)
        return steps

    def changed(self, change: Callable) -> "Recording":
        """The recording with `change`, steps (..., H, W) -> steps, applied to what is read."""
        other = copy.copy(self)
        other.changes = (*self.changes, change)
        other.size = tuple(change(np.zeros((0, *self.size), np.uint8)).shape[1:])
        return other

    def spans(self, rows: tuple, columns: tuple) -> tuple[slice, slice]:
        """Slices for rows and columns, each (start, stop) with None for the edge.

        Raises UserError if they are not within the picture.
        """
        found = [slice(*span).indices(size)[:2] for span, size in zip((rows, columns), self.size)]
        for (_, edge), (start, stop), size in zip((rows, columns), found, self.size):
            asked = size if edge is None else edge
            if stop - start < 1 or asked > size:
                raise UserError(
                    f"--crop: {start}:{asked} of {size} pixels of {self.name}, {'x'.join(map(str, self.size))}; "
                    "take a part of them"
                )
        return tuple(slice(*span) for span in found)

    def crop(self, rows: slice, columns: slice) -> "Recording":
        """A part of each picture."""
        return self.changed(lambda steps: steps[..., rows, columns])
