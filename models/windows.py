"""Window geometry as pure functions.

Tokens are (B, H, W, C), with H and W multiples of the window side w. Windows are (B, n, N, C): n = (H/w)(W/w)
windows of N = w*w tokens each, both in row-major order.
"""

import math

import torch
from einops import rearrange

MASKED = -100.0  # attention bias between tokens of different regions, as in Swin and the released weights


def partition(x, window):
    """Cut tokens (B, H, W, C) into windows (B, n, N, C)."""
    return rearrange(x, "b (h p) (w q) c -> b (h w) (p q) c", p=window, q=window)


def reverse(windows, height, width):
    """Reassemble windows (B, n, N, C) into tokens (B, H, W, C): the inverse of `partition`."""
    side = math.isqrt(windows.shape[2])
    return rearrange(windows, "b (h w) (p q) c -> b (h p) (w q) c", p=side, h=height // side, w=width // side)


def window_order(height, width, window, shift):
    """(n, N) int64: index of each token of each window in the flattened picture, after a roll by -shift.

    tokens.flatten(1, 2)[:, window_order(...)] equals
    partition(torch.roll(tokens, (-shift, -shift), (1, 2)), window).
    """
    position = torch.arange(height * width).view(1, height, width, 1)
    return partition(torch.roll(position, (-shift, -shift), (1, 2)), window)[0, :, :, 0]


def relative_position_index(window):
    """(N, N) int64: the row of the bias table for the offset from token j to token i of a window.

    An offset (dy, dx), each in -(w-1)..w-1, has row (dy + w - 1)(2w - 1) + dx + w - 1 of (2w - 1)^2 rows
    (Liu et al., Swin Transformer, ICCV 2021).
    """
    # Stay on the CPU even under torch.device("meta"), on which these sums would import PyTorch's compiler.
    side = torch.arange(window, device="cpu")
    y, x = torch.meshgrid(side, side, indexing="ij")
    y, x = y.flatten(), x.flatten()
    dy = y[:, None] - y[None, :] + window - 1
    dx = x[:, None] - x[None, :] + window - 1
    return dy * (2 * window - 1) + dx


def shift_masks(window, shift):
    """(4, N, N) float32 of 0 and MASKED: a mask for each of the `window_kinds` of a picture rolled by -shift.

    Rolling brings tokens from opposite edges into the last row and the last column of windows. Wrapped tokens
    come last in these windows. Only tokens from the same side of the seam attend to each other.
    """
    here = torch.zeros(window, dtype=torch.int64)
    wrapped = (torch.arange(window) >= window - shift).long()
    part = torch.stack([2 * y[:, None] + x for y in (here, wrapped) for x in (here, wrapped)])
    part = part.flatten(1)  # (4, N)
    return (part[:, :, None] != part[:, None, :]).float() * MASKED


def window_kinds(height, width, window):
    """(n,) int64: 1 for a window in the last column, 2 in the last row, 3 in both, 0 elsewhere."""
    last_row, last_column = (torch.arange(side // window) == side // window - 1 for side in (height, width))
    return (2 * last_row[:, None] + last_column.long()).flatten()


def attention_mask(height, width, window, shift, like):
    """(n, N, N) of 0 and MASKED for a picture rolled by -shift, with the dtype and device of `like`.

    None without a shift.
    """
    if not shift:
        return None
    return shift_masks(window, shift).to(like)[window_kinds(height, width, window).to(like.device)]
