"""Evaluates `--bin auto`: PSNR of simulated recordings for each bin size.

    python -m tools.bins --photos DIR

The recordings are simulated with `--sensor camera` over the photographs of the training split, so that the
rule of `recordings.choose_bin` can be tuned without the validation split. Each row of the table covers a
range of spikes per step of bright pixels. Its columns are the mean PSNR with each bin size, with that of
`--bin auto`, and with the best one for each recording.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from swinsf.datasets import open_dataset
from swinsf.datasets.simulation.kinds import Kind
from swinsf.evaluation.metrics import psnr_ssim
from swinsf.models import SHIPPED, load_model
from swinsf.recordings import choose_bin, survey
from swinsf.recordings.stream import reconstruct
from swinsf.utils import cli, flags
from swinsf.utils.timing import STEPS

STRIDE = 20
BINS = tuple(bin for bin in range(1, STRIDE + 1) if STRIDE % bin == 0)
CLASSES = (  # name, smallest and largest spikes per step of a bright pixel
    ("above 0.25", 0.25, np.inf),
    ("0.1 to 0.25", 0.1, 0.25),
    ("0.05 to 0.1", 0.05, 0.1),
    ("0.025 to 0.05", 0.025, 0.05),
    ("below 0.025", 0, 0.025),
)
SEED = 777


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("--photos", required=True, help="folder of photographs")
    weights = SHIPPED / "swinsf_camera.pth"
    flag("--weights", type=Path, default=weights, help=f"weights file (default {weights.name})")
    count = flags.number(int, 1, 10000)
    flag("--recordings", type=count, default=50, help="recordings to simulate (default 50)")
    return parser.parse_args(arguments)


def open_recordings(photos):
    """Scenes of noisy cameras, long enough for a middle picture with bins of `STRIDE` steps."""
    dataset = open_dataset(f"photos:{photos}", "250", "train", sensor="camera")
    dataset.height, dataset.width, dataset.stream_steps = 200, 320, STRIDE * (STEPS + 1)
    return dataset


def draw_recording(dataset, index):
    """(spikes (T, H, W), the middle picture (H, W) scaled to the scene's white, key frame, that white)."""
    rng = np.random.default_rng([SEED, index])
    sensor = dataset.sensors.draw(rng)  # without binning, which half of the training scenes have
    drawn = dataset.simulate(rng, dataset.stream_steps, dataset.shown_at, Kind(sensor))
    return drawn["spikes"], drawn["middle"] / drawn["white"], dataset.shown_at["middle"], drawn["white"]


def score_bins(recording, model):
    """(spikes per step of a bright pixel, bin size of `--bin auto`, PSNR for each of `BINS`)."""
    spikes, truth, key, white = recording
    seen = survey(spikes)
    chosen, _ = choose_bin(seen, STRIDE, key, key + 1)
    pictures = (next(reconstruct(spikes, model, STRIDE, key, key + 1, bin)) / white for bin in BINS)
    return seen.bright, chosen, [psnr_ssim(picture, truth, "released").psnr for picture in pictures]


def make_table(scores):
    """Markdown lines. scores: a list of `score_bins` results."""
    lines = [
        "| spikes per step of a bright pixel | recordings | "
        + " | ".join(map(str, BINS))
        + " | auto | best |"
    ]
    lines.append("| --- " * (len(BINS) + 4) + "|")
    for name, least, most in (*CLASSES, ("all", 0, np.inf)):
        row = [(chosen, psnr) for bright, chosen, psnr in scores if least <= bright < most]
        if row:
            by_bin = np.array([psnr for _, psnr in row])
            auto = by_bin[range(len(row)), [BINS.index(chosen) for chosen, _ in row]]
            means = [*by_bin.mean(0), auto.mean(), by_bin.max(1).mean()]
            lines.append(f"| {name} | {len(row)} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    return lines


def main(arguments=None):
    settings = parse_settings(arguments)
    model = load_model(settings.weights, "cpu")
    dataset = open_recordings(settings.photos)
    scores = [
        score_bins(draw_recording(dataset, index), model)
        for index in tqdm(range(settings.recordings), unit="recording")
    ]
    cli.log("\n".join(make_table(scores)))


if __name__ == "__main__":
    cli.run(main)
