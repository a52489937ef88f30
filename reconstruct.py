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

import collections
import contextlib
import hashlib
import itertools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from datasets.recordings import open_recording
from engine import BASELINES
from models import PRECISIONS, VARIANTS, SwinSF, load_model, shipped_weights
from models.classical import tfi_pictures, tfp_pictures
from utils import cli, page, report
from utils.cli import UserError
from utils.distributed import agree, pick_device, processes, set_tf32, wait_for_all
from utils.inference import ahead, check_tile, group_size, keep_freed_memory, key_frames, reconstruct_at
from utils.metrics import to_bytes
from utils.niqe import is_scorable, niqe, read_statistics
from utils.output import Curve, Output, open_output, picture_name
from utils.timing import RATE, STEPS

METHODS = ("swinsf", "tfp", "tfi")
WHITE = 0.9  # where --exposure auto puts the grey level that all but a hundredth of the pixels stay below
LOOKS = 8  # windows that it looks at
MOMENTS = 12  # of a recording that a report shows


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("recording", help="a .dat, .npy or .npz file, or - for standard input")
    flag("--output", type=Path, help="X.mp4, X.avi, X.npy or a folder of PNGs (default: results/ and the recording's name, .mp4)")
    flag("--overwrite", action="store_true", help="replace an output that is there")
    flag("--height", type=cli.side, help="of a .dat file's steps (default: found out from the file)")
    flag("--width", type=cli.side, help="of a .dat file's steps (default: found out from the file)")
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
    flag("--batch_size", type=cli.batch_size, default=1, help="windows that the network sees at a time (default 1)")
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


def check_flags(settings, size):
    """Raises UserError for flags that do not go together; `size` is the number of processes."""
    piped = settings.recording == "-"
    if settings.load_model and settings.variant:
        raise UserError(f"--load_model {settings.load_model} with --variant {settings.variant}: take one of them")
    if settings.compare and not settings.report:
        raise UserError("--compare: its pictures are for the page; add --report")
    if piped and size > 1:
        raise UserError(f"standard input with {size} processes: one alone can read it; name a file, or leave out torchrun")
    if piped and (settings.report or settings.exposure == "auto"):
        flag = "--report" if settings.report else "--exposure auto"
        raise UserError(f"{flag} with standard input: it takes a second look at the recording; name a file")


def choose_keys(spikes, settings):
    """The key frames to show, a range. Raises UserError where there are none."""
    start, stop, stride = (in_steps(moment, settings) for moment in (settings.start, settings.stop, settings.stride))
    if not stride:
        raise UserError("--stride: less than a step from one picture to the next; take 1 or more")
    steps = len(spikes) if hasattr(spikes, "__len__") else None
    keys = key_frames(steps, start, stop, stride)
    if not keys:
        asked = "".join(f" --{name} {value}" for name, value in (("start", start), ("stop", stop)) if value is not None)
        raise UserError(
            f"{settings.recording}: no picture to show of {steps or 'its'} steps{asked and ' with' + asked}: one wants "
            f"{STEPS // 2} steps on either side of its own; record more, or widen --start and --stop"
        )
    return keys


def auto_exposure(spikes, keys):
    """The factor that brings the brightest hundredth of the grey levels, over a few windows, to WHITE of the range."""
    starts = {keys[len(keys) * i // LOOKS] - STEPS // 2 for i in range(LOOKS)}
    rates = np.stack([np.mean(spikes[start : start + STEPS], axis=0, dtype=np.float32) for start in sorted(starts)])
    bright = float(np.quantile(rates, 0.99)) / RATE
    return min(64.0, max(1 / 64, WHITE / bright)) if bright > 0 else 1.0


def fingerprint(spikes, key):
    """A hash of the first window: tells a recording from another that takes its name, but not from itself grown."""
    window = np.asarray(spikes[key - STEPS // 2 : key + STEPS // 2 + 1]) != 0
    return hashlib.sha256(window.tobytes()).hexdigest()


@dataclass(frozen=True)
class Job:
    """What a run works on."""

    spikes: object  # (T, H, W), read as it is sliced
    lines: list  # of text on the recording
    keys: range  # the key frames of the output
    curve: Curve
    model: SwinSF | None  # of method swinsf
    output: Output

    @property
    def piped(self):
        """Whether the recording comes from a pipe, so that the number of pictures shows only at the end."""
        return not hasattr(self.spikes, "__len__")


def prepare(settings, device, keys=None, curve=None):
    """The `Job` of the settings; nothing is written yet. Raises UserError for whatever is wrong with them.

    keys, curve: what process 0 chose, for the others; a recording may have grown since.
    """
    spikes, lines = open_recording(settings.recording, settings.height, settings.width, settings.flip)
    piped, shape = not hasattr(spikes, "__len__"), spikes.shape[-2:]
    keys = keys or choose_keys(spikes, settings)
    names = [picture_name(key) for key in moments(keys)] if settings.report else []
    page.check_folders(settings.compare, names, (*BASELINES, main_method(settings)))
    for _, folder in settings.compare:
        for name in names:
            page.read_compared(folder, name, shape)  # what does not fit is better known before the work than after
    exposure = auto_exposure(spikes, keys) if settings.exposure == "auto" and not curve else settings.exposure
    curve = curve or Curve(exposure, settings.gamma)
    about = {
        "recording": "-" if piped else str(Path(settings.recording).resolve()),
        "contents": None if piped else fingerprint(spikes, keys[0]),
        "size": "x".join(map(str, shape)),
        "pictures": "as many as come" if piped else len(keys),
        **{"first": keys.start, "stride": keys.step, "method": settings.method},
        **{"exposure": curve.exposure, "gamma": curve.gamma, "flip": settings.flip},
    }
    model = None
    if settings.method == "swinsf":
        weights = settings.load_model or shipped_weights(settings.variant or "small")
        model = load_model(weights, device, settings.precision)
        check_tile(settings.tile, model.config.window * model.config.patch)
        group_size(keys.step, settings.outputs)
        if min(shape) < 20:
            raise UserError(
                f"{settings.recording}: {about['size']}; the network wants 20 pixels a side; take --method tfp or tfi"
            )
        about.update({name: getattr(settings, name) for name in ("precision", "tile", "outputs")}, weights=report.sha256(weights))
    if settings.method == "tfp":
        about["window"] = settings.window
    path = settings.output or Path("results") / f"{'standard_input' if piped else Path(settings.recording).stem}.mp4"
    if not piped and path.exists() and path.samefile(settings.recording):
        raise UserError(f"--output {path}: is the recording itself; take another name")
    return Job(spikes, lines, keys, curve, model, open_output(path, about, shape, keys, piped))


def page_path(job, settings):
    """Where the page of --report goes. Raises UserError where a file that is no such page lies there."""
    path = job.output.path
    path = path.with_suffix(".html") if path.suffix and not path.is_dir() else path / "report.html"
    if settings.report and path.exists() and not settings.overwrite and not page.is_page(path):
        raise UserError(f"{path}: is there already, and no page of this script; add --overwrite, or take another --output")
    return path


def share(job, outputs, rank, size):
    """(the key frames that are left for this process, how many are left for all). Whole groups, see `inference.plan_passes`."""
    if job.piped:
        return job.keys, None
    done = job.output.done()
    group = group_size(job.keys.step, outputs) if job.model else 1
    groups = [job.keys[i : i + group] for i in range(0, len(job.keys), group)]
    left = [part for part in groups if not done.issuperset(part)]
    own = left[len(left) * rank // size : len(left) * (rank + 1) // size]
    return list(itertools.chain(*own)), sum(map(len, left))


def make_pictures(job, keys, settings, should_stop):
    """An iterator over (key frame, its picture): (H, W) float arrays in grey levels. Reads ahead; TFP and TFI make ahead."""
    if settings.method == "swinsf":
        options = {name: getattr(settings, name) for name in ("batch_size", "tile", "outputs")}
        return reconstruct_at(job.spikes, job.model, keys, job.keys.step, should_stop=should_stop, **options)
    window = [settings.window] if settings.method == "tfp" else []
    pictures = zip(keys, (tfp_pictures if window else tfi_pictures)(job.spikes, keys, *window))
    if job.piped:
        return ahead(of_whole_windows(pictures, job.spikes), patience=1, should_stop=should_stop)
    return ahead(pictures, should_stop=should_stop)


def of_whole_windows(pictures, piped):
    """Of the (key frame, picture) of a pipe those that the network would have, too: 20 steps follow them."""
    held = collections.deque()
    for item in pictures:
        held.append(item)
        while held and held[0][0] + STEPS // 2 < piped.position:
            yield held.popleft()
    yield from (item for item in held if item[0] + STEPS // 2 < piped.position)


def write_pictures(job, keys, settings, rank, size, should_stop):
    """Make and write the pictures at the key frames; returns how many there were. Threads of their own read and write.

    The network has the main thread, where PyTorch is a quarter faster on a CPU than in another.
    """
    made, total = 0, None if job.piped else len(keys)
    label = "reconstruct" if size == 1 else f"process 0 of {size}"
    bar = tqdm(total=total, desc=label, unit="picture", dynamic_ncols=True, disable=rank > 0)
    pictures, written = make_pictures(job, keys, settings, should_stop), collections.deque()
    with bar, contextlib.closing(pictures), ThreadPoolExecutor(1) as writer:
        for key, picture in pictures:
            written.append(writer.submit(lambda key, picture: job.output.write(key, job.curve(picture)), key, picture))
            if len(written) > 2:
                written.popleft().result()
            made += 1
            bar.update()
            if should_stop():
                break
        for future in written:
            future.result()
    return made


def main_method(settings):
    """What the method is called beside the others."""
    return {"swinsf": "SwinSF", "tfp": f"TFP{settings.window}", "tfi": "TFI"}[settings.method]


def moments(keys):
    """The key frames that a report shows: MOMENTS of them, evenly spread."""
    count = min(MOMENTS, len(keys))
    return [keys[(len(keys) - 1) * i // max(1, count - 1)] for i in range(count)]


def write_report(path, job, settings, seconds):
    """The page: the pictures at a few key frames beside those of the other methods, scored by NIQE where large enough."""
    ours, statistics = main_method(settings), read_statistics()
    rows, frames = [], []
    for key in tqdm(moments(job.keys), "report", unit="moment", dynamic_ncols=True, leave=False):
        window = job.spikes[key - STEPS // 2 : key + STEPS // 2 + 1]
        window = torch.from_numpy((np.asarray(window) != 0).view(np.uint8))
        pictures, times = {}, {}
        for method, function in BASELINES.items():
            begin = time.perf_counter()
            pictures[method] = job.curve(function(window, "middle").numpy())
            times[method] = time.perf_counter() - begin
        pictures[ours], times[ours] = job.output.read(key), seconds
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
    about = {name: str(value) for name, value in job.output.about.items()}
    shown = ("TFP21" if ours != "TFP21" else "TFI", ours)
    page.write_page(path, f"{name}: spike camera reconstructions", "step", about, rows, {name: frames}, shown)


def conclude(job, settings, made, seconds):
    """The page of the report, the output under its final name, and a line on both. Raises UserError where some are missing."""
    keys, path = job.keys, job.output.path
    if job.piped:
        keys = keys[:made]
        if job.spikes.left_over:
            cli.say(f"warning: standard input: its last {job.spikes.left_over} bytes are no whole step")
        if not made:
            job.output.discard()
            raise UserError(f"standard input: ended after {job.spikes.position} steps; a picture wants {STEPS}")
    missing = len(keys) - len(job.output.done().intersection(keys))
    if missing:
        raise UserError(f"{path}: {missing} pictures are missing, though every process came to its end")
    if settings.report:
        write_report(page_path(job, settings), job, settings, seconds / made if made else math.nan)
        cli.say(f"report: {page_path(job, settings)}")
    job.output.finish(len(keys), settings.fps)
    slower = settings.steps_per_second / (keys.step * settings.fps)
    cli.say(
        f"{path}: {len(keys)} pictures of steps {keys[0]} to {keys[-1]}, {made} made now in {seconds:.1f} s "
        f"({made / seconds:.3g} pictures/s); {len(keys) / settings.fps:.1f} s at {settings.fps:g} pictures a second, "
        f"{slower:.3g} times slower than life"
    )


def run(job, settings, rank, size):
    """Make what is left of a claimed output; returns the exit status."""
    left, total = share(job, settings.outputs, rank, size)
    wait_for_all()  # all have seen what is done before anyone goes on
    begin = time.perf_counter()
    try:
        remedy = "set --tile 320 or a smaller --batch_size, or take --device cpu"
        with cli.memory_errors(remedy), cli.Stopper() as stopper:
            made = write_pictures(job, left, settings, rank, size, stopper)
        if stopper():
            if rank == 0:
                cli.say(f"stopped. {job.output.kept()}")
            return 128 + stopper.signal
        wait_for_all()
        if rank == 0:
            conclude(job, settings, made if job.piped else total, time.perf_counter() - begin)
    except (UserError, OSError) as error:
        raise UserError(f"{cli.one_line(error)}. {job.output.kept()}") from None
    return 0


def main(arguments=None):
    settings = parse_settings(arguments)
    set_tf32(False)
    with processes() as (rank, size):
        device, job = pick_device(settings.device), None
        if rank == 0:
            check_flags(settings, size)
            job = prepare(settings, device)
            page_path(job, settings)
            job.output.claim(settings.overwrite)
            for line in job.lines:
                cli.say(line)
        chosen = agree((job.keys, job.curve) if rank == 0 else None)
        job = job or prepare(settings, device, *chosen)
        with contextlib.closing(job.output):
            return run(job, settings, rank, size)


if __name__ == "__main__":
    keep_freed_memory()
    cli.run(main)
