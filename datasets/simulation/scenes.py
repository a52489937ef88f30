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
from datasets.simulation.camera import KINDS, draw_motion, margin
from datasets.simulation.sensor import CAMERA_LEVELS, IDEAL, SENSORS, draw_pattern, integrate_and_fire
from utils.cli import UserError
from utils.guard import read_grey, visible
from utils.timing import KEY_FRAMES, KEY_IDS, STEPS

PHOTO_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MEMORY = 2**30  # bytes of photographs that are kept
SMALLEST = 16  # pixels a side; OpenCV mirrors a picture that is one pixel wide for ever
TEXTURE = 30  # standard deviation of the Laplacian, in grey levels, from which a cut of a photograph is taken as it is
OBJECTS = (0.45, 0.35, 0.15, 0.05)  # chance of none, one, two and three objects in front
OUT_OF_FOCUS = 0.25  # chance of an object to be soft, picture and edge
SHADOW = 0.2  # chance of a shadow that falls on what is behind the objects
SCENE_DRAWS = 3  # first number of the seed of all that is drawn of scenes; orders and crops have others


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


STYLES = {
    "250": Style(),
    "1000": Style(median_speed=0.3, shrink=(0.35, 0.7)),
    "camera": Style(median_speed=0.2, spread=0.9),  # several steps taken as one move as many times faster
}


@dataclass(frozen=True)
class Layer:
    """A source picture that moves: float32 (h, w) grey levels, homographies by time, and the opaque part of it or None.

    A shadow has no picture of its own: by its mask it takes the part `shade` of the light behind it.
    """

    source: np.ndarray
    motion: object
    mask: np.ndarray | None = None
    shade: float = 0.0

    def frame(self, time, height, width, behind=None):
        """What the layer shows at a time, (height, width) float32 grey levels, with `behind` where it is not opaque."""
        see = partial(warp, homography=self.motion(time), height=height, width=width)
        if self.mask is not None:
            mask = see(self.mask, interpolation=cv2.INTER_LINEAR, border=cv2.BORDER_CONSTANT)
        if self.shade:
            return behind * (1 - self.shade * mask)
        frame = see(self.source, interpolation=cv2.INTER_CUBIC)  # bilinear sampling would blur
        return frame if self.mask is None else behind + mask * (frame - behind)


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

    def carry(self, texture, start, time):
        """A texture (H, W) that lies on the scene's background at a time `start`, where it is at `time`."""
        motion = self.layers[0].motion
        way = np.linalg.inv(motion(start)) @ motion(time)  # from places at `time` to places at `start`
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(texture, way, texture.shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)


class SourceFrames:
    """A scene as the video shows it that spike-REDS was made of. The facts are measurements on public streams (docs/design.md).

    The video has a frame every `sensor.frames_every` steps: at time 0, which is the picture of the stream, and so on before and
    after. A frame differs from the scene by grain, by a slow change of its light and by a small displacement. It is
    shown sharp one step late. The steps after it, up to the next frame, move smoothly, are softer, and have its grain.
    """

    def __init__(self, scene, sensor, rng):
        self.scene, self.sensor, self.rng, self.frames = scene, sensor, rng, {}
        self.late = rng.uniform(0, 0.9)  # of the content of a frame, in steps

    def light(self, time):
        """What the pixels see of a step, (H, W) float32 in 0..1."""
        every = self.sensor.frames_every
        index, since = divmod(time - 1, every)
        if since == 0:
            return self.shown(index, every * index + self.late)
        # The softness grows over the steps: the later ones are made of a frame from further away.
        softness = self.sensor.blur * min(1.0, (since + 2) / 8)
        return cv2.GaussianBlur(self.shown(index, time), None, softness) if softness else self.shown(index, time)

    def picture(self, time):
        """The truth at a step: the video's frame where there is one, else what is shown, sharp."""
        every = self.sensor.frames_every
        if time % every == 0:
            return self.shown(time // every, time + self.late)
        return self.shown((time - 1) // every, time)

    def shown(self, index, time):
        """The scene at a time, with what is frame `index`'s own."""
        light = self.scene.frame(time)
        if index not in self.frames:
            self.frames[index] = self.draw_own(*light.shape)
        grain, drift, displacement = self.frames[index]
        light = cv2.warpAffine(light, displacement, light.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        grain = self.scene.carry(grain, self.sensor.frames_every * index + self.late, time)
        return np.clip(light * drift + grain, 0, 1)

    def draw_own(self, height, width):
        """(grain (H, W), factor of the light (H, W), displacement 2x3) of a frame."""
        sensor, rng = self.sensor, self.rng
        grain = rng.standard_normal((height, width), np.float32) * (sensor.grain / 255)
        coarse = rng.standard_normal((3, 4), np.float32)
        drift = 1 + sensor.drift * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        corners = np.array([[0, 0], [width, 0], [0, height]], np.float32)
        moved = corners + sensor.displacement * rng.standard_normal((3, 2)).astype(np.float32)
        return grain, drift, cv2.getAffineTransform(corners, moved)


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


def draw_object(photo, height, width, style, rng, times, foliage=False, softness=0.0, shade=0.0, **fixed):
    """A `Layer` with a mask: a blob of the photograph, or `foliage`, the brighter or the darker part of all of it.

    softness: the Gaussian sigma in pixels of its picture and its edge, as of something out of focus. shade: see `Layer`.
    """
    layer = draw_layer(photo, height, width, style, rng, times, **fixed)
    if foliage:
        source, mask = layer.source, draw_foliage(layer.source, rng)
    else:
        source, mask = layer.source, np.zeros_like(layer.source)
        top, left = np.maximum(0, (np.array(mask.shape) - (height, width)) // 2)
        inner = mask[top : top + height, left : left + width]
        inner[...] = draw_blob(*inner.shape, rng)
    if softness:
        source, mask = (cv2.GaussianBlur(picture, None, softness) for picture in (source, mask))
    return Layer(source, layer.motion, mask, shade)


def draw_shadow(photo, height, width, style, rng, times):
    """A `Layer` that darkens what is behind it, slowly and with a soft edge."""
    slow = 0.3 * style.draw_speed(rng)
    softness, shade = np.exp(rng.uniform(np.log(0.7), np.log(12))), rng.uniform(0.2, 0.7)
    return draw_object(photo, height, width, style, rng, times, rng.random() < 0.3, softness, shade, speed=slow)


def draw_scene(read_photo, height, width, style, rng, reach=STEPS // 2):
    """A `PhotoScene` of steps -reach..reach. read_photo() gives the photographs for it, one after the other."""
    times = (-reach, -reach / 2, reach / 2, reach)
    options = height, width, style, rng, times
    layers = [draw_layer(read_photo(), *options)]
    if rng.random() < SHADOW:
        layers.append(draw_shadow(read_photo(), *options))
    for _ in range(rng.choice(len(OBJECTS), p=OBJECTS)):
        foliage = rng.random() < 0.3
        softness = np.exp(rng.uniform(np.log(1), np.log(8))) if rng.random() < OUT_OF_FOCUS else 0.0
        layers.append(draw_object(read_photo(), *options, foliage, softness))
    contrast = rng.uniform(0.7, 1.3) if rng.random() < 0.8 else rng.uniform(0.3, 0.7)
    black = rng.uniform(*sorted((0.0, 1 - contrast)))  # so that grey levels reach from the floor to the ceiling over all scenes
    return PhotoScene(layers, height, width, contrast, black)


def simulate(scene, rng, steps=STEPS, keep=KEY_FRAMES, sensor=IDEAL, pattern=None):
    """The arrays of a scene: `spikes` uint8 (steps, H, W), and a picture float32 (H, W) at each step of keep: name -> index.

    The scene's time 0 is the middle step. Pictures are the clean light at the sensor's exposure, in grey levels of which 255 is
    `sensor.rate` spikes a step; `white` is what the scene's white is of 255, for those who compare exposures.
    """
    names, pictures = {step: name for name, step in keep.items()}, {}
    shown = SourceFrames(scene, sensor, rng) if sensor.frames_every else None

    def light():
        for step in range(steps):
            time = step - steps // 2
            frame = shown.light(time) if shown else scene.frame(time)
            if step in names:
                pictures[names[step]] = 255 * sensor.exposure * (shown.picture(time) if shown else frame)
            yield cv2.GaussianBlur(frame, None, sensor.blur) if sensor.blur and not shown else frame

    return {"spikes": integrate_and_fire(light(), rng, sensor, pattern), "white": sensor.exposure, **pictures}


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

    stream_steps = STEPS  # of a sample, whose middle 41 are those of its pictures

    def __init__(self, split, height, width, length, seed=0, key_id=None, style=STYLES["250"], sensors=SENSORS["ideal"]):
        self.split, self.height, self.width, self.length, self.key_id = split, height, width, length, key_id
        self.style, self.sensors = style, sensors
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
        keep = {output: step + (self.stream_steps - STEPS) // 2 for output, step in keep.items()}
        rng = np.random.default_rng([SCENE_DRAWS, self.seed, ("train", "val", "test").index(self.split), epoch, index])
        sensor = self.sensors.draw(rng)
        if self.split != "train" and self.sensors is SENSORS["camera"]:
            sensor = CAMERA_LEVELS[index % len(CAMERA_LEVELS)]
        return {"name": f"scene_{epoch}_{index:05d}", **self.simulate(rng, self.stream_steps, keep, sensor)}

    def simulate(self, rng, steps, keep, sensor):
        """`simulate` on a scene and a sensor's fixed pattern that are drawn here."""
        scene = self.draw(rng, steps // 2)
        pattern = draw_pattern(sensor, self.height, self.width, rng)
        return simulate(scene, rng, steps, keep, sensor, pattern)


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
            photo = read_photo(self.sources[rng.integers(0, len(self.sources))])
            return np.rot90(photo, rng.integers(0, 4)) if self.split == "train" else photo

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
        return {"name": name, **simulate(PhotoScene(layers, 250, 400), rng, STEPS, keep, SENSORS["reds"].draw(rng))}

    def __getitem__(self, index):
        return to_item(self.read(index))


def demo_photo(name):
    photo = getattr(skimage.data, name)()
    return photo if photo.ndim == 2 else cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
