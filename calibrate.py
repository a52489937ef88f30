"""Calibrate a spike camera: measure each pixel's dark charge and response, and find bad pixels.

    python calibrate.py --dark DARK.dat --flat FLAT.dat --output CAMERA.npz
    python calibrate.py --dark DARK.dat --flat DIM.dat BRIGHT.dat --output CAMERA.npz --keep_shading
    python calibrate.py --published data.npz --output CAMERA.npz
    python reconstruct.py REC.dat --calibration CAMERA.npz

DARK: a recording with the lens capped. FLAT: one or more recordings of an evenly lit, still surface. Each
needs 500 steps or more, better 5,000, in any format that reconstruct.py reads except a pipe. Also writes
CAMERA.png (maps and histograms) and CAMERA.csv (bad pixels). data.npz: arrays Nd, Nl and D_light as published
with RSIR; 1 / rate is assumed to be proportional to 1 / (light + dark), as for pixels that only integrate.
"""

import csv
from pathlib import Path

from swinsf.utils import choices, cli, flags
from swinsf.utils.cli import UserError, refuse


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("--dark", metavar="DARK", help="recording with the lens capped")
    flag(
        "--flat",
        nargs="+",
        action="extend",
        default=[],
        metavar="FLAT",
        help="one or more recordings of an evenly lit surface",
    )
    flag(
        "--published",
        type=Path,
        metavar="FILE.npz",
        help="file with the arrays Nd, Nl and D_light, instead of recordings",
    )
    flag(
        "--output",
        type=Path,
        required=True,
        help="file to write, CAMERA.npz; CAMERA.png and CAMERA.csv go next to it",
    )
    flag("--overwrite", action="store_true", help="replace existing files")
    flag("--keep_shading", action="store_true", help="do not correct smooth shading by lens and lamp")
    flag("--height", type=flags.side, help="height of a .dat file (default: detected)")
    flag("--width", type=flags.side, help="width of a .dat file (default: detected)")
    flag(
        "--flip",
        type=flags.truth,
        help="whether steps are stored upside down, True or False (default: as usual for the size)",
    )
    flag(
        "--bit_order",
        choices=choices.BIT_ORDERS,
        help="bit order of a .dat file: which bit of a byte comes first (default: detected)",
    )
    return parser.parse_args(arguments)


def look():
    """Parse the flags and check their paths, for `cli.begin`."""
    settings = parse_settings(None)
    for recording in (settings.dark, *settings.flat):
        if recording:
            choices.look_at_recording(recording)
    choices.look_at_calibration(settings.published)


if __name__ == "__main__":
    cli.begin(look)  # before the slow imports

import numpy as np

from swinsf.datasets.bad_pixels import KINDS, smooth
from swinsf.datasets.dat import DatFile
from swinsf.evaluation.tables import save_figure
from swinsf.recordings import open_recording
from swinsf.recordings.calibration import load_calibration
from swinsf.recordings.flat_field import calibrate
from swinsf.utils.files import atomic_write


def check_flags(settings):
    """Raises UserError for conflicting flags, and for files that would be overwritten."""
    output, recorded = settings.output, settings.dark or settings.flat
    read = [Path(path) for path in (settings.dark, *settings.flat, settings.published) if path]
    reading = ("keep_shading", "height", "width", "flip", "bit_order")
    unused = next((name for name in reading if getattr(settings, name) not in (None, False)), None)
    rules = (
        (
            settings.published and unused,
            f"--{unused} with --published {settings.published}: it is for recordings; leave it out",
        ),
        (
            settings.published and recorded,
            f"--published {settings.published} with --dark or --flat: use one or the other",
        ),
        (
            not settings.published and not (settings.dark and settings.flat),
            "--dark and --flat: both are needed; record with the lens capped, and an evenly lit surface",
        ),
        (
            "-" in (settings.dark, *settings.flat),
            "standard input: it cannot be read twice; give a file",
        ),
        (
            output.suffix.lower() != ".npz",
            f"--output {output}: a calibration is an .npz file; choose a name that ends in .npz",
        ),
    )
    refuse(rules)
    for path in (output, output.with_suffix(".png"), output.with_suffix(".csv")):
        read_too = any(path.exists() and source.exists() and path.samefile(source) for source in read)
        if read_too or (path.exists() and not settings.overwrite):
            remedy = "is an input; choose" if read_too else "already exists; add --overwrite, or choose"
            raise UserError(f"--output {output}: {path} {remedy} another name")


def open_all(settings):
    """((name, spikes (T, H, W)) of the dark recording, [the same for each flat]). Raises UserError if sizes
    differ."""
    flats = [(name, open_one(name, settings)) for name in settings.flat]
    dark = settings.dark, open_one(settings.dark, settings, flats[0][1])
    shapes = {tuple(spikes.shape[1:]): name for name, spikes in (*flats, dark)}
    if len(shapes) > 1:
        texts = [f"{name} is {height}x{width}" for (height, width), name in shapes.items()]
        raise UserError(f"{' and '.join(texts)}; use recordings of one camera")
    return dark, flats


def open_one(name, settings, like=None):
    """The spikes of a recording. like: a recording whose format a `.dat` file gets if flags do not set it,
    because the dark does not show its size."""
    height, width, order = settings.height, settings.width, settings.bit_order
    if (
        like is not None
        and isinstance(like.source, DatFile)
        and Path(name).suffix.lower() not in (".npy", ".npz")
    ):
        height, width = (height, width) if height else like.source.camera[:2]
        order = order or like.source.bitorder
    spikes, lines = open_recording(name, height, width, settings.flip, bitorder=order)
    for line in lines:
        cli.log(line)
    return spikes


def describe(calibration):
    """Lines of text on a `Calibration`."""
    good = calibration.bad == 0
    dark, response = calibration.dark[good], calibration.response[good]
    pattern = response / smooth(calibration.response, good)[good]
    kinds = [f"{np.count_nonzero(calibration.bad == kind)} {name}" for kind, name in enumerate(KINDS) if kind]
    lines = [
        f"dark charge: median {np.median(dark):.3g} thresholds per step, 90 % of the pixels "
        f"{quantiles(dark, 0.05, 0.95)}",
        f"response: 90 % of the pixels {quantiles(response, 0.05, 0.95)} of the mean, {robust(pattern):.2%} "
        "from pixel to pixel",
        f"bad pixels: {np.count_nonzero(~good)} ({', '.join(kinds)})",
    ]
    if np.isfinite(calibration.dark_error).any():
        errors = (
            np.sqrt(np.mean(e[good] ** 2)) for e in (calibration.dark_error, calibration.response_error)
        )
        lines.append("standard errors: dark charge {:.2g}, response {:.2%}".format(*errors))
    return lines


def quantiles(values, *parts):
    return " to ".join(f"{value:.3g}" for value in np.quantile(values, parts))


def robust(values):
    """A robust standard deviation, from the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def write_table(path, calibration):
    """Write the bad pixels as CSV: row, column, kind, dark, response."""
    with atomic_write(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["row", "column", "kind", "dark", "response"])
        for row, column in np.argwhere(calibration.bad).tolist():
            at = row, column
            figures = (f"{values[at]:.5g}" for values in (calibration.dark, calibration.response))
            table.writerow([row, column, KINDS[calibration.bad[at]], *figures])


def write_report(path, calibration, title):
    """Write a PNG of both maps, with bad pixels marked, and their histograms."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure((11, 8), layout="constrained")
    figure.suptitle(cli.shown(title), parse_math=False)
    axes = figure.subplots(2, 2)
    good = calibration.bad == 0
    places = np.argwhere(~good)
    units = {
        "dark charge, thresholds per step": calibration.dark,
        "response, relative to the mean": calibration.response,
    }
    for (name, values), (above, below) in zip(units.items(), axes.T):
        least, most = np.quantile(values[good] if good.any() else values, (0.005, 0.995))
        figure.colorbar(above.imshow(values, vmin=least, vmax=most, cmap="gray"), ax=above, shrink=0.7)
        above.scatter(places[:, 1], places[:, 0], 12, facecolors="none", edgecolors="tab:red", linewidths=0.7)
        above.set(title=name, xticks=[], yticks=[])
        below.hist(values[good], bins=100, range=(least - (most - least) / 4, most + (most - least) / 4))
        below.set(xlabel=name, ylabel="pixels")
        below.locator_params(axis="x", nbins=6)
    save_figure(path, figure)


def main(arguments=None):
    settings = parse_settings(arguments)
    check_flags(settings)
    if settings.published:
        calibration = load_calibration(settings.published)
        cli.log(
            "assuming that 1 / rate is proportional to 1 / (light + dark), as for pixels that only integrate"
        )
    else:
        dark, flats = open_all(settings)
        calibration, facts = calibrate(dark, flats, settings.keep_shading)
        levels = ", ".join(f"{level:.3g}" for level in facts["levels"])
        cli.log(
            f"light of the flats: {levels} spikes per step; noise {facts['noise']:.2%} of an interval between "
            "two spikes"
        )
        least, most = facts["shading"]
        cli.log(
            f"shading: {least:.3g} to {most:.3g} of the mean, "
            f"{'not corrected' if settings.keep_shading else 'corrected too'}"
        )
    for line in describe(calibration):
        cli.log(line)
    output = settings.output
    write_table(output.with_suffix(".csv"), calibration)
    write_report(output.with_suffix(".png"), calibration, output.name)
    calibration.save(output)
    cli.log(f"{output}, {output.with_suffix('.png').name}, {output.with_suffix('.csv').name}")
    return 0


if __name__ == "__main__":
    cli.run(main)
