"""Window geometry as pure functions: cut and join, the shifted-window mask, relative positions.

A picture of tokens is (B, H, W, C), H and W multiples of the window w. Its windows are (B, n, N, C): n = (H/w)(W/w) windows
in row-major order, each of N = w*w tokens in row-major order. Whole rows of windows are thus slices of dimension 1.
"""

from functools import lru_cache

import torch
from einops import rearrange

MASKED = -100.0  # added to the attention between tokens of different regions, as in Swin and the released weights


def partition(x, window):
    """Cut tokens (B, H, W, C) into windows (B, n, N, C)."""
    return rearrange(x, "b (h p) (w q) c -> b (h w) (p q) c", p=window, q=window)


def reverse(windows, window, height, width):
    """Join windows (B, n, N, C) to tokens (B, height, width, C); the inverse of `partition`."""
    return rearrange(windows, "b (h w) (p q) c -> b (h p) (w q) c", h=height // window, w=width // window, p=window, q=window)


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
def cached_shift_mask(height, width, window, shift, device, dtype):
    """`shift_mask` on a device, made once for each size; shared, so not to be written to."""
    with torch.inference_mode(False):  # a mask made while testing must serve training too
        return shift_mask(height, width, window, shift).to(device, dtype)
