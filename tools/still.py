"""Compares fine detail in pictures of a still recording with the mean of all its steps.

    python -m tools.still RECORDING
    python -m tools.still RECORDING --weights checkpoint/swinsf_camera.pth checkpoint/swinsf_small.pth

The mean has all the detail of the recording. For each band of spatial frequencies, the table has the
amplitude of the pictures relative to the mean's: the root of the power under a Hann window, averaged over key
frames. The mean also has the camera's fixed pattern, which pictures should not have, so values below 1 are
right at high frequencies. "change" is the mean absolute difference between the pictures of two key frames, in
grey levels.
"""

from itertools import combinations
from pathlib import Path

import numpy as np

from swinsf.models import SHIPPED, load_model
from swinsf.models.classical import tfp_pictures
from swinsf.recordings import open_recording
from swinsf.recordings.stream import reconstruct
from swinsf.utils import cli, flags
from swinsf.utils.timing import RATE, STEPS

BANDS = ((0.05, 0.1), (0.1, 0.2), (0.2, 0.25), (0.25, 0.3), (0.3, 0.4))  # cycles a pixel


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("recording", type=Path, help="recording of 82 steps or more, without motion")
    shipped = SHIPPED / "swinsf_camera.pth"
    flag("--weights", type=Path, nargs="+", default=[shipped], help=f"weights files (default {shipped.name})")
    flag(
        "--stride",
        type=flags.number(int, 1, 10**6),
        default=STEPS,
        help=f"steps between key frames (default {STEPS})",
    )
    return parser.parse_args(arguments)


def amplitudes(picture):
    """The root of the power of a picture (H, W) in each of `BANDS`, under a Hann window."""
    window = np.outer(*map(np.hanning, picture.shape))
    power = np.abs(np.fft.rfft2(window * (picture - picture.mean()))) ** 2
    height, width = picture.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    return np.sqrt([power[(frequency >= low) & (frequency < high)].sum() for low, high in BANDS])


def compare(pictures, mean):
    """(amplitude of the pictures (N, H, W) in each of `BANDS` relative to the mean's, their change)."""
    parts = np.mean([amplitudes(picture) for picture in pictures], axis=0) / amplitudes(mean)
    return parts, np.mean([np.abs(a - b).mean() for a, b in combinations(pictures, 2)])


def main(arguments=None):
    settings = parse_settings(arguments)
    spikes, _ = open_recording(settings.recording)
    steps = len(spikes)
    keys = range(STEPS // 2, steps - STEPS // 2, settings.stride)
    if len(keys) < 2:
        raise cli.UserError(
            f"{settings.recording}: {steps} steps hold one window; record more, or lower --stride"
        )
    mean = spikes[0:steps].mean(0) * (255 / RATE)
    rows = {"TFP41": list(tfp_pictures(spikes, keys, STEPS))}
    for path in settings.weights:
        found = reconstruct(spikes, load_model(path, "cpu"), settings.stride, keys[0], keys[-1] + 1)
        rows[path.name] = list(found)
    bands = " | ".join(f"{low:g} to {high:g}" for low, high in BANDS)
    cli.log(f"{cli.plural(len(keys), 'key frame')} of {steps} steps\n\n| cycles a pixel | {bands} | change |")
    cli.log("| --- " * (len(BANDS) + 2) + "|")
    for name, pictures in rows.items():
        parts, change = compare(pictures, mean)
        cli.log(f"| {name} | " + " | ".join(f"{part:.2f}" for part in parts) + f" | {change:.2f} |")


if __name__ == "__main__":
    cli.run(main)
