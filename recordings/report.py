"""The page of `reconstruct.py --report`: moments of a recording by several methods, side by side."""

import dataclasses
import math
import time
from pathlib import Path

import torch
from tqdm import tqdm

from swinsf.evaluation import page
from swinsf.evaluation.evaluate import BASELINES
from swinsf.evaluation.metrics import to_bytes
from swinsf.evaluation.niqe import is_scorable, niqe, read_statistics
from swinsf.recordings.binning import bin_steps
from swinsf.recordings.recording import spread
from swinsf.recordings.tone import moment_name, picture_name
from swinsf.utils.cli import UserError
from swinsf.utils.timing import STEPS

MOMENTS = 12  # most moments of a recording on a page


def method_name(settings) -> str:
    """The name of the method in tables and on the page."""
    return {"swinsf": "SwinSF", "tfp": f"TFP{settings.window}", "tfi": "TFI"}[settings.method]


def moments(keys: range) -> list[int]:
    """The key frames on the page: up to MOMENTS, evenly spread."""
    return [keys[i] for i in spread(min(MOMENTS, len(keys)), 0, len(keys) - 1)]


def check_report(settings, keys: range, shape: tuple):
    """Raises UserError, before the work begins, if the page cannot be written, or if pictures of --compare
    are missing or do not fit. shape: (H, W)."""
    page_path(settings)
    names = [picture_name(key) for key in moments(keys)] if settings.report else []
    page.check_folders(settings.compare, names, (*BASELINES, method_name(settings)))
    for _, folder in settings.compare:
        for name in names:
            page.read_compared(folder, name, shape)


def page_path(settings) -> Path:
    """The path of the page. Raises UserError if a file that is not such a page would be replaced."""
    output = settings.output
    is_file = output.suffix and not (settings.folder or output.is_dir())
    path = output.with_suffix(".html") if is_file else output / "report.html"
    if settings.report and path.exists() and not settings.overwrite and not page.is_page(path):
        raise UserError(
            f"{path}: already exists, and not a page of this script; add --overwrite, or choose another --output"
        )
    return path


def write_report(path: Path, job, seconds: float):
    """Write the page of a `Job`, with NIQE if pictures are large enough. seconds: time per picture."""
    settings, ours, statistics = job.settings, method_name(job.settings), read_statistics()
    rows, frames = [], []
    for key in tqdm(moments(job.plan.keys), "report", unit="moment", dynamic_ncols=True, leave=False):
        spikes, pictures, times = baselines_at(job, key)
        pictures[ours], times[ours] = job.output.read_bytes(key), seconds
        for method, folder in settings.compare:
            pictures[method] = page.read_compared(folder, picture_name(key), spikes.shape)
            times[method] = math.nan
        row = {"name": f"step {key}"}
        for method, picture in pictures.items():
            score = {"niqe": niqe(to_bytes(picture), statistics)} if is_scorable(picture) else {}
            row[method] = {**score, "seconds": times[method]}
        rows.append(row)
        frames.append(
            page.make_frame({"spikes": spikes, **pictures}, moment_name(key, settings.steps_per_second))
        )
    name = Path(settings.recording).name
    about = {key: str(value) for key, value in job.output.about.items()}
    compared = settings.compare[0][0] if settings.compare else "TFP21" if ours != "TFP21" else "TFI"
    title = f"{name}: spike camera reconstructions"
    page.write_page(path, title, "step", about, rows, {name: frames}, (compared, ours))


def baselines_at(job, key: int):
    """(spikes at a key frame as grey levels (H, W), {method: picture}, {method: seconds}) for TFP and TFI."""
    binned = bin_steps(job.recording, job.plan.bin, key)
    curve = dataclasses.replace(job.plan.curve, bits=8)
    middle = binned.bin_of(key)
    window = torch.from_numpy(binned[middle - STEPS // 2 : middle + STEPS // 2 + 1])
    pictures, times = {}, {}
    for method, function in BASELINES.items():
        begin = time.perf_counter()
        grey = function(window, "middle").numpy() / binned.bin
        pictures[method] = curve(job.pixels.correct(grey, binned.bin))
        times[method] = time.perf_counter() - begin
    return 255 * window[STEPS // 2].numpy(), pictures, times
