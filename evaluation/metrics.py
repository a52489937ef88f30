"""PSNR and SSIM by protocol: published figures are comparable only under the same protocol."""

import math
from typing import NamedTuple

import numpy as np

from swinsf.utils.cli import ArgumentError

PROTOCOLS = ("released", "kair")


class Scores(NamedTuple):
    """Scores of a picture against its ground truth."""

    psnr: float  # dB
    ssim: float


def to_bytes(picture: np.ndarray) -> np.ndarray:
    """Grey levels clamped to 0..255 and truncated to uint8, as the released protocol does. Raises ArgumentError
    for NaN, which would become black."""
    check_numbers(picture)
    return np.clip(picture, 0, 255).astype(np.uint8)


def check_numbers(picture: np.ndarray) -> None:
    """Raises ArgumentError if a picture has NaN."""
    if picture.dtype.kind == "f" and np.isnan(picture).any():
        raise ArgumentError(
            "a picture with NaN: its network diverged, or overflowed in half precision; compute in float32, or use "
            "other weights"
        )


def check_levels(picture: np.ndarray, truth: np.ndarray) -> None:
    """Raises ValueError unless a picture and its ground truth are arrays (H, W) in grey levels 0..255."""
    for name, array in (("picture", picture), ("ground truth", truth)):
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "uif":
            what = f"{getattr(array, 'shape', '')} {getattr(array, 'dtype', type(array).__name__)}".strip()
            raise ValueError(f"a {name} of {what}; it must be a numpy array (H, W) of grey levels 0..255")
        if array.dtype.kind in "ui" and array.size and not 0 <= array.min() <= array.max() <= 255:
            raise ValueError(
                f"a {name} of {array.dtype} from {array.min()} to {array.max()}; bring it to grey levels 0..255"
            )
        check_numbers(array)
    if picture.shape != truth.shape:
        raise ValueError(f"a picture of {picture.shape} with a ground truth of {truth.shape}")
    if in_unit_range(truth) or (in_unit_range(picture) and truth.max() > 1 and resemble(picture, truth)):
        raise ValueError("pictures in 0..1; scores are of grey levels 0..255, so multiply by 255")


def in_unit_range(picture: np.ndarray) -> bool:
    """Whether values are fractions from 0 to 1. A picture of only 0 and 1 may be dark grey levels instead."""
    if picture.dtype.kind != "f" or not picture.size or not 0 <= picture.min() <= picture.max() <= 1:
        return False
    return bool(np.any((picture != 0) & (picture != 1)))


def resemble(picture: np.ndarray, truth: np.ndarray) -> bool:
    """Whether a picture looks like its ground truth on another scale: their correlation is above 0.5."""
    x, y = (p.astype(np.float64) - p.mean(dtype=np.float64) for p in (picture, truth))
    return bool(np.sum(x * y) > 0.5 * np.sqrt(np.sum(x * x) * np.sum(y * y)))


def psnr_ssim(picture: np.ndarray, truth: np.ndarray, protocol: str = "released") -> Scores:
    """`Scores` of a picture (H, W) against its ground truth, in grey levels 0..255; (inf, 1) if equal.

    "released": both truncated to bytes; SSIM with a uniform 7x7 window. "kair", as in WGSE, STIR, SSIR, BSF
    and SpikeCV: float64, clamped, not quantised; SSIM with an 11x11 Gaussian of sigma 1.5 over its valid
    area. Raises ValueError for another protocol, and for other shapes, types or ranges, such as 0..1.
    """
    check_levels(picture, truth)
    from skimage.metrics import structural_similarity  # slow to import

    if protocol == "released":
        picture, truth = to_bytes(picture), to_bytes(truth)
        ssim = structural_similarity(truth, picture, data_range=255)
    elif protocol == "kair":
        picture, truth = (np.clip(p.astype(np.float64), 0, 255) for p in (picture, truth))
        # With these settings skimage's window is 11x11 and its mean leaves out the border of 5 pixels.
        ssim = structural_similarity(
            truth, picture, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    else:
        raise ValueError(f"protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    # skimage's own PSNR imports scipy.stats, for two seconds
    error = np.mean((truth.astype(np.float64) - picture) ** 2)
    return Scores(float(10 * np.log10(255**2 / error)) if error else math.inf, float(ssim))
