"""Turn a recording of a spike camera into pictures or a video.

    python reconstruct.py REC.dat                                       # results/REC.mp4, by the shipped weights
    python reconstruct.py REC.dat --output DIR --start 0.1s --stop 0.2s --stride 7
    python reconstruct.py REC.dat --output X.npy --method tfi --stride 1
    python reconstruct.py REC.dat --inspect                             # what it is like, and results/REC_inspect.png
    python reconstruct.py REC.dat --report                              # and a page to look at, results/REC.html
    torchrun --nproc_per_node 2 reconstruct.py REC.dat --output X.mp4   # each process takes a share
    python reconstruct.py A.dat B.dat FOLDER --slowmo 100 --output 'DIR/{name}.mp4'          # several, with one model
    zcat REC.dat.gz | python reconstruct.py - --height 250 --width 400 --output X.mp4

REC: `.dat` (also in gzip), `.npy` or `.npz` of spikes (T, H, W), a folder of them, a pattern, or - for
standard input. OUTPUT: X.mp4 (H.264), X.avi (Motion JPEG), X.gif, X.npy (N, H, W) or a folder of PNGs named
by their steps. Only what a window needs is in memory. The same command resumes where an interrupted one
stopped. Dark recordings are brightened, and several of their steps taken as one: a line says what was chosen,
and --exposure 1 and --bin 1 leave that out.
"""

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import itertools
import math
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from swinsf.utils import choices, cli
from swinsf.utils.cli import UserError
from swinsf.utils.timing import RATE, STEPS

METHODS = ("swinsf", "tfp", "tfi")
MOMENTS = 12  # of a recording that a report shows
BIN = "steps that are taken as one, more for darker recordings, or auto (default auto; 1 for tfp and tfi)"
OUTPUT = "(default: results/{name}.mp4)"
EXPOSURE = "factor on the grey levels, or auto for one that makes the bright pixels white (default auto; 1 with --rate)"


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        "recordings",
        nargs="+",
        metavar="REC",
        help="a .dat (also .gz), .npy or .npz file, a folder, a pattern, or -",
    )
    flag(
        "--output",
        type=Path,
        help="X.mp4, X.avi, X.gif, X.npy or a folder of PNGs, {name} for the recording's name " + OUTPUT,
    )
    flag("--overwrite", action="store_true", help="replace an output that is there")
    flag("--height", type=cli.side, help="of a .dat file's steps (default: found out from the file)")
    flag("--width", type=cli.side, help="of a .dat file's steps (default: found out from the file)")
    flag(
        "--flip",
        type=cli.truth,
        help="whether steps are stored upside down, True or False (default: goes by the sensor)",
    )
    flag(
        "--bit_order",
        choices=choices.BIT_ORDERS,
        help="the bit of a byte that is first (default: found out; mostly little)",
    )
    flag(
        "--start",
        type=cli.moment,
        help="first step to show, or a time such as 0.5s or 20ms (default: the first there is)",
    )
    flag("--stop", type=cli.moment, help="step or time to end before (default: the end)")
    flag("--crop", type=part, metavar="Y0:Y1,X0:X1", help="rows and columns to show (default: all)")
    flag("--stride", type=cli.moment, help="steps or time from one picture to the next (default 20)")
    flag(
        "--steps_per_second",
        type=cli.number(float, 1, 1e7),
        default=20000.0,
        help="of the camera (default 20000)",
    )
    flag("--fps", type=cli.number(float, 0.1, 1e7), help="pictures a second of the video (default 25)")
    flag(
        "--slowmo",
        type=cli.number(float, 1e-3, 1e9),
        help="times slower than life; the stride follows from it and --fps",
    )
    flag("--method", default="swinsf", choices=METHODS, help="how pictures are made (default swinsf)")
    flag("--bin", type=auto_or(cli.number(int, 1, 1000)), default="auto", help=BIN)
    flag("--load_model", type=Path, help="weights of swinsf (default: the shipped ones for recordings)")
    flag("--variant", choices=choices.VARIANTS, help="the shipped weights of that variant")
    flag(
        "--outputs",
        default="middle",
        choices=("middle", "all"),
        help="all: three pictures a pass, with --stride 1 or 7",
    )
    flag(
        "--calibration",
        type=Path,
        help="the camera's, by calibrate.py: dark charge, response, bad pixels (default: none)",
    )
    flag(
        "--repair",
        default="auto",
        choices=choices.REPAIRS,
        help="auto: fill bad pixels from their neighbours (default auto)",
    )
    flag(
        "--window",
        type=cli.number(int, 1, 10**6),
        default=STEPS,
        help=f"steps of tfp, after --bin (default {STEPS})",
    )
    flag(
        "--precision",
        default="fp32",
        choices=choices.PRECISIONS,
        help="of the layers from spikes to pictures (default fp32)",
    )
    flag(
        "--tile",
        type=cli.count,
        default=0,
        help="largest side of the tiles to cut pictures into; 0: whole (default 0)",
    )
    flag(
        "--batch_size",
        type=cli.batch_size,
        default=1,
        help="windows that the network sees at a time (default 1)",
    )
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda where there is one)")
    flag(
        "--gamma",
        type=cli.number(float, 0.1, 10),
        default=1.0,
        help="grey levels to the power of 1/gamma (default 1)",
    )
    flag("--exposure", type=auto_or(cli.number(float, 1e-3, 1e4)), help=EXPOSURE)
    flag("--rate", type=cli.rate, help="spikes a step that are white (default 0.6)")
    flag(
        "--bits",
        type=int,
        default=8,
        choices=(8, 16, 32),
        help="of a grey level: 16 in PNGs and .npy, 32 for floats in .npy",
    )
    flag("--stamp", action="store_true", help="write its step and time into each picture")
    flag(
        "--inspect",
        action="store_true",
        help="say what the recording is like, and make a sheet of pictures, a PNG, no more",
    )
    flag("--report", action="store_true", help="write a page that shows the methods side by side")
    flag(
        "--compare",
        type=cli.named_folder,
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="pictures for the page",
    )
    return parser.parse_args(arguments)


def auto_or(kind):
    """argparse type for "auto", or a value of that kind."""
    return lambda text: text if text == "auto" else kind(text)


def part(text):
    """argparse type for y0:y1,x0:x1, each end with a default -> ((y0, y1), (x0, x1)), None where there is no
    number."""
    found = re.fullmatch(r"(\d*):(\d*),(\d*):(\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not y0:y1,x0:x1, such as 0:100,50:250")
    ends = [int(number) if number else None for number in found.groups()]
    return tuple(ends[:2]), tuple(ends[2:])


def look():
    """`cli.begin` of this script: parse the flags and look at the paths that they name."""
    settings = parse_settings(None)
    for recording in settings.recordings:
        choices.look_at_recording(recording)
    choices.look_at_weights(settings.load_model)
    choices.look_at_calibration(settings.calibration)


if __name__ == "__main__":
    cli.begin(look)  # before the imports that take seconds

import numpy as np
import torch
from tqdm import tqdm

from swinsf.evaluation import page, tables
from swinsf.evaluation.evaluate import BASELINES
from swinsf.evaluation.metrics import to_bytes
from swinsf.evaluation.niqe import is_scorable, niqe, read_statistics
from swinsf.models import SwinSF, fit_of, load_model, shipped_weights, weights_file, weights_for
from swinsf.models.classical import tfi_pictures, tfp_pictures
from swinsf.models.tiling import check_tile
from swinsf.recordings import (
    Pixels,
    Plan,
    crop,
    list_recordings,
    look_at_pixels,
    make_plan,
    open_recording,
    output_paths,
    repair,
)
from swinsf.recordings.binning import bin_steps
from swinsf.recordings.inspect import contact_sheet, describe, inspect, is_sheet
from swinsf.recordings.output import Output, open_output, picture_name, stamp
from swinsf.recordings.stream import group_size, prefetch, reconstruct_binned
from swinsf.utils.allocator import tune_allocator
from swinsf.utils.distributed import broadcast, pick_device, processes, set_tf32, wait_for_all


def check_flags(settings, size):
    """Raises UserError for flags that do not go together; `size` is the number of processes."""
    piped = settings.recording == "-"
    if settings.load_model and settings.variant:
        raise UserError(
            f"--load_model {settings.load_model} with --variant {settings.variant}: take one of them"
        )
    if settings.stamp and settings.bits == 32:
        raise UserError("--stamp with --bits 32: floats are for numbers; leave one of them out")
    if settings.bits == 32 and settings.gamma != 1:
        raise UserError(
            f"--gamma {settings.gamma:g} with --bits 32: floats are grey levels as they are; leave one of them out"
        )
    if settings.compare and not settings.report:
        raise UserError("--compare: its pictures are for the page; add --report")
    if piped and size > 1:
        raise UserError(
            f"standard input with {size} processes: one alone can read it; name a file, or leave out torchrun"
        )
    if piped and settings.report:
        raise UserError("--report with standard input: it takes a second look at the recording; name a file")


def fingerprint(spikes, key):
    """A hash of the first window: tells a recording from another that takes its name, but not from itself
    grown."""
    window = np.asarray(spikes[key - STEPS // 2 : key + STEPS // 2 + 1]) != 0
    return hashlib.sha256(window.tobytes()).hexdigest()


@dataclass(frozen=True)
class Job:
    """What a run works on."""

    settings: argparse.Namespace  # with `recording` and `output` of this one
    spikes: object  # (T, H, W), read as it is sliced
    lines: list  # of text on the recording
    plan: Plan
    pixels: Pixels  # of the part that is shown
    model: SwinSF | None  # of method swinsf
    output: Output

    @property
    def keys(self):
        """The key frames of the output, a range."""
        return self.plan.keys

    @property
    def piped(self):
        """Whether the recording comes from a pipe, so that the number of pictures shows only at the end."""
        return not hasattr(self.spikes, "__len__")


def open_settings(settings, pixels=None, repair_as=None):
    """(spikes, lines, `Pixels`) of the settings: the recording, see `open_recording`, with bad pixels filled,
    and its part.

    pixels: as they were found before. repair_as: in place of --repair.
    """
    size, name = (settings.height, settings.width), settings.recording
    spikes, lines = open_recording(name, *size, settings.flip, bitorder=settings.bit_order)
    pixels = pixels or look_at_pixels(spikes, settings.calibration, repair_as or settings.repair, name)
    spikes = repair(spikes, pixels.bad)  # before the crop, so that a part looks as it does in the whole
    return crop(spikes, *settings.crop, name) if settings.crop else spikes, lines, pixels


def prepare(settings, weights, model, plan=None):
    """The `Job` of one recording; nothing is written yet. Raises UserError for whatever is wrong with it or
    the settings.

    weights, model: those of `load_weights`. plan: what process 0 chose, for the others; a recording may have
    grown since.
    """
    spikes, lines, pixels = open_settings(settings, plan and plan.pixels)
    piped, shape = not hasattr(spikes, "__len__"), spikes.shape[-2:]
    plan = plan or make_plan(spikes, settings, weights, weights and fit_of(weights), pixels)
    keys = plan.keys
    names = [picture_name(key) for key in moments(keys)] if settings.report else []
    page.check_folders(settings.compare, names, (*BASELINES, main_method(settings)))
    for _, folder in settings.compare:
        for name in names:
            # what does not fit is better known before the work than after
            page.read_compared(folder, name, shape)
    size = "x".join(map(str, shape))
    if model:
        check_tile(settings.tile, model.config.window * model.config.patch)
        group_size(keys.step // plan.bin, settings.outputs)
        if min(shape) < 20:
            raise UserError(
                f"{settings.recording}: {size}; the network wants 20 pixels a side; take --method tfp or tfi"
            )
    path = settings.output
    if not piped and path.exists() and path.samefile(settings.recording):
        raise UserError(f"--output {path}: is the recording itself; take another name")
    about = {
        "recording": "-" if piped else str(Path(settings.recording).resolve()),
        "contents": None if piped else fingerprint(spikes, keys[0]),
        "size": size,
        "pictures": "as many as come" if piped else len(keys),
        **describe_settings(settings, plan, weights),
    }
    output = open_output(path, about, shape, keys, piped, plan.fps, settings.bits)
    pixels = pixels.crop(spikes.rows, spikes.columns) if settings.crop else pixels
    return Job(settings, spikes, [*lines, *pixels.lines, *plan.lines], plan, pixels, model, output)


def describe_settings(settings, plan, weights):
    """name -> plain value of what the pictures depend on. Some flags are there only where they are used."""
    about = {
        **{"first": plan.keys.start, "stride": plan.keys.step, "bin": plan.bin, "method": settings.method},
        **{"exposure": plan.curve.exposure, "gamma": plan.curve.gamma, "flip": settings.flip},
    }
    used = {"bit_order": None, "crop": None, "stamp": False, "bits": 8}
    about.update(
        {name: getattr(settings, name) for name, unused in used.items() if getattr(settings, name) != unused}
    )
    if weights:
        about.update(
            {name: getattr(settings, name) for name in ("precision", "tile", "outputs")},
            weights=tables.sha256(weights),
        )
    if plan.pixels.bad.any():
        rows, columns = np.nonzero(plan.pixels.bad)
        about["repair"] = (
            f"{len(rows)} pixels ({tables.sha256_of(np.stack([rows, columns]).astype('<i8').tobytes())[:8]})"
        )
    if settings.calibration:
        about["calibration"] = tables.sha256(settings.calibration)
    if settings.method == "tfp":
        about["window"] = settings.window
    return about


def load_weights(settings, device):
    """(path, model, a line on it) of the network; (None, None, None) for other methods."""
    weights = choose_weights(settings)
    if weights is None:
        return None, None, None
    fit = fit_of(weights)
    return (
        weights,
        load_model(weights, device, settings.precision),
        f"weights: {weights}{f', for {fit.purpose}' if fit else ''}",
    )


def choose_weights(settings):
    """The path of the network's weights; None for other methods."""
    if settings.method != "swinsf":
        return None
    if settings.load_model:
        return weights_file(settings.load_model)
    return shipped_weights(settings.variant) if settings.variant else weights_for("recordings")


def show_inspection(settings):
    """What --inspect does: lines on the recording, and the sheet of pictures."""
    if settings.recording == "-":
        raise UserError("--inspect with standard input: it cannot be looked at here and there; name a file")
    path = settings.output
    if path.suffix.lower() != ".png" or path.is_dir():
        raise UserError(
            f"--output {path}: the sheet of --inspect is a PNG; take the name of a file that ends in .png"
        )
    if path.exists() and not settings.overwrite and not is_sheet(path):
        raise UserError(
            f"--output {path}: is there already, and no sheet of --inspect; add --overwrite, or take another name"
        )
    # Without a calibration the sheet shows bad pixels as they are.
    spikes, lines, pixels = open_settings(settings, repair_as=None if settings.calibration else "none")
    for line in (*lines, *pixels.lines):
        cli.log(line)
    cli.log(
        f"{len(spikes) / settings.steps_per_second:.4g} s at {settings.steps_per_second:g} steps a second"
    )
    facts = inspect(spikes)
    pixels = pixels.crop(spikes.rows, spikes.columns) if settings.crop else pixels
    facts["pictures"] = [pixels.correct(rate * (255 / RATE)) * (RATE / 255) for rate in facts["pictures"]]
    for line in describe(facts, settings.steps_per_second):
        cli.log(line)
    contact_sheet(
        path, f"{Path(settings.recording).name}: mean firing rate", facts, settings.steps_per_second
    )
    cli.log(f"pictures: {path}")


def page_path(job, settings):
    """Where the page of --report goes. Raises UserError where a file that is no such page lies there."""
    path = job.output.path
    path = path.with_suffix(".html") if path.suffix and not path.is_dir() else path / "report.html"
    if settings.report and path.exists() and not settings.overwrite and not page.is_page(path):
        raise UserError(
            f"{path}: is there already, and no page of this script; add --overwrite, or take another --output"
        )
    return path


def share(job, outputs, rank, size):
    """(the key frames that are left for this process, how many are left for all). Whole groups, see
    `inference.plan_passes`."""
    if job.piped:
        return job.keys, None
    done = job.output.done()
    group = group_size(job.keys.step // job.plan.bin, outputs) if job.model else 1
    groups = [job.keys[i : i + group] for i in range(0, len(job.keys), group)]
    left = [part for part in groups if not done.issuperset(part)]
    own = left[len(left) * rank // size : len(left) * (rank + 1) // size]
    return list(itertools.chain(*own)), sum(map(len, left))


def make_pictures(job, keys, settings, should_stop):
    """An iterator over (key frame, its picture): (H, W) float arrays in grey levels. Reads ahead; TFP and TFI
    make ahead."""
    bin = job.plan.bin
    if settings.method == "swinsf":
        options = {name: getattr(settings, name) for name in ("batch_size", "tile", "outputs")}
        options |= {"calibration": job.pixels.maps, "should_stop": should_stop}
        return limited(
            reconstruct_binned(job.spikes, job.model, keys, job.keys.step, bin, **options), job.pixels, bin
        )
    binned = bin_steps(job.spikes, bin, job.keys.start)
    window = [settings.window] if settings.method == "tfp" else []
    made = (tfp_pictures if window else tfi_pictures)(binned, map(binned.bin_of, keys), *window)
    pictures = ((key, job.pixels.correct(picture / bin, bin)) for key, picture in zip(keys, made))
    if job.piped:
        return prefetch(of_whole_windows(pictures, binned), patience=1, should_stop=should_stop)
    return prefetch(pictures, should_stop=should_stop)


def limited(pictures, pixels, bin):
    """The (key frame, picture) of an iterator, the pictures as `Pixels.limit` cuts them."""
    with contextlib.closing(pictures):
        for key, picture in pictures:
            yield key, pixels.limit(picture, bin)


def of_whole_windows(pictures, piped):
    """Of the (key frame, picture) of a pipe those that the network would have, too: 20 steps follow them."""
    held = collections.deque()
    for item in pictures:
        held.append(item)
        while held and piped.bin_of(held[0][0]) + STEPS // 2 < piped.position:
            yield held.popleft()
    yield from (item for item in held if piped.bin_of(item[0]) + STEPS // 2 < piped.position)


def write_pictures(job, keys, bar, should_stop):
    """Make and write the pictures at the key frames; returns how many there were. Threads of their own read
    and write.

    The network has the main thread, where PyTorch is a quarter faster on a CPU than in another.
    """

    def write(key, picture):
        picture = job.plan.curve(picture)
        job.output.write(
            key, stamp(picture, moment_name(key, job.settings)) if job.settings.stamp else picture
        )

    made, pictures, written = 0, make_pictures(job, keys, job.settings, should_stop), collections.deque()
    with contextlib.closing(pictures), ThreadPoolExecutor(1) as writer:
        for key, picture in pictures:
            written.append(writer.submit(write, key, picture))
            if len(written) > 2:
                written.popleft().result()
            made += 1
            bar.update()
            if should_stop():
                break
        for future in written:
            future.result()
    return made


def moment_name(key, settings):
    """A step and its time, as text."""
    return f"step {key}, {key / settings.steps_per_second * 1e3:.4g} ms"


def main_method(settings):
    """What the method is called in tables and on the page."""
    return {"swinsf": "SwinSF", "tfp": f"TFP{settings.window}", "tfi": "TFI"}[settings.method]


def moments(keys):
    """The key frames that a report shows: MOMENTS of them, evenly spread."""
    count = min(MOMENTS, len(keys))
    return [keys[(len(keys) - 1) * i // max(1, count - 1)] for i in range(count)]


def write_report(path, job, settings, seconds):
    """The page: pictures at a few key frames, ours and those of other methods, scored by NIQE where large
    enough."""
    ours, statistics = main_method(settings), read_statistics()
    rows, frames, curve = [], [], dataclasses.replace(job.plan.curve, bits=8)
    binned = bin_steps(job.spikes, job.plan.bin, job.keys.start)
    for key in tqdm(moments(job.keys), "report", unit="moment", dynamic_ncols=True, leave=False):
        middle = binned.bin_of(key)
        window = torch.from_numpy(binned[middle - STEPS // 2 : middle + STEPS // 2 + 1])
        pictures, times = {}, {}
        for method, function in BASELINES.items():
            begin = time.perf_counter()
            pictures[method] = curve(
                job.pixels.correct(function(window, "middle").numpy() / binned.bin, binned.bin)
            )
            times[method] = time.perf_counter() - begin
        pictures[ours], times[ours] = job.output.read_bytes(key), seconds
        for method, folder in settings.compare:
            pictures[method], times[method] = (
                page.read_compared(folder, picture_name(key), window.shape[1:]),
                math.nan,
            )
        row = {"name": f"step {key}"}
        for method, picture in pictures.items():
            score = {"niqe": niqe(to_bytes(picture), statistics)} if is_scorable(picture) else {}
            row[method] = {**score, "seconds": times[method]}
        rows.append(row)
        shot = {"spikes": 255 * window[STEPS // 2].numpy(), **pictures}
        frames.append(page.make_frame(shot, moment_name(key, settings)))
    name = Path(settings.recording).name
    about = {name: str(value) for name, value in job.output.about.items()}
    compared = settings.compare[0][0] if settings.compare else "TFP21" if ours != "TFP21" else "TFI"
    page.write_page(
        path, f"{name}: spike camera reconstructions", "step", about, rows, {name: frames}, (compared, ours)
    )


def conclude(job, settings, made, seconds):
    """The page of the report, the output under its final name, and a line on both. Raises UserError where
    some are missing."""
    keys, path = job.keys, job.output.path
    if job.piped:
        keys = keys[:made]
        if job.spikes.left_over:
            cli.log(f"warning: standard input: its last {job.spikes.left_over} bytes are no whole step")
        if not made:
            job.output.discard()
            raise UserError(
                f"standard input: ended after {job.spikes.position} steps; a picture wants {STEPS * job.plan.bin}"
                + (" where there are so many as one; take --bin 1" if job.plan.bin > 1 else "")
            )
    missing = len(keys) - len(job.output.done().intersection(keys))
    if missing:
        raise UserError(f"{path}: {missing} pictures are missing, though every process came to its end")
    if settings.report:
        write_report(page_path(job, settings), job, settings, seconds / made if made else math.nan)
        cli.log(f"report: {page_path(job, settings)}")
    job.output.finish(len(keys))
    fps = job.plan.fps
    several = f"pictures of steps {keys[0]} to {keys[-1]}" if len(keys) > 1 else f"picture of step {keys[0]}"
    cli.log(
        f"{job.output.place()}: {len(keys)} {several}, {made} made now in {seconds:.1f} s "
        f"({made / seconds:.3g} pictures/s); {len(keys) / fps:.3g} s at {fps:.4g} pictures a second, "
        f"{settings.steps_per_second / (keys.step * fps):.3g} times slower than life"
    )


def show_finished(job):
    """What a command does whose output is there already: the page of the report, where it is asked for."""
    if job.settings.report:
        write_report(page_path(job, job.settings), job, job.settings, math.nan)
        cli.log(f"report: {page_path(job, job.settings)}")
    cli.log(
        f"{job.output.place()}: is there already, by the same settings; nothing to do (--overwrite makes it again)"
    )


def run(job, bar, rank, size):
    """Make what is left of a claimed output; returns the exit status."""
    left, total = share(job, job.settings.outputs, rank, size)
    wait_for_all()  # all have seen what is done before anyone continues
    bar.total = None if job.piped else (bar.total or 0) + len(left)  # of the recordings so far
    begin = time.perf_counter()
    try:
        remedy = "set --tile 320 or a smaller --batch_size, or take --device cpu"
        with cli.memory_errors(remedy), cli.Stopper() as stopper:
            made = write_pictures(job, left, bar, stopper)
        if stopper():
            if rank == 0:
                cli.log(f"stopped. {job.output.kept()}")
            return 128 + stopper.signal
        wait_for_all()
        if rank == 0:
            conclude(job, job.settings, made if job.piped else total, time.perf_counter() - begin)
    except (UserError, OSError) as error:
        raise UserError(f"{cli.one_line(error)}. {job.output.kept()}") from None
    return 0


def start(settings, weights, model, rank, size):
    """(the `Job` of one recording, claimed; whether it is finished already). All processes have the same, or
    an error."""
    job, finished = None, False
    if rank == 0:
        check_flags(settings, size)
        job = prepare(settings, weights, model)
        page_path(job, settings)
        finished = not settings.overwrite and job.output.is_finished()
        if not finished:
            job.output.claim(settings.overwrite)
        for line in job.lines:
            cli.log(line)
    plan, finished = broadcast((job.plan, finished) if rank == 0 else None)
    return job or prepare(settings, weights, model, plan), finished


def for_each(settings, suffix):
    """The settings of each recording, with its `recording` and `output`."""
    recordings = list_recordings(settings.recordings)
    paths = output_paths(recordings, settings.output, suffix)
    return [
        argparse.Namespace(**{**vars(settings), "recording": r, "output": path})
        for r, path in zip(recordings, paths)
    ]


def work_through(all_settings, weights, model, bar, rank, size):
    """Each recording in turn; returns the exit status. What is wrong with one of several stops that one
    alone."""
    status = 0
    for settings in all_settings:
        try:
            job, finished = start(settings, weights, model, rank, size)
            with contextlib.closing(job.output):
                if finished and rank == 0:
                    show_finished(job)
                ended = 0 if finished else run(job, bar, rank, size)
            if ended:
                return ended
        except (UserError, OSError) as error:
            if len(all_settings) == 1 or size > 1:  # other processes wait for this one
                raise
            print(f"error: {cli.one_line(error)}", file=sys.stderr)
            status = 2
    return status


def main(arguments=None):
    settings = parse_settings(arguments)
    set_tf32(False)
    with processes() as (rank, size):
        all_settings = broadcast(
            for_each(settings, "_inspect.png" if settings.inspect else ".mp4") if rank == 0 else None
        )
        if settings.inspect:
            for one in all_settings if rank == 0 else []:
                show_inspection(one)
            return 0
        if rank == 0:
            for one in all_settings:
                check_flags(one, size)
        if settings.compare and len(all_settings) > 1:
            raise UserError(
                f"--compare with {len(all_settings)} recordings: pictures of one are compared; name one"
            )
        weights, model, line = load_weights(settings, pick_device(settings.device))
        if line and rank == 0:
            cli.log(line)
        label = "reconstruct" if size == 1 else f"process 0 of {size}"
        with tqdm(desc=label, unit="picture", dynamic_ncols=True, disable=rank > 0, delay=0.5) as bar:
            return work_through(all_settings, weights, model, bar, rank, size)


if __name__ == "__main__":
    tune_allocator()
    cli.run(main)
