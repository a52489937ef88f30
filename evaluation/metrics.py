"""PSNR and SSIM by protocol: published figures compare only under the same protocol."""

import math
from typing import NamedTuple

import numpy as np

PROTOCOLS = ("released", "kair")


class Scores(NamedTuple):
    """Scores of a picture against its ground truth."""

    psnr: float  # dB
    ssim: float


def to_bytes(picture: np.ndarray) -> np.ndarray:
    """Grey levels clamped to 0..255 and truncated to uint8, as the released protocol does."""
    return np.clip(picture, 0, 255).astype(np.uint8)


def psnr_ssim(picture: np.ndarray, truth: np.ndarray, protocol: str = "released") -> Scores:
    """`Scores` of a picture (H, W) against its ground truth, in grey levels 0..255; (inf, 1) if equal.

    "released": both truncated to bytes; SSIM with a uniform 7x7 window. "kair", as in WGSE, STIR, SSIR, BSF
    and SpikeCV: float64, clamped, not quantised; SSIM with an 11x11 Gaussian of sigma 1.5 over its valid
    area. Raises ValueError for another protocol or pictures of different shapes.
    """
    if picture.shape != truth.shape:
        raise ValueError(f"a picture of {picture.shape} with a ground truth of {truth.shape}")
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
