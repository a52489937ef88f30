"""Turn a recording of a spike camera into pictures or a video.

    python reconstruct.py REC.dat                                       # results/REC.mp4, by the shipped weights
    python reconstruct.py REC.dat --output DIR --start 0.1s --stop 0.2s --stride 7
    python reconstruct.py REC.dat --output X.npy --method tfi --stride 1
    python reconstruct.py REC.dat --report                              # and a page to look at, results/REC.html
    torchrun --nproc_per_node 2 reconstruct.py REC.dat --output X.mp4   # each process takes a share
    zcat REC.dat.gz | python reconstruct.py - --height 250 --width 400 --output X.mp4

REC: `.dat`, `.npy` or `.npz` of spikes (T, H, W), or - for standard input. OUTPUT: X.mp4 (H.264), X.avi (Motion JPEG), X.npy
(uint8 (N, H, W)) or a folder of PNGs named by their steps. Only what a window needs is in memory. The same command goes on where
an interrupted one stopped.
"""

import argparse
import itertools
import math
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from datasets.recording import open_recording
from engine import BASELINES
from models import PRECISIONS, VARIANTS, load_model, shipped_weights
from models.classical import tfi_pictures, tfp_pictures
from utils import cli, page, report
from utils.cli import UserError
from utils.distributed import main_first, pick_device, processes, wait_for_all
from utils.inference import ENDLESS, ahead, group_size, key_frames, reconstruct
from utils.metrics import to_bytes
from utils.niqe import is_scorable, niqe, read_statistics
from utils.output import Curve, open_output, picture_name
from utils.protocol import RATE, STEPS

METHODS = ("swinsf", "tfp", "tfi")
WHITE = 0.9  # where --exposure auto puts the grey level that all but a hundredth of the pixels stay below
LOOKS = 8  # windows that it looks at
MOMENTS = 12  # of a recording that a report shows


def parse_settings(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag = parser.add_argument
    flag("recording", help="a .dat, .npy or .npz file, or - for standard input")
    flag("--output", type=Path, help="X.mp4, X.avi, X.npy or a folder of PNGs (default: results/ and the recording's name, .mp4)")
    flag("--overwrite", action="store_true", help="replace an output that is there")
    flag("--height", type=cli.positive_int, help="of a .dat file's steps (default: found out from the file)")
    flag("--width", type=cli.positive_int, help="of a .dat file's steps (default: found out from the file)")
    flag("--flip", type=cli.truth, help="whether steps are stored upside down, True or False (default: goes by the sensor)")
    flag("--start", type=cli.moment, help="first step to show, or a time such as 0.5s or 20ms (default: the first there is)")
    flag("--stop", type=cli.moment, help="step or time to end before (default: the end)")
    flag("--stride", type=cli.moment, default="20", help="steps or time from one picture to the next (default 20)")
    flag("--steps_per_second", type=cli.number(float, 1, 1e7), default=20000.0, help="of the camera (default 20000)")
    flag("--fps", type=cli.number(float, 0.1, 1000), default=25.0, help="pictures a second of the video (default 25)")
    flag("--method", default="swinsf", choices=METHODS, help="how pictures are made (default swinsf)")
    flag("--load_model", type=Path, help="weights of swinsf (default: the shipped swinsf_small.pth)")
    flag("--variant", choices=[*VARIANTS], help="the shipped weights of that variant (default small)")
    flag("--outputs", default="middle", choices=("middle", "all"), help="all: three pictures a pass, with --stride 1 or 7")
    flag("--window", type=cli.number(int, 1, STEPS), default=STEPS, help=f"steps of tfp (default {STEPS})")
    flag("--precision", default="fp32", choices=[*PRECISIONS], help="of the layers between spikes and pictures (default fp32)")
    flag("--tile", type=cli.count, default=0, help="largest side of the tiles to cut pictures into; 0: whole (default 0)")
    flag("--batch_size", type=cli.positive_int, default=1, help="windows that the network sees at a time (default 1)")
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda where there is one)")
    flag("--gamma", type=cli.number(float, 0.1, 10), default=1.0, help="grey levels to the power of 1/gamma (default 1)")
    flag("--exposure", type=exposure, default=1.0, help="factor on the grey levels, or auto for one by the brightest (default 1)")
    flag("--report", action="store_true", help="write a page that shows the methods side by side")
    flag("--compare", type=cli.named_folder, action="append", default=[], metavar="NAME=DIR", help="pictures for the page")
    return parser.parse_args(arguments)


def exposure(text):
    return text if text == "auto" else cli.number(float, 1e-3, 1e4)(text)


def in_steps(moment, settings):
    """A `cli.moment` in steps."""
    if moment is None:
        return None
    value, unit = moment
    return value if unit == "steps" else round(value * settings.steps_per_second)


def auto_exposure(spikes, keys):
    """The factor that brings the brightest hundredth of the grey levels, over a few windows, to WHITE of the range."""
    starts = {keys[len(keys) * i // LOOKS] - STEPS // 2 for i in range(LOOKS)}
    rates = np.stack([np.mean(spikes[start : start + STEPS], axis=0, dtype=np.float32) for start in sorted(starts)])
    bright = float(np.quantile(rates, 0.99)) / RATE
    return min(64.0, max(1 / 64, WHITE / bright)) if bright > 0 else 1.0


def choose_keys(spikes, settings):
    """The key frames to show, a range. Raises UserError where there are none."""
    steps = None if settings.recording == "-" else len(spikes)
    start, stop, stride = (in_steps(moment, settings) for moment in (settings.start, settings.stop, settings.stride))
    if not stride:
        raise UserError("--stride: less than a step from one picture to the next; take 1 or more")
    keys = key_frames(steps, start, stop, stride)
    if not keys:
        has = "" if steps is None else f" has {steps} steps, and a picture wants {STEPS // 2} before its own and after it"
        raise UserError(f"{settings.recording}:{has}; none is left from --start {start} to --stop {stop}; widen them")
    return keys


def share(keys, output, group, rank, size):
    """The key frames that are left for this process, an iterable; whole groups of them, see `utils.inference.plan_passes`."""
    if keys.stop == ENDLESS:
        return keys
    groups = [keys[i : i + group] for i in range(0, len(keys), group)]
    left = [part for part in groups if not all(map(output.done, part))]
    return list(itertools.chain(*left[len(left) * rank // size : len(left) * (rank + 1) // size]))


def make_pictures(spikes, keys, model, settings):
    """An iterator over the pictures at the key frames, (H, W) float arrays in grey levels."""
    if settings.method == "tfp":
        return tfp_pictures(spikes, keys, settings.window)
    if settings.method == "tfi":
        return tfi_pictures(spikes, keys)
    stride = in_steps(settings.stride, settings)
    return reconstruct(
        spikes, model, stride, batch_size=settings.batch_size, tile=settings.tile, outputs=settings.outputs, keys=keys
    )


def prepare(settings, rank):
    """(spikes, key frames, grey curve, output) of a run, the output claimed by process 0. Raises UserError for what is wrong."""
    piped = settings.recording == "-"
    if settings.load_model and settings.variant:
        raise UserError(f"--load_model {settings.load_model} with --variant {settings.variant}: take one of them")
    for name in ("exposure", "report"):
        if piped and getattr(settings, name) in ("auto", True):
            raise UserError(f"--{name} with standard input: it needs a second look at the recording; name a file")
    if settings.compare and not settings.report:
        raise UserError("--compare: its pictures are for the page; add --report")
    spikes, lines = open_recording(settings.recording, settings.height, settings.width, settings.flip)
    keys = choose_keys(spikes, settings)
    curve = Curve(auto_exposure(spikes, keys) if settings.exposure == "auto" else settings.exposure, settings.gamma)
    page.check_folders(
        settings.compare, [picture_name(key) for key in moments(keys)] if settings.report else [], (*BASELINES, "SwinSF")
    )
    weights = settings.load_model or shipped_weights(settings.variant or "small")
    shape = spikes.shape[-2:]
    about = {
        "recording": settings.recording if piped else str(Path(settings.recording).resolve()),
        "size": "x".join(map(str, shape)),
        "pictures": "as many as come" if keys.stop == ENDLESS else len(keys),
        "first": keys.start,
        "stride": keys.step,
        "method": settings.method,
        **{"exposure": curve.exposure, "gamma": curve.gamma, "flip": settings.flip},
    }
    if settings.method == "tfp":
        about["window"] = settings.window
    if settings.method == "swinsf":
        about.update({"weights": report.sha256(weights), "precision": settings.precision})
        about.update({"tile": settings.tile, "outputs": settings.outputs})
    name = "standard_input" if piped else Path(settings.recording).stem
    output = open_output(settings.output or Path("results") / f"{name}.mp4", about, shape, keys)
    if rank == 0:
        output.claim(settings.overwrite)
        for line in lines:
            cli.say(line)
    return spikes, keys, curve, output, weights


def moments(keys):
    """The key frames that a report shows: MOMENTS of them, evenly spread."""
    count = min(MOMENTS, len(keys))
    return [keys[(len(keys) - 1) * i // max(1, count - 1)] for i in range(count)]


def write_report(path, settings, spikes, keys, curve, output, seconds):
    """The page: the pictures at a few key frames beside those of the other methods, scored by NIQE where they are large enough."""
    main_method = {"swinsf": "SwinSF", "tfp": f"TFP{settings.window}", "tfi": "TFI"}[settings.method]
    statistics = read_statistics()
    rows, frames = [], []
    for key in moments(keys):
        window = torch.from_numpy((np.asarray(spikes[key - STEPS // 2 : key + STEPS // 2 + 1]) != 0).view(np.uint8))
        pictures, times = {}, {}
        for method, function in BASELINES.items():
            begin = time.perf_counter()
            pictures[method] = curve(function(window, "middle").numpy())
            times[method] = time.perf_counter() - begin
        pictures[main_method], times[main_method] = output.read(key), seconds
        for method, folder in settings.compare:
            pictures[method], times[method] = page.read_compared(folder, picture_name(key), window.shape[1:]), math.nan
        row = {"name": f"step {key}"}
        for method, picture in pictures.items():
            score = {"niqe": niqe(to_bytes(picture), statistics)} if is_scorable(picture) else {}
            row[method] = {**score, "seconds": times[method]}
        rows.append(row)
        label = f"step {key}, {key / settings.steps_per_second * 1e3:.1f} ms"
        frames.append(page.make_frame({"spikes": 255 * window[STEPS // 2].numpy(), **pictures}, label))
    name = Path(settings.recording).name
    about = {name: str(value) for name, value in output.about.items()}
    page.write_page(path, f"{name}: spike camera reconstructions", "step", about, rows, {name: frames}, ("TFP21", main_method))


def main(arguments=None):
    settings = parse_settings(arguments)
    with processes() as (rank, size):
        if size > 1 and settings.recording == "-":
            raise UserError("standard input with several processes: it can be read by one; name a file, or leave out torchrun")
        device = pick_device(settings.device)
        with main_first():
            spikes, keys, curve, output, weights = prepare(settings, rank)
            model = load_model(weights, device, settings.precision) if settings.method == "swinsf" else None
        group = group_size(keys.step, settings.outputs) if model else 1
        left = share(keys, output, group, rank, size)
        wait_for_all()  # all have seen what is done before anyone goes on
        begin = time.perf_counter()
        try:
            with cli.memory_errors("set --tile 320 or a smaller --batch_size, or take --device cpu"):
                made = write_pictures(left, make_pictures(spikes, left, model, settings), output, curve, rank, size)
            wait_for_all()
            if rank == 0:
                conclude(settings, spikes, keys, curve, output, made, time.perf_counter() - begin)
        except OSError as error:
            raise UserError(f"{cli.one_line(error)}. {output.kept()}") from None
        except KeyboardInterrupt:
            cli.say(output.kept())
            raise
    return 0


def write_pictures(keys, pictures, output, curve, rank, size):
    """Write the pictures at the key frames as they are made, the next ones meanwhile; returns how many came."""
    made = 0
    label = "reconstruct" if size == 1 else f"process 0 of {size}"
    total = None if isinstance(keys, range) and keys.stop == ENDLESS else len(keys)
    with tqdm(total=total, desc=label, unit="picture", dynamic_ncols=True, disable=rank > 0) as bar:
        for key, picture in zip(keys, ahead(pictures)):
            output.write(key, curve(picture))
            made += 1
            bar.update()
    return made


def conclude(settings, spikes, keys, curve, output, made, seconds):
    """The page of the report, the output under its final name, and a line on both."""
    if keys.stop == ENDLESS:
        keys = keys[:made]
        if spikes.left_over:
            cli.say(f"warning: standard input: its last {spikes.left_over} bytes are no whole step")
        if not made:
            raise UserError(f"standard input: ended after {spikes.position} steps; a picture wants {STEPS}")
    speed = f" ({made / seconds:.1f} pictures/s)" if made else ""
    if settings.report:
        path = output.path / "report.html" if not output.path.suffix else output.path.with_suffix(".html")
        write_report(path, settings, spikes, keys, curve, output, seconds / made if made else math.nan)
        cli.say(f"report: {path}")
    output.finish(len(keys), settings.fps)
    slower = settings.steps_per_second / (keys.step * settings.fps)
    cli.say(
        f"{len(keys)} pictures of steps {keys[0]} to {keys[-1]} in {seconds:.1f} s{speed}: {output.path}; at {settings.fps:g} "
        f"pictures a second {len(keys) / settings.fps:.1f} s, {slower:g} times slower than life"
    )


if __name__ == "__main__":
    cli.run(main)
