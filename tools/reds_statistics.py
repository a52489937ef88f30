"""Compares statistics of public spike-REDS streams with those of the simulator's sensor `reds`.

    python -m tools.reds_statistics datasets/spike_reds_sample

Each stream is simulated again by random sensors from `SENSORS["reds"]`, from its own picture and the motion
estimated from its spikes. Prints for both:
- contrast of the mean along the motion over 21 steps, relative to the picture's, by frequency;
- coarse and medium error of the mean along the motion over 19 steps around each step (0: the key frame);
- the part of the picture's fine detail in the spikes of a single step, without motion compensation.
PSNR is not used, so that no network is tuned to these streams.
"""

import cv2
import numpy as np
import torch
from tqdm import tqdm

from swinsf.datasets.dat import read_dat
from swinsf.datasets.paired import SpikeREDS
from swinsf.datasets.simulation.sensor import SENSORS, simulate
from swinsf.models.motion import cut_segments, estimate_velocity, middles, warp
from swinsf.utils import cli, flags
from swinsf.utils.timing import RATE

KEY = 30  # step of the picture among the 61 steps read
FREQUENCIES = (0.175, 0.225, 0.275, 0.325, 0.375, 0.425)  # cycles per pixel, each a band of 0.05
CENTRES = range(-7, 10)
SINGLE_STEPS = range(-5, 8)
FINE = (0.28, 0.38)  # cycles per pixel
INSIDE = (slice(20, -20), slice(20, -20))


class MovedPicture:
    """A scene: a picture (H, W) in 0..1 that moves by a constant velocity (2, H, W) in pixels per step."""

    def __init__(self, picture, velocity):
        self.picture, self.velocity = picture, velocity

    def frame(self, time):
        return self.carry(self.picture, 0, time)

    def carry(self, texture, start, time):
        y, x = np.mgrid[: texture.shape[0], : texture.shape[1]].astype(np.float32)
        back = np.float32(start - time)
        x, y = x + back * self.velocity[0], y + back * self.velocity[1]
        return cv2.remap(texture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def estimated_velocity(stream):
    """Velocity (1, 2, H, W) in pixels per step at the key frame of a stream (61, H, W)."""
    window = stream[None, KEY - 20 : KEY + 21]
    return estimate_velocity(255 * cut_segments(window, 20).light, middles(window))


def mean_along(stream, velocity, centre, reach):
    """The mean, weighted by cos^2, of a stream's steps around a centre, warped to the key frame.

    Returns (H, W) in grey levels.
    """
    steps = torch.arange(centre - reach + 1, centre + reach)
    weights = torch.cos((steps - centre) / reach * torch.pi / 2) ** 2
    moved = warp(stream[None, KEY + steps], velocity, steps.float())[0]
    return ((moved * weights.view(-1, 1, 1)).sum(0) / weights.sum() * (255 / RATE)).numpy()


def gain(picture, seen, low, high):
    """The part of the picture's contrast in a frequency band that `seen` has, by their cross-spectrum."""
    window = np.outer(*(np.hanning(n) for n in picture.shape))
    radius = np.hypot(np.fft.fftfreq(picture.shape[0])[:, None], np.fft.fftfreq(picture.shape[1])[None])
    truth, found = (
        np.fft.fft2((p - p.mean()) * window)[(radius >= low) & (radius < high)] for p in (picture, seen)
    )
    return (np.conj(truth) * found).real.sum() / (np.abs(truth) ** 2).sum()


def statistics(stream, picture, velocity):
    """{statistic: numbers} of a stream uint8 (61, H, W) and its picture (H, W) in grey levels."""
    stream = torch.from_numpy(np.ascontiguousarray(stream)).float()
    mean = mean_along(stream, velocity, 0, 11)
    errors = [mean_along(stream, velocity, centre, 10) - picture for centre in CENTRES]
    coarse = [cv2.GaussianBlur(error, None, 4) for error in errors]
    middle = [cv2.GaussianBlur(error, None, 1.2) - blurred for error, blurred in zip(errors, coarse)]
    return {
        "contrast": [gain(picture, mean, f - 0.025, f + 0.025) for f in FREQUENCIES],
        "coarse error^2": [np.square(error[INSIDE]).mean() for error in coarse],
        "middle error^2": [np.square(error[INSIDE]).mean() for error in middle],
        "single steps": [
            gain(picture, stream[KEY + step].numpy() * (255 / RATE), *FINE) for step in SINGLE_STEPS
        ],
    }


def simulated(picture, velocity, draws, seed=0):
    """Mean `statistics` of streams simulated from a picture and its motion with `draws` random sensors."""
    scene, found = MovedPicture(picture / 255, velocity[0].numpy()), []
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        sample = simulate(scene, rng, 2 * KEY + 1, {"picture": KEY}, SENSORS["reds"].draw(rng))
        found.append(statistics(sample["spikes"], sample["picture"], velocity))
    return {what: np.mean([one[what] for one in found], 0) for what in found[0]}


def main(arguments=None):
    parser = cli.Parser(__doc__)
    parser.add_argument("sample", help="folder of spike-REDS test streams")
    parser.add_argument("--draws", type=flags.positive_int, default=4, help="sensors per stream (default 4)")
    settings = parser.parse_args(arguments)
    dataset = SpikeREDS(settings.sample)
    measured, again = [], []
    for stream in tqdm(dataset.streams, "streams"):
        spikes = read_dat(stream.path, dataset.height, dataset.width, 150 - KEY, 151 + KEY, dataset.flip)
        picture = cv2.imread(str(stream.pictures["middle"]), cv2.IMREAD_GRAYSCALE).astype(np.float32)
        velocity = estimated_velocity(torch.from_numpy(spikes.copy()).float())
        measured.append(statistics(spikes, picture, velocity))
        again.append(simulated(picture, velocity, settings.draws))
    for what, places in (
        ("contrast", FREQUENCIES),
        ("coarse error^2", CENTRES),
        ("middle error^2", CENTRES),
        ("single steps", SINGLE_STEPS),
    ):
        print(f"\n{what}, at " + " ".join(map(str, places)))
        for stream, *both in zip(dataset.streams, measured, again):
            for label, one in zip(("measured ", "simulated"), both):
                print(f"{stream.path.stem[:11]:12}{label} " + " ".join(f"{value:.2f}" for value in one[what]))
    return 0


if __name__ == "__main__":
    cli.run(main)
