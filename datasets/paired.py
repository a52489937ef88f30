"""Spike streams on disk: one base class reads and checks; a subclass per dataset says only which files belong
together."""

import copy
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from swinsf.datasets import rates
from swinsf.datasets.augment import to_item
from swinsf.datasets.dat import camera_of, correlation, count_steps, look_at, read_steps
from swinsf.datasets.series import natural, series_of
from swinsf.datasets.size import guess_camera
from swinsf.utils.choices import NO_DATA
from swinsf.utils.cli import UserError
from swinsf.utils.guard import WHITES, read_json, read_levels, to_eight_bits, visible
from swinsf.utils.timing import KEY_FRAMES, KEY_IDS, RATE, STEPS

INPUT_FOLDERS = ("input", "spike")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")  # the first that is there is taken
LOOKED_AT = 8  # streams of a dataset, evenly spread, whose contents are looked at
PICTURE_IDS = (7, 14, 21, 28, 35)  # that streams of 41 steps may come with, counted from 1
TURNED_OVER = 0.2  # by which TFP correlates better with a picture turned over than with it as it lies
# other toolboxes call the test split val
SPLITS = {"train": ("train",), "val": ("val",), "test": ("test", "val")}


@dataclass(frozen=True)
class Stream:
    """A `.dat` file, the first of the 41 steps to use, and the pictures it comes with (output -> path).

    One of several windows of a file has a name of its own.
    """

    path: Path
    start: int
    pictures: dict = field(default_factory=dict)
    window: str = ""

    @property
    def name(self):
        return self.window or self.path.stem


class SpikeDataset(Dataset):
    """Streams of one size below `path`, checked as a whole when it is made, so that no bad file surfaces
    hours later.

    flip: whether steps are stored upside down (default: as the dataset's are). rate: spikes a step at white
    (default: see `rates.choose`). `warnings`: lines on what looks wrong. A subclass sets `height`, `width`,
    `flip`, `label` and implements `find(folder)`. Raises UserError for whatever is missing or does not fit.
    """

    white = 255  # the pictures' value for white
    # least and most spikes a step at white that streams of this dataset are known to have
    rates_known = RATE, RATE
    fill = None  # a `repair.Filler` of the camera's bad pixels
    maps = {}  # noqa: RUF012  # `dark` and `response` of a calibrated camera, (H, W) each; replaced, never changed

    def __init__(self, path, split="test", key_id=None, flip=None, rate=None):
        self.path, self.split, self.key_id, self.warnings = Path(path), split, key_id, []
        self.folder = folder = split_folder(Path(path), split)
        self.camera = camera_of(self.height, self.width, self.flip)
        self.streams = sorted(self.find(folder), key=lambda stream: stream.path.name)
        if not self.streams:
            raise UserError(f"{folder}: no .dat file there; put the spike streams into it or check the path")
        self.height, self.width = self.camera.height, self.camera.columns
        self.flip = self.camera.flip if flip is None else flip
        self.camera = self.camera._replace(flip=self.flip)
        self.check()
        self.look(rate)
        truth = "with ground truth" if self.streams[0].pictures else "without ground truth"
        if split == "train" and len(self.streams[0].pictures) == 1:
            truth += " of the middle alone"
        self.description = f"{folder}: {self.label}, {len(self)} streams of {self.camera}, {truth}{rates.describe(self.rates)}"

    def __len__(self):
        return len(self.streams)

    def __getitem__(self, index):
        return to_item(self.read(index))

    @property
    def files(self):
        """The paths of all streams and pictures, and of what lies in the split's folders and is not read, as
        links may."""
        read = [path for stream in self.streams for path in (stream.path, *stream.pictures.values())]
        return [*read, *(self.folder.glob("*/*"))]

    @property
    def folders(self):
        """The dataset's folders, which nothing else is to be written to."""
        return [self.path, *{path.parent for path in self.files}]

    @property
    def names(self):
        """The streams' names, in order."""
        return [stream.name for stream in self.streams]

    @property
    def steps(self):
        """Name -> the step of the stream that is scored, counted from 1 as in the names."""
        outputs = [
            "middle" if "middle" in s.pictures or not s.pictures else next(iter(s.pictures))
            for s in self.streams
        ]
        return {s.name: s.start + KEY_FRAMES[output] + 1 for s, output in zip(self.streams, outputs)}

    def read(self, index, epoch=0):
        """Sample `index` as uint8 arrays: `spikes` (41, H, W), each picture (H, W), `name`, and `rate`.

        `rate` is how many spikes a step white fires. `epoch` is of no effect.
        """
        stream, camera = self.streams[index], self.camera
        stop = stream.start + STEPS
        spikes = read_steps(
            stream.path, camera.height, camera.width, stream.start, stop, camera.flip, self.bitorder
        )
        pictures = {output: self.read_picture(path) for output, path in stream.pictures.items()}
        spikes, name = spikes[..., : camera.columns], self.names[index]
        spikes = self.fill(spikes) if self.fill else spikes
        return {"name": name, "spikes": spikes, "rate": self.rates[name], **pictures, **self.maps}

    def read_picture(self, path):
        """A picture as grey uint8 (H, W); of 16 bits, by the range that all pictures of the dataset have
        together."""
        picture = read_picture(path, self.height, self.width)
        return to_eight_bits(picture, 255 if picture.dtype == np.uint8 else self.white)

    def subset(self, indices):
        """The same dataset with these streams only."""
        part = copy.copy(self)
        part.streams = [self.streams[i] for i in indices]
        return part

    def check(self):
        height, width, *_ = self.camera
        for stream in self.streams:
            if not stream.path.name.isprintable():  # outputs, tables and logs have the name in them
                raise UserError(f"{stream.path}: its name has characters that are no text; rename the stream")
            steps = count_steps(stream.path, height, width)
            need = stream.start + STEPS
            if stream.start < 0:
                raise UserError(
                    f"{stream.path}: the id in its name leaves too few steps before it; rename it, or see --key_id"
                )
            if steps < need:
                raise UserError(
                    f"{stream.path}: too short, {steps} steps of {height}x{width}; steps {stream.start + 1} to {need} "
                    "are wanted; record more, or check --data_mode and --key_id"
                )
            if self.split == "train" and stream.pictures.keys() != self.streams[0].pictures.keys():
                few, many = sorted((self.streams[0], stream), key=lambda stream: len(stream.pictures))
                raise UserError(
                    f"{few.path}: has one picture, but {many.path.name} those of ids {', '.join(map(str, KEY_IDS))}; add what is "
                    "missing, or leave one picture for each stream"
                )
        paths = [path for stream in self.streams for path in stream.pictures.values()]
        pool = ThreadPoolExecutor()
        try:
            checks = pool.map(self.deepest, paths)
            # A bar only where there is something to wait for.
            most = max(
                tqdm(checks, "checking pictures", len(paths), unit="picture", leave=False, delay=2), default=0
            )
        finally:
            pool.shutdown(cancel_futures=True)  # after a bad picture the others need no look
        self.white = next(white for white in WHITES if most <= white)
        if most and self.white < WHITES[-1]:
            self.warnings.append(
                f"{paths[0].parent}: pictures of 16 bits, up to {most}; {self.white} is taken for white"
            )

    def deepest(self, path):
        """The largest value of a picture of 16 bits, 0 for one of bytes."""
        picture = read_picture(path, self.height, self.width)
        return 0 if picture.dtype == np.uint8 else max(1, int(picture.max()))

    def look(self, rate):
        """Look into a few streams: at bit order and size, whether they lie as their pictures do, how often
        white fires."""
        shown = self.streams[:: max(1, len(self.streams) // LOOKED_AT)][:LOOKED_AT]
        looks = [look_at(stream.path, self.camera.height, self.camera.width) for stream in shown]
        self.bitorder = "big" if "big" in [order for order, _ in looks] else "little"
        self.warnings += [text for _, texts in looks for text in texts]
        gains, looks, self.rates = [], [], dict.fromkeys(self.names, RATE)
        for stream in shown:
            sample = self.read(self.streams.index(stream))
            fired, pictures = sample["spikes"].mean(0), [sample[output] for output in stream.pictures]
            gains += [correlation(fired[::-1], picture) - correlation(fired, picture) for picture in pictures]
            looks.append(rates.compare(sample["spikes"], pictures) if pictures else None)
        self.rates, warning = rates.choose(self, rate, [look for look in looks if look])
        self.warnings += [warning] if warning else []
        if gains and np.median(gains) > TURNED_OVER:
            stored = "upside down" if self.flip else "upright"
            self.warnings.append(
                f"{shown[0].path.parent}: the streams are taken as stored {stored}, but their pictures fit far better turned "
                f"over; take --flip {not self.flip}"
            )


class SpikeREDS(SpikeDataset):
    """Train: NAMEid21.dat with NAMEid14.png, ...id21, ...id28. Test: NAME.dat with NAME.png, the step by its
    id or 151.

    A stream that has NAME.png alone, as in Spike-Zoo's layout, is trained on too, where all have.
    """

    height, width, flip, label = 250, 400, True, "spike-REDS"
    test_key_id = 151

    def find(self, folder):
        truth = Truth(folder)
        for path in dat_files(folder):
            pictures = {output: truth.of_id(path, key_id) for key_id, output in KEY_IDS.items()}
            there = [output for output, picture in pictures.items() if picture.is_file()]
            same = truth.named(path.stem)
            if self.split != "train" and not same.is_file() and (windows := self.windows(path, truth)):
                yield from windows
                continue
            alone = not there or (same.is_file() and len(there) == 1)
            start = 0
            if alone and (self.split != "train" or same.is_file()):
                # A stream with one picture, at the step that its name tells: the chosen output is put there.
                wanted = [KEY_IDS[self.key_id or 21]]
                pictures = {wanted[0]: same}
                start = self.scored_step(path) - 1 - KEY_FRAMES[wanted[0]]
            elif self.split == "train":
                wanted = list(pictures)
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

    def windows(self, path, truth):
        """A `Stream` for each picture NAME_key_idK.png of a long stream NAME.dat, as `simulate.py --long` writes
        them; those that have 41 steps about them."""
        steps = path.stat().st_size * 8 // (self.height * self.width)
        if steps <= STEPS:
            return []
        output = KEY_IDS[self.key_id or 21]
        found = {id_of(stem, steps): stem for stem in truth.paths if stem.startswith(f"{path.stem}_key_id")}
        if found.keys() <= set(PICTURE_IDS):  # as of the 41 steps that a longer stream begins with
            return []
        return [
            Stream(path, key_id - 1 - KEY_FRAMES[output], {output: truth.named(stem)}, stem)
            for key_id, stem in sorted(found.items())
            if 0 <= key_id - 1 - KEY_FRAMES[output] <= steps - STEPS
        ]

    def scored_step(self, path):
        """The step of a stream's only picture, counted from 1: that of its name, else 151, or the middle of a
        shorter one."""
        steps = path.stat().st_size * 8 // (self.height * self.width)
        usual = self.test_key_id if steps >= self.test_key_id + STEPS // 2 else steps // 2 + 1
        return id_of(path.stem, steps) or usual


class SpikeX4K(SpikeREDS):
    """NAMEid21.dat or NAME.dat with NAME_key_id14.png, ...id21, ...id28, for training and testing."""

    height, width, flip, label = 1000, 1000, False, "spike-X4K"
    test_key_id = 21
    rates_known = RATE, 0.65  # as the TFP and TFI pictures in the SwinSF paper's figure of it have


class ClassA(SpikeDataset):
    """recVidarReal2019 and other recordings without ground truth: steps 301 to 341 of each, or the middle
    ones of a shorter one.

    Steps of 250x400, but where a known sensor's size stands out by the looks, as in `guess_camera`.
    """

    height, width, flip, label = 250, 400, True, "classA"

    def find(self, folder):
        paths = dat_files(folder)
        found, untold = {}, []
        for path in tqdm(paths, "looking at streams", unit="stream", leave=False, delay=2):
            try:
                found[path] = guess_camera(path)[0]
            except UserError:
                untold.append(path)
        cameras = list(dict.fromkeys(found.values()))
        if len(cameras) > 1:
            one, other = (next(path for path in found if found[path] == camera) for camera in cameras[:2])
            raise UserError(
                f"{other}: steps of {cameras[1]}, but {one.name} has {cameras[0]}; a dataset has one size, so part them"
            )
        if cameras:
            self.camera = cameras[0]
        for path in untold:
            count_steps(path, self.camera.height, self.camera.width)
            self.warnings.append(
                f"{path}: its size cannot be told from its pictures; it is taken as {self.camera}"
            )
        for path in paths:
            steps = path.stat().st_size * 8 // (self.camera.height * self.camera.width)
            yield Stream(path, 300 if steps >= 300 + STEPS else max(0, (steps - STEPS) // 2))


PAIRED = {"250": SpikeREDS, "1000": SpikeX4K}  # datasets with ground truth, by data mode


def hold_out(dataset):
    """(indices to train on, indices to validate on, a warning or None): the last twentieth of the scenes, whole,
    since their parts look alike.

    Streams of one scene are told by their names: all before _part1, _f4305, key and id; of other names, all but
    the last number.
    """
    scenes = {}
    for index, stream in enumerate(dataset.streams):
        # of 000_part1_key_id21, occ008.649_f4305
        scene, *more = re.split(r"_part\d|_f\d", stream.path.stem)
        scene = re.split(r"_?key_|_id\d|id21$", scene)[0]
        scenes.setdefault(scene if more else series_of(scene)[0], []).append(index)
    groups = list(scenes.values())
    if len(dataset) < 2:
        raise UserError(
            f"{dataset.streams[0].path}: the only stream, so none is left to validate on; add more, or --val_every 0"
        )
    held = [index for group in groups[-max(1, len(groups) // 20) :] for index in group]
    warning = None
    if len(held) > 0.75 * len(dataset) and len(groups) > 1:
        held = min(groups, key=len)
    elif len(groups) < 2:
        held = sorted(range(len(dataset)), key=lambda i: natural(dataset.streams[i].path.name))
        held = sorted(held[-max(1, len(dataset) // 20) :])
        if not is_of_simulate(dataset.path):  # whose names are numbers of scenes drawn at random
            first = dataset.streams[0].path.name
            warning = f"{dataset.folder}: names such as {first} differ only in their last number, so streams of one "
            warning += "scene may be held out and trained on; a folder val/ avoids that"
    return [index for index in range(len(dataset)) if index not in held], held, warning


def is_of_simulate(folder):
    """Whether simulate.py made a dataset."""
    try:
        return read_json(folder / "meta.json").get("made_by") == "simulate.py"
    except (OSError, ValueError, AttributeError):
        return False


def split_folder(path, split):
    """The folder of a split below a dataset. Raises UserError where dataset or split is missing."""
    if not path.is_dir():
        raise UserError(f"{path}: no such dataset folder; check --dataset_path. {NO_DATA}")
    for name in SPLITS[split]:
        if (path / name).is_dir():
            return path / name
    raise UserError(
        f"{path}: no folder {' or '.join(SPLITS[split])} in it; a dataset has train/, val/ or test/"
    )


def dat_files(folder):
    """The `.dat` files of a split, in any case: in its folder input or spike, the first that has any, or
    right in it."""
    for place in (*(folder / name for name in INPUT_FOLDERS), folder):
        found = sorted(path for path in visible(place.glob("*")) if path.suffix.lower() == ".dat")
        if found:
            return found
    return []


def id_of(stem, steps):
    """The key id that ends a stream's name, from 1, or None: 151 for `200_part1_key_id151`; 21 for `NAMEid21`
    of 41 steps.

    A name may end in digits by itself, as `pyramid60` does.
    """
    match = re.search(r"(?:^|_)id(\d+)$", stem) or (steps == STEPS and re.search(r"id(21)$", stem))
    return int(match.group(1)) if match else None


class Truth:
    """The pictures in the folder gt of a split, by their names without suffix; folder and suffixes in any
    case."""

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
        """The picture of that name; where there is none, the path that it should have."""
        return self.paths.get(stem, self.folder / f"{stem}.png")

    def of_id(self, path, key_id):
        """The picture of a 41-step stream at a key id: NAMEid7 or NAME_key_id7 of NAMEid21.dat or
        NAME.dat."""
        name = re.sub(r"(?<=_)id\d+$|id21$", "", path.stem)
        direct, spelled = (f"{name}{middle}id{key_id}" for middle in ("", "_key_"))
        return self.named(spelled if name == path.stem or spelled in self.paths else direct)


def has_truth(folder):
    """Whether a split has a folder of pictures."""
    return Truth(folder).folder.is_dir()


def read_picture(path, height, width):
    """A ground-truth picture as grey uint8 or uint16 (height, width). Raises UserError: unreadable, or of
    another size."""
    try:
        picture = read_levels(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; restore the picture") from None
    if picture is None:
        raise UserError(f"{path}: no readable picture; replace it by a whole one")
    if picture.shape != (height, width):
        found = "x".join(map(str, picture.shape))
        raise UserError(
            f"{path}: a picture of {found} where {height}x{width} is expected; check the file and --data_mode"
        )
    return picture
