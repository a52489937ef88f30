"""The one check for spike arrays: two values, 0 and 1 or 255."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from swinsf.utils.cli import UserError

PIECE = 2**16  # numbers compared at a time
_seen: set[tuple[torch.device, torch.dtype, torch.Size]] = set()  # accelerator tensors that were checked


def describe_values(least: float, most: float, more: bool) -> str:
    """Describe what is wrong with spikes that have this smallest and largest value, or return "".

    more: whether they have other values, too.
    """
    if not more and least == 0 and most in (0, 1, 255):
        return ""
    if not more and least == most and most in (1, 255):  # every pixel fires
        return ""
    if not more and (least, most) == (-1, 1):
        return "values of -1 and 1; pass (spikes > 0)"
    what = "NaN" if least != least or most != most else f"values from {least:g} to {most:g}"
    looks = "; these look like grey pictures or packed bits" if most > 1 and least >= 0 else ""
    return f"{what}{looks}; spikes have two values, 0 and 1 or 255"


def validate_spikes(spikes: Any, name: str | Path | None = None) -> Any:
    """Check spikes of any shape and dtype, 0 and 1 or 0 and 255 -> 0 and 1, uint8; a tensor keeps its dtype.

    Raises ValueError for other values, or UserError if they are from a file, `name`.
    """
    if torch.is_tensor(spikes):
        return _validate_tensor(spikes)
    spikes = np.asarray(spikes)
    if spikes.dtype == np.uint8 and (not spikes.size or spikes.max() <= 1):  # nearly always, and fast
        return spikes
    if spikes.dtype.kind not in "buif":
        wrong = f"{spikes.dtype}; spikes are numbers"
    elif spikes.dtype == bool or not spikes.size:
        wrong = ""
    else:
        least, most = spikes.min(), spikes.max()
        wrong = describe_values(least, most, bool(np.any((spikes != least) & (spikes != most))))
    if wrong and name:
        raise UserError(f"{name}: {wrong}")
    if wrong:
        raise ValueError(f"an array {spikes.shape} of {wrong}")
    return (spikes != 0).view(np.uint8)


def _validate_tensor(spikes: torch.Tensor) -> torch.Tensor:
    """Check a tensor. On a CPU, this takes less than a thousandth (bytes) or a hundredth (floats) of the time
    of `small`. On an accelerator, a check makes the host wait, so only the first tensor of each dtype and
    shape is checked; in later ones, any integer above 0 is a spike.
    """
    if spikes.dtype == torch.bool or spikes.numel() == 0 or spikes.is_meta or torch.compiler.is_compiling():
        return spikes
    whole = not spikes.is_floating_point()
    if spikes.device.type != "cpu":
        key = (spikes.device, spikes.dtype, spikes.shape)
        if key in _seen:
            return (spikes > 0).to(spikes.dtype) if whole else spikes
    with torch.no_grad():
        least, most = (value.item() for value in torch.aminmax(spikes))
        binary = least >= 0 and most <= 1 and (whole or equal_their_squares(spikes))
        more = not binary and bool(((spikes != least) & (spikes != most)).any())
    if wrong := describe_values(least, most, more):
        raise ValueError(f"an array {tuple(spikes.shape)} of {wrong}")
    if spikes.device.type != "cpu" and (whole or most <= 1):
        _seen.add(key)
    return (spikes != 0).to(spikes.dtype) if most == 255 else spikes


def equal_their_squares(values: torch.Tensor) -> bool:
    """Whether a tensor of floats holds only 0 and 1. Compares pieces that fit a CPU's caches."""
    return all(torch.equal(piece * piece, piece) for piece in values.reshape(-1).split(PIECE))
