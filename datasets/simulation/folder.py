"""A simulated dataset on disk: where the files of a split lie, and its settings in meta.json."""

import json
from dataclasses import dataclass
from pathlib import Path

from swinsf.datasets.paired import PAIRED, PICTURE_IDS
from swinsf.datasets.simulation import sampling
from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write, is_clutter
from swinsf.utils.guard import read_json
from swinsf.utils.timing import STEPS

TEST_STEPS = 301  # of a test stream in the spike-REDS layout
META = "meta.json"


@dataclass(frozen=True)
class Place:
    """Where the streams of a split lie: the layout of `datasets.paired`."""

    folder: Path
    data_mode: str
    split: str

    @property
    def flip(self):
        return PAIRED[self.data_mode].flip

    @property
    def long(self):
        """Whether these are spike-REDS test streams: 301 steps and one picture, of the middle step."""
        return self.data_mode == "250" and self.split != "train"

    @property
    def steps(self):
        return TEST_STEPS if self.long else STEPS

    @property
    def folders(self):
        """Of the streams, and of the pictures."""
        return self.folder / "input", self.folder / "gt"

    @staticmethod
    def name(index):
        return f"scene{index:06d}"

    def paths(self, index):
        """(the stream's path, {step: the path of its picture}) of a scene."""
        name, (streams, pictures) = self.name(index), self.folders
        if self.long:
            middle = TEST_STEPS // 2
            stem = f"{name}_key_id{middle + 1}"
            return streams / f"{stem}.dat", {middle: pictures / f"{stem}.png"}
        ids = PICTURE_IDS if self.split == "train" else (21,)
        if self.data_mode == "250":
            return streams / f"{name}id21.dat", {
                key_id - 1: pictures / f"{name}id{key_id}.png" for key_id in ids
            }
        return streams / f"{name}.dat", {
            key_id - 1: pictures / f"{name}_key_id{key_id}.png" for key_id in ids
        }

    def check_links(self):
        """Raises UserError if a folder of the split is a link."""
        for folder in (self.folder, *self.folders):
            if folder.is_symlink():
                raise UserError(
                    f"{folder}: is a link, and nothing is written through it; put the folder itself there"
                )


def claim_folder(folder, split, about):
    """Make the dataset's folder and enter the split's settings into its meta.json.

    Raises UserError where the folder is not this script's, or has the split by other settings.
    """
    path = folder / META
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--save_path {folder}: is a file; take a folder")
    # those are of a write that was killed
    others = [f for f in folder.glob("*") if not f.name.startswith(f".{META}.") and not is_clutter(f)]
    if others and not path.is_file():
        raise UserError(
            f"--save_path {folder}: has files but no {META}, so it is not of simulate.py; take a new folder"
        )
    meta = {"made_by": "simulate.py", "splits": {}}
    if path.is_file():
        try:
            meta = read_json(path)
        except ValueError:
            meta = None
        if not is_meta(meta):
            raise UserError(f"{path}: not of simulate.py; take a new --save_path")
    for name, other in meta["splits"].items():
        if other["data_mode"] != about["data_mode"]:
            raise UserError(
                f"{path}: its {name} streams are of --data_mode {other['data_mode']}; take the same, or a new --save_path"
            )
        shared = (
            sorted(other["sources"].keys() & about["sources"].keys())
            if about["source"].startswith("photos:")
            else []
        )
        if shared and name != split:
            raise UserError(
                f"{path}: its {name} streams have {len(shared)} of the {split} photographs, {shared[0]} among them, since the "
                "folder has changed between; take a new --save_path for all splits"
            )
    old = meta["splits"].setdefault(split, about)
    if isinstance(old.get("given"), dict):  # earlier versions listed the flags that were left out, too
        old["given"] = {name: value for name, value in old["given"].items() if value is not None}
    # the same photographs may be reached by another path
    for name in sorted(
        (about.keys() | {"long", "sampler"} & old.keys()) - {"count", "source", "sensors", "made_with"}
    ):
        if old.get(name) != about.get(name):
            raise UserError(
                f"{path}: its {split} streams were made with {name} {old.get(name)!s:.80}, not {about.get(name)!s:.80}; "
                "take the same settings to resume, or a new --save_path"
            )
    text = sampling.describe_other(old.get("made_with"), about.get("made_with"))
    if text:
        cli.log(f"warning: {path}: {text}; scenes from here on differ slightly from those before")
    sensors = {**old.get("sensors", {}), **about["sensors"]}  # there may be more streams than are asked for
    meta["splits"][split] = {**about, "sensors": sensors, "count": max(about["count"], old["count"])}
    with atomic_write(path, "w") as file:
        json.dump(meta, file, indent=1)


def is_meta(meta):
    """Whether a value is what `claim_folder` writes, as far as it reads it."""
    if (
        not isinstance(meta, dict)
        or meta.get("made_by") != "simulate.py"
        or not isinstance(meta.get("splits"), dict)
    ):
        return False
    wanted = {"data_mode": str, "sources": dict, "count": int}
    splits = meta["splits"].values()
    return all(
        isinstance(s, dict) and all(isinstance(s.get(name), kind) for name, kind in wanted.items())
        for s in splits
    )
