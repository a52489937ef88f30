"""Moving scenes over still photographs, and the datasets that turn scenes into spikes while they are read."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from torch.utils.data import Dataset
from tqdm import tqdm

from datasets.augment import to_item
from datasets.motion import KINDS, draw_motion, margin
from datasets.simulator import SENSORS, draw_pattern, integrate_and_fire
from utils.cli import UserError
from utils.files import read_grey, visible
from utils.protocol import KEY_FRAMES, KEY_IDS, STEPS

PHOTO_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MEMORY = 2**30  # bytes of photographs that are kept
SMALLEST = 16  # pixels a side; OpenCV mirrors a picture that is one pixel wide for ever
TEXTURE = 30  # standard deviation of the Laplacian, in grey levels, from which a cut of a photograph is taken as it is
OBJECTS = (0.45, 0.35, 0.15, 0.05)  # chance of none, one, two and three objects in front


@dataclass(frozen=True)
class Style:
    """What scenes are like. Speeds are log-normal: in mean over a layer's pixels, in pixels a step."""

    median_speed: float = 0.15  # with the spread, six in seven layers move by 0.05 to 0.4 pixels a step
    spread: float = 0.7
    shrink: tuple = (0.35, 0.9)  # photographs shrunk by this are as sharp as spike-REDS

    def draw_speed(self, rng):
        """Pixels a step, up to 1; one layer in twenty stands still."""
        speed = self.median_speed * np.exp(self.spread * rng.standard_normal())
        return 0.0 if rng.random() < 0.05 else min(speed, 1.0)


STYLES = {"250": Style(), "1000": Style(median_speed=0.3, shrink=(0.35, 0.7))}  # by data mode


@dataclass(frozen=True)
class Layer:
    """A source picture that moves: float32 (h, w) grey levels, homographies by time, and the opaque part of it or None."""

    source: np.ndarray
    motion: object
    mask: np.ndarray | None = None

    def frame(self, time, height, width, behind=None):
        """What the layer shows at a time, (height, width) float32 grey levels, with `behind` where it is not opaque."""
        see = partial(warp, homography=self.motion(time), height=height, width=width)
        frame = see(self.source, interpolation=cv2.INTER_CUBIC)  # bilinear sampling would blur
        if self.mask is None:
            return frame
        return behind + see(self.mask, interpolation=cv2.INTER_LINEAR, border=cv2.BORDER_CONSTANT) * (frame - behind)


@dataclass(frozen=True)
class PhotoScene:
    """Layers from back to front under one light: grey levels are scaled by `contrast` and raised by `black`."""

    layers: list
    height: int
    width: int
    contrast: float = 1.0
    black: float = 0.0  # in 0..1

    def frame(self, time):
        """Light (H, W) float32 in 0..1 at a time in steps from the key frame."""
        frame = None
        for layer in self.layers:
            frame = layer.frame(time, self.height, self.width, frame)
        return np.clip(frame * (self.contrast / 255) + self.black, 0, 1, dtype=np.float32)


def warp(source, homography, height, width, interpolation, border=cv2.BORDER_REFLECT_101):
    """The height x width picture that a homography of `draw_motion` sees of a source; beyond its edge it is mirrored."""
    middle = np.array([[1, 0, (source.shape[1] - 1) / 2], [0, 1, (source.shape[0] - 1) / 2], [0, 0, 1]])
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(source, middle @ homography, (width, height), flags=flags, borderMode=border)


def cut(photo, height, width, shrink, rng):
    """A float32 cut of about height x width, shrunk by area averaging, where the photograph has texture.

    Smaller where the photograph is: it is never enlarged.
    """
    need = np.array([height, width])
    shrink = min(1.0, max(shrink, *(need / photo.shape)))
    size = np.minimum(np.ceil(need / shrink).astype(int), photo.shape)
    best, best_texture = None, -1.0
    for _ in range(6):  # a third of a photograph is sky or blur; take the first cut that is neither
        top, left = rng.integers(0, np.array(photo.shape) - size + 1)
        candidate = photo[top : top + size[0], left : left + size[1]]
        if shrink < 1:
            candidate = cv2.resize(candidate, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        texture = cv2.Laplacian(candidate, cv2.CV_32F).std()
        if texture > best_texture:
            best, best_texture = candidate, texture
        if texture > TEXTURE:
            break
    return best.astype(np.float32)


def draw_blob(height, width, rng):
    """A smooth closed shape, 1 inside and 0 outside, float32, its area about a tenth of height x width."""
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = np.ones_like(angle)
    for wave in range(1, 5):
        radius += rng.uniform(0, 0.4 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    radius *= rng.uniform(0.12, 0.3) * min(height, width)
    centre = rng.uniform(0.25, 0.75, 2) * (width, height)
    points = centre + radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def draw_foliage(source, rng):
    """The brighter or the darker part of a source, 1 inside and 0 outside, float32: ragged, with holes, as leaves are."""
    smooth = cv2.GaussianBlur(source, None, rng.uniform(0.7, 3))
    sign = rng.choice((-1, 1))
    return np.clip(sign * (smooth - np.quantile(smooth, rng.uniform(0.3, 0.7))) / 8 + 0.5, 0, 1)


def draw_layer(photo, height, width, style, rng, times, kind=None, speed=None, shrink=None):
    """A `Layer` without mask: a cut of the photograph that is large enough for where its motion looks at the times."""
    speed = style.draw_speed(rng) if speed is None else speed
    bend = 0 if kind else rng.uniform(-0.3, 0.3)
    motion = draw_motion(height, width, speed, rng, KINDS[kind] if kind else None, bend, reach=max(times))
    rows, columns = margin(motion, height, width, times)
    shrink = rng.uniform(*style.shrink) if shrink is None else shrink
    return Layer(cut(photo, height + rows + 4, width + columns + 4, shrink, rng), motion)


def draw_object(photo, height, width, style, rng, times, foliage=False, **fixed):
    """A `Layer` with a mask: a blob of the photograph, or `foliage`, the brighter or the darker part of all of it."""
    layer = draw_layer(photo, height, width, style, rng, times, **fixed)
    if foliage:
        return Layer(layer.source, layer.motion, draw_foliage(layer.source, rng))
    mask = np.zeros_like(layer.source)
    top, left = np.maximum(0, (np.array(mask.shape) - (height, width)) // 2)
    inner = mask[top : top + height, left : left + width]
    inner[...] = draw_blob(*inner.shape, rng)
    return Layer(layer.source, layer.motion, mask)


def draw_scene(read_photo, height, width, style, rng, reach=STEPS // 2):
    """A `PhotoScene` of steps -reach..reach. read_photo() gives the photographs for it, one after the other."""
    times = (-reach, -reach / 2, reach / 2, reach)
    layers = [draw_layer(read_photo(), height, width, style, rng, times)]
    for _ in range(rng.choice(len(OBJECTS), p=OBJECTS)):
        layers.append(draw_object(read_photo(), height, width, style, rng, times, foliage=rng.random() < 0.3))
    contrast = rng.uniform(0.7, 1.3) if rng.random() < 0.8 else rng.uniform(0.3, 0.7)
    black = rng.uniform(*sorted((0.0, 1 - contrast)))  # so that grey levels reach from the floor to the ceiling over all scenes
    return PhotoScene(layers, height, width, contrast, black)


def simulate(scene, rng, steps=STEPS, keep=KEY_FRAMES, sensor=SENSORS["ideal"], pattern=None):
    """The uint8 arrays of a scene: `spikes` (steps, H, W), and a picture (H, W) at each step of keep: name -> index.

    The scene's time 0 is the middle step.
    """
    names, pictures = {step: name for name, step in keep.items()}, {}

    def light():
        for step in range(steps):
            frame = scene.frame(step - steps // 2)
            if step in names:
                pictures[names[step]] = np.round(255 * frame).astype(np.uint8)
            yield cv2.GaussianBlur(frame, None, sensor.blur) if sensor.blur else frame

    return {"spikes": integrate_and_fire(light(), rng, sensor, pattern), **pictures}


class PhotoCache:
    """Photographs that were read, as long as they take no more than `most` bytes in all; others are read anew each time."""

    def __init__(self, most):
        self.most, self.held, self.bytes, self.lock = most, {}, 0, threading.Lock()

    def clear(self):
        self.held, self.bytes = {}, 0

    def __call__(self, path):
        """A photograph as grey uint8 (h, w), or None where it is unreadable or a side of it is below SMALLEST."""
        if path in self.held:
            return self.held[path]
        photo = read_photo_file(path)
        size = 0 if photo is None else photo.nbytes
        with self.lock:
            if path not in self.held and self.bytes + size <= self.most:
                self.held[path], self.bytes = photo, self.bytes + size
        return photo


read_photo = PhotoCache(MEMORY)


def read_photo_file(path):
    try:
        photo = read_grey(path)
    except OSError:
        return None
    return photo if photo is not None and min(photo.shape) >= SMALLEST else None


def split_photos(folder):
    """{"train", "val", "test"} -> sorted lists of photographs in a folder; no photograph is in two of them.

    The split goes by a hash of the file names, so the same files are split alike everywhere: a tenth, at least one, for val
    and for test each.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of photographs; check the path after photos:")
    paths = [path for path in visible(folder.iterdir()) if path.suffix.lower() in PHOTO_SUFFIXES]
    if len(paths) < 3:
        raise UserError(f"{folder}: {len(paths)} photographs; at least 3 are needed (one each for train, val and test)")
    return split_by_hash(paths)


def split_by_hash(paths):
    paths = sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path.name)).digest())
    tenth = max(1, len(paths) // 10)
    parts = {"test": paths[:tenth], "val": paths[tenth : 2 * tenth], "train": paths[2 * tenth :]}
    return {split: sorted(part) for split, part in parts.items()}


def readable(paths, is_readable, label):
    """(the paths that can be read, text on those that cannot). Raises UserError where none can."""
    with ThreadPoolExecutor() as pool:  # a bar only where there is something to wait for
        good = list(tqdm(pool.map(is_readable, paths), f"checking {label}s", len(paths), unit=label, leave=False, delay=2))
    kept, bad = ([path for path, fine in zip(paths, good) if fine is want] for want in (True, False))
    names = ", ".join(path.name for path in bad)
    if not kept:
        raise UserError(f"{paths[0].parent}: no readable {label} among {names}; replace them by whole ones")
    return kept, f"; {len(bad)} unreadable skipped: {names}" if bad else ""


class SceneDataset(Dataset):
    """Scenes that are drawn and turned into spikes as they are read: sample i of epoch e comes from (seed, split, e, i) alone.

    Training never repeats a scene; val and test have the same `length` scenes each time. A subclass sets `sources` and
    `description` and implements `draw(rng, reach)`.
    """

    def __init__(self, split, height, width, length, seed=0, key_id=None, style=STYLES["250"], sensor=SENSORS["ideal"]):
        self.split, self.height, self.width, self.length, self.key_id = split, height, width, length, key_id
        self.style, self.sensor = style, sensor
        self.seed = seed if split == "train" else 0  # fixed scenes do not change with the run's seed

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return to_item(self.read(index))

    @property
    def files(self):
        """The paths of the photographs or videos."""
        return list(self.sources)

    warnings = ()
    folders = ()  # results may lie below the photographs' one

    @property
    def names(self):
        """What the samples are made of, in order: the photographs or videos in training, else the scenes."""
        if self.split == "train":
            return [source.name for source in self.sources]
        return [f"scene_0_{index:05d}" for index in range(self.length)]

    @property
    def steps(self):
        """Name -> the step of a scene that is scored, counted from 1."""
        return dict.fromkeys(self.names, self.key_id or STEPS // 2 + 1)

    def read(self, index, epoch=0):
        keep = KEY_FRAMES if self.key_id is None else {KEY_IDS[self.key_id]: self.key_id - 1}
        rng = np.random.default_rng([self.seed, ("train", "val", "test").index(self.split), epoch, index])
        return {"name": f"scene_{epoch}_{index:05d}", **self.simulate(rng, STEPS, keep)}

    def simulate(self, rng, steps, keep, pattern=None):
        """`simulate` on a scene that is drawn here; where the sensor's fixed pattern is not given, it is drawn too."""
        scene = self.draw(rng, steps // 2)
        pattern = pattern or draw_pattern(self.sensor, self.height, self.width, rng)
        return simulate(scene, rng, steps, keep, self.sensor, pattern)


class PhotoScenes(SceneDataset):
    """Scenes over a folder of photographs."""

    def __init__(self, folder, split, *size, **options):
        super().__init__(split, *size, **options)
        # Read here, so that a bad file is found before the work starts, and workers that are forked share the photographs.
        self.sources, skipped = readable(split_photos(folder)[split], lambda path: read_photo(path) is not None, "photograph")
        self.description = (
            f"{split}: scenes of {self.height}x{self.width} over {len(self.sources)} photographs of {folder}{skipped}"
        )

    def draw(self, rng, reach):
        def next_photo():
            return read_photo(self.sources[rng.integers(0, len(self.sources))])

        return draw_scene(next_photo, self.height, self.width, self.style, rng, reach)


class DemoScenes(Dataset):
    """Five fixed 250x400 scenes over the photographs inside scikit-image's wheel; no download, the same at every call."""

    SCENES = (  # name, photographs behind and in front, motion, pixels a step, seed
        ("demo_camera_translation", "camera", None, "translation", 0.2, 6),
        ("demo_astronaut_rotation", "astronaut", None, "rotation", 0.15, 11),
        ("demo_rocket_zoom", "rocket", None, "zoom", 0.1, 2),
        ("demo_coffee_object", "coffee", "chelsea", "translation", 0.4, 3),
        ("demo_brick_slow", "brick", None, "translation", 0.05, 4),
    )
    warnings = ()
    description = "demo: five scenes simulated over scikit-image's photographs"

    def __init__(self, key_id=None):
        self.key_id = key_id
        self.names, self.files, self.folders = [scene[0] for scene in self.SCENES], [], []
        self.steps = dict.fromkeys(self.names, key_id or STEPS // 2 + 1)

    def __len__(self):
        return len(self.SCENES)

    def read(self, index, epoch=0):
        name, background, foreground, kind, speed, seed = self.SCENES[index]
        rng = np.random.default_rng(seed)
        fixed = {"kind": kind, "speed": speed, "shrink": 0.85}
        options = (250, 400, STYLES["250"], rng, (-20, 20))
        layers = [draw_layer(demo_photo(background), *options, **fixed)]
        if foreground:
            layers.append(draw_object(demo_photo(foreground), *options, **fixed))
        keep = KEY_FRAMES if self.key_id is None else {KEY_IDS[self.key_id]: self.key_id - 1}
        return {"name": name, **simulate(PhotoScene(layers, 250, 400), rng, STEPS, keep, SENSORS["reds"])}

    def __getitem__(self, index):
        return to_item(self.read(index))


def demo_photo(name):
    photo = getattr(skimage.data, name)()
    return photo if photo.ndim == 2 else cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
