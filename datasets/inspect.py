"""What a recording is like, before hours are spent on it: its steps, light, motion and bad pixels, and a sheet of pictures.

    python -m datasets.inspect REC.dat
    python -m datasets.inspect REC.dat --height 250 --width 400 --steps_per_second 40000 --save_path sheet.png

Up to 60 windows of 41 steps are looked at, evenly spread, whatever the recording's length.
"""

from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from datasets.recordings import open_recording
from utils import cli
from utils.checkpoint import replacing
from utils.cli import UserError
from utils.timing import RATE, STEPS

PLACES = 60  # windows of 41 steps that are looked at
PICTURES = 12  # of the sheet
STANDS_OUT = 0.15  # spikes a step by which a hot pixel is above each of its eight neighbours
DARK, SPIKES = 0.02, 10  # a pixel without a spike is dead where each neighbour has more than so many a step, and in all
SATURATED = 0.95  # spikes a step; above, a pixel's light can no longer be told
TEXTURED = 10.0  # grey levels of slope a pixel, above which motion is measured


def inspect(spikes):
    """Facts on a recording, an array of spikes (T, H, W) that is read as it is sliced -> dict.

    "starts", "rates": first step of each window and its mean of spikes a step. "pictures": the windows' firing rates, PICTURES
    (H, W) of them, with "picture_starts". "hot", "dead": (N, 2) rows and columns. "saturated", "dark": part of the pixels and
    windows that fire at more than 0.95 of the steps, and at none. "motion": (median, 95th percentile) in pixels a step, over
    where there is texture; None where there is none.
    """
    last = max(0, len(spikes) - STEPS)
    starts = sorted({last * i // (PLACES - 1) for i in range(PLACES)})
    shown = {starts[(len(starts) - 1) * i // max(1, PICTURES - 1)] for i in range(PICTURES)}
    facts = {"starts": starts, "rates": [], "pictures": [], "picture_starts": sorted(shown), "saturated": 0.0, "dark": 0.0}
    total, speeds = 0.0, []
    for start in tqdm(starts, "inspect", unit="window", dynamic_ncols=True, leave=False):
        window = np.asarray(spikes[start : start + STEPS]) != 0
        rate = window.mean(0, dtype=np.float32)
        total = total + rate / len(starts)
        facts["rates"].append(float(rate.mean()))
        facts["saturated"] += float((rate > SATURATED).mean()) / len(starts)
        facts["dark"] += float((rate == 0).mean()) / len(starts)
        if start in shown:
            facts["pictures"].append(rate)
            speeds.append(speed_where_textured(window))
    speeds = np.concatenate(speeds)
    facts["motion"] = tuple(np.quantile(speeds, (0.5, 0.95)).tolist()) if speeds.size else None
    facts["hot"], facts["dead"] = bad_pixels(total, min(len(spikes), len(starts) * STEPS))
    return facts


def bad_pixels(rate, steps):
    """((N, 2) rows and columns of hot pixels, the same of dead ones) by their mean firing rate (H, W) over so many steps.

    A pixel is told by its eight neighbours: what the scene does, it does to some of them too. Less than a window's steps tell
    nothing, and none is found.
    """
    if steps < STEPS:
        return np.zeros((2, 0, 2), int)
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    border = {"borderType": cv2.BORDER_REFLECT_101}
    hot = rate > cv2.dilate(rate, ring, **border) + STANDS_OUT
    dead = (rate == 0) & (cv2.erode(rate, ring, **border) > max(DARK, SPIKES / steps))
    return np.argwhere(hot), np.argwhere(dead)


def speed_where_textured(window):
    """Speeds (N,) in pixels a step, by optical flow from the first half of a window of spikes (T, H, W) to its second."""
    half = len(window) // 2
    if half < 5 or min(window.shape[1:]) < 32:
        return np.zeros(0, np.float32)
    halves = (window[:half], window[-half:])
    grey = [cv2.GaussianBlur(np.clip(255 / RATE * part.mean(0, dtype=np.float32), 0, 255), None, 1.5) for part in halves]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*(g.astype(np.uint8) for g in grey), None)
    slope = np.hypot(cv2.Sobel(grey[0], cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey[0], cv2.CV_32F, 0, 1, scale=1 / 8))
    return np.hypot(*np.moveaxis(flow, 2, 0))[slope > TEXTURED] / (len(window) - half)


def describe(facts, steps_per_second):
    """Lines of text on the facts of `inspect`."""
    rates = np.array(facts["rates"])
    bars = "▁▂▃▄▅▆▇█"
    line = "".join(bars[round(rate / max(rates.max(), 1e-9) * (len(bars) - 1))] for rate in rates)

    def places(pixels):
        some = ", ".join(f"({row}, {column})" for row, column in pixels[:8])
        return f"{len(pixels)}{': ' + some if len(pixels) else ''}{', ...' if len(pixels) > 8 else ''}"

    if facts["motion"]:
        median, fast = facts["motion"]
        motion = f"about {median:.2f} pixels a step in the median, {fast:.2f} at the fastest twentieth, where there is texture"
        if median * steps_per_second > 0:
            motion += f" ({median * steps_per_second:.0f} pixels a second)"
    else:
        motion = "cannot be told: no texture"
    return [
        f"firing rate: {rates.mean():.3f} spikes a step ({255 * rates.mean() / RATE:.0f} grey levels), from {rates.min():.3f} to "
        f"{rates.max():.3f} over time",
        f"over time: {line}",
        f"motion: {motion}",
        f"saturated: {100 * facts['saturated']:.2f} % of the pixels fire at more than {SATURATED:.0%} of the steps",
        f"dark: {100 * facts['dark']:.2f} % of the pixels do not fire within {STEPS} steps",
        f"hot pixels: {places(facts['hot'])}",
        f"dead pixels: {places(facts['dead'])}",
    ]


def contact_sheet(path, title, facts, steps_per_second):
    """Write a picture of the rate over time, and of the recording at PICTURES moments, with its bad pixels marked."""
    columns = 4
    rows = -(-len(facts["pictures"]) // columns)
    height, width = facts["pictures"][0].shape
    figure = Figure((3.2 * columns, 3.2 * height / width * rows + 2.4), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns)
    axis = figure.add_subplot(grid[0, :])
    axis.plot(np.array(facts["starts"]) / steps_per_second * 1e3, facts["rates"], marker=".")
    axis.set(xlabel="ms", ylabel="spikes a step", ylim=(0, max(1.1 * max(facts["rates"]), 0.01)))
    axis.set_title(cli.shown(title), parse_math=False)
    for i, (start, rate) in enumerate(zip(facts["picture_starts"], facts["pictures"])):
        axis = figure.add_subplot(grid[1 + i // columns, i % columns])
        axis.imshow(rate * (255 / RATE), cmap="gray", vmin=0, vmax=255)
        for pixels, color in ((facts["hot"], "tab:red"), (facts["dead"], "tab:blue")):
            if i == 0 and len(pixels):
                axis.scatter(pixels[:, 1], pixels[:, 0], 12, facecolors="none", edgecolors=color, linewidths=0.8)
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"steps {start} to {start + STEPS - 1}", fontsize=8)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


def main(arguments=None):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("recording", help="a .dat, .npy or .npz file")
    flag("--height", type=cli.side, help="of a .dat file's steps (default: found out from the file)")
    flag("--width", type=cli.side, help="of a .dat file's steps (default: found out from the file)")
    flag("--flip", type=cli.truth, help="whether steps are stored upside down, True or False (default: goes by the sensor)")
    flag("--steps_per_second", type=cli.number(float, 1, 1e7), default=20000.0, help="of the camera (default 20000)")
    flag("--save_path", type=Path, help="the sheet of pictures (default: results/ and the recording's name, _inspect.png)")
    settings = parser.parse_args(arguments)
    if settings.recording == "-":
        raise UserError("standard input: it cannot be looked at here and there; name a file")
    name = Path(settings.recording).stem
    path = settings.save_path or Path("results") / f"{name}_inspect.png"
    if path.suffix.lower() != ".png" or path.is_dir():
        raise UserError(f"--save_path {path}: the sheet is a PNG; take the name of a file that ends in .png")
    spikes, lines = open_recording(settings.recording, settings.height, settings.width, settings.flip)
    for line in lines:
        cli.say(line)
    cli.say(f"{len(spikes) / settings.steps_per_second:.4g} s at {settings.steps_per_second:g} steps a second")
    facts = inspect(spikes)
    for line in describe(facts, settings.steps_per_second):
        cli.say(line)
    contact_sheet(path, f"{Path(settings.recording).name}: mean firing rate", facts, settings.steps_per_second)
    cli.say(f"pictures: {path}")
    return 0


if __name__ == "__main__":
    cli.run(main)
