"""Moving scenes over still photographs: random layers seen by a camera."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from swinsf.datasets.simulation.camera import KINDS, draw_motion, margin
from swinsf.datasets.simulation.sampling import Picture
from swinsf.utils.timing import STEPS

# standard deviation of the Laplacian, in grey levels, above which a crop of a photograph has enough texture
TEXTURE = 30
OBJECTS = (0.45, 0.35, 0.15, 0.05)  # chance of zero, one, two and three objects in front
OUT_OF_FOCUS = 0.25  # chance that an object's picture and edge are blurred
SHADOW = 0.2  # chance of a shadow on the background


@dataclass(frozen=True)
class Style:
    """Parameters of random scenes. A layer's speed, the mean over its pixels, is log-normal."""

    median_speed: float = 0.15  # pixels per step; with the spread, six in seven layers move by 0.05 to 0.4
    spread: float = 0.7
    shrink: tuple = (0.35, 0.9)  # photographs shrunk by these factors are as sharp as spike-REDS

    def draw_speed(self, rng):
        """Draw a speed in pixels per step, up to 1; one layer in twenty stands still."""
        speed = self.median_speed * np.exp(self.spread * rng.standard_normal())
        return 0.0 if rng.random() < 0.05 else min(speed, 1.0)


STYLES = {
    "250": Style(),
    "1000": Style(median_speed=0.3, shrink=(0.35, 0.7)),
    "camera": Style(median_speed=0.2, spread=0.9),  # N binned steps move N times as fast
}


@dataclass(frozen=True)
class Layer:
    """A moving source picture: float32 (h, w) grey levels, a motion (time -> homography), and a mask of its
    opaque part or None.

    A shadow shows no picture: inside its mask it removes the fraction `shade` of the light behind it.
    """

    source: np.ndarray
    motion: object
    mask: np.ndarray | None = None
    shade: float = 0.0

    @cached_property
    def picture(self):
        return Picture(self.source)

    def frame(self, time, height, width, behind=None):
        """The layer at a time over the frame `behind` it: (height, width) float32 grey levels."""
        homography = from_middle(self.source) @ self.motion(time)
        if self.mask is not None:
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            mask = cv2.warpPerspective(self.mask, homography, (width, height), flags=flags)
        if self.shade:
            return behind * (1 - self.shade * mask)
        frame = self.picture.through(homography, height, width)  # bilinear sampling would blur
        return frame if self.mask is None else behind + mask * (frame - behind)


@dataclass(frozen=True)
class PhotoScene:
    """Layers from back to front. Light is grey level / 255 x `contrast` + `black`."""

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
        """Move a texture (H, W) with the scene's background, from time `start` to `time`."""
        motion = self.layers[0].motion
        to_start = np.linalg.inv(motion(start)) @ motion(time)  # coordinates at `time` -> at `start`
        return Picture(texture).through(to_start, *texture.shape)


def from_middle(source):
    """The 3x3 matrix from coordinates about a source's middle, as in `draw_motion`, to its pixels."""
    return np.array([[1, 0, (source.shape[1] - 1) / 2], [0, 1, (source.shape[0] - 1) / 2], [0, 0, 1]])


def cut(photo, height, width, shrink, rng):
    """A float32 crop of about height x width with texture, from a photograph shrunk by area averaging.

    Photographs are never enlarged, so a small one gives a smaller crop.
    """
    need = np.array([height, width])
    shrink = min(1.0, max(shrink, *(need / photo.shape)))
    size = np.minimum(np.ceil(need / shrink).astype(int), photo.shape)
    best, best_texture = None, -1.0
    for _ in range(6):  # a third of a photograph is sky or blur; take the first crop that is neither
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
    """A smooth closed shape: float32 mask (height, width), 1 inside, 0 outside, about a tenth of the area."""
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
    """A float32 mask, 1 inside and 0 outside, of a source's brighter or darker part: ragged, with holes, like
    leaves."""
    smooth = cv2.GaussianBlur(source, None, rng.uniform(0.7, 3))
    sign = rng.choice((-1, 1))
    return np.clip(sign * (smooth - np.quantile(smooth, rng.uniform(0.3, 0.7))) / 8 + 0.5, 0, 1)


def draw_layer(photo, height, width, style, rng, times, kind=None, speed=None, shrink=None):
    """A `Layer` without mask: a crop of the photograph that is large enough for its motion at these times."""
    speed = style.draw_speed(rng) if speed is None else speed
    bend = 0 if kind else rng.uniform(-0.3, 0.3)
    motion = draw_motion(height, width, speed, rng, KINDS[kind] if kind else None, bend, reach=max(times))
    rows, columns = margin(motion, height, width, times)
    shrink = rng.uniform(*style.shrink) if shrink is None else shrink
    return Layer(cut(photo, height + rows + 4, width + columns + 4, shrink, rng), motion)


def draw_object(photo, height, width, style, rng, times, foliage=False, softness=0.0, shade=0.0, **fixed):
    """A `Layer` with a mask: a blob cut from the photograph or, with `foliage`, its brighter or darker part.

    softness: Gaussian sigma in pixels of its picture and its edge, as if out of focus. shade: see `Layer`.
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
    """A `Layer` that darkens the layers behind it; it moves slowly and has a soft edge."""
    slow = 0.3 * style.draw_speed(rng)
    softness, shade = np.exp(rng.uniform(np.log(0.7), np.log(12))), rng.uniform(0.2, 0.7)
    return draw_object(
        photo, height, width, style, rng, times, rng.random() < 0.3, softness, shade, speed=slow
    )


def draw_scene(read_photo, height, width, style, rng, reach=STEPS // 2):
    """Draw a `PhotoScene` that covers steps -reach..reach. read_photo() returns the next photograph."""
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
    # over all scenes, grey levels cover the full range
    black = rng.uniform(*sorted((0.0, 1 - contrast)))
    return PhotoScene(layers, height, width, contrast, black)
