"""The report page: one HTML file for any browser, which loads nothing from the network."""

import base64
import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from swinsf.datasets.picture_files import read_levels
from swinsf.evaluation.metrics import to_bytes
from swinsf.evaluation.tables import mean_figures, plain
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write

TEMPLATE = Path(__file__).with_name("page.html")
MARK = b'<meta name="generator" content="SwinSF">'
TRUTH = "ground truth"  # title of the picture that the others are compared with
STREAMS = 60  # largest number of streams whose pictures a page shows; its tables list all streams


def picture_address(picture: np.ndarray) -> str:
    """Grey levels (H, W), clamped and truncated to bytes, as a lossless data URL."""
    _, data = cv2.imencode(".png", to_bytes(picture))
    return "data:image/png;base64," + base64.b64encode(data).decode()


def make_frame(pictures: dict[str, np.ndarray], label: str = "") -> dict[str, Any]:
    """One moment of a stream. pictures: title -> (H, W) grey levels."""
    shape = next(iter(pictures.values())).shape
    return {
        "label": label,
        "shape": shape,
        "pictures": {title: picture_address(p) for title, p in pictures.items()},
    }


def write_page(
    path: Path,
    title: str,
    kind: str,
    about: dict[str, str],
    rows: list[dict[str, Any]],
    streams: dict[str, list[dict[str, Any]]],
    shown: tuple[str, str],
) -> None:
    """Write the page.

    kind: the meaning of a row, "stream" or "step". about: name -> text, the settings. rows: see
    `tables.mean_figures`. streams: name -> list of `make_frame`, one for each moment. shown: titles of the
    two pictures shown first, ours second.
    """
    methods = [key for key in rows[0] if key != "name"]
    contents = {
        "title": title,
        "kind": kind,
        "about": {**about, "command": shlex.join(["python", *sys.argv])},
        "methods": methods,
        "figures": list(rows[0][methods[0]]),
        "means": mean_figures(rows),
        "rows": [
            {"name": row["name"], "figures": {method: row[method] for method in methods}} for row in rows
        ],
        "truth": TRUTH,
        "shown": shown,
        "streams": [
            {"name": name, "frames": frames, "height": frames[0]["shape"][0], "width": frames[0]["shape"][1]}
            for name, frames in streams.items()
        ],
        "left_out": f"Pictures of {len(streams)} of {len(rows)} streams are shown."
        if kind == "stream" and len(streams) < len(rows)
        else "",
    }
    text = json.dumps(plain(contents, nan=None, inf="∞"), allow_nan=False).replace(
        "<", "\\u003c"
    )  # no name may end the script
    with atomic_write(path, "w") as file:
        file.write(TEMPLATE.read_text("utf-8").replace("/*DATA*/", text))


def is_page(path: Path) -> bool:
    """Whether a file was written by `write_page`."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return MARK in file.read(2000)


def check_folders(folders: list[tuple[str, str]], names: list[str], reserved: Iterable[str]) -> None:
    """Raises UserError if a folder of --compare lacks a picture, or two methods have the same name.

    folders: (method, folder). names: stream names. reserved: names of our own methods.
    """
    for method, folder in folders:
        if method in (*reserved, "name", "spikes", TRUTH) or [m for m, _ in folders].count(method) > 1:
            raise UserError(f"--compare {method}={folder}: the name {method} is taken; choose another")
        missing = [name for name in names if not (Path(folder) / f"{name}.png").is_file()]
        if missing:
            raise UserError(
                f"--compare {method}={folder}: {len(missing)} of {len(names)} pictures are missing, {missing[0]}.png "
                "for one; they need the names of our pictures"
            )


def read_compared(folder: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Another method's picture, float32 (H, W). Raises UserError if it is unreadable or its size differs."""
    path = Path(folder) / f"{name}.png"
    picture = read_levels(path)
    wrong = ""
    if picture is None:
        wrong = "not a picture; write it again"
    elif picture.dtype != np.uint8:
        wrong = "a picture of 16 bits, whose white is unknown; write it with 8 bits"
    elif picture.shape != tuple(shape):
        size, wanted = ("x".join(map(str, s)) for s in (picture.shape, shape))
        wrong = f"{size}, but the stream is {wanted}; use pictures of the same streams"
    if wrong:
        raise UserError(f"{path}: {wrong}")
    return picture.astype(np.float32)
