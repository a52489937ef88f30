"""Validation, and the end of an epoch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from swinsf.datasets import scored_output
from swinsf.evaluation.evaluate import BASELINES, evaluate, network
from swinsf.evaluation.metrics import psnr_ssim, to_bytes
from swinsf.training.recipes import RECIPES
from swinsf.training.run import RunFolder
from swinsf.training.settings import TrainSettings
from swinsf.training.state import TrainingState
from swinsf.utils import cli
from swinsf.utils.distributed import gather, interleaved

ShouldStop = Callable[[], bool]


def validate(
    state: TrainingState, dataset: Any, settings: TrainSettings, device: torch.device, should_stop: ShouldStop
) -> tuple[dict[str, float], np.ndarray] | None:
    """({"psnr": mean, "ssim": mean, "loss": mean}, comparison (1, H, 3W) uint8), or None if stopped.

    Each `kind` of items also has its own mean, psnr_KIND.
    """
    loss = RECIPES[settings.recipe].loss

    def score(picture, truth):
        both = torch.from_numpy(picture), torch.from_numpy(truth)
        return {**psnr_ssim(picture, truth)._asdict(), "loss": loss(*both).item()}

    methods = {"TFP21": BASELINES["TFP21"], "SwinSF": network(state.averaged.eval())}
    rows, comparison = [], None
    for item, pictures, figures in evaluate(methods, dataset, device, score, settings.workers, "validate"):
        rows.append((item.get("kind"), figures["SwinSF"]))
        if comparison is None:
            shown = [pictures["TFP21"], pictures["SwinSF"], item[scored_output(item)][0].numpy()]
            comparison = np.hstack([to_bytes(picture) for picture in shown])[None]  # (1, H, 3W)
        if should_stop():
            break
    if any(gather(should_stop())):
        return None
    rows = interleaved(rows)
    means = {key: float(np.mean([row[key] for _, row in rows])) for key in ("psnr", "ssim", "loss")}
    for kind in dict.fromkeys(kind for kind, _ in rows if kind):
        means[f"psnr_{kind}"] = float(np.mean([row["psnr"] for of, row in rows if of == kind]))
    return means, comparison


def finish_epoch(
    state: TrainingState,
    files: RunFolder,
    val: Any,
    settings: TrainSettings,
    device: torch.device,
    should_stop: ShouldStop,
) -> bool:
    """Validate on `val` unless it is None, keep the best weights, and log.

    Returns False if validation was stopped; a resumed run repeats it.
    """
    line, comparison = {"epoch": state.epoch, "step": state.step}, None
    line["lr"] = state.lr
    line["train_loss"] = state.totals["loss"] / state.totals["pictures"]
    line["train_pictures_per_second"] = state.totals["pictures"] / state.totals["seconds"]
    if val is not None:
        files.save()  # a kill while validating costs no training
        with cli.memory_errors("validation uses whole frames; set --val_every 0, or use a smaller --variant"):
            result = validate(state, val, settings, device, should_stop)
        if result is None:
            return False
        means, comparison = result
        line.update({f"val_{name}": value for name, value in means.items()})
        if means["psnr"] > state.best_psnr:
            state.best_psnr = means["psnr"]
            files.keep_best()
    files.log_epoch(line, comparison)
    shown = {**line, "epoch": state.epoch + 1}
    texts = (f"{value:.5g}" if isinstance(value, float) else value for value in shown.values())
    cli.log(", ".join(f"{key} {text}" for key, text in zip(shown, texts)))
    return True
