"""`Recording`, one type for recordings of every kind: files, pipes and arrays.

`recordings.opening` opens them.
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
    """Up to `count` integers from first to last, evenly spread."""
    return sorted({first + (last - first) * i // max(1, count - 1) for i in range(count)})


class Recording:
    """Spikes (T, H, W), read slice by slice and checked as they are read: 0 and 1, or 0 and 255.

    length: T, or None for a pipe, whose end is unknown and whose steps are read in order, each once.
    size: (H, W). shape: (length, H, W). source: an array, a `DatFile`, a `PipedSpikes`, or any object whose
    slices are arrays (t, H, W). name: its name in messages.

    Raises TypeError for a path, ValueError for an array without three dimensions, and later for other values.
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
        """Spikes of any kind as a `Recording`; a `Recording` is returned unchanged.

        An array whose last axis is time is transposed, with a warning; see `recordings.axes`.
        """
        if isinstance(spikes, Recording):
            return spikes
        if isinstance(spikes, list | tuple):
            spikes = np.asarray(spikes)
        array = isinstance(spikes, np.ndarray) and spikes.ndim == 3
        if array and not spikes.size:
            raise ArgumentError(f"spikes of shape {spikes.shape}: an array without a spike frame")
        if array:
            validate_spikes(spikes[len(spikes) // 2 :][:STEPS])  # other values would mislead time_is_last
        if array and time_is_last(spikes, "the array"):
            warnings.warn(
                f"an array {spikes.shape} is read as (H, W, T), since its last axis is time", stacklevel=3
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
        """Steps as uint8 of 0 and 1. index: an integer, a slice or a tuple of them, as for an array."""
        steps, *rest = index if isinstance(index, tuple) else (index,)
        found = self.changed_steps(validate_spikes(self.source[steps]))
        return found[(slice(None), *rest)] if isinstance(steps, slice) else found[tuple(rest)]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)

    def peek(self, steps: int) -> np.ndarray:
        """The next steps of a pipe, which later slices return again; else the first steps of the
        recording."""
        if self.length is None:
            return self.changed_steps(validate_spikes(self.source.peek(steps)))
        return self[: min(steps, self.length)]

    def changed_steps(self, steps):
        for change in self.changes:
            steps = change(steps)
        return steps

    def changed(self, change: Callable) -> "Recording":
        """The recording with `change`, steps (..., H, W) -> steps, applied to every slice."""
        other = copy.copy(self)
        other.changes = (*self.changes, change)
        other.size = tuple(change(np.zeros((0, *self.size), np.uint8)).shape[1:])
        return other

    def spans(self, rows: tuple, columns: tuple) -> tuple[slice, slice]:
        """Slices from rows and columns, each (start, stop) with None for the edge.

        Raises UserError if they are not within the picture.
        """
        found = [slice(*span).indices(size)[:2] for span, size in zip((rows, columns), self.size)]
        for (first, edge), (start, stop), size in zip((rows, columns), found, self.size):
            asked = size if edge is None else edge
            if stop - start < 1 or asked > size:
                raise UserError(
                    f"--crop: {first or 0}:{asked} of {size} pixels of {self.name}, {'x'.join(map(str, self.size))}; "
                    "take a part of them"
                )
        return tuple(slice(*span) for span in found)

    def crop(self, rows: slice, columns: slice) -> "Recording":
        """The recording with each step cut to rows and columns."""
        return self.changed(lambda steps: steps[..., rows, columns])
