"""Names that belong together: numbered frames, and parts of one video."""

import re
from pathlib import PurePath


def series_of(name):
    """(the name with # in place of its last number, that number), or (name, None) if there is no number or
    nothing else. Ignores a suffix such as .mp4."""
    stem = re.sub(r"\.[A-Za-z]\w{1,4}$", "", name)
    found = re.search(r"\d+(?=\D*$)", stem)
    if not found or not re.search(r"[^\W_]", stem[: found.start()]):
        return name, None
    return f"{name[: found.start()]}#{name[found.end() :]}", int(found[0])


def natural(path):
    """A sort key that orders the numbers in paths by value: im2 comes before im10."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdigit() else part for part in parts], str(path)


def group_of(path):
    """The video that a clip at a relative path belongs to.

    All clips in a numbered folder are one video, as in Vimeo-90k and X-TRAIN. So are clips whose names differ
    only in their last number, as in GoPro, but not clips whose names are only a number.
    """
    path = PurePath(path)
    if path.parent.name.isdigit():
        return str(path.parent)
    return str(path.parent / series_of(path.name)[0])
