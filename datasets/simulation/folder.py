"""A simulated dataset on disk: the paths of a split's files, and its settings in meta.json."""

import json
from dataclasses import dataclass
from pathlib import Path

from swinsf.datasets.paired import PAIRED, PICTURE_IDS
from swinsf.datasets.rates import META
from swinsf.datasets.simulation import sampling
from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write, is_clutter
from swinsf.utils.guard import read_json
from swinsf.utils.timing import STEPS

TEST_STEPS = 301  # length of a test stream in the spike-REDS layout


@dataclass(frozen=True)
class Place:
    """The paths of a split's streams and pictures, in the layout of `datasets.paired`."""

    folder: Path
    data_mode: str
    split: str

    @property
    def flip(self):
        return PAIRED[self.data_mode].flip

    @property
    def long(self):
        """Whether streams are like spike-REDS test streams: 301 steps and one picture, of the middle step."""
        return self.data_mode == "250" and self.split != "train"

    @property
    def steps(self):
        return TEST_STEPS if self.long else STEPS

    @property
    def folders(self):
        """(folder of the streams, folder of the pictures)."""
        return self.folder / "input", self.folder / "gt"

    @staticmethod
    def name(index):
        return f"scene{index:06d}"

    def paths(self, index):
        """(path of a scene's stream, {step: path of its picture})."""
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
                    f"{folder}: is a link, and nothing is written through links; put the folder itself there"
                )


def claim_folder(folder, split, about):
    """Create the dataset's folder and write the split's settings to its meta.json.

    Raises UserError if the folder is not from simulate.py, or if its split was made with other settings.
    """
    path = folder / META
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--save_path {folder}: is a file; give a folder")
    # an interrupted write leaves .meta.json.*
    others = [f for f in folder.glob("*") if not f.name.startswith(f".{META}.") and not is_clutter(f)]
    if others and not path.is_file():
        raise UserError(
            f"--save_path {folder}: has files but no {META}, so it is not from simulate.py; give a new folder"
        )
    meta = {"made_by": "simulate.py", "splits": {}}
    if path.is_file():
        try:
            meta = read_json(path)
        except ValueError:
            meta = None
        if not is_meta(meta):
            raise UserError(f"{path}: not from simulate.py; give a new --save_path")
    for name, other in meta["splits"].items():
        if other["data_mode"] != about["data_mode"]:
            raise UserError(
                f"{path}: its {name} streams have --data_mode {other['data_mode']}; give the same, or a new "
                "--save_path"
            )
        shared = (
            sorted(other["sources"].keys() & about["sources"].keys())
            if about["source"].startswith("photos:")
            else []
        )
        if shared and name != split:
            raise UserError(
                f"{path}: its {name} streams use {len(shared)} of the {split} photographs (such as {shared[0]}); "
                "the folder of photographs has changed; give a new --save_path for all splits"
            )
    old = meta["splits"].setdefault(split, about)
    if isinstance(old.get("given"), dict):  # earlier versions also listed flags that were not given
        old["given"] = {name: value for name, value in old["given"].items() if value is not None}
    # `source` may differ: the same photographs may have another path
    for name in sorted(
        (about.keys() | {"long", "sampler"} & old.keys()) - {"count", "source", "sensors", "made_with"}
    ):
        if old.get(name) != about.get(name):
            raise UserError(
                f"{path}: its {split} streams were made with {name} {old.get(name)!s:.80}, not {about.get(name)!s:.80}; "
                "give the same settings to resume, or a new --save_path"
            )
    text = sampling.describe_other(old.get("made_with"), about.get("made_with"))
    if text:
        cli.log(f"warning: {path}: {text}; new scenes differ slightly from the earlier ones")
    sensors = {**old.get("sensors", {}), **about["sensors"]}  # there may be more streams than now requested
    meta["splits"][split] = {**about, "sensors": sensors, "count": max(about["count"], old["count"])}
    with atomic_write(path, "w") as file:
        json.dump(meta, file, indent=1)


def is_meta(meta):
    """Whether a value has the parts of meta.json that `claim_folder` reads."""
    if (
        not isinstance(meta, dict)
        or meta.get("made_by") != "simulate.py"
        or not isinstance(meta.get("splits"), dict)
    ):
        return False
    types = {"data_mode": str, "sources": dict, "count": int}
    splits = meta["splits"].values()
    return all(
        isinstance(s, dict) and all(isinstance(s.get(name), kind) for name, kind in types.items())
        for s in splits
    )
