"""Runs a network on pictures of any size, in overlapping tiles."""

from collections.abc import Callable
from typing import Any

import torch

from swinsf.utils.cli import UserError

# Even number of windows that neighbouring tiles share. A tile is used up to the middle of them, where the
# effect of its cut edge is well below half a grey level.
OVERLAP = 8


def check_tile(tile: int, multiple: int) -> None:
    """Raises UserError if tiles with this side would be all overlap. 0 means no tiles."""
    least = (OVERLAP + 1) * multiple
    if 0 < tile < least:
        raise UserError(
            f"--tile {tile}: tiles of this network overlap by {OVERLAP * multiple} pixels; use {least} or "
            "more, or 0 for no tiles"
        )


def tile_spans(size, tile, overlap, multiple):
    """Cut one axis into tiles: a list of (start, stop, keep from, keep to). Kept parts cover 0..size once.

    Tiles have at most `tile` pixels. They start and end at multiples of `multiple`, like a network's windows
    and patches; only the last one may end elsewhere.
    """
    if size <= tile:
        return [(0, size, 0, size)]
    side = tile // multiple * multiple
    starts = [*range(0, size - side, side - overlap)]
    # Apart from rounding, the last tile has full size, too.
    starts.append(-(-(size - side) // multiple) * multiple)
    cuts = [0, *(start + overlap // 2 for start in starts[1:]), size]
    return [(start, min(start + side, size), *cuts[i : i + 2]) for i, start in enumerate(starts)]


def tiled(
    model: Callable[..., Any],
    spikes: torch.Tensor,
    tile: int,
    multiple: int,
    calibration: torch.Tensor | None = None,
) -> Any:
    """Compute model(spikes), or model(spikes, calibration), tile by tile. calibration: (B or 1, 2, H, W).

    model: function of spikes (B, T, h, w) -> tuple of pictures (B, 1, h, w). spikes (B, T, H, W): any dtype
    that the model accepts; each tile is converted to float separately. tile: largest side of a tile in
    pixels, or 0 for the whole picture at once. multiple: side of the network's windows in pixels. Returns the
    model's tuple, with pictures (B, 1, H, W). Raises UserError for a tile no larger than the overlap.

    Weights with tsa="released" mix each edge of a picture with the opposite one, about 8 windows deep. At the
    edges of the whole picture, tiles mix with their own opposite edge instead. The interior is not affected.
    """
    check_tile(tile, multiple)
    height, width = spikes.shape[-2:]
    if not tile or max(height, width) <= tile:
        return model(spikes) if calibration is None else model(spikes, calibration)
    whole = None
    for top, bottom, *rows in tile_spans(height, tile, OVERLAP * multiple, multiple):
        for left, right, *columns in tile_spans(width, tile, OVERLAP * multiple, multiple):
            given = (spikes,) if calibration is None else (spikes, calibration)
            parts = model(*(whole_size[..., top:bottom, left:right] for whole_size in given))
            if whole is None:
                whole = type(parts)(*(part.new_empty(*part.shape[:-2], height, width) for part in parts))
            for picture, part in zip(whole, parts):
                picture[..., slice(*rows), slice(*columns)] = part[
                    ..., rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
                ]
    return whole
