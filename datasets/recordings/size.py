"""The size of a `.dat` file's steps, found out by what they look like."""

from pathlib import Path

import numpy as np

from datasets.dat import CAMERAS, DatFile
from utils.cli import UserError

LOOK = 64  # steps in the middle of a recording that are looked at
LIKE_A_PICTURE = 0.6  # least correlation of neighbours; known sizes have 0.92 and more, wrong ones 0.55 and less
MARGIN = 0.2  # by which the best candidate must lead


def guess_camera(path):
    """(the known camera that a `.dat` file is of, how that was told). Raises UserError with the candidates where none stands out.

    Under the right size neighbours in the picture of firing rates are alike, along rows and along columns. Under a wrong one
    a pixel's upper neighbour comes from elsewhere, and each step is displaced against the one before.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: no plain file; name a .dat file, or - to read a pipe from standard input")
    if not path.is_file():
        raise UserError(f"{path}: no such spike stream; check the path")
    length = path.stat().st_size
    if not length:
        raise UserError(f"{path}: 0 bytes, an empty file; record it anew, or check the path")
    likeness = {}
    for camera in CAMERAS:
        if length >= camera.height * camera.width // 8:
            likeness[camera] = min(neighbour_correlations(rate_picture(DatFile(path, camera))))
    ranking = sorted(likeness, key=likeness.get, reverse=True)
    fits = {camera: length % (camera.height * camera.width // 8) for camera in ranking}
    found = [
        f"{camera.height}x{camera.width} {likeness[camera]:.2f}" + (f" ({fits[camera]} bytes left over)" if fits[camera] else "")
        for camera in ranking
    ]
    scores = [likeness[camera] for camera in ranking] + [-1, -1]
    alone = bool(ranking) and not fits[ranking[0]] and all(fits[camera] for camera in ranking[1:])  # that divides the length
    if scores[0] >= LIKE_A_PICTURE and (alone or scores[0] - scores[1] >= MARGIN):
        return ranking[0], f"by its looks: neighbours correlate by {found[0]}; other sizes: {', '.join(found[1:]) or 'none'}"
    middle = np.unique(np.fromfile(path, np.uint8, 1 << 20, offset=length // 2)).tolist()
    reason = {(0,): "it has not one spike", (255,): "every pixel fires at every step"}.get(tuple(middle))
    raise UserError(
        f"{path}: its size cannot be told from its {length} bytes"
        + (f", since {reason}" if reason else "")
        + (
            f"; neighbours correlate as {', '.join(found)}; wanted is one of {LIKE_A_PICTURE} with a lead of {MARGIN}"
            if found
            else ", less than a step of any known sensor"
        )
        + "; give --height and --width"
    )


def rate_picture(spikes):
    """(H, W) mean of the `LOOK` steps in the middle of a recording."""
    start = max(0, (len(spikes) - LOOK) // 2)
    stop = min(len(spikes), start + LOOK)
    fired = sum(np.count_nonzero(spikes[step : min(step + 8, stop)], axis=0) for step in range(start, stop, 8))
    return fired / (stop - start)


def neighbour_correlations(picture):
    """Pearson's correlation of a picture's pixels with their neighbours (below, to the right); 0 where all are alike."""

    def correlation(a, b):
        a, b = a - a.mean(), b - b.mean()
        size = np.sqrt((a * a).sum() * (b * b).sum())
        return float((a * b).sum() / size) if size > 1e-9 else 0.0

    return correlation(picture[1:], picture[:-1]), correlation(picture[:, 1:], picture[:, :-1])
