"""The results folder of test.py."""

import argparse
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swinsf.datasets import is_simulated
from swinsf.evaluation import page, tables
from swinsf.evaluation.evaluate import Score
from swinsf.evaluation.metrics import psnr_ssim, to_bytes
from swinsf.evaluation.niqe import niqe
from swinsf.evaluation.perceptual import load_lpips
from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.guard import keep_out, read_json, real_path

FIGURE_ROWS = 6  # streams in the comparison figure

Pictures = dict[str, np.ndarray]  # title -> (H, W) grey levels


class Scored(NamedTuple):
    """The scores of a stream, and its pictures for figure and report."""

    row: dict[str, Any]  # {"name": stream, method: {figure: value}}
    figure: Pictures | None  # for the comparison figure; None: not shown there
    frame: dict[str, Any] | None  # `page.make_frame` for the report; None: not shown there


def make_score(protocol: str, statistics: tuple[np.ndarray, np.ndarray], lpips: bool = False) -> Score:
    """The score function for `evaluate`: PSNR, SSIM and optionally LPIPS with ground truth, else NIQE."""
    distance = load_lpips() if lpips else None

    def score(picture: np.ndarray, truth: np.ndarray | None) -> dict[str, float]:
        if truth is None and distance:
            raise UserError("--lpips: there is no ground truth in this dataset; leave it out")
        if truth is None:
            return {"niqe": niqe(to_bytes(picture), statistics)}
        figures = psnr_ssim(picture, truth, protocol)._asdict()
        return {**figures, "lpips": distance(picture, truth)} if distance else figures

    return score


def prepare_folder(settings: argparse.Namespace, dataset: Any) -> Path:
    """Make the folder. Raises UserError if it would overwrite files of another dataset or stream."""
    folder = settings.save_path or Path("results") / source_of(settings.dataset_path).name
    if not settings.overwrite:
        check_own(folder, settings)
    keep_out(folder, "--save_path", dataset.files, dataset.folders, [place for _, place in settings.compare])
    taken = {"comparison"}
    for name in dataset.names:
        outputs = {name, f"{name}_spike", f"{name}_gt"}
        if outputs & taken:
            raise UserError(f"{name}.dat: its pictures would overwrite those of another stream; rename it")
        taken |= outputs
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"--save_path {folder}: not writable; choose another folder")
    return folder


def check_own(folder: Path, settings: argparse.Namespace) -> None:
    """Raises UserError if the folder has the results of another dataset or split."""
    try:
        scored = read_json(folder / tables.METRICS).get("scored")
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError):
        scored = None
    if scored != describe_source(settings):
        raise UserError(
            f"--save_path {folder}: has the results of {scored or 'an older version of this script'}; add --overwrite, "
            "or choose another folder"
        )


def describe_source(settings: argparse.Namespace) -> str:
    """The dataset and its split as text, independent of the working directory."""
    kind, path = settings.dataset_path.partition(":")[0], settings.dataset_path
    place = path if path == "demo" else f"{kind}:{source_of(path)}" if is_simulated(path) else source_of(path)
    return f"{place} ({settings.split})"


def source_of(path: str) -> Path:
    """The folder in a dataset's path, such as DIR in photos:DIR."""
    return real_path(path.partition(":")[2] if is_simulated(path) else path)


def write_pictures(folder: Path, name: str, picture: np.ndarray, spikes: np.ndarray, truth: Pictures) -> None:
    """Write the PNGs of a stream: ours, its key frame, and the ground truth if there is one."""
    tables.write_picture(folder / f"{name}.png", picture)
    tables.write_picture(folder / f"{name}_spike.png", spikes)
    for true_picture in truth.values():
        tables.write_picture(folder / f"{name}_gt.png", true_picture)


def write_results(
    folder: Path,
    settings: argparse.Namespace,
    scored: list[Scored],
    steps: dict[str, int],
    facts: dict[str, str],
) -> None:
    """Write metrics.csv, metrics.json, comparison.png and the report; print the table.

    steps: stream -> its scored step, counted from 1. facts: `dataset`, `weights` and `device` in words.
    """
    rows = [stream.row for stream in scored]
    shown = [(stream.row["name"], stream.figure) for stream in scored if stream.figure]
    protocol = settings.protocol if "psnr" in rows[0]["SwinSF"] else f"NIQE with {settings.niqe_params.name}"
    about = {
        "protocol": protocol,
        "weights": facts["weights"],
        "weights_sha256": tables.sha256(Path(facts["weights"])),
        "dataset": facts["dataset"],
        "scored": describe_source(settings),
        "settings": {
            key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()
        },
    }
    tables.write_metrics(folder, rows, "SwinSF", about, steps)
    tables.comparison_figure(folder / "comparison.png", shown)
    if settings.report:
        title = f"{source_of(settings.dataset_path).name}: spike camera reconstructions"
        frames = {stream.row["name"]: [stream.frame] for stream in scored if stream.frame}
        facts = {**facts, "protocol": protocol, "precision": settings.precision}
        compared = settings.compare[0][0] if settings.compare else "TFP21"
        page.write_page(folder / "report.html", title, "stream", facts, rows, frames, (compared, "SwinSF"))
    cli.log(tables.format_table(rows, steps, protocol))
