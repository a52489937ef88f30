"""What spikes are: arrays of two values, by one rule at every door."""

import numpy as np
import torch

PIECE = 2**16  # numbers
_seen = set()  # (device, type, shape) of tensors on accelerators that were looked at


def describe_values(least, most, more):
    """What is wrong with an array that should hold spikes, by its least and largest value, or "" where they
    are 0 and 1 or 255.

    more: whether it has values besides these two and 0.
    """
    if not more and least == 0 and most in (0, 1, 255):
        return ""
    if not more and least == most and most in (1, 255):  # a spike of every pixel
        return ""
    if not more and (least, most) == (-1, 1):
        return "values of -1 and 1; pass (spikes > 0)"
    what = "NaN" if least != least or most != most else f"values from {least:g} to {most:g}"
    looks = "; these look like grey pictures or packed bits" if most > 1 and least >= 0 else ""
    return f"{what}{looks}; spikes have two values, 0 and 1 or 255"


def describe_spikes(spikes):
    """`describe_values` of a numpy array of any shape and kind of numbers or booleans."""
    if spikes.dtype == bool or not spikes.size:
        return ""
    least, most = spikes.min(), spikes.max()
    return describe_values(least, most, bool(np.any((spikes != least) & (spikes != most))))


def validate_spikes(spikes):
    """Spikes, a tensor of any shape and type, as they are where they are 0 and 1; as 0 and 1 where they are 0
    and 255.

    Raises ValueError for any other values, and says what they look like. On a CPU each tensor is looked at,
    which takes less than a thousandth of the time of `small` for bytes, less than a hundredth for floats. On
    an accelerator a look makes the host wait, so that only the first tensor of each type and shape is looked
    at; whole numbers that come later count as spikes where they are above 0.
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


def equal_their_squares(values):
    """Whether a tensor of floats has none but 0 and 1; in pieces, for what a piece makes stays in a CPU's
    caches."""
    return all(torch.equal(piece * piece, piece) for piece in values.reshape(-1).split(PIECE))
