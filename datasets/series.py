"""Names that belong together: numbered frames, and parts of one video."""

import re
from pathlib import PurePath


def series_of(name):
    """(the name with # in place of its last number, that number), or (name, None) if it has none or is nothing
    else. A suffix such as .mp4 does not count."""
    stem = re.sub(r"\.[A-Za-z]\w{1,4}$", "", name)
    found = re.search(r"\d+(?=\D*$)", stem)
    if not found or not re.search(r"[^\W_]", stem[: found.start()]):
        return name, None
    return f"{name[: found.start()]}#{name[found.end() :]}", int(found[0])


def natural(path):
    """A key that sorts paths by the numbers in them, so that im2 comes before im10."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdigit() else part for part in parts], str(path)


def group_of(path):
    """The video that a clip at a relative path is of.

    What lies in a numbered folder is one, as in Vimeo-90k and X-TRAIN. So are names that differ only in their
    last number, as in GoPro; names that are nothing but a number differ.
    """
    path = PurePath(path)
    if path.parent.name.isdigit():
        return str(path.parent)
    return str(path.parent / series_of(path.name)[0])
