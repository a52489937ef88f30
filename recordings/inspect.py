"""Inspects a recording before hours are spent on it: steps, light, motion, bad pixels, and a sheet of
pictures.

This is `reconstruct.py REC.dat --inspect`. It reads up to 60 windows, evenly spread, whatever the recording's
length. A window has 41 steps; in the dark it has more, until a bright pixel has a dozen spikes in it.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from swinsf.recordings.calibration import Pixels
from swinsf.recordings.plan import FULL, choose_bin, choose_gain
from swinsf.recordings.recording import Recording, spread
from swinsf.recordings.repair import find_bad_pixels
from swinsf.recordings.survey import (
    BRIGHT,
    look_over,
    looks_of,
    speeds,
    summarize,
)
from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write
from swinsf.utils.timing import RATE, STRIDE

PLACES = 60  # number of windows to read
PICTURES = 12  # number of pictures on the sheet
SATURATED = 0.95  # spikes a step; above, the rate no longer shows the light
FAST = 0.5  # pixels a step; the weights saw little faster motion
BARS = "▁▂▃▄▅▆▇█"
MARK = "SwinSF: a recording inspected"  # the title in a sheet's file, by which `is_sheet` recognises it


def inspect(spikes: Any) -> dict[str, Any]:
    """Facts on a recording, spikes (T, H, W) that are read slice by slice, as a dict.

    "starts", "rates": the first step of each window, and its mean of spikes a step. "length": steps a window.
    "pictures", "picture_starts": firing rates (H, W) of up to PICTURES windows, and their first steps. "hot",
    "dead": (N, 2) rows and columns. "rate": (H, W), mean spikes a step. "saturated", "dark": part of the
    pixels that fire at more than 0.95 of a window's steps, or at none, averaged over windows. "motion":
    (median, 95th percentile) in pixels a step, over textured pixels; None without texture. "survey": a
    `Survey`.
    """
    recording = Recording.of(spikes)
    starts, length = looks_of(recording, PLACES)
    shown = {starts[i] for i in spread(PICTURES, 0, len(starts) - 1)}
    facts = {"starts": starts, "picture_starts": sorted(shown), "rates": [], "pictures": []}
    saturated, dark, motion, bright = [], [], [], []
    looks = look_over(recording, PLACES)
    for start, window in tqdm(looks, "inspect", len(starts), unit="window", dynamic_ncols=True, leave=False):
        rate = window.mean(0, dtype=np.float32)
        facts["rates"].append(float(rate.mean()))
        saturated.append(float((rate > SATURATED).mean()))
        dark.append(float((rate == 0).mean()))
        if start in shown:
            facts["pictures"].append(rate)
            motion.append(speeds(window))
            bright.append(float(np.quantile(rate, BRIGHT)))
    measured = np.concatenate(motion)
    facts["motion"] = tuple(np.quantile(measured, (0.5, 0.95)).tolist()) if measured.size else None
    facts["survey"] = summarize(facts["rates"], bright, motion, recording.length)
    facts["saturated"], facts["dark"] = float(np.mean(saturated)), float(np.mean(dark))
    facts["length"] = length
    facts["rate"], facts["hot"], facts["dead"] = find_bad_pixels(recording)
    return facts


def describe(facts, steps_per_second):
    """Lines of text with the facts of `inspect`."""
    rates = np.array(facts["rates"])
    bars = BARS if cli.printable(BARS) else "12345678"
    line = "".join(bars[round(rate / max(rates.max(), 1e-9) * (len(bars) - 1))] for rate in rates)

    def places(pixels):
        some = ", ".join(f"({row}, {column})" for row, column in pixels[:8])
        return f"{len(pixels)}{': ' + some if len(pixels) else ''}{', ...' if len(pixels) > 8 else ''}"

    if facts["motion"]:
        median, fast = facts["motion"]
        motion = f"median {median:.2f} pixels a step, 95th percentile {fast:.2f}, over textured pixels"
        if median * steps_per_second > 0:
            motion += f" (median {median * steps_per_second:.0f} pixels a second)"
    else:
        motion = "unknown, no texture"
    return [
        f"firing rate: {rates.mean():.3f} spikes a step ({255 * rates.mean() / RATE:.0f} grey levels), from {rates.min():.3f} to "
        f"{rates.max():.3f} over time",
        f"over time: {line}",
        f"motion: {motion}",
        f"saturated: {100 * facts['saturated']:.2f} % of the pixels fire at more than {SATURATED:.0%} of the steps",
        f"dark: {100 * facts['dark']:.2f} % of the pixels do not fire within {facts['length']} steps",
        f"hot pixels: {places(facts['hot'])}",
        f"dead pixels: {places(facts['dead'])}",
        f"advice: {advice(facts['survey'])}",
    ]


def advice(seen):
    """The flags to reconstruct a recording with, and why, from its `Survey`."""
    bin, reason = choose_bin(seen, STRIDE)
    if not seen.bright:
        return "there is no light in it"
    if seen.motion is not None and seen.motion > FAST:
        return f"--method tfi, since things move by {seen.motion:.2g} pixels a step"
    if seen.bright > SATURATED:
        return f"record with less light: bright pixels fire at {seen.bright:.0%} of the steps"
    if bin > 1:
        return f"--bin {bin} (auto takes it), since {reason}"
    if seen.bright < FULL / 4:
        return f"more light, or --method tfi too, to compare: {reason}"
    return f"the defaults: {reason}"


def contact_sheet(title, facts, steps_per_second):
    """A figure of the rate over time, and of the recording at PICTURES moments, with bad pixels marked."""
    columns, gain = 4, choose_gain(facts["survey"])
    rows = -(-len(facts["pictures"]) // columns)
    height, width = facts["pictures"][0].shape
    from matplotlib.figure import Figure  # slow to import

    figure = Figure((3.2 * columns, 3.2 * height / width * rows + 2.4), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns)
    axis = figure.add_subplot(grid[0, :])
    axis.plot(np.array(facts["starts"]) / steps_per_second * 1e3, facts["rates"], marker=".")
    axis.set(xlabel="ms", ylabel="spikes a step", ylim=(0, max(1.1 * max(facts["rates"]), 0.01)))
    axis.set_title(cli.shown(title), parse_math=False)
    for i, (start, rate) in enumerate(zip(facts["picture_starts"], facts["pictures"])):
        axis = figure.add_subplot(grid[1 + i // columns, i % columns])
        axis.imshow(rate * (255 / RATE * gain), cmap="gray", vmin=0, vmax=255)
        for pixels, color in ((facts["hot"], "tab:red"), (facts["dead"], "tab:blue")):
            if i == 0 and len(pixels):
                axis.scatter(
                    pixels[:, 1], pixels[:, 0], 12, facecolors="none", edgecolors=color, linewidths=0.8
                )
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"steps {start} to {start + facts['length'] - 1}", fontsize=8)
    return figure


def bad_pixel_rows(facts: dict[str, Any], top: int = 0, left: int = 0) -> list[tuple]:
    """The table of bad pixels, with its heading: row, column, rate in spikes a step, kind. top, left: the first
    row and column of the part that is shown."""
    places = [(*place, kind) for kind in ("hot", "dead") for place in facts[kind].tolist()]
    rows = [
        (top + row, left + column, f"{facts['rate'][row, column]:.5g}", kind)
        for row, column, kind in sorted(places)
    ]
    return [("row", "column", "rate", "kind"), *rows]


def is_sheet(path):
    """Whether a file is a sheet that `show_inspection` wrote."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return MARK.encode() in file.read(2000)


def show_inspection(settings, recording: Recording, lines: list[str], pixels: Pixels):
    """Run --inspect: log facts on the recording, write the sheet and the table of bad pixels.

    pixels: those of the part that is shown. Raises UserError if the sheet would replace another file.
    """
    path = settings.output
    if path.exists() and not settings.overwrite and not is_sheet(path):
        raise UserError(
            f"--output {path}: already exists, and not a sheet of --inspect; add --overwrite, or choose another name"
        )
    speed = settings.steps_per_second
    for line in (*lines, *pixels.lines, f"{len(recording) / speed:.4g} s at {speed:g} steps a second"):
        cli.log(line)
    facts = inspect(recording)
    facts["pictures"] = [pixels.correct(rate * (255 / RATE)) * (RATE / 255) for rate in facts["pictures"]]
    for line in describe(facts, speed):
        cli.log(line)
    figure = contact_sheet(f"{Path(settings.recording).name}: mean firing rate", facts, speed)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Title": MARK})
    cli.log(f"pictures: {path}")
    if table := settings.bad_pixels:
        corner = [first or 0 for first, _ in settings.crop] if settings.crop else []
        with atomic_write(table, "w") as file:
            csv.writer(file, lineterminator="\n").writerows(bad_pixel_rows(facts, *corner))
        cli.log(f"bad pixels: {table}")
