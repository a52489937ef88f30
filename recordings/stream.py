"""Runs a network on recordings of any length: sliding windows, read ahead while the network runs."""

import contextlib
import functools
import itertools
import numbers
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

from swinsf.models import SwinSF, fast
from swinsf.models.tiling import check_tile, tiled
from swinsf.recordings.binning import BLOCK
from swinsf.recordings.plan import ENDLESS, MIDDLE, group_size, key_frames, plan_passes
from swinsf.recordings.recording import Recording
from swinsf.utils.cli import ArgumentError, UserError
from swinsf.utils.timing import LEAST_SIDE, RATE, STEPS, STRIDE

T = TypeVar("T")


def check_number(name: str, value: Any, least: float, most: float, kind: type = numbers.Real) -> None:
    """Raises ArgumentError unless an argument is a number of type `kind` from least to most."""
    if not isinstance(value, kind) or not least <= value <= most:
        whole = "a whole number" if kind is numbers.Integral else "a number"
        allowed = f", {least:g} or more" if most == ENDLESS else f" from {least:g} to {most:g}"
        raise ArgumentError(f"{name} {value!r}: take {whole}{allowed}")


def check_keys(stride: Any, start: Any, stop: Any, bin: Any) -> None:
    """Raises UserError unless stride and bin are integers from 1, and start and stop are integers or None."""
    for name, value, least in (
        ("stride", stride, 1),
        ("start", start, 0),
        ("stop", stop, 0),
        ("bin", bin, 1),
    ):
        if value is not None or least:
            check_number(name, value, least, ENDLESS, numbers.Integral)


def check_side(recording: Recording):
    """Raises UserError if pictures are too small for the network."""
    if min(recording.size) < LEAST_SIDE:
        size = "x".join(map(str, recording.size))
        raise UserError(
            f"{recording.name}: {size}; the network needs {LEAST_SIDE} pixels a side; take TFP or TFI"
        )


def reconstruct(
    spikes: Any,
    model: SwinSF,
    stride: int = STRIDE,
    start: int | None = None,
    stop: int | None = None,
    bin: int = 1,
    rate: float = RATE,
    **options: Any,
) -> Iterator[np.ndarray]:
    """A network's pictures of a recording of any length: an iterator of float32 arrays (H, W), grey levels
    0..255, not clamped.

    spikes: an array (T, H, W) of 0 and 1, or an object whose slices are such arrays, as
    `datasets.dat.open_dat` returns; it is sliced in order and no step is read twice. model: a SwinSF. stride,
    start, stop: see `key_frames`, in steps of the recording. bin: steps a bin, for dark recordings, see
    `recordings.binning`. rate: spikes a step at grey level 255. options: those of `reconstruct_at`.

    Raises TypeError for a path, ValueError for other shapes or values out of range, or if no key frame has a
    whole window.
    """
    check_keys(stride, start, stop, bin)
    check_number("rate", rate, 1e-3, 2)
    recording = Recording.of(spikes)
    steps = recording.length
    keys = key_frames(steps, start, stop, stride, bin)
    if not keys:
        asked = "".join(
            f", {name} {value}" for name, value in (("start", start), ("stop", stop)) if value is not None
        )
        raise ValueError(f"no key frame: {steps} steps{asked}; a picture needs {STEPS * bin} steps")
    return (
        picture * (RATE / rate)
        for _, picture in reconstruct_binned(recording, model, keys, stride, bin, **options)
    )


def reconstruct_binned(spikes, model, keys, stride, bin=1, calibration=None, **options):
    """`reconstruct_at` with `bin` steps a bin, and the grey levels of the unbinned recording.

    keys, stride, and the key frames yielded: in steps of the recording. calibration: for unbinned steps, see
    `reconstruct_at`.
    """
    if calibration is not None:
        dark, response = calibration
        calibration = np.stack([bin * dark, response])  # for a bin
    made = reconstruct_at(spikes, model, keys, stride, bin=bin, calibration=calibration, **options)
    return _divided(made, bin)


def _divided(pictures, bin):
    with contextlib.closing(pictures):
        for key, picture in pictures:
            yield key, picture / bin


def reconstruct_at(
    spikes,
    model,
    keys,
    stride,
    batch_size=1,
    tile=0,
    outputs="middle",
    calibration=None,
    should_stop=lambda: False,
    bin=1,
    ends=False,
):
    """Pictures at key frames that increase by `stride` or more: an iterator of (key frame, float32 (H, W)).

    spikes, model: see `reconstruct`. batch_size: windows per pass of the network. tile: see `tiled`. outputs:
    "middle", or "all" to use the left and the right picture of each window too, with stride 1 or 7: a third
    of the passes for slightly worse pictures; keys then come in whole groups (see `group_size`), except the
    last. calibration: (2, H, W) float32, the pixels' dark charge in thresholds a step and response relative
    to the mean; None if pixels are alike. bin: steps a bin of a window. ends: mirror the recording in time if
    a window reaches beyond it.

    The next window is read while the network runs. The iterator ends with the recording, or once
    should_stop() is true. Raises UserError for a tile or a stride that does not fit.
    """
    multiple = model.config.window * model.config.patch
    check_number("batch_size", batch_size, 1, ENDLESS, numbers.Integral)
    check_number("tile", tile, 0, ENDLESS, numbers.Integral)
    check_tile(tile, multiple)
    read = prefetch(
        read_windows(spikes, keys, group_size(stride, outputs, bin), batch_size, bin, ends),
        patience=1,
        should_stop=should_stop,
    )
    return _pictures(read, model, batch_size, tile, multiple, calibration)


def _pictures(read, model, batch_size, tile, multiple, calibration):
    device = next(model.parameters()).device
    run = functools.partial(fast.infer, model) if isinstance(model, SwinSF) else model
    if calibration is not None:
        calibration = torch.as_tensor(calibration, dtype=torch.float32)[None].to(device)
    with contextlib.closing(read):
        for passes, windows in read:
            found = {}
            for first in range(0, len(passes), batch_size):
                batch = torch.stack(windows[first : first + batch_size]).to(device)
                with torch.inference_mode():
                    pictures = tiled(run, batch, tile, multiple, calibration=calibration)
                for i, (_, shown) in enumerate(passes[first : first + batch_size]):
                    found.update(
                        {
                            key: getattr(pictures, output)[i, 0].float().cpu().numpy()
                            for output, key in shown.items()
                        }
                    )
            yield from sorted(found.items())


def read_windows(spikes, keys, group=1, batch_size=1, bin=1, ends=False):
    """Yields (passes of `plan_passes`, windows, uint8 tensors (41, H, W)), at least batch_size at a time.

    Steps shared by windows are read once. Ends with the recording. If it ends within a group, each key frame
    of the group that still has a whole window gets its own pass.
    """
    keys, steps = iter(keys), Steps(spikes, bin, ends)
    passes, windows = [], []
    while part := list(itertools.islice(keys, group)):
        steps.forget(steps.first_of(part[0]))
        planned = plan_passes(part, group if steps.window(part[-1]) is not None else 1)
        found = [steps.window(centre) for centre, _ in planned]
        whole = [i for i, window in enumerate(found) if window is not None]
        passes += [planned[i] for i in whole]
        windows += [torch.from_numpy(found[i]) for i in whole]
        if len(whole) < len(planned):
            break
        if len(passes) >= batch_size:
            yield passes, windows
            passes, windows = [], []
    if passes:
        yield passes, windows


class Steps:
    """The current steps of a recording, read in order, each once.

    bin: steps a bin. Bins are centred on each window's key frame, so they differ between windows; the steps
    are therefore held unbinned, packed as bits if bin > 1.
    """

    def __init__(self, spikes, bin=1, ends=False):
        self.spikes, self.bin, self.first, self.held, self.ends = spikes, bin, 0, None, ends

    @property
    def reached(self):
        return self.first + (0 if self.held is None else len(self.held))

    def forget(self, first):
        """Drop the steps before `first`."""
        keep = self.held is not None and first < self.reached
        self.held = self.held[first - self.first :] if keep else None
        self.first = first

    def read(self, stop):
        """Hold the steps up to `stop`, or to the end of the recording."""
        parts, reached = [] if self.held is None else [self.held], self.reached
        while reached < stop:
            end = min(stop, reached + BLOCK)
            found = self.mirrored(reached, end) if self.ends else self.spikes[reached:end]
            new = (np.asarray(found) != 0).view(np.uint8)
            self.width = new.shape[-1]
            parts.append(np.packbits(new, axis=-1) if self.bin > 1 else new)
            reached += len(new)
            if reached < end:
                break
        self.held = np.concatenate(parts) if len(parts) > 1 else parts[0]

    def mirrored(self, start, stop):
        """Steps start..stop-1; beyond the recording they are mirrored at its first and last step."""
        last = len(self.spikes) - 1
        places = np.arange(start, stop) % max(1, 2 * last)
        places = np.minimum(places, 2 * last - places)
        first = int(places.min())
        return np.asarray(self.spikes[first : int(places.max()) + 1])[places - first]

    def first_of(self, centre):
        """The first step of a key frame's window."""
        return centre - MIDDLE * self.bin - self.bin // 2

    def window(self, centre):
        """The 41 bins around a key frame, uint8 (41, H, W), or None if the recording ends within them."""
        start = self.first_of(centre)
        stop = start + STEPS * self.bin
        if self.reached < stop:
            self.read(stop)
        window = self.held[start - self.first : stop - self.first]
        if len(window) < STEPS * self.bin:
            return None
        if self.bin == 1:
            return window
        bins = np.bitwise_or.reduce(window.reshape(STEPS, self.bin, *window.shape[1:]), axis=1)
        return np.unpackbits(bins, axis=-1, count=self.width)


def prefetch(
    items: Iterable[T], patience: float | None = None, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[T]:
    """Yield the items of a generator that runs in a thread, one item ahead. Its errors are raised here.

    Close it to leave early; this waits up to `patience` seconds for the current item, or as long as it takes
    if None. Ends early if should_stop() is true, even while waiting for an item.
    """
    ready: queue.Queue[Any] = queue.Queue(1)
    ended = threading.Event()

    def put(*result):
        while not ended.is_set():
            try:
                return ready.put(result, timeout=0.1)
            except queue.Full:
                continue

    def run():
        try:
            for item in items:
                put(item, None)
                if ended.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:
            put(None, error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while not should_stop():
            try:
                item, error = ready.get(timeout=0.1)
            except queue.Empty:
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        ended.set()
        thread.join(patience)
