"""The page of a report: one HTML file with everything in it, to be opened in any browser, without a
network."""

import base64
import json
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np

from swinsf.evaluation.metrics import to_bytes
from swinsf.evaluation.tables import mean_figures, plain
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write
from swinsf.utils.guard import read_levels

TEMPLATE = Path(__file__).with_name("page.html")
MARK = b'<meta name="generator" content="SwinSF">'
TRUTH = "ground truth"  # title of the picture that the others' errors are taken against
STREAMS = 60  # that a page shows pictures of; its tables have all


def picture_address(picture):
    """Grey levels (H, W), clamped and truncated to bytes, as a data address that keeps every one of them."""
    _, data = cv2.imencode(".png", to_bytes(picture))
    return "data:image/png;base64," + base64.b64encode(data).decode()


def make_frame(pictures, label=""):
    """One moment of a stream. pictures: title -> (H, W) grey levels."""
    shape = next(iter(pictures.values())).shape
    return {
        "label": label,
        "shape": shape,
        "pictures": {title: picture_address(p) for title, p in pictures.items()},
    }


def write_page(path, title, kind, about, rows, streams, shown):
    """Write the page.

    kind: what a row is, "stream" or "step". about: name -> text, the settings. rows: as `report.mean_figures`
    takes them. streams: name -> list of `make_frame`; several are the moments of a recording. shown: titles
    of the two pictures to begin with, ours the second.
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
    )  # so that no name ends the script
    with atomic_write(path, "w") as file:
        file.write(TEMPLATE.read_text().replace("/*DATA*/", text))


def is_page(path):
    """Whether a file is a page that `write_page` wrote."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return MARK in file.read(2000)


def check_folders(folders, names, reserved):
    """Raises UserError where `folders`, [(method, folder)] of --compare, lack a picture, or a method is named
    as another.

    reserved: the names of our own methods.
    """
    for method, folder in folders:
        if method in (*reserved, "name", "spikes", TRUTH) or [m for m, _ in folders].count(method) > 1:
            raise UserError(f"--compare {method}={folder}: the name {method} is taken; take another")
        missing = [name for name in names if not (Path(folder) / f"{name}.png").is_file()]
        if missing:
            raise UserError(
                f"--compare {method}={folder}: {len(missing)} of {len(names)} pictures are not there, {missing[0]}.png "
                "among them; pictures are called as ours are"
            )


def read_compared(folder, name, shape):
    """The picture of another method, (H, W) float32. Raises UserError where it is unreadable or of another
    size."""
    path = Path(folder) / f"{name}.png"
    picture = read_levels(path)
    if picture is None:
        raise UserError(f"{path}: not a picture; write it again")
    if picture.dtype != np.uint8:
        raise UserError(f"{path}: a picture of 16 bits, whose white cannot be told; write it with 8 bits")
    if picture.shape != tuple(shape):
        size, wanted = ("x".join(map(str, s)) for s in (picture.shape, shape))
        raise UserError(f"{path}: {size}, but the stream is {wanted}; take pictures of the same streams")
    return picture.astype(np.float32)
