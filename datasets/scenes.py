"""Moving scenes from still photographs, turned into spikes: endless training data, and the embedded demo dataset."""

import hashlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from torch.utils.data import Dataset

from datasets.augment import to_item
from datasets.simulator import integrate_and_fire
from utils.cli import UserError
from utils.protocol import KEY_FRAMES, KEY_IDS, STEPS

SPEED = (0.05, 0.4)  # mean motion of a scene, pixels a step; the public spike-REDS streams have 0.1 to 0.2
SHRINK = (0.35, 1.0)  # photographs shrunk by this are as sharp as spike-REDS
KINDS = {"translation": (1, 0, 0), "rotation": (0, 1, 0), "zoom": (0, 0, 1)}  # weights of the three motions
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def draw_motion(height, width, speed, rng, weights=None):
    """A smooth motion: function of the time in steps -> 2x3 float64 matrix from picture to source coordinates.

    Translation, rotation and zoom about the centre, mixed by `weights` (drawn where None), scaled so that the pixels of a
    height x width picture move by `speed` pixels a step in the mean. The origin of the source lies in its middle.
    """
    move, turn, zoom = weights if weights is not None else rng.standard_normal(3)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.mgrid[0:16, 0:16] + 0.5) / 16 - 0.5
    y, x = y * height, x * width  # the middles of 16 x 16 cells
    radius = np.hypot(height, width) / 4  # so that equal weights move the pixels by about as much
    velocity = move * np.array([np.cos(angle), np.sin(angle)])
    turn, zoom = turn / radius, zoom / radius
    mean = np.hypot(velocity[0] + zoom * x - turn * y, velocity[1] + turn * x + zoom * y).mean()
    velocity, turn, zoom = velocity * speed / mean, turn * speed / mean, zoom * speed / mean

    def matrix(time):
        scale, cos, sin = np.exp(zoom * time), np.cos(turn * time), np.sin(turn * time)
        linear = scale * np.array([[cos, -sin], [sin, cos]])
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        return np.column_stack([linear, velocity * time - linear @ centre])

    return matrix


def warp(source, matrix, height, width, interpolation=cv2.INTER_CUBIC):
    """The height x width picture that a motion matrix sees of a source; beyond its edge the source is mirrored."""
    matrix = matrix + np.array([[0, 0, (source.shape[1] - 1) / 2], [0, 0, (source.shape[0] - 1) / 2]])
    return cv2.warpAffine(
        source, matrix, (width, height), flags=interpolation | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
    )


def cut(photo, height, width, shrink, rng):
    """A float32 cut of about height x width with a margin for motion, shrunk by area averaging, where the photo has texture."""
    margin = 2 * int(SPEED[1] * STEPS)
    need = np.array([height + margin, width + margin])
    shrink = min(1.0, max(shrink, *(need / photo.shape)))
    size = np.minimum(np.ceil(need / shrink).astype(int), photo.shape)
    best, best_texture = None, -1.0
    for _ in range(4):  # a third of a photograph is sky or blur; take the first cut that is neither
        top, left = rng.integers(0, np.array(photo.shape) - size + 1)
        candidate = photo[top : top + size[0], left : left + size[1]]
        if shrink < 1:
            candidate = cv2.resize(candidate, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        texture = cv2.Laplacian(candidate, cv2.CV_32F).std()
        if texture > best_texture:
            best, best_texture = candidate, texture
        if texture > 20:
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


def render(background, foreground, height, width, rng, kind=None, speed=None, shrink=None, gain=None):
    """Light (41, height, width) float32 in 0..1 of a scene that moves over a photograph.

    background, foreground: uint8 photographs; with a foreground, a blob cut from it moves in front on its own. Motion, speed,
    scale and brightness are drawn where they are None.
    """

    def motion():
        return draw_motion(height, width, speed or rng.uniform(*SPEED), rng, KINDS[kind] if kind else None)

    back, back_motion = cut(background, height, width, shrink or rng.uniform(*SHRINK), rng), motion()
    if foreground is not None:
        front, front_motion = cut(foreground, height, width, shrink or rng.uniform(*SHRINK), rng), motion()
        blob = np.zeros_like(front)
        top, left = (np.array(front.shape) - (height, width)) // 2
        blob[max(top, 0) :, max(left, 0) :][:height, :width] = draw_blob(*np.minimum(front.shape, (height, width)), rng)
    gain = (gain or rng.uniform(0.6, 1.2)) / 255
    light = np.empty((STEPS, height, width), np.float32)
    for step in range(STEPS):
        time = step - (STEPS - 1) / 2
        frame = warp(back, back_motion(time), height, width)
        if foreground is not None:
            matrix = front_motion(time)
            opaque = warp(blob, matrix, height, width, cv2.INTER_LINEAR)
            frame += opaque * (warp(front, matrix, height, width) - frame)
        np.clip(frame * gain, 0, 1, out=light[step])
    return light


def simulate(light, rng, name, key_id=None):
    """The sample dict of uint8 arrays of a scene: its spikes, and the pictures at the key frames, or at key_id's alone."""
    outputs = [KEY_IDS[key_id]] if key_id else list(KEY_FRAMES)
    pictures = {output: np.round(255 * light[KEY_FRAMES[output]]).astype(np.uint8) for output in outputs}
    return {"name": name, "spikes": integrate_and_fire(light, rng), **pictures}


@lru_cache(maxsize=256)
def read_photo(path):
    photo = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if photo is None:
        raise UserError(f"{path}: no readable photograph; remove the file or replace it by a whole one")
    return photo


def split_photos(folder):
    """{"train", "val", "test"} -> sorted lists of photographs in a folder; no photograph is in two of them.

    The split goes by a hash of the file names, so the same files are split alike everywhere: a tenth, at least one, for val
    and for test each.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of photographs; check the path after photos:")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    if len(paths) < 3:
        raise UserError(f"{folder}: {len(paths)} photographs; at least 3 are needed (one each for train, val and test)")
    paths.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
    tenth = max(1, len(paths) // 10)
    parts = {"test": paths[:tenth], "val": paths[tenth : 2 * tenth], "train": paths[2 * tenth :]}
    return {split: sorted(part) for split, part in parts.items()}


class PhotoScenes(Dataset):
    """Scenes over a folder of photographs: sample i of epoch e is drawn from (seed, split, e, i) and nothing else.

    Training never repeats a scene; val and test have the same `length` scenes each time.
    """

    def __init__(self, folder, split, height, width, length, seed=0, key_id=None):
        self.photos, self.key_id = split_photos(folder)[split], key_id
        self.split, self.height, self.width, self.length, self.seed = split, height, width, length, seed
        self.description = f"{split}: scenes of {height}x{width} over {len(self.photos)} photographs of {folder}"
        if split != "train":  # fixed scenes do not change with the run's seed
            self.seed = 0
        for photo in self.photos:
            read_photo(photo)  # a bad file is found before the work starts

    def __len__(self):
        return self.length

    @property
    def names(self):
        """What the samples are made of, in order: the photographs in training, else the scenes."""
        if self.split == "train":
            return [photo.name for photo in self.photos]
        return [f"scene_0_{index:05d}" for index in range(self.length)]

    def read(self, index, epoch=0):
        rng = np.random.default_rng([self.seed, ("train", "val", "test").index(self.split), epoch, index])
        background, foreground = (read_photo(self.photos[i]) for i in rng.integers(0, len(self.photos), 2))
        light = render(background, foreground if rng.random() < 0.5 else None, self.height, self.width, rng)
        return simulate(light, rng, f"scene_{epoch}_{index:05d}", self.key_id)

    def __getitem__(self, index):
        return to_item(self.read(index))


class DemoScenes(Dataset):
    """Five fixed 250x400 scenes over the photographs inside scikit-image's wheel; no download, the same at every call."""

    SCENES = (  # name, photographs behind and in front, motion, pixels a step, seed
        ("demo_camera_translation", "camera", None, "translation", 0.2, 6),
        ("demo_astronaut_rotation", "astronaut", None, "rotation", 0.15, 11),
        ("demo_rocket_zoom", "rocket", None, "zoom", 0.1, 2),
        ("demo_coffee_object", "coffee", "chelsea", "translation", 0.4, 3),
        ("demo_brick_slow", "brick", None, "translation", 0.05, 4),
    )
    description = "demo: five scenes simulated over scikit-image's photographs"

    def __init__(self, key_id=None):
        self.key_id = key_id
        self.names = [scene[0] for scene in self.SCENES]

    def __len__(self):
        return len(self.SCENES)

    def read(self, index, epoch=0):
        name, background, foreground, kind, speed, seed = self.SCENES[index]
        rng = np.random.default_rng(seed)
        background, foreground = (photo and demo_photo(photo) for photo in (background, foreground))
        return simulate(render(background, foreground, 250, 400, rng, kind, speed, shrink=0.85, gain=1.0), rng, name, self.key_id)

    def __getitem__(self, index):
        return to_item(self.read(index))


def demo_photo(name):
    photo = getattr(skimage.data, name)()
    return photo if photo.ndim == 2 else cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
