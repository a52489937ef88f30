"""Reads last.pth. The file may be damaged or from elsewhere, so all of it is checked before use."""

import dataclasses
import math
import os
import shlex
from pathlib import Path
from typing import Any

import torch

from swinsf.datasets import is_simulated
from swinsf.datasets.augment import DRAWS
from swinsf.models import checkpoint
from swinsf.models.weights import check_fit, read_config
from swinsf.training.settings import (
    FIELDS,
    TrainSettings,
    contradiction,
    parse_settings,
    run_folder,
)
from swinsf.training.state import TrainingState
from swinsf.utils.cli import UserError
from swinsf.utils.timing import RATE

ENTRIES = {"training": dict, "settings": dict, "config": dict, "samples": str, "logged": dict}
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # Adam's and AdamW's state for a weight
# settings that change the learning rates of all recipes except "paper"
LENGTH = {"epochs", "max_steps"}
UNDAMAGED = "resume from an undamaged last.pth"


def resumed_settings(asked: TrainSettings, given: set[str]) -> tuple[TrainSettings, dict[str, Any]]:
    """(settings, contents of last.pth) of the run to resume. UserError for a flag that would change it."""
    path = Path(asked.resume_path)
    path = path / "last.pth" if path.is_dir() else path
    saved = checkpoint.load(path)
    check_entries(saved, path)
    folder = run_folder(asked.resume_path)  # a run may have been moved
    place = {"save_path": str(folder.parent), "run_name": folder.name, "resume_path": asked.resume_path}
    own = dataclasses.replace(saved_settings(saved["settings"], path), **place)
    new = {name: getattr(asked, name) for name in given}
    if "save_path" in new:
        new["save_path"] = os.path.abspath(asked.save_path)
    for name in sorted(given):
        old = getattr(own, name)
        if new[name] == old or FIELDS[name].metadata["may_change"]:
            continue
        if name in LENGTH and own.recipe != "paper":
            raise UserError(train_longer(name, new[name], own, folder))
        if name not in LENGTH:
            raise UserError(
                f"--{name} {new[name]}: the run has {old}, and a resumed run keeps it; leave the flag out, "
                "or start a new run with --load_model"
            )
    return dataclasses.replace(own, **new), saved


def train_longer(name: str, value: Any, own: TrainSettings, folder: Path) -> str:
    """An error text: why the run cannot be made longer, and the command to train on from its weights."""
    weights = folder / ("best.pth" if (folder / "best.pth").exists() else "last.pth")
    start = f"python train.py --load_model {shlex.quote(str(weights))} --recipe {own.recipe} --{name} {value}"
    start += f" --dataset_path {shlex.quote(own.dataset_path)} --data_mode {own.data_mode}"
    return (
        f"--{name} {value}: the run has {getattr(own, name)}, and with its recipe, {own.recipe}, the learning "
        "rate depends on the length of the run; to train longer, start a new run from its weights: "
        f"{start}, with the other flags unchanged, but without --variant, --tsa, --skip and --architecture, which the "
        "weights set"
    )


def check_entries(saved: dict[str, Any], path: Path) -> None:
    """Raises UserError if last.pth lacks an entry, or its weights do not have its architecture."""
    if not {"training", "settings", "config", "samples"} <= saved.keys():
        raise UserError(
            f"{path}: holds weights but no run's state; resume from a last.pth, or start with --load_model"
        )
    if saved.get("draws") != DRAWS:
        raise UserError(
            f"{path}: from an older version of this program, which draws other samples from a seed; resume "
            "with that version, or start a new run with --load_model and its best.pth"
        )
    for name, kind in ENTRIES.items():
        if not isinstance(saved.get(name), kind):
            raise UserError(f"{path}: its entry {name} is not a {kind.__name__}; {UNDAMAGED}")
    weights = saved["training"].get("model")
    if not isinstance(weights, dict):
        raise UserError(f"{path}: its training state has no weights; {UNDAMAGED}")
    check_fit(read_config(saved["config"], path), weights, path)


def saved_settings(saved: dict[str, Any], path: Path) -> TrainSettings:
    """The settings in last.pth. Raises UserError for values that no flag gives. Older files have fewer."""
    try:
        settings, _ = parse_settings([text for name in saved for text in as_flag(name, saved[name])])
        other = [name for name in saved if repr(getattr(settings, name, None)) != repr(saved[name])]
        wrong = f"no flag gives {other[0]} {saved[other[0]]!s:.80}" if other else contradiction(settings)
    except UserError as error:
        wrong = str(error)
    if wrong:
        raise UserError(f"{path}: its settings are invalid ({wrong:.200}); {UNDAMAGED}")
    if "rate" not in saved and not is_simulated(settings.dataset_path):
        return dataclasses.replace(settings, rate=RATE)  # older versions knew no other rate
    return settings


def as_flag(name: str, value: Any) -> list[str]:
    """The arguments that give a setting its value; none if it is the default."""
    options = FIELDS[name].metadata["options"] if name in FIELDS else {}
    if name in FIELDS and repr(value) == repr(getattr(TrainSettings(), name)):
        return []
    if isinstance(value, bool) and "action" in options:
        return [f"--{name}" if value else f"--no-{name}"]
    if (
        "nargs" in options
        and isinstance(value, list)
        and all(isinstance(v, list) and len(v) == 2 for v in value)
    ):
        return [f"--{name}", *(f"{field}={number}" for field, number in value)]
    return [f"--{name}={value}"]


def restore(state: TrainingState, saved: dict[str, Any], path: str) -> None:
    """Load the contents of last.pth into the state. Raises UserError if they do not match this run."""
    own = state.state_dict()  # all processes must call this, so it is outside the `try`
    training = saved["training"]
    try:
        fault = misfit(state, own, training) or misfit_of_log(saved["logged"], training["totals"])
        if not fault:
            state.load_state_dict(training)
    except Exception as error:  # random generators raise many types
        fault = (str(error).splitlines() or [type(error).__name__])[0]
    if fault:
        raise UserError(f"{path}: its training state does not fit the run ({fault}); {UNDAMAGED}")


def misfit_of_log(logged: dict[str, Any], totals: dict[str, float]) -> str:
    """Like `misfit`, for the epoch's {loss, pictures} at the last logged iteration."""
    fits = logged.keys() == {"loss", "pictures"}
    if fits and all(type(v) in (int, float) and 0 <= v <= totals[k] for k, v in logged.items()):
        return ""
    return f"logged {logged!s:.80}"


def misfit(state: TrainingState, own: dict[str, Any], saved: dict[str, Any]) -> str:
    """The first entry of `saved` that training cannot use, or "". own: the current state_dict."""
    missing = own.keys() - saved.keys()
    if missing:
        return f"{', '.join(sorted(missing))} missing"
    for name in ("epoch", "batch", "step"):
        value = saved[name]
        if type(value) is not int or not 0 <= value < 2**31:
            return f"{name} {value!s:.80}"
    if type(saved["best_psnr"]) is not float or math.isnan(saved["best_psnr"]):
        return f"best_psnr {saved['best_psnr']!s:.80}"
    totals = saved["totals"]
    if not isinstance(totals, dict) or totals.keys() != own["totals"].keys():
        return "totals"
    if not all(type(value) in (int, float) and 0 <= value < math.inf for value in totals.values()):
        return f"totals {totals!s:.80}"
    if saved["batch"] and not (totals["pictures"] and totals["seconds"]):
        return f"batch {saved['batch']} without pictures"
    if not isinstance(saved["random"], list):
        return "random"
    for name in ("model", "ema"):
        if not alike(own[name], saved[name]):
            return name
    return optimizer_misfit(state.optimizer, saved["optimizer"])


def alike(own: Any, saved: Any) -> bool:
    """Whether both are None, or name -> tensor with the same names and shapes."""
    if own is None or not isinstance(saved, dict):
        return own is saved
    return own.keys() == saved.keys() and all(same_shape(own[name], saved[name]) for name in own)


def same_shape(own: torch.Tensor, saved: Any) -> bool:
    return torch.is_tensor(saved) and saved.is_floating_point() and saved.shape == own.shape


def optimizer_misfit(optimizer: torch.optim.Optimizer, saved: Any) -> str:
    """Like `misfit`, for the optimiser: its settings must match the run's flags, its moments the weights."""
    own = optimizer.state_dict()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if not isinstance(saved, dict) or not isinstance(saved.get("state"), dict):
        return "optimizer"
    groups = saved.get("param_groups")
    if not isinstance(groups, list) or len(groups) != len(own["param_groups"]):
        return "optimizer's groups"
    for group, mine in zip(groups, own["param_groups"]):
        if not isinstance(group, dict):
            return "optimizer's groups"
        for name in mine.keys() - {"lr"}:  # set by the schedule at each iteration
            if name in group and (type(group[name]) is not type(mine[name]) or group[name] != mine[name]):
                return f"optimizer's {name} {group[name]!s:.80}"
    for index, moments in saved["state"].items():
        known = type(index) is int and 0 <= index < len(weights)
        if not known or not isinstance(moments, dict) or moments.keys() != MOMENTS:
            return f"optimizer's moments of weight {index!s:.80}"
        step = moments["step"]
        if not torch.is_tensor(step) or step.shape != () or not 0 < step < math.inf:
            return "optimizer's steps"
        if not all(same_shape(weights[index], moments[name]) for name in ("exp_avg", "exp_avg_sq")):
            return "optimizer's moments"
    return ""
