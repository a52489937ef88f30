"""The size of a `.dat` file's steps, found out by what they look like."""

from pathlib import Path

import numpy as np

from swinsf.datasets.dat import (
    CAMERAS,
    LIKE_A_PICTURE,
    MARGIN,
    camera_of,
    likeness,
    neighbour_correlations,
    unpack,
)
from swinsf.utils.cli import UserError


def describe_better(name, packed, camera):
    """Lines of text where bytes of whole steps look far more like steps of another size than like those of
    `camera`.

    Known sensors are tried, and height and width in turn.
    """

    def alike(camera):
        step = camera.height * camera.width // 8
        steps = len(packed) // step
        if not steps or camera.height * camera.width % 8:
            return -1.0
        whole = (np.frombuffer(packed, np.uint8, step, i * step) for i in range(steps))
        rate = (
            sum(unpack(one, camera.height, camera.width, False)[0].astype(np.int32) for one in whole) / steps
        )
        return min(neighbour_correlations(rate[:, : camera.columns]))

    given = alike(camera)
    if given >= LIKE_A_PICTURE:
        return []
    sizes = [other for other in (*CAMERAS, camera_of(camera.width, camera.height)) if other[:2] != camera[:2]]
    best, other = max((alike(other), other) for other in sizes)
    if best < max(LIKE_A_PICTURE, given + MARGIN):
        return []
    return [
        f"warning: {name}: looks like {other.height}x{other.width}, not like {camera.height}x{camera.width} (neighbours "
        f"correlate by {best:.2f} and by {given:.2f}); check --height and --width"
    ]


def describe_bit_order(name, found, given):
    """Lines of text on a bit order that was found, where it is not the usual one."""
    if given or found == "little":
        return []
    return [
        f"{name}: the highest bit of a byte is the first, judged by the picture (--bit_order little or big says so)"
    ]


def guess_camera(path):
    """(the known camera that a `.dat` file is of, how that was told). Raises UserError with the candidates
    where none stands out.

    Under the right size neighbours in the picture of firing rates are alike, along rows and along columns.
    Under a wrong one a pixel's upper neighbour comes from elsewhere, and each step is displaced against the
    one before.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: no plain file; name a .dat file, or - to read a pipe from standard input")
    if not path.is_file():
        raise UserError(f"{path}: no such spike stream; check the path")
    length = path.stat().st_size
    if not length:
        raise UserError(f"{path}: 0 bytes, an empty file; record it again, or check the path")
    alike = {
        camera: likeness(path, camera) for camera in CAMERAS if length >= camera.height * camera.width // 8
    }
    ranking = sorted(alike, key=alike.get, reverse=True)
    fits = {camera: length % (camera.height * camera.width // 8) for camera in ranking}
    found = [
        f"{camera.height}x{camera.width} {alike[camera]:.2f}"
        + (f" ({fits[camera]} bytes left over)" if fits[camera] else "")
        for camera in ranking
    ]
    scores = [alike[camera] for camera in ranking] + [-1, -1]
    # that divides the length
    alone = bool(ranking) and not fits[ranking[0]] and all(fits[camera] for camera in ranking[1:])
    if scores[0] >= LIKE_A_PICTURE and (alone or scores[0] - scores[1] >= MARGIN):
        return (
            ranking[0],
            f"by its pictures: neighbours correlate by {found[0]}; other sizes: {', '.join(found[1:]) or 'none'}",
        )
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
