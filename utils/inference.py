"""A network on pictures of any size and recordings of any length: overlapping tiles, windows that slide, work that overlaps."""

import contextlib
import ctypes
import functools
import itertools
import os
import queue
import sys
import threading

import numpy as np
import torch

from models import SwinSF, fast
from utils.binning import check_bin, first_key, last_key, take_as_one
from utils.cli import UserError
from utils.timing import KEY_FRAMES, RATE, STEPS

MIDDLE = KEY_FRAMES["middle"]
APART = MIDDLE - KEY_FRAMES["left"]  # steps between the key frames of a window's three pictures

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8  # of malloc.h
LARGEST_THRESHOLD = 2**25  # bytes; glibc takes no more
ENDLESS = sys.maxsize  # where the key frames of a recording of unknown length end

# Windows that neighbouring tiles share. A tile is kept up to the middle of them: what its cut edge changes has faded there
# to well under half a grey level.
OVERLAP = 8


def check_tile(tile, multiple, overlap=OVERLAP):
    """Raises UserError for tiles of that side, 0 for none, that would be all overlap."""
    least = (overlap + 1) * multiple
    if 0 < tile < least:
        raise UserError(
            f"--tile {tile}: tiles of this network overlap by {overlap * multiple} pixels; take {least} or more, or 0 for none"
        )


def tile_spans(size, tile, overlap, multiple):
    """How to cut one axis: a list of (start, stop, keep from, keep to), whose kept parts are 0..size without gap or overlap.

    Tiles have at most `tile` pixels and start on multiples of `multiple`, as the windows and patches of a network do; only
    the last one may end where there is none.
    """
    if size <= tile:
        return [(0, size, 0, size)]
    side = tile // multiple * multiple
    starts = [*range(0, size - side, side - overlap)]
    starts.append(-(-(size - side) // multiple) * multiple)  # the last tile is a whole one too, but for its end
    cuts = [0, *(start + overlap // 2 for start in starts[1:]), size]
    return [(start, min(start + side, size), *cuts[i : i + 2]) for i, start in enumerate(starts)]


def tiled(model, spikes, tile, multiple, overlap=OVERLAP, calibration=None):
    """model(spikes), computed tile by tile; model(spikes, calibration) with a calibration (B or 1, 2, H, W).

    model: function of spikes (B, T, h, w) -> tuple of pictures (B, 1, h, w). spikes (B, T, H, W): any type that the model
    takes; floats are made of a tile at a time. tile: largest side of a tile in pixels, 0 for the whole picture at once.
    multiple: side of the network's windows in pixels. overlap: even number of windows that neighbouring tiles share.
    Returns the model's tuple of (B, 1, H, W). Raises UserError for a tile that is no larger than the overlap.

    Weights of tsa="released" mix each edge of a picture with the opposite one, about 8 windows deep. Along the whole picture's
    edges the opposite edge of the tile takes the place of the picture's there; inside, nothing is seen of it.
    """
    check_tile(tile, multiple, overlap)
    height, width = spikes.shape[-2:]
    if not tile or max(height, width) <= tile:
        return model(spikes) if calibration is None else model(spikes, calibration)
    whole = None
    for top, bottom, *rows in tile_spans(height, tile, overlap * multiple, multiple):
        for left, right, *columns in tile_spans(width, tile, overlap * multiple, multiple):
            given = (spikes,) if calibration is None else (spikes, calibration)
            parts = model(*(whole_size[..., top:bottom, left:right] for whole_size in given))
            if whole is None:
                whole = type(parts)(*(part.new_empty(*part.shape[:-2], height, width) for part in parts))
            for picture, part in zip(whole, parts):
                picture[..., slice(*rows), slice(*columns)] = part[
                    ..., rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
                ]
    return whole


def key_frames(steps, start=None, stop=None, stride=1, bin=1):
    """The steps of a recording to show: every stride-th of start..stop-1, of those that have a whole window round them.

    steps: how many the recording has, None where that is not known, as of a pipe. bin: steps that are taken as one, so that a
    window is 41 times as many. Returns a range, up to ENDLESS where the length is not known.
    """
    earliest = first_key(bin)
    first = earliest if start is None else max(start, earliest)
    if start is not None:  # the rhythm is that of the steps asked for
        first = start + -(-(first - start) // stride) * stride
    end = ENDLESS if steps is None else last_key(steps, bin) + 1
    return range(first, max(first, end if stop is None else min(stop, end)), stride)


def group_size(stride, outputs):
    """How many key frames in a row are shown by passes of the network together: one; with all outputs 21 steps' worth.

    Raises UserError for a stride at which the pictures left, middle and right of a pass are not all wanted.
    """
    if outputs == "middle":
        return 1
    if APART % stride:
        raise UserError(f"--outputs all with --stride {stride}: a pass shows steps {APART} apart; take --stride {APART} or 1")
    return 3 * APART // stride


def plan_passes(keys, group):
    """[(centre, {output: key frame})] for one group of key frames. A group cut short has a pass for each."""
    third = group // 3
    if group == 1 or len(keys) < group:
        return [(key, {"middle": key}) for key in keys]
    lefts, middles, rights = keys[:third], keys[third : 2 * third], keys[2 * third :]
    return [(m, {"left": left, "middle": m, "right": right}) for left, m, right in zip(lefts, middles, rights)]


def reconstruct(spikes, model, stride=20, start=None, stop=None, bin=1, rate=RATE, **options):
    """Pictures of a recording of any length by a network; an iterator of (H, W) float32 arrays, grey levels 0..255, not clamped.

    spikes: an array (T, H, W) of 0 and 1, or whatever gives one for a slice, such as `datasets.dat.open_dat`; it is sliced in
    order and no step is read twice. model: a SwinSF. stride, start, stop: see `key_frames`, in steps of the recording. bin: steps
    that are taken as one, for dark recordings, see `utils.binning`; stride is a multiple of it. rate: spikes a step at
    grey level 255. options: of `reconstruct_at`.

    Raises TypeError for a path, ValueError for other shapes and where no key frame has a whole window, UserError for a stride
    that is no multiple of bin.
    """
    check_recording(spikes)
    check_bin(bin, stride)
    steps = len(spikes) if hasattr(spikes, "__len__") else None
    keys = key_frames(steps, start, stop, stride, bin)
    if not keys:
        asked = "".join(f", {name} {value}" for name, value in (("start", start), ("stop", stop)) if value is not None)
        raise ValueError(f"no key frame: {steps} steps{asked}; a picture wants {STEPS * bin} steps")
    return (picture * (RATE / rate) for _, picture in reconstruct_binned(spikes, model, keys, stride, bin, **options))


def check_recording(spikes):
    """Raises TypeError for a path in place of spikes, ValueError for an array of other than three dimensions."""
    if isinstance(spikes, str | os.PathLike):
        raise TypeError(f"{spikes!s:.80}: a {type(spikes).__name__}, not an array of spikes (T, H, W); open a file by open_dat")
    if len(getattr(spikes, "shape", "THW")) != 3:
        raise ValueError(f"spikes of shape {tuple(spikes.shape)}: expected (T, H, W)")


def reconstruct_binned(spikes, model, keys, stride, bin=1, calibration=None, **options):
    """`reconstruct_at` with `bin` steps as one. keys, stride: in steps of the recording, as are those that are yielded.

    The grey level is that of the recording whatever `bin` is. calibration: of a single step, see `reconstruct_at`.
    """
    if calibration is not None:
        dark, response = calibration
        calibration = np.stack([bin * dark, response])  # of N steps as one
    keys = iter(keys)
    first = [*itertools.islice(keys, 1)]
    binned = take_as_one(spikes, bin, *first)
    bins = map(binned.bin_of, itertools.chain(first, keys))
    return _in_steps(reconstruct_at(binned, model, bins, stride // bin, calibration=calibration, **options), binned)


def _in_steps(pictures, binned):
    with contextlib.closing(pictures):
        for index, picture in pictures:
            yield binned.key_of(index), picture / binned.bin


def reconstruct_at(
    spikes, model, keys, stride, batch_size=1, tile=0, outputs="middle", calibration=None, should_stop=lambda: False
):
    """Pictures of a recording at key frames, rising, at least `stride` apart: an iterator of (key frame, (H, W) float32 array).

    spikes, model: see `reconstruct`. batch_size: windows that the network sees at a time. tile: see `tiled`. outputs: "middle",
    or "all" to take the left and the right picture of each window too, with stride 1 or 7: a third of the passes, for pictures
    that are a little worse; keys are then whole groups (see `group_size`), but for the last.
    calibration: (2, H, W) float32, the pixels' dark charge in thresholds a step and response, relative to the mean; None if they
    are alike.

    The next window is read while the network runs. The iterator ends early where the recording does, or should_stop() is true.
    Raises UserError for a tile or a stride that does not fit.
    """
    multiple = model.config.window * model.config.patch
    check_tile(tile, multiple)
    read = ahead(read_windows(spikes, keys, group_size(stride, outputs), batch_size), patience=1, should_stop=should_stop)
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
                    found.update({key: getattr(pictures, output)[i, 0].float().cpu().numpy() for output, key in shown.items()})
            yield from sorted(found.items())


def read_windows(spikes, keys, group=1, batch_size=1):
    """Yields (passes, their windows, each a uint8 tensor (41, H, W)) of `plan_passes`, at least batch_size at a time.

    Steps that windows share are read once. Ends where the recording does; key frames of a group that ends with it, and have a
    whole window, have a pass each.
    """
    keys, steps = iter(keys), Steps(spikes)
    passes, windows = [], []
    while part := list(itertools.islice(keys, group)):
        steps.forget(part[0] - MIDDLE)
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
    """The current steps of a recording, read in order, each once."""

    def __init__(self, spikes):
        self.spikes, self.first, self.held = spikes, 0, None

    @property
    def reached(self):
        return self.first + (0 if self.held is None else len(self.held))

    def forget(self, first):
        """Steps before `first` are not wanted any more."""
        self.held = self.held[first - self.first :] if first < self.reached else None
        self.first = first

    def window(self, centre):
        """The 41 steps round a key frame, uint8 (41, H, W), or None where the recording ends within them."""
        start, stop = centre - MIDDLE, centre - MIDDLE + STEPS
        if self.reached < stop:
            new = (np.asarray(self.spikes[self.reached : stop]) != 0).view(np.uint8)
            self.held = new if self.held is None else np.concatenate([self.held, new])
        window = self.held[start - self.first : stop - self.first]
        return window if len(window) == STEPS else None


def ahead(items, depth=1, patience=None, should_stop=lambda: False):
    """Yields the items of a generator that runs in a thread of its own, up to `depth` items ahead. Its errors are raised here.

    To be closed by who leaves early. patience: seconds that closing waits at most for the current item, None for as long as it
    takes. Ends early where should_stop() comes true, also while it waits for an item.
    """
    ready, ended = queue.Queue(depth), threading.Event()

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


def keep_freed_memory(training=False):
    """Let the C library keep the memory that is freed. For glibc; elsewhere it does nothing.

    By default it hands large pieces back to the system, which clears them page by page when they are asked for again, at each
    operation on a large picture: a third of the time at 1000x1000. training: keep the pieces of up to 32 MB alone, since a
    training step frees too many of different sizes to keep all.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    if training:
        options = ((M_MMAP_THRESHOLD, LARGEST_THRESHOLD), (M_TRIM_THRESHOLD, 2 * LARGEST_THRESHOLD))
    else:
        options = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
    for option, value in options:
        mallopt(option, value)
