"""Spike streams on disk: one base class reads and checks; subclasses only say which files belong together."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from swinsf.datasets import rates
from swinsf.datasets.augment import to_item
from swinsf.datasets.dat import camera_of, count_steps, look_at, read_steps
from swinsf.datasets.layout import Truth, dat_files, id_of, read_picture, split_folder
from swinsf.datasets.likeness import correlation
from swinsf.datasets.picture_files import WHITES, to_eight_bits
from swinsf.datasets.size import guess_camera
from swinsf.utils.cli import UserError, plural
from swinsf.utils.timing import KEY_FRAMES, KEY_IDS, RATE, STEPS

LOOKED_AT = 8  # number of streams, evenly spread over a dataset, whose contents are examined
PICTURE_IDS = (7, 14, 21, 28, 35)  # ids of the pictures that streams of 41 steps may have, counted from 1
UPSIDE_DOWN = 0.2  # streams look upside down if flipping raises their correlation with pictures by this


@dataclass(frozen=True)
class Stream:
    """A `.dat` file, the first of the 41 steps to use, and its ground-truth pictures (output -> path).

    window: the name of one window, if the file has several.
    """

    path: Path
    start: int
    pictures: dict = field(default_factory=dict)
    window: str = ""

    @property
    def name(self):
        return self.window or self.path.stem


class SpikeDataset(Dataset):
    """Streams of one size below `path`.

    Checks all files when opened, so that a bad one does not surface hours later. Raises UserError for files
    that are missing or do not fit. `warnings`: lines about suspicious contents.

    flip: whether steps are stored upside down (default: as usual in the dataset). rate: spikes per step at
    white (default: see `rates.choose`). A subclass sets `height`, `width`, `flip` and `label`, and implements
    `find(folder)`.
    """

    white = 255  # the pictures' value for white
    rates_known = RATE, RATE  # smallest and largest known rate at white in this dataset
    fill = None  # a `repair.Filler` for the camera's bad pixels
    # `dark` and `response` of a calibrated camera, (H, W) each; replaced, never mutated
    maps = {}  # noqa: RUF012

    def __init__(self, path, split="test", key_id=None, flip=None, rate=None):
        self.path, self.split, self.key_id, self.warnings = Path(path), split, key_id, []
        self.folder = folder = split_folder(Path(path), split)
        self.camera = camera_of(self.height, self.width, self.flip)
        self.streams = sorted(self.find(folder), key=lambda stream: stream.path.name)
        if not self.streams:
            raise UserError(f"{folder}: no .dat file there; put the spike streams into it, or check the path")
        self.height, self.width = self.camera.height, self.camera.columns
        self.flip = self.camera.flip if flip is None else flip
        self.camera = self.camera._replace(flip=self.flip)
        self.check()
        self.look(rate)
        truth = "with ground truth" if self.streams[0].pictures else "without ground truth"
        if split == "train" and len(self.streams[0].pictures) == 1:
            truth += " for the middle picture only"
        about = f"{plural(len(self), 'stream')} of {self.camera}, {truth}{rates.describe(self.rates)}"
        self.description = f"{folder}: {self.label}, {about}"

    def __len__(self):
        return len(self.streams)

    def __getitem__(self, index):
        return to_item(self.read(index))

    @property
    def files(self):
        """All streams and pictures, and the other entries (maybe links) of the split's folders."""
        read = [path for stream in self.streams for path in (stream.path, *stream.pictures.values())]
        return [*read, *(self.folder.glob("*/*"))]

    @property
    def folders(self):
        """The dataset's folders. No results may be written there."""
        return [self.path, *{path.parent for path in self.files}]

    @property
    def names(self):
        """The streams' names, in order."""
        return [stream.name for stream in self.streams]

    @property
    def steps(self):
        """Stream name -> its scored step, counted from 1 as in file names."""
        outputs = [
            "middle" if "middle" in s.pictures or not s.pictures else next(iter(s.pictures))
            for s in self.streams
        ]
        return {s.name: s.start + KEY_FRAMES[output] + 1 for s, output in zip(self.streams, outputs)}

    def read(self, index, epoch=0):
        """Sample `index`: `name`, `rate`, and uint8 arrays `spikes` (41, H, W) and each picture (H, W).

        `rate` is in spikes per step at white. `epoch` has no effect.
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
        """Read a picture as grey uint8 (H, W). 16-bit ones are scaled by the dataset's common white."""
        picture = read_picture(path, self.height, self.width)
        return to_eight_bits(picture, 255 if picture.dtype == np.uint8 else self.white)

    def subset(self, indices):
        """A copy of the dataset with only these streams."""
        part = copy.copy(self)
        part.streams = [self.streams[i] for i in indices]
        return part

    def check(self):
        height, width, *_ = self.camera
        for stream in self.streams:
            if not stream.path.name.isprintable():  # names are shown in outputs, tables and logs
                raise UserError(f"{stream.path}: its name has unprintable characters; rename the stream")
            steps = count_steps(stream.path, height, width)
            need = stream.start + STEPS
            if stream.start < 0:
                raise UserError(
                    f"{stream.path}: too few steps before the id in its name; correct it, or see --key_id"
                )
            if steps < need:
                raise UserError(
                    f"{stream.path}: too short, {steps} steps of {height}x{width}; needs steps "
                    f"{stream.start + 1} to {need}; record more, or check --data_mode and --key_id"
                )
            if self.split == "train" and stream.pictures.keys() != self.streams[0].pictures.keys():
                few, many = sorted((self.streams[0], stream), key=lambda stream: len(stream.pictures))
                raise UserError(
                    f"{few.path}: has one picture, but {many.path.name} has ids "
                    f"{', '.join(map(str, KEY_IDS))}; add the missing ones, or leave one picture per stream"
                )
        paths = [path for stream in self.streams for path in stream.pictures.values()]
        pool = ThreadPoolExecutor()
        try:
            checks = pool.map(self.deepest, paths)
            # the bar shows only after two seconds
            most = max(
                tqdm(checks, "checking pictures", len(paths), unit="picture", leave=False, delay=2), default=0
            )
        finally:
            pool.shutdown(cancel_futures=True)  # stop at the first bad picture
        self.white = next(white for white in WHITES if most <= white)
        if most and self.white < WHITES[-1]:
            self.warnings.append(
                f"{paths[0].parent}: 16-bit pictures, values up to {most}; assuming {self.white} is white"
            )

    def deepest(self, path):
        """The largest value of a 16-bit picture, or 0 for an 8-bit one."""
        picture = read_picture(path, self.height, self.width)
        return 0 if picture.dtype == np.uint8 else max(1, int(picture.max()))

    def look(self, rate):
        """Check a few streams' bit order, size, orientation relative to their pictures, and rate at white."""
        last, most = len(self.streams) - 1, min(LOOKED_AT, len(self.streams))
        shown = [self.streams[i * last // max(1, most - 1)] for i in range(most)]
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
        if gains and np.median(gains) > UPSIDE_DOWN:
            stored = "upside down" if self.flip else "upright"
            self.warnings.append(
                f"{shown[0].path.parent}: streams are read as stored {stored}, but fit their pictures far "
                f"better the other way; use --flip {not self.flip}"
            )


class SpikeREDS(SpikeDataset):
    """Train: NAMEid21.dat with NAMEid14.png, ...id21, ...id28. Test: NAME.dat with NAME.png.

    A test picture shows the step given by the id in its name, or step 151. Training streams may have
    NAME.png alone, as in Spike-Zoo's layout, if all of them do.
    """

    height, width, flip, label = 250, 400, True, "spike-REDS"
    test_key_id = 151

    def find(self, folder):
        truth = Truth(folder)
        for path in dat_files(folder):
            pictures = {output: truth.of_id(path, key_id) for key_id, output in KEY_IDS.items()}
            available = [output for output, picture in pictures.items() if picture.is_file()]
            same = truth.named(path.stem)
            if self.split != "train" and not same.is_file() and (windows := self.windows(path, truth)):
                yield from windows
                continue
            alone = not available or (same.is_file() and len(available) == 1)
            start = 0
            if alone and (self.split != "train" or same.is_file()):
                # A stream with one picture: place the window so that the chosen output falls on its step.
                outputs = [KEY_IDS[self.key_id or 21]]
                pictures = {outputs[0]: same}
                start = self.scored_step(path) - 1 - KEY_FRAMES[outputs[0]]
            elif self.split == "train":
                outputs = list(pictures)
            elif self.key_id is not None:
                outputs = [KEY_IDS[self.key_id]]
            else:
                outputs = available if len(available) == 1 else ["middle"]
            for output in outputs:
                if not pictures[output].is_file():
                    raise UserError(
                        f"{path}: its picture {pictures[output]} is missing; add it, or remove the stream "
                        "(see --key_id)"
                    )
            yield Stream(path, start, {output: pictures[output] for output in outputs})

    def windows(self, path, truth):
        """A `Stream` for each picture NAME_key_idK.png of a long stream NAME.dat (`simulate.py --long`).

        Leaves out pictures without 41 steps around them.
        """
        steps = path.stat().st_size * 8 // (self.height * self.width)
        if steps <= STEPS:
            return []
        output = KEY_IDS[self.key_id or 21]
        found = {id_of(stem, steps): stem for stem in truth.paths if stem.startswith(f"{path.stem}_key_id")}
        if found.keys() <= set(PICTURE_IDS):  # pictures of the first 41 steps of a longer stream
            return []
        return [
            Stream(path, key_id - 1 - KEY_FRAMES[output], {output: truth.named(stem)}, stem)
            for key_id, stem in sorted(found.items())
            if 0 <= key_id - 1 - KEY_FRAMES[output] <= steps - STEPS
        ]

    def scored_step(self, path):
        """The step of a stream's only picture, counted from 1.

        That is the id in the name, else 151, or the middle of a stream too short for that.
        """
        steps = path.stat().st_size * 8 // (self.height * self.width)
        usual = self.test_key_id if steps >= self.test_key_id + STEPS // 2 else steps // 2 + 1
        return id_of(path.stem, steps) or usual


class SpikeX4K(SpikeREDS):
    """NAMEid21.dat or NAME.dat with NAME_key_id14.png, ...id21, ...id28, for training and testing."""

    height, width, flip, label = 1000, 1000, False, "spike-X4K"
    test_key_id = 21
    rates_known = RATE, 0.65  # the TFP and TFI pictures in the SwinSF paper show more than 0.6


class ClassA(SpikeDataset):
    """recVidarReal2019 and other recordings without ground truth.

    Uses steps 301 to 341 of each, or the middle 41 of a shorter recording. Steps are 250x400 unless the
    contents show another known size (see `guess_camera`).
    """

    height, width, flip, label = 250, 400, True, "classA"

    def find(self, folder):
        paths = dat_files(folder)
        found, unknown = {}, []
        for path in tqdm(paths, "looking at streams", unit="stream", leave=False, delay=2):
            try:
                found[path] = guess_camera(path)[0]
            except UserError:
                unknown.append(path)
        cameras = list(dict.fromkeys(found.values()))
        if len(cameras) > 1:
            one, other = (next(path for path in found if found[path] == camera) for camera in cameras[:2])
            raise UserError(
                f"{other}: steps of {cameras[1]}, but {one.name} has {cameras[0]}; a dataset has one size, "
                "so split it"
            )
        if cameras:
            self.camera = cameras[0]
        for path in unknown:
            count_steps(path, self.camera.height, self.camera.width)
            self.warnings.append(f"{path}: its contents do not show its size; assuming {self.camera}")
        for path in paths:
            steps = path.stat().st_size * 8 // (self.camera.height * self.camera.width)
            yield Stream(path, 300 if steps >= 300 + STEPS else max(0, (steps - STEPS) // 2))


PAIRED = {"250": SpikeREDS, "1000": SpikeX4K}  # datasets with ground truth, by data mode
