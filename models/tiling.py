"""A network on pictures of any size, in overlapping tiles."""

from collections.abc import Callable
from typing import Any

import torch

from swinsf.utils.cli import UserError

# Windows that neighbouring tiles share, an even number. A tile is kept up to the middle of them: what its cut edge changes
# has faded there to well under half a grey level.
OVERLAP = 8


def check_tile(tile: int, multiple: int) -> None:
    """Raises UserError for a side of tiles (0: none) that is no larger than their overlap."""
    least = (OVERLAP + 1) * multiple
    if 0 < tile < least:
        raise UserError(
            f"--tile {tile}: tiles of this network overlap by {OVERLAP * multiple} pixels; take {least} or more, or 0 for none"
        )


def tile_spans(size, tile, overlap, multiple):
    """How to cut one axis: a list of (start, stop, keep from, keep to), whose kept parts are 0..size without
    gap or overlap.

    Tiles have at most `tile` pixels and start on multiples of `multiple`, as the windows and patches of a
    network do; only the last one may end where there is none.
    """
    if size <= tile:
        return [(0, size, 0, size)]
    side = tile // multiple * multiple
    starts = [*range(0, size - side, side - overlap)]
    # the last tile is a whole one too, but for its end
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
    """model(spikes), computed tile by tile; model(spikes, calibration) with a calibration (B or 1, 2, H, W).

    model: function of spikes (B, T, h, w) -> tuple of pictures (B, 1, h, w). spikes (B, T, H, W): any type
    that the model takes; floats are made of a tile at a time. tile: largest side of a tile in pixels, 0 for
    the whole picture at once. multiple: side of the network's windows in pixels. Returns the model's tuple of (B, 1, H, W). Raises UserError for a
    tile that is no larger than the overlap.

    Weights of tsa="released" mix each edge of a picture with the opposite one, about 8 windows deep. Along
    the whole picture's edges the opposite edge of the tile takes the place of the picture's there; inside,
    nothing is seen of it.
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
