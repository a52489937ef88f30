"""Reconstruct a dataset and score it.

    python test.py                                  # the built-in demo dataset, with the shipped weights
    python test.py --data_mode 250 --dataset_path ./datasets/spike_reds --device cuda:0
    python test.py --data_mode 1000 --dataset_path ./datasets/spike_x4k --load_model W --save_image False --save_path DIR
    python test.py --data_mode 250 --dataset_path ./datasets/classA         # no ground truth: NIQE
    python test.py --dataset_path ./datasets/spike_reds --report --compare WGSE=DIR      # DIR has a NAME.png for each stream
    python test.py --method NAME=module:function     # spikes (B, 41, H, W) -> grey levels (B, H, W), or an nn.Module
    torchrun --nproc_per_node 8 test.py --dataset_path ./datasets/spike_reds       # each process does a share

Results in SAVE_PATH: NAME.png, NAME_spike.png (the key frame) and NAME_gt.png of each stream, metrics.csv,
metrics.json, comparison.png and, with --report, report.html for any browser.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

from swinsf.evaluation.settings import look, parse_settings
from swinsf.utils import cli

if __name__ == "__main__":
    cli.begin(lambda: look(__doc__))  # before the slow imports

import numpy as np
import torch

from swinsf.datasets import open_dataset, scored_output
from swinsf.datasets.paired import LOOKED_AT, ClassA
from swinsf.evaluation import page, results
from swinsf.evaluation.evaluate import BASELINES, Method, Score, evaluate, limited, network
from swinsf.evaluation.methods import compared as compared_pictures
from swinsf.evaluation.methods import own_methods
from swinsf.evaluation.niqe import read_statistics
from swinsf.models import fast, fit_of, load_model, weights_file, weights_for
from swinsf.recordings import look_at_pixels
from swinsf.recordings.repair import Filler
from swinsf.utils import distributed
from swinsf.utils.allocator import tune_allocator
from swinsf.utils.timing import KEY_FRAMES

PURPOSES = {"250": "spike-REDS", "1000": "spike-X4K"}  # data mode -> purpose of the shipped weights
# A GPU computes batches of up to 1000x1000 pixels, and threads score while it works. On a CPU, they would
# compete with the network for cores, and distort its measured time.
ON_GPU = {"pixels": 10**6, "scorers": 4}


def prepare(
    settings: argparse.Namespace, device: torch.device
) -> tuple[Path, dict[str, Method], Any, Score, Path]:
    """(weights file, methods, dataset, score function, results folder). Raises UserError for bad settings."""
    path, stored = settings.dataset_path, {"flip": settings.flip, "rate": settings.rate}
    dataset = open_dataset(path, settings.data_mode, settings.split, settings.key_id, **stored)
    purpose = "recordings" if isinstance(dataset, ClassA) else PURPOSES[settings.data_mode]
    weights = weights_file(settings.load_model or weights_for(purpose, bool(settings.calibration)))
    model = load_model(weights, device, settings.precision)
    if settings.compile:
        distributed.check_compiler(device)
        fast.compile_blocks(model)
    methods = {**BASELINES, **own_methods(settings.method, device), "SwinSF": network(model, settings.tile)}
    if settings.calibration:
        limit = calibrate(dataset, settings)
        methods = {name: limited(method, limit) for name, method in methods.items()}
    score = results.make_score(settings.protocol, read_statistics(settings.niqe_params), settings.lpips)
    folder = results.prepare_folder(settings, dataset)
    page.check_folders(settings.compare, dataset.names, methods)
    return weights, methods, dataset, score, folder


def calibrate(dataset: Any, settings: argparse.Namespace) -> float:
    """Apply --calibration to a dataset and fill its bad pixels; returns the grey level at which
    pixels saturate.

    Raises UserError if the dataset has ground truth or is from another camera.
    """
    path = settings.calibration
    if not isinstance(dataset, ClassA):
        raise cli.UserError(
            f"--calibration {path}: only for recordings of a camera without ground truth (classA); leave it out"
        )
    looks = np.concatenate([dataset.read(i)["spikes"] for i in range(min(LOOKED_AT, len(dataset)))])
    pixels = look_at_pixels(looks, path, name=settings.dataset_path)
    for line in pixels.lines:
        cli.log(line)
    dataset.maps = dict(zip(("dark", "response"), pixels.maps))
    if pixels.bad.any():
        dataset.fill = Filler(pixels.bad)
    return pixels.most()


def score_streams(
    settings: argparse.Namespace,
    methods: dict[str, Method],
    dataset: Any,
    device: torch.device,
    score: Score,
    folder: Path,
) -> list[results.Scored]:
    """Reconstruct, score and save this process's share of a dataset."""
    scored, framed = [], dataset.names[: page.STREAMS] if settings.report else ()
    options = ON_GPU if device.type == "cuda" else {}
    if settings.tile:  # memory is scarce
        options = {**options, "pixels": 0}
    for item, pictures, figures in evaluate(methods, dataset, device, score, settings.workers, **options):
        output, name = scored_output(item), item["name"]
        spikes = {"spikes": 255 * item["spikes"][KEY_FRAMES[output]].numpy()}
        truth = {page.TRUTH: item[output][0].numpy()} if output in item else {}
        for method, compared in settings.compare:
            pictures[method] = page.read_compared(compared, name, spikes["spikes"].shape)
            figures[method] = {**score(pictures[method], truth.get(page.TRUTH)), "seconds": math.nan}
        if settings.save_image:
            results.write_pictures(folder, name, pictures["SwinSF"], spikes["spikes"], truth)
        figure = {**spikes, **compared_pictures(pictures), **truth}
        frame = page.make_frame({**spikes, **pictures, **truth}) if name in framed else None
        shown = name in dataset.names[: results.FIGURE_ROWS]
        scored.append(results.Scored({"name": name, **figures}, figure if shown else None, frame))
    return scored


def main(arguments: list[str] | None = None) -> int:
    settings = parse_settings(arguments, __doc__)
    device = distributed.pick_device(settings.device)
    distributed.set_tf32(settings.tf32)
    with distributed.processes() as (rank, size):
        parts = distributed.first_then_others(lambda: prepare(settings, device))
        weights, methods, dataset, score, folder = parts
        for line in (dataset.description, *(f"warning: {text}" for text in dataset.warnings)):
            cli.log(line)
        fit, shared = fit_of(weights), f", {size} processes" if size > 1 else ""
        made_for = f", for {fit.purpose}," if fit else ""
        cli.log(f"weights {weights}{made_for} in {settings.precision} on {device}{shared}")
        begin = time.perf_counter()
        with cli.memory_errors("set --tile 320, or use --device cpu or the weights of a smaller variant"):
            scored = score_streams(settings, methods, dataset, device, score, folder)
        seconds = time.perf_counter() - begin
        scored = distributed.interleaved(scored)
        if rank == 0:
            facts = {"dataset": dataset.description, "weights": str(weights), "device": str(device)}
            results.write_results(folder, settings, scored, dataset.steps, facts)
            pictures = cli.plural(len(scored), "picture")
            cli.log(f"{pictures} in {seconds:.1f} s; results in {folder.resolve()}")
    return 0


if __name__ == "__main__":
    tune_allocator()
    cli.run(main)
