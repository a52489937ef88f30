"""Datasets of random scenes, simulated as spikes when they are read."""

import cv2
import numpy as np
import skimage.data
from torch.utils.data import Dataset

from swinsf.datasets.augment import to_item
from swinsf.datasets.simulation.kinds import CALIBRATED, Kind, draw_kind, fill_bad, fixed_kinds, measure
from swinsf.datasets.simulation.photos import read_photo, readable, split_photos
from swinsf.datasets.simulation.scenes import STYLES, PhotoScene, draw_layer, draw_object, draw_scene
from swinsf.datasets.simulation.sensor import SENSORS, draw_pattern, simulate
from swinsf.utils.timing import KEY_FRAMES, KEY_IDS, STEPS

SCENE_DRAWS = 4  # tag before the seed of all random numbers of scenes; orders and crops have other tags


class SceneDataset(Dataset):
    """Random scenes, simulated when read. Sample i of epoch e depends only on (seed, split, e, i).

    Training never repeats a scene; val and test have the same `length` scenes each time. A subclass sets
    `sources` and `description` and implements `draw(rng, reach)`.
    """

    stream_steps = STEPS  # number of steps in a sample; its pictures belong to the middle 41

    def __init__(
        self,
        split,
        height,
        width,
        length,
        seed=0,
        key_id=None,
        style=STYLES["250"],
        sensors=SENSORS["ideal"],
        calibrated=CALIBRATED,
    ):
        self.split, self.height, self.width, self.length, self.key_id = split, height, width, length, key_id
        self.style, self.sensors, self.calibrated = style, sensors, calibrated
        self.kinds = () if split == "train" else fixed_kinds(sensors)  # assigned to samples in rotation
        self.seed = seed if split == "train" else 0  # fixed scenes do not change with the run's seed

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return to_item(self.read(index))

    @property
    def source_sizes(self):
        """Name -> bytes of each photograph or video."""
        return {source.name: source.stat().st_size for source in self.sources}

    @property
    def files(self):
        """The paths of the photographs or videos."""
        return list(self.sources)

    warnings = ()
    folders = ()  # results may be written below the photographs' folder

    @property
    def names(self):
        """Names of the photographs or videos in training, of the scenes in val and test."""
        if self.split == "train":
            return [source.name for source in self.sources]
        return [f"scene_0_{index:05d}" for index in range(self.length)]

    @property
    def steps(self):
        """Scene name -> its scored step, counted from 1."""
        return dict.fromkeys(self.names, self.key_id or STEPS // 2 + 1)

    @property
    def shown_at(self):
        """Output -> the step of its picture in a sample's stream, counted from 0."""
        shown_at = KEY_FRAMES if self.key_id is None else {KEY_IDS[self.key_id]: self.key_id - 1}
        return {output: step + (self.stream_steps - STEPS) // 2 for output, step in shown_at.items()}

    def read(self, index, epoch=0):
        rng = np.random.default_rng(
            [SCENE_DRAWS, self.seed, ("train", "val", "test").index(self.split), epoch, index]
        )
        if self.kinds:
            kind = self.kinds[index % len(self.kinds)]
        elif self.split == "train":
            kind = draw_kind(self.sensors, rng, self.calibrated)
        else:
            kind = Kind(self.sensors.draw(rng))
        sample = {
            "name": f"scene_{epoch}_{index:05d}",
            **self.simulate(rng, self.stream_steps, self.shown_at, kind),
        }
        return {**sample, "kind": kind.name} if kind.name else sample

    def simulate(self, rng, steps, shown_at, kind):
        """Draw a scene and the sensor's fixed pattern, and `simulate` them.

        If the sensor has a pattern, the sample has its calibration too: `dark` and `response` (H, W) float32,
        which are 0 and 1 if the kind has none.
        """
        scene = self.draw(rng, steps // 2 + kind.sensor.before)
        pattern = draw_pattern(kind.sensor, self.height, self.width, rng)
        sample = simulate(scene, rng, steps, shown_at, kind.sensor, pattern, flat=kind.calibration > 0)
        if pattern:
            shape = self.height, self.width
            dark, response = np.zeros(shape, np.float32), np.ones(shape, np.float32)
            if kind.calibration:
                dark, response = measure(kind, pattern, rng)
                fill_bad(sample["spikes"], dark, response, kind.bin)
            sample.update(dark=dark, response=response)
        return sample


class PhotoScenes(SceneDataset):
    """Scenes over a folder of photographs."""

    def __init__(self, folder, split, *size, **options):
        super().__init__(split, *size, **options)
        # Read all photographs now: bad files show before work starts, and forked workers share the memory.
        parts, warning = split_photos(folder)
        self.sources, skipped = readable(
            parts[split], lambda path: read_photo(path) is not None, "photograph"
        )
        self.warnings = [warning] if warning else []
        self.description = f"{split}: scenes of {self.height}x{self.width} over {len(self.sources)} photographs of {folder}{skipped}"

    def draw(self, rng, reach):
        def next_photo():
            photo = read_photo(self.sources[rng.integers(0, len(self.sources))])
            return np.rot90(photo, rng.integers(0, 4)) if self.split == "train" else photo

        return draw_scene(next_photo, self.height, self.width, self.style, rng, reach)


class DemoScenes(SceneDataset):
    """Five fixed 250x400 scenes over photographs from scikit-image's wheel, which need no download."""

    SCENES = (  # name, background and foreground photographs, motion, pixels per step, seed
        ("demo_camera_translation", "camera", None, "translation", 0.2, 6),
        ("demo_astronaut_rotation", "astronaut", None, "rotation", 0.15, 11),
        ("demo_rocket_zoom", "rocket", None, "zoom", 0.1, 2),
        ("demo_coffee_object", "coffee", "chelsea", "translation", 0.4, 3),
        ("demo_brick_slow", "brick", None, "translation", 0.05, 4),
    )
    sources = ()
    names = tuple(scene[0] for scene in SCENES)
    description = "demo: five scenes simulated over scikit-image's photographs"

    def __init__(self, key_id=None):
        super().__init__("test", 250, 400, len(self.SCENES), key_id=key_id, sensors=SENSORS["reds"])

    def read(self, index, epoch=0):
        name, background, foreground, kind, speed, seed = self.SCENES[index]
        rng = np.random.default_rng(seed)
        fixed = {"kind": kind, "speed": speed, "shrink": 0.85}
        options = (self.height, self.width, self.style, rng, (-20, 20))
        layers = [draw_layer(demo_photo(background), *options, **fixed)]
        if foreground:
            layers.append(draw_object(demo_photo(foreground), *options, **fixed))
        scene = PhotoScene(layers, self.height, self.width)
        return {"name": name, **simulate(scene, rng, STEPS, self.shown_at, self.sensors.draw(rng))}


def demo_photo(name):
    photo = getattr(skimage.data, name)()
    return photo if photo.ndim == 2 else cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
