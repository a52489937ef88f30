"""Window geometry as pure functions, and a function of windows mapped over a picture of tokens in bands.

A picture of tokens is (B, H, W, C), H and W multiples of the window w. Its windows are (B, n, N, C): n = (H/w)(W/w) windows
in row-major order, each of N = w*w tokens in row-major order.
"""

from functools import lru_cache

import torch
from einops import rearrange
from torch.utils.checkpoint import checkpoint

MASKED = -100.0  # added to the attention between tokens of different regions, as in Swin and the released weights

# What the tokens of a band may take, in bytes. A CPU's band must stay in its caches together with what a block makes of it,
# six times as much; a GPU wants many windows at once, but its fused attention takes no more than 65,535.
BAND_BYTES = {"cpu": 3 * 2**20, "cuda": 2**28}

# glibc hands freed blocks above a threshold back to the system, and each operation faults its memory in anew, which can take
# as long as the operation. The threshold rises to the largest block freed so far, up to 32 MiB: this one, never touched.
torch.empty(31 * 2**20, dtype=torch.uint8)


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
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    y, x = y.flatten(), x.flatten()
    dy = y[:, None] - y[None, :] + window - 1
    dx = x[:, None] - x[None, :] + window - 1
    return dy * (2 * window - 1) + dx


def shift_mask(height, width, window, shift):
    """(n, N, N) float32, added to the attention of a picture that was rolled by -shift: 0 or MASKED.

    Rolling brings tokens from opposite edges into one window. Each axis falls into three regions: untouched windows, the
    part of the last window that was there before, and the part that came round. Only equal regions attend to each other.
    """
    region = torch.zeros(1, height, width, 1)
    for y, rows in enumerate((slice(0, -window), slice(-window, -shift), slice(-shift, None))):
        for x, columns in enumerate((slice(0, -window), slice(-window, -shift), slice(-shift, None))):
            region[:, rows, columns] = 3 * y + x
    region = partition(region, window).squeeze(-1).squeeze(0)  # (n, N)
    return (region[:, :, None] != region[:, None, :]).float() * MASKED


@lru_cache(maxsize=32)
def cached_geometry(height, width, window, shift, device, dtype):
    """(`window_order`, its inverse (H*W,), `shift_mask` or None without a shift) on a device; not to be written to.

    Made once for each size.
    """
    with torch.inference_mode(False):  # what is made while testing must serve training too
        order = window_order(height, width, window, shift)
        mask = shift_mask(height, width, window, shift).to(device, dtype) if shift else None
        return order.to(device), order.flatten().argsort().to(device), mask


def map_windows(function, tokens, window, shift, recompute=False):
    """function(windows (B, n, N, C), mask (n, N, N) or None) on all windows of contiguous tokens (B, H, W, C), shifted.

    After the cyclic shift the windows are independent of one another, so the function is called on one band of them after
    the other, each small enough for the caches (`BAND_BYTES`). Returns tokens (B, H, W, C).
    - Where no gradient is wanted, the result takes the place of `tokens`.
    - Where one is, it is a new tensor; with `recompute`, only the bands' inputs are kept, and the backward pass runs the
      function on each band again (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
    """
    batch, height, width, channels = tokens.shape
    precise = torch.promote_types(tokens.dtype, torch.float32)  # a CPU adds masks in half precision four times more slowly
    order, inverse, mask = cached_geometry(height, width, window, shift, tokens.device, precise)
    flat = tokens.view(-1, channels)  # (B H W, C)
    first = (height * width) * torch.arange(batch, device=tokens.device)  # of each picture's tokens
    order = order + first.view(-1, 1, 1)  # (B, n, N)
    count = windows_in_band(batch * window**2 * channels * tokens.element_size(), tokens.device)
    masks = mask.split(count) if shift else [None] * len(order[0].split(count))

    def gather(part):
        return flat.index_select(0, part.flatten()).view(*part.shape, channels)

    if not torch.is_grad_enabled():
        for part, mask in zip(order.split(count, 1), masks):
            flat.index_copy_(0, part.flatten(), function(gather(part), mask).flatten(0, 2))
        return tokens
    bands = gather(order).split(count, 1)
    bands = [recomputed(function, band, mask, wanted=recompute) for band, mask in zip(bands, masks)]
    windows = torch.cat(bands, 1)  # (B, n, N, C)
    return windows.flatten(0, 2).index_select(0, (inverse + first.view(-1, 1)).flatten()).view_as(tokens)


def windows_in_band(window_bytes, device):
    """How many windows of so many bytes make a band."""
    return max(1, BAND_BYTES.get(device.type, BAND_BYTES["cuda"]) // window_bytes)


def recomputed(function, *arguments, wanted=True):
    """function(*arguments), of which autograd, if wanted, keeps the arguments only; it must not draw random numbers."""
    if not (wanted and torch.is_grad_enabled()):
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
