"""Which pixels of a camera are bad, by its dark charge and response, and which good ones stand in for them."""

import cv2
import numpy as np

KINDS = ("good", "hot", "dead", "dust")
# spikes a step in the dark; response, and response relative to the pixels around
HOT, DEAD, DUST = 0.02, 0.05, 0.5
AROUND = 12.0  # pixels: sigma of the Gaussian that is smooth shading


def classify(dark: np.ndarray, response: np.ndarray) -> np.ndarray:
    """uint8 (H, W), an index of `KINDS`, by dark charge and response (H, W)."""
    usual = (response > DUST * np.median(response)) & (dark < HOT)
    bad = np.zeros(dark.shape, np.uint8)
    bad[response < DUST * smooth(response, usual)] = KINDS.index("dust")
    bad[response < DEAD] = KINDS.index("dead")
    bad[dark > HOT] = KINDS.index("hot")
    return bad


def smooth(values: np.ndarray, good: np.ndarray, sigma: float = AROUND) -> np.ndarray:
    """A map (H, W) float32 without its pixel-to-pixel part, by the good pixels: a parabolic surface, plus the
    Gaussian mean of what is left, which alone would be off at the edges.
    """
    rows, columns = np.mgrid[-1 : 1 : values.shape[0] * 1j, -1 : 1 : values.shape[1] * 1j]
    terms = np.stack([np.ones_like(rows), rows, columns, rows**2, columns**2, rows * columns])
    told = terms[:, good]
    weights = np.linalg.lstsq(told @ told.T, told @ values[good], rcond=None)[0]
    surface = np.tensordot(weights, terms, 1)
    rest, part = (
        cv2.GaussianBlur(layer.astype(np.float32), None, sigma)
        for layer in (np.where(good, values - surface, 0), good)
    )
    return (surface + rest / np.maximum(part, 1e-3)).astype(np.float32)


def nearest_good(bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns ((N,), (N,)) of the good pixel nearest to each bad one; bad (H, W) bool, in the order
    of `argwhere`."""
    from scipy import ndimage  # takes its time to import

    _, (rows, columns) = ndimage.distance_transform_edt(bad, return_indices=True)
    return rows[bad], columns[bad]
