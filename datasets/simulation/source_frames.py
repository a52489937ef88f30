"""The light of spike-REDS, which was made from video: a frame every few steps, and steps in between."""

import cv2
import numpy as np

from swinsf.datasets.simulation.sampling import Picture


class SourceFrames:
    """A scene as the video behind spike-REDS would show it.

    It models measurements of public streams; docs/simulation.md has the figures.

    The video has a frame every `sensor.frames_every` steps, counted both ways from time 0, whose frame is the
    stream's picture. A frame differs from the scene by grain, a smooth change of brightness and a small
    displacement. It appears one step late, and sharp. The steps from there to the next frame move smoothly,
    are softer, and have its grain.
    """

    def __init__(self, scene, sensor, rng):
        self.scene, self.sensor, self.rng, self.frames = scene, sensor, rng, {}
        self.late = rng.uniform(0, 0.9)  # delay of a frame's content, in steps

    def light(self, time):
        """The light on the pixels at a step, (H, W) float32 in 0..1."""
        every = self.sensor.frames_every
        index, since = divmod(time - 1, every)
        if since == 0:
            return self.shown(index, every * index + self.late)
        # Softness grows over the steps, because the frame that they are made from is further away.
        softness = self.sensor.blur * min(1.0, (since + 2) / 8)
        return (
            cv2.GaussianBlur(self.shown(index, time), None, softness) if softness else self.shown(index, time)
        )

    def picture(self, time):
        """The ground truth at a step: the video's frame if there is one, else the step's light, sharp."""
        every = self.sensor.frames_every
        if time % every == 0:
            return self.shown(time // every, time + self.late)
        return self.shown((time - 1) // every, time)

    def shown(self, index, time):
        """The scene at a time, with the grain, brightness and displacement of frame `index`."""
        light = self.scene.frame(time)
        if index not in self.frames:
            self.frames[index] = self.draw_own(*light.shape)
            self.frames.pop(index - 3, None)  # time moves forward
        grain, drift, displacement = self.frames[index]
        light = Picture(light).moved(displacement)
        grain = self.scene.carry(grain, self.sensor.frames_every * index + self.late, time)
        return np.clip(light * drift + grain, 0, 1)

    def draw_own(self, height, width):
        """Draw a frame's (grain (H, W), brightness factor (H, W), displacement 2x3)."""
        sensor, rng = self.sensor, self.rng
        grain = rng.standard_normal((height, width), np.float32) * (sensor.grain / 255)
        coarse = rng.standard_normal((3, 4), np.float32)
        drift = 1 + sensor.drift * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        corners = np.array([[0, 0], [width, 0], [0, height]], np.float32)
        moved = corners + sensor.displacement * rng.standard_normal((3, 2)).astype(np.float32)
        return grain, drift, cv2.getAffineTransform(corners, moved)
