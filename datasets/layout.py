"""Where a dataset on disk keeps its streams and pictures."""

import re

from swinsf.datasets.picture_files import read_levels
from swinsf.utils.choices import NO_DATA
from swinsf.utils.cli import UserError
from swinsf.utils.guard import visible
from swinsf.utils.timing import STEPS

INPUT_FOLDERS = ("input", "spike")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")  # in order of preference
# Some toolboxes call the test split val.
SPLITS = {"train": ("train",), "val": ("val",), "test": ("test", "val")}


def split_folder(path, split):
    """The folder of a dataset's split. Raises UserError if dataset or split is missing."""
    if not path.is_dir():
        raise UserError(f"{path}: no such dataset folder; check --dataset_path. {NO_DATA}")
    for name in SPLITS[split]:
        if (path / name).is_dir():
            return path / name
    raise UserError(
        f"{path}: no folder {' or '.join(SPLITS[split])} in it; a dataset has train/, val/ or test/"
    )


def dat_files(folder):
    """The `.dat` (or `.DAT`) files of a split: in input/, else in spike/, else in the split's own folder."""
    for place in (*(folder / name for name in INPUT_FOLDERS), folder):
        found = sorted(path for path in visible(place.glob("*")) if path.suffix.lower() == ".dat")
        if found:
            return found
    return []


def id_of(stem, steps):
    """The key id at the end of a stream's name, counted from 1, or None.

    Gives 151 for `200_part1_key_id151`, 21 for `NAMEid21` with 41 steps, and None for `pyramid60`, whose
    digits belong to the name.
    """
    match = re.search(r"(?:^|_)id(\d+)$", stem) or (steps == STEPS and re.search(r"id(21)$", stem))
    return int(match.group(1)) if match else None


class Truth:
    """The pictures in a split's gt/, by name without suffix. Ignores the case of folder and suffixes."""

    def __init__(self, folder):
        places = [
            place for place in visible(folder.glob("*")) if place.name.lower() == "gt" and place.is_dir()
        ]
        self.folder = min(places, default=folder / "gt")
        files = {(path.stem, path.suffix.lower()): path for path in visible(self.folder.glob("*"))}
        self.paths = {
            stem: files[stem, suffix]
            for suffix in reversed(PICTURE_SUFFIXES)
            for stem, s in files
            if s == suffix
        }

    def named(self, stem):
        """The path of the picture with this name, or the path it should have if it is missing."""
        return self.paths.get(stem, self.folder / f"{stem}.png")

    def of_id(self, path, key_id):
        """A 41-step stream's picture at an id: NAMEid7 or NAME_key_id7 for NAMEid21.dat or NAME.dat."""
        name = re.sub(r"(?<=_)id\d+$|id21$", "", path.stem)
        direct, spelled = (f"{name}{middle}id{key_id}" for middle in ("", "_key_"))
        return self.named(spelled if name == path.stem or spelled in self.paths else direct)


def has_truth(folder):
    """Whether a split has ground-truth pictures."""
    return Truth(folder).folder.is_dir()


def read_picture(path, height, width):
    """Read a ground-truth picture as grey uint8 or uint16 (height, width).

    Raises UserError if it cannot be read or has another size.
    """
    try:
        picture = read_levels(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; restore the picture") from None
    if picture is None:
        raise UserError(f"{path}: not a readable picture; replace it")
    if picture.shape != (height, width):
        found = "x".join(map(str, picture.shape))
        raise UserError(
            f"{path}: the picture is {found}, expected {height}x{width}; check the file and --data_mode"
        )
    return picture
