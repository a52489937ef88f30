"""The light of spike-REDS, whose scenes are a video: frames at intervals, with steps made in between."""

import cv2
import numpy as np

from swinsf.datasets.simulation.sampling import Picture


class SourceFrames:
    """A scene as the video shows it that spike-REDS was made of.

    Public streams were measured for it; docs/simulation.md has the figures.

    The video has a frame every `sensor.frames_every` steps: at time 0, which is the picture of the stream,
    and so on before and after. A frame differs from the scene by grain, by a slow change of its light and by
    a small displacement. It is shown sharp one step late. The steps after it, up to the next frame, move
    smoothly, are softer, and have its grain.
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
        return (
            cv2.GaussianBlur(self.shown(index, time), None, softness) if softness else self.shown(index, time)
        )

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
            self.frames.pop(index - 3, None)  # time moves forward
        grain, drift, displacement = self.frames[index]
        light = Picture(light).moved(displacement)
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
