"""NIQE, a score of pictures without ground truth; lower is better.

Mittal, Soundararajan, Bovik: "Making a Completely Blind Image Quality Analyzer", IEEE SPL 2013, in the form
that the spike camera field uses (two scales, blocks of 96x96, all blocks of a scored picture count). Values
are comparable only with the same statistics of pristine pictures. Those next to this file were fitted by

    python -m swinsf.evaluation.niqe FOLDER_OF_PHOTOGRAPHS evaluation/niqe_pristine.npz
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from swinsf.datasets.picture_files import read_grey
from swinsf.utils.choices import PRISTINE
from swinsf.utils.cli import Parser, UserError, log, plural, run
from swinsf.utils.files import atomic_write
from swinsf.utils.guard import check_archive, visible

BLOCK = 96
MOST_BYTES = 2**18  # largest file of statistics
SHAPES = np.arange(0.2, 10, 0.001)  # candidate shape parameters
NEIGHBOURS = ((1, 0), (0, 1), (1, 1), (1, -1))  # rows, columns

Statistics = tuple[np.ndarray, np.ndarray]  # mean (36,), covariance (36, 36)


def gamma(x: Any) -> Any:
    from scipy.special import gamma  # slow to import

    return gamma(x)


@lru_cache
def ratios() -> np.ndarray:
    """mean(|x|)^2 / mean(x^2) for each of SHAPES."""
    return gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))


def fit_asymmetric_gaussian(x: np.ndarray) -> tuple[float, float, float]:
    """(shape, left scale, right scale) of the asymmetric generalised Gaussian with the moments of x."""
    left, right = x[x < 0], x[x >= 0]
    sigma_left = np.sqrt(np.mean(left**2)) if left.size else 0.0
    sigma_right = np.sqrt(np.mean(right**2)) if right.size else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = sigma_left / sigma_right
        ratio = np.mean(np.abs(x)) ** 2 / np.mean(x**2) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    # a flat block has no ratio; any shape will do
    alpha = SHAPES[np.argmin((ratios() - np.nan_to_num(ratio)) ** 2)]
    scale = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return alpha, sigma_left * scale, sigma_right * scale


def block_features(block: np.ndarray) -> list[float]:
    """The 18 features of a block of locally normalised grey levels."""
    alpha, left, right = fit_asymmetric_gaussian(block)
    features = [alpha, (left + right) / 2]
    for shift in NEIGHBOURS:
        alpha, left, right = fit_asymmetric_gaussian(block * np.roll(block, shift, axis=(0, 1)))
        features += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
    return features


def features(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (H, W) -> ((blocks, 36) features, (blocks,) mean local contrast at full scale).

    Raises ValueError for a picture of fewer than two blocks.
    """
    from scipy.ndimage import gaussian_filter

    rows, columns = picture.shape[0] // BLOCK, picture.shape[1] // BLOCK
    if not is_scorable(picture):
        raise ValueError(
            f"a picture of {picture.shape[0]}x{picture.shape[1]}: NIQE needs two blocks of {BLOCK}x{BLOCK}"
        )
    full = np.ascontiguousarray(picture[: rows * BLOCK, : columns * BLOCK])
    half = cv2.resize(full, (full.shape[1] // 2, full.shape[0] // 2), interpolation=cv2.INTER_AREA)
    table, contrast = [], None
    for scaled, side in ((full, BLOCK), (half, BLOCK // 2)):
        x = scaled.astype(np.float64)
        mean = gaussian_filter(x, 7 / 6, mode="nearest", radius=3)
        sigma = np.sqrt(np.abs(gaussian_filter(x * x, 7 / 6, mode="nearest", radius=3) - mean * mean))
        normal = cut_blocks((x - mean) / (sigma + 1), side)
        table.append([block_features(block) for block in normal])
        contrast = cut_blocks(sigma, side).mean((1, 2)) if contrast is None else contrast
    return np.hstack(table), contrast


def is_scorable(picture: np.ndarray) -> bool:
    """Whether a picture (H, W) has the two blocks that NIQE needs."""
    return (picture.shape[0] // BLOCK) * (picture.shape[1] // BLOCK) >= 2


def cut_blocks(x: np.ndarray, side: int) -> np.ndarray:
    rows, columns = x.shape[0] // side, x.shape[1] // side
    return x.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


def niqe(picture: np.ndarray, statistics: Statistics) -> float:
    """NIQE of a uint8 picture (H, W) with at least two blocks of 96x96; statistics: see `read_statistics`."""
    mean, covariance = statistics
    table, _ = features(picture)
    distance = table.mean(0) - mean
    inverse = np.linalg.pinv((np.cov(table, rowvar=False, ddof=1) + covariance) / 2)
    return float(np.sqrt(distance @ inverse @ distance))


def fit_statistics(pictures: Iterable[np.ndarray]) -> Statistics:
    """Statistics of the sharp blocks of pristine pictures.

    Sharp blocks have at least 75 % of the local contrast of the sharpest one in their picture, as in the
    paper.
    """
    tables = []
    for picture in pictures:
        table, contrast = features(picture)
        tables.append(table[contrast >= 0.75 * contrast.max()])
    table = np.vstack(tables)
    return table.mean(0), np.cov(table, rowvar=False, ddof=1)


@lru_cache(maxsize=2)
def read_statistics(path: str | Path = PRISTINE) -> Statistics:
    """Statistics from our .npz or the original .mat, keys `mean` and `cov`. Raises UserError."""
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes, but statistics have a few thousand")
        check_archive(path)
        data = load_matlab(path) if path.suffix == ".mat" else np.load(path, allow_pickle=False)
        mean, covariance = np.asarray(data["mean"], float).ravel(), np.asarray(data["cov"], float)
        if mean.shape != (36,) or covariance.shape != (36, 36):
            raise ValueError(
                f"mean {mean.shape} and cov {covariance.shape}, but (36,) and (36, 36) are expected"
            )
        if not (np.abs(mean).max() < 1e9 and np.abs(covariance).max() < 1e9):
            raise ValueError("NaN or numbers above 1e9")
    except UserError:
        raise
    except Exception as error:  # loadmat raises all kinds of errors for a broken file
        raise UserError(
            f"{path}: no NIQE statistics with mean and cov ({error}); check --niqe_params"
        ) from None
    return mean, covariance


def load_matlab(path: Path) -> dict[str, Any]:
    """The variables `mean` and `cov` of a .mat file. Raises ValueError if they are missing or damaged."""
    # In a separate process, because a damaged file can crash the process that reads it.
    code = (
        "import json, sys, numpy, scipy.io; data = scipy.io.loadmat(sys.argv[1], variable_names=['mean', 'cov']); "
        "print(json.dumps({name: numpy.asarray(data[name], float).tolist() for name in ('mean', 'cov')}))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)], capture_output=True, text=True, timeout=60
    )
    if result.returncode:
        raise ValueError((result.stderr.strip().splitlines() or ["its reader crashed"])[-1])
    return json.loads(result.stdout)


def main() -> None:
    parser = Parser("Fit NIQE's pristine statistics on a folder of photographs.")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    photos = [read_grey(path) for path in sorted(visible(arguments.photographs.glob("*"))) if path.is_file()]
    found, photos = len(photos), [photo for photo in photos if photo is not None and is_scorable(photo)]
    if len(photos) < found:
        log(
            f"warning: {plural(found - len(photos), 'photograph')} unreadable, or too small for two blocks of 96x96"
        )
    if not photos:
        raise UserError(f"{arguments.photographs}: no photograph of two blocks of 96x96 or more in it")
    mean, covariance = fit_statistics(tqdm(photos, unit="photo"))
    with atomic_write(arguments.output) as file:
        np.savez(file, mean=mean, cov=covariance)
    print(f"{arguments.output}: from {plural(len(photos), 'photograph')}")


if __name__ == "__main__":
    run(main)
