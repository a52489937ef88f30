"""How good `--bin auto` is: PSNR of simulated recordings by each number of steps taken as one.

    python -m tools.bins --photos DIR

The recordings are by noisy cameras (`--sensor camera`), over the photographs of the training part. So the
rule of `recordings.choose_bin` can be chosen without a look at validation. A row of the table has the
recordings whose bright pixels have so many spikes a step. Its columns are the mean PSNR with each number of
steps as one, with that of `--bin auto`, and with the best for each recording.
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
from swinsf.utils import cli
from swinsf.utils.timing import STEPS

STRIDE = 20
BINS = tuple(bin for bin in range(1, STRIDE + 1) if STRIDE % bin == 0)
CLASSES = (  # name, spikes a step of a bright pixel from and up to
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
    flag("--photos", required=True, help="a folder of photographs")
    flag(
        "--weights",
        type=Path,
        default=SHIPPED / "swinsf_camera.pth",
        help="weights file (default swinsf_camera.pth)",
    )
    flag(
        "--recordings", type=cli.number(int, 1, 10000), default=50, help="how many are simulated (default 50)"
    )
    return parser.parse_args(arguments)


def open_recordings(photos):
    """Scenes by noisy cameras, long enough for a picture of `STRIDE` steps as one in the middle."""
    dataset = open_dataset(f"photos:{photos}", "250", "train", sensor="camera")
    dataset.height, dataset.width, dataset.stream_steps = 200, 320, STRIDE * (STEPS + 1)
    return dataset


def draw_recording(dataset, index):
    """(spikes (T, H, W), the picture at its middle key frame, exposed up to the scene's white; that step, the
    exposure)."""
    rng = np.random.default_rng([SEED, index])
    # its steps as they are; for training some would be taken as one already
    sensor = dataset.sensors.draw(rng)
    drawn = dataset.simulate(rng, dataset.stream_steps, dataset.shown_at, Kind(sensor))
    return drawn["spikes"], drawn["middle"] / drawn["white"], dataset.shown_at["middle"], drawn["white"]


def score_bins(recording, model):
    """(spikes a step of a bright pixel, the steps that `--bin auto` takes as one, PSNR by each of `BINS`) of
    a recording."""
    spikes, truth, key, white = recording
    seen = survey(spikes)
    chosen, _ = choose_bin(seen, STRIDE, key, key + 1)
    pictures = (next(reconstruct(spikes, model, STRIDE, key, key + 1, bin)) / white for bin in BINS)
    return seen.bright, chosen, [psnr_ssim(picture, truth, "released").psnr for picture in pictures]


def make_table(scores):
    """Markdown lines. scores: a list of what `score_bins` returns."""
    lines = [
        "| spikes a step of a bright pixel | recordings | " + " | ".join(map(str, BINS)) + " | auto | best |"
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
