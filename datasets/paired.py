"""Spike streams on disk: one base class reads and checks; a subclass per dataset says only which files belong together."""

import copy
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import Dataset
from tqdm import tqdm

from datasets.augment import to_item
from datasets.dat import count_steps, read_dat
from utils.cli import UserError
from utils.guard import read_grey
from utils.protocol import KEY_FRAMES, KEY_IDS, STEPS

INPUT_FOLDERS = ("input", "spike")
SPLITS = {"train": ("train",), "val": ("val",), "test": ("test", "val")}  # other toolboxes call the test split val


@dataclass(frozen=True)
class Stream:
    """A `.dat` file, the first of the 41 steps to use, and the pictures it comes with (output -> path)."""

    path: Path
    start: int
    pictures: dict = field(default_factory=dict)


class SpikeDataset(Dataset):
    """Streams of one size below `path`, checked as a whole when it is made, so that no bad file surfaces hours later.

    A subclass sets `height`, `width`, `flip`, `label` and implements `find(folder)`.
    Raises UserError for whatever is missing or does not fit.
    """

    def __init__(self, path, split="test", key_id=None):
        self.path, self.split, self.key_id = Path(path), split, key_id
        folder = split_folder(Path(path), split)
        self.streams = sorted(self.find(folder), key=lambda stream: stream.path.name)
        if not self.streams:
            raise UserError(f"{folder}: no .dat file there; put the spike streams into it or check the path")
        self.check()
        truth = "with ground truth" if self.streams[0].pictures else "without ground truth"
        self.description = (
            f"{folder}: {self.label}, {len(self)} streams of {self.height}x{self.width} "
            f"stored {'upside down' if self.flip else 'upright'}, {truth}"
        )

    def __len__(self):
        return len(self.streams)

    def __getitem__(self, index):
        return to_item(self.read(index))

    @property
    def files(self):
        """The paths of all streams and pictures."""
        return [path for stream in self.streams for path in (stream.path, *stream.pictures.values())]

    @property
    def folders(self):
        """The dataset's folders, which nothing else is to be written to."""
        return [self.path, *{path.parent for path in self.files}]

    @property
    def names(self):
        """The streams' names, in order."""
        return [stream.path.name.removesuffix(".dat") for stream in self.streams]

    def read(self, index, epoch=0):
        """Sample `index` as uint8 arrays: `spikes` (41, H, W), each picture (H, W), and `name`. `epoch` is of no effect."""
        stream = self.streams[index]
        stop = stream.start + STEPS
        spikes = read_dat(stream.path, self.height, self.width, stream.start, stop, self.flip)
        pictures = {output: read_picture(path, self.height, self.width) for output, path in stream.pictures.items()}
        return {"name": self.names[index], "spikes": spikes, **pictures}

    def subset(self, indices):
        """The same dataset with these streams only."""
        part = copy.copy(self)
        part.streams = [self.streams[i] for i in indices]
        return part

    def check(self):
        for stream in self.streams:
            if not stream.path.name.isprintable():  # outputs, tables and logs have the name in them
                raise UserError(f"{stream.path}: its name has characters that are no text; rename the stream")
            steps = count_steps(stream.path, self.height, self.width)
            need = stream.start + STEPS
            if stream.start < 0:
                raise UserError(f"{stream.path}: the id in its name leaves too few steps before it; rename it, or see --key_id")
            if steps < need:
                raise UserError(
                    f"{stream.path}: too short, {steps} steps of {self.height}x{self.width}; steps {stream.start + 1} to {need} "
                    "are wanted; record more, or check --data_mode and --key_id"
                )
        paths = [path for stream in self.streams for path in stream.pictures.values()]
        pool = ThreadPoolExecutor()
        try:
            checks = pool.map(lambda path: read_picture(path, self.height, self.width) is None, paths)
            # A bar only where there is something to wait for.
            list(tqdm(checks, "checking pictures", len(paths), unit="picture", leave=False, delay=2))
        finally:
            pool.shutdown(cancel_futures=True)  # after a bad picture the others need no look


class SpikeREDS(SpikeDataset):
    """Train: NAMEid21.dat with NAMEid14.png, ...id21, ...id28. Test: NAME.dat with NAME.png, the step by its id or 151."""

    height, width, flip, label = 250, 400, True, "spike-REDS"
    test_key_id = 151

    def find(self, folder):
        for path in dat_files(folder):
            pictures = {output: sibling(folder, path, key_id) for key_id, output in KEY_IDS.items()}
            there = [output for output, picture in pictures.items() if picture.is_file()]
            same = folder / "gt" / f"{path.stem}.png"
            start = 0
            if self.split == "train":
                wanted = list(pictures)
            elif not there or (same.is_file() and len(there) == 1):
                # A stream with one picture, at the step that its name tells: the chosen output is put there.
                wanted = [KEY_IDS[self.key_id or 21]]
                pictures = {wanted[0]: same}
                start = (id_of(path.stem) or self.test_key_id) - 1 - KEY_FRAMES[wanted[0]]
            elif self.key_id is not None:
                wanted = [KEY_IDS[self.key_id]]
            else:
                wanted = there if len(there) == 1 else ["middle"]
            for output in wanted:
                if not pictures[output].is_file():
                    raise UserError(
                        f"{path}: its picture {pictures[output]} is missing; add it or remove the stream (see --key_id)"
                    )
            yield Stream(path, start, {output: pictures[output] for output in wanted})


class SpikeX4K(SpikeREDS):
    """NAMEid21.dat or NAME.dat with NAME_key_id14.png, ...id21, ...id28, for training and testing."""

    height, width, flip, label = 1000, 1000, False, "spike-X4K"
    test_key_id = 21


class ClassA(SpikeDataset):
    """recVidarReal2019, whole recordings without ground truth: steps 301 to 341 of each."""

    height, width, flip, label = 250, 400, True, "classA"

    def find(self, folder):
        return [Stream(path, 300) for path in dat_files(folder)]


def hold_out(dataset):
    """(indices to train on, indices to validate on): the last twentieth of the scenes, whole, since their parts look alike."""
    scenes = {}
    for index, stream in enumerate(dataset.streams):
        scene = re.split(r"_part\d|_f\d|_?key_|id\d", stream.path.stem)[0]  # of 000_part1_key_id21, occ008.649_f4305
        scenes.setdefault(scene, []).append(index)
    groups = list(scenes.values()) if len(scenes) > 1 else [[index] for index in range(len(dataset))]
    if len(groups) < 2:
        raise UserError(f"{dataset.streams[0].path}: the only stream, so none is left to validate on; add more, or --val_every 0")
    held = [index for group in groups[-max(1, len(groups) // 20) :] for index in group]
    return [index for index in range(len(dataset)) if index not in held], held


def split_folder(path, split):
    """The folder of a split below a dataset. Raises UserError where dataset or split is missing."""
    if not path.is_dir():
        raise UserError(f"{path}: no such dataset folder; check --dataset_path")
    for name in SPLITS[split]:
        if (path / name).is_dir():
            return path / name
    raise UserError(f"{path}: no folder {' or '.join(SPLITS[split])} in it; a dataset has train/, val/ or test/")


def dat_files(folder):
    """The `.dat` files of a split: in its folder input or spike, or right in it."""
    for name in INPUT_FOLDERS:
        if (folder / name).is_dir():
            return sorted((folder / name).glob("*.dat"))
    return sorted(folder.glob("*.dat"))


def id_of(stem):
    """The key id that ends a stream's name, from 1, or None: 151 for `200_part1_key_id151`."""
    match = re.search(r"id(\d+)$", stem)
    return int(match.group(1)) if match else None


def sibling(folder, path, key_id):
    """The picture of a 41-step stream at a key id: NAMEid7.png or NAME_key_id7.png beside NAMEid21.dat or NAME.dat."""
    name = re.sub(r"id\d+$", "", path.stem)
    direct, spelled = (folder / "gt" / f"{name}{middle}id{key_id}.png" for middle in ("", "_key_"))
    return spelled if name == path.stem or spelled.is_file() else direct


def read_picture(path, height, width):
    """A ground-truth picture as grey uint8 (height, width). Raises UserError where it is unreadable or of another size."""
    try:
        picture = read_grey(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; restore the picture") from None
    if picture is None:
        raise UserError(f"{path}: no readable picture; replace it by a whole one")
    if picture.shape != (height, width):
        found = "x".join(map(str, picture.shape))
        raise UserError(f"{path}: a picture of {found} where {height}x{width} is expected; check the file and --data_mode")
    return picture
