"""Finds a camera's bad pixels from its dark charge and response, and the good pixels that replace them."""

import cv2
import numpy as np

KINDS = ("good", "hot", "dead", "dust")
# limits: spikes per step in the dark; response; response relative to the surrounding pixels
HOT, DEAD, DUST = 0.02, 0.05, 0.5
AROUND = 12.0  # sigma in pixels of the Gaussian that separates smooth shading from pixels


def classify(dark: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Each pixel's index in `KINDS`, uint8 (H, W), from dark charge and response (H, W)."""
    usual = (response > DUST * np.median(response)) & (dark < HOT)
    bad = np.zeros(dark.shape, np.uint8)
    bad[response < DUST * smooth(response, usual)] = KINDS.index("dust")
    bad[response < DEAD] = KINDS.index("dead")
    bad[dark > HOT] = KINDS.index("hot")
    return bad


def smooth(values: np.ndarray, good: np.ndarray, sigma: float = AROUND) -> np.ndarray:
    """Smooth a map (H, W), using its good pixels only -> float32 (H, W).

    Fits a quadratic surface, then adds the Gaussian mean of the residual. The mean alone is biased at edges.
    """
    rows, columns = np.mgrid[-1 : 1 : values.shape[0] * 1j, -1 : 1 : values.shape[1] * 1j]
    terms = np.stack([np.ones_like(rows), rows, columns, rows**2, columns**2, rows * columns])
    known = terms[:, good]
    weights = np.linalg.lstsq(known @ known.T, known @ values[good], rcond=None)[0]
    surface = np.tensordot(weights, terms, 1)
    rest, part = (
        cv2.GaussianBlur(layer.astype(np.float32), None, sigma)
        for layer in (np.where(good, values - surface, 0), good)
    )
    return (surface + rest / np.maximum(part, 1e-3)).astype(np.float32)


def nearest_good(bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns ((N,), (N,)) of the good pixel nearest to each bad one, in the order of `argwhere`.

    bad: (H, W) bool.
    """
    from scipy import ndimage  # slow to import

    _, (rows, columns) = ndimage.distance_transform_edt(bad, return_indices=True)
    return rows[bad], columns[bad]
