"""The two classical methods, TFP and TFI, for comparison.

Source: Zhu et al., "A Retina-Inspired Sampling Method for Visual Texture Reconstruction", ICME 2019.
`tfp` and `tfi` make one picture from a window. `tfp_pictures` and `tfi_pictures` make pictures at many key
frames of a recording that need not fit into memory.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from swinsf.utils.spikes import validate_spikes
from swinsf.utils.timing import RATE

BLOCK = 32  # steps of a recording read at a time
REACH = 512  # steps before and after a block in which TFI looks for a pixel's spikes
# TFI's code for a block's first step. Nearer spikes have larger codes, and 0 means no spike, so a vectorised
# maximum finds the nearest spike.
ORIGIN = 2048


def tfp(spikes, key_frame, window=41, rate=RATE):
    """Texture from playback: the mean of `window` steps centred on the key frame, in grey levels.

    spikes (..., T, H, W) tensor of 0 and 1 -> (..., H, W) float in 0..255/rate. The window is cut at the ends
    of the stream.
    """
    start = max(key_frame - window // 2, 0)
    steps = spikes[..., start : key_frame - window // 2 + window, :, :]
    return steps.float().mean(-3) * (255 / rate)


def tfi(spikes, key_frame, rate=RATE):
    """Texture from interspike interval: the inverse of the interval around the key frame, in grey levels.

    spikes (..., T, H, W) tensor of 0 and 1 -> (..., H, W) float in 0..255/rate. The interval runs from the
    last spike at or before the key frame to the first one after it. If there is none before, it starts at
    step -1; if there is none after, it ends at T.
    """
    count = spikes.shape[-3]
    step = torch.arange(count, device=spikes.device).view(-1, 1, 1)
    fired = spikes > 0
    before = torch.where(fired & (step <= key_frame), step, -1).amax(-3)
    after = torch.where(fired & (step > key_frame), step, count).amin(-3)
    return 255 / rate / (after - before)


def read_steps(spikes, start, stop):
    """Read steps start..stop-1, as far as they exist, as a bool tensor (t, H, W). spikes: see `tfp_pictures`.

    Raises ValueError if they are not spikes.
    """
    return torch.from_numpy(validate_spikes(spikes[start:stop]) != 0)


def tfp_pictures(
    spikes: Any, key_frames: Iterable[int], window: int = 41, rate: float = RATE
) -> Iterator[np.ndarray]:
    """`tfp` at each of `key_frames`, in ascending order. A running sum adds and subtracts each step once.

    spikes: an array (T, H, W) of 0 and 1, or an object whose slices are such arrays. It is sliced in order,
    and no step is read twice. Yields (H, W) float32 arrays until the recording ends. The window may have any
    length, since its steps are kept packed. Raises ValueError if it reads anything but spikes.
    """
    held, total = deque(), None  # the steps in the window, and their sum
    first = stop = 0  # indices of the first of them, and of the one after the last
    for key_frame in key_frames:
        start, end = max(key_frame - window // 2, 0), key_frame - window // 2 + window
        while held and first < start:  # steps that have left the window
            total -= torch.from_numpy(np.unpackbits(held.popleft(), count=total.numel()).reshape(total.shape))
            first += 1
        if not held:
            first = stop = start
        for block in range(stop, end, BLOCK):
            for step in read_steps(spikes, block, min(block + BLOCK, end)).view(torch.uint8):
                total = step.to(torch.int32) if total is None else total.add_(step)
                held.append(np.packbits(step.numpy()))
                stop += 1
            if stop < min(block + BLOCK, end):  # the recording ends
                break
        if stop <= key_frame:
            return
        yield (total * (255 / rate / len(held))).numpy()


def tfi_pictures(spikes: Any, key_frames: Iterable[int], rate: float = RATE) -> Iterator[np.ndarray]:
    """`tfi` of the whole recording at each of `key_frames`, in ascending order.

    Makes one pass forward and one back over each block of steps. Input and output are as in `tfp_pictures`.
    A pixel without a spike in the 512 steps before or after its block counts as firing just beyond them. Its
    grey level is then at most 0.83, and the true one is lower.
    """
    key_frames = iter(key_frames)
    key_frame = next(key_frames, None)
    if key_frame is None:
        return
    # Blocks start at multiples of BLOCK, so that a picture does not depend on the first key frame.
    start = stop = max(0, key_frame // BLOCK * BLOCK - REACH)
    blocks = deque()  # steps start..stop-1
    before = None  # the code of each pixel's last spike before `start`
    while key_frame is not None:
        while stop <= start + REACH:
            block = read_steps(spikes, stop, stop + BLOCK)
            if not len(block):
                break
            blocks.append(Block(stop, block))
            stop += len(block)
        if not blocks:
            return
        block = blocks.popleft()
        if before is None:
            before = torch.zeros_like(block.first)
        before.clamp_(min=ORIGIN - min(REACH, start) - 1)
        after = torch.full_like(before, ORIGIN - (stop - start))
        for later in blocks:
            torch.maximum(after, later.first - (later.start - start), out=after)
        offsets = []
        while key_frame is not None and key_frame < start + block.steps:
            offsets.append(key_frame - start)
            key_frame = next(key_frames, None)
        for interval in intervals(block.fired(), offsets, before, after):
            yield (255 / rate / interval).numpy()
        before -= block.steps
        start += block.steps


class Block:
    """Up to 32 packed steps of a recording from `start` on. `first`: codes of the pixels' first spikes."""

    def __init__(self, start, fired):
        self.start, self.steps = start, len(fired)
        self.packed = np.packbits(fired.numpy(), axis=2)
        self.first = torch.zeros(fired.shape[1:], dtype=torch.int16)
        for step, now in enumerate(fired):
            torch.maximum(self.first, now.short() * (ORIGIN - step), out=self.first)

    def fired(self):
        """(steps, H, W) bool."""
        return torch.from_numpy(np.unpackbits(self.packed, axis=2, count=self.first.shape[1]).view(bool))


def intervals(fired, offsets, before, after):
    """The intervals (H, W) int16 around `offsets`, steps of a block. Updates `before` to the block's end.

    fired (steps, H, W) bool. before, after (H, W) int16: codes of each pixel's last spike before the block
    and first spike after it.
    """
    found = {}
    for step, now in enumerate(fired):
        torch.maximum(before, now.short() * (ORIGIN + step), out=before)
        if step in offsets:
            found[step] = before.clone()
    for step in reversed(range(len(fired))):
        if step in offsets:
            found[step] = 2 * ORIGIN - found[step] - after
        torch.maximum(after, fired[step].short() * (ORIGIN - step), out=after)
    return [found[step] for step in offsets]
