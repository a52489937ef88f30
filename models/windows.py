"""Window geometry as pure functions, and a function of windows mapped over a picture of tokens in bands.

A picture of tokens is (B, H, W, C), H and W multiples of the window w. Its windows are (B, n, N, C): n = (H/w)(W/w) windows
in row-major order, each of N = w*w tokens in row-major order.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from einops import rearrange
from torch.utils.checkpoint import checkpoint

MASKED = -100.0  # added to the attention between tokens of different regions, as in Swin and the released weights

# What the tokens of a band may take, in bytes. A CPU's band must stay in its caches together with what a block makes of it,
# six times as much; a GPU wants many windows at once.
BAND_BYTES = {"cpu": 3 * 2**20, "cuda": 2**28}
FUSED_MOST = 65_535  # windows that a GPU's fused attention takes at a time: a launch has no more blocks along an axis


def partition(x, window):
    """Cut tokens (B, H, W, C) into windows (B, n, N, C)."""
    return rearrange(x, "b (h p) (w q) c -> b (h w) (p q) c", p=window, q=window)


def window_order(height, width, window, shift):
    """(n, N) int64: where each token of each window lies in the flattened picture, after a cyclic shift by -shift.

    tokens.flatten(1, 2)[:, window_order(...)] equals partition(torch.roll(tokens, (-shift, -shift), (1, 2)), window).
    """
    position = torch.arange(height * width).view(1, height, width, 1)
    return partition(torch.roll(position, (-shift, -shift), (1, 2)), window)[0, :, :, 0]


def relative_position_index(window):
    """(N, N) int64: the row of the bias table for the offset from token j to token i of a window.

    An offset (dy, dx) lies in -(w-1)..w-1 on both axes and takes row (dy + w - 1)(2w - 1) + dx + w - 1 of (2w - 1)^2
    (Liu et al., Swin Transformer, ICCV 2021).
    """
    # On the CPU also where a network is made on no device: PyTorch would import its compiler for the sums there.
    side = torch.arange(window, device="cpu")
    y, x = torch.meshgrid(side, side, indexing="ij")
    y, x = y.flatten(), x.flatten()
    dy = y[:, None] - y[None, :] + window - 1
    dx = x[:, None] - x[None, :] + window - 1
    return dy * (2 * window - 1) + dx


class Mask(NamedTuple):
    """What is added to the attention of windows of a picture that was rolled: of each window, one of a few kinds."""

    kinds: torch.Tensor  # (4, N, N) of 0 and MASKED, see `shift_masks`
    kind: torch.Tensor  # (n,) int64, of each window


def shift_masks(window, shift):
    """(4, N, N) float32 of 0 and MASKED, for the windows of a picture rolled by -shift: see `window_kinds`.

    Rolling brings tokens from opposite edges into the last row and the last column of windows, where those that came round lie
    behind those that were there before. Only tokens of the same part attend to each other.
    """
    here = torch.zeros(window, dtype=torch.int64)
    came_round = (torch.arange(window) >= window - shift).long()
    part = torch.stack([2 * y[:, None] + x for y in (here, came_round) for x in (here, came_round)]).flatten(1)  # (4, N)
    return (part[:, :, None] != part[:, None, :]).float() * MASKED


def window_kinds(height, width, window):
    """(n,) int64: 0 for a window inside, 1 in the last column, 2 in the last row, 3 in both."""
    last_row, last_column = (torch.arange(side // window) == side // window - 1 for side in (height, width))
    return (2 * last_row[:, None] + last_column.long()).flatten()


@lru_cache(maxsize=32)
def cached_geometry(height, width, window, shift, device):
    """(`window_order`, `Mask` or None without a shift) on a device; made once for each size, and not to be written to."""
    with torch.inference_mode(False):  # what is made while testing must serve training too
        order = window_order(height, width, window, shift).to(device)
        if not shift:
            return order, None
        return order, Mask(shift_masks(window, shift).to(device), window_kinds(height, width, window).to(device))


def map_windows(function, tokens, window, shift, recompute=False):
    """A function of windows on all windows of three streams, contiguous tokens (3B, H, W, C), shifted.

    function(left, middle, right, mask) takes windows (B, n, N, C) and a `Mask` or None, and returns three new ones.
    After the cyclic shift the windows are independent of one another, so the function is called on one band of them after
    the other, each small enough for the caches (`BAND_BYTES`). Returns tokens (3B, H, W, C).
    - Where no gradient is wanted, the result takes the place of `tokens`.
    - Where one is, it is a new tensor; with `recompute`, only the bands' inputs are kept, and the backward pass runs the
      function on each band again (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
    """
    streams, height, width, channels = tokens.shape
    order, mask = cached_geometry(height, width, window, shift, tokens.device)
    first = (height * width) * torch.arange(streams, device=tokens.device)  # of each picture's tokens
    order = order + first.view(-1, 1, 1)  # (3B, n, N)
    count = windows_in_band(tokens, window)
    bands = [part.unflatten(0, (3, -1)) for part in order.split(count, 1)]  # (3, B, n, N) each
    masks = [Mask(mask.kinds, kind) for kind in mask.kind.split(count)] if shift else [None] * len(bands)
    flat = tokens.view(-1, channels)  # (3B H W, C)

    if not torch.is_grad_enabled():
        for band, mask in zip(bands, masks):
            windows = flat.index_select(0, band.flatten()).view(*band.shape, channels)
            for place, stream in zip(band, function(*windows, mask)):
                flat.index_copy_(0, place.flatten(), stream.flatten(0, 2))
        return tokens
    order = torch.cat([band.flatten() for band in bands])
    inputs = flat.index_select(0, order).split([band.numel() for band in bands])
    outputs = []
    for band, windows, mask in zip(bands, inputs, masks):
        outputs += recomputed(function, *windows.view(*band.shape, channels), mask, wanted=recompute)
    outputs = torch.cat([stream.flatten(0, 2) for stream in outputs])
    return torch.empty_like(outputs).index_put_((order,), outputs).view_as(tokens)  # index_copy_ would keep its source


def windows_in_band(tokens, window):
    """How many windows of each picture of tokens (3B, H, W, C) make a band."""
    window_bytes = len(tokens) * window**2 * tokens.shape[-1] * tokens.element_size()
    count = BAND_BYTES.get(tokens.device.type, BAND_BYTES["cuda"]) // window_bytes
    return max(1, min(count, 3 * FUSED_MOST // len(tokens)))


def recomputed(function, *arguments, wanted=True):
    """function(*arguments), of which autograd, if wanted, keeps the arguments only; it must not draw random numbers."""
    if not (wanted and torch.is_grad_enabled()):
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
