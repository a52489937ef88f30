"""The settings of a run. Each field defines a flag of train.py."""

import argparse
import dataclasses
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swinsf.utils import choices, cli, flags
from swinsf.utils.cli import UserError

YES_OR_NO = argparse.BooleanOptionalAction


def flag(default: Any, text: str, *, may_change: bool = False, **options: Any) -> Any:
    """A field of TrainSettings: its default, its help text and argparse's options.

    may_change: whether a resumed run may change it. Of these, `accumulate`, `device`, `device_ids` and
    `deterministic` change its rounding or random draws; with the others it stays exact.
    """
    shown = "" if default is None or default is False or default in ("", []) else f" (default {default})"
    about = {"help": text + shown, "options": options, "may_change": may_change}
    if default == []:
        return field(default_factory=list, metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class TrainSettings:
    """The settings given to train.py. None: other settings decide, see `new_settings`."""

    data_mode: str = flag("250", "size and layout of the data", choices=choices.PAIRED)
    dataset_path: str = flag(
        "./datasets/spike_reds",
        "dataset folder, or photos:DIR, videos:DIR or frames:DIR for simulated scenes",
        may_change=True,
    )
    flip: bool | None = flag(
        None,
        "whether streams are stored upside down, True or False (default: as usual in the data mode)",
        type=flags.truth,
    )
    rate: float | None = flag(
        None, "firing rate of white, in spikes per step (default: as recorded or measured)", type=flags.rate
    )
    variant: str | None = flag(None, "network variant (default: the data mode's)", choices=choices.VARIANTS)
    tsa: str | None = flag(
        None, "kind of temporal-spatial attention (default: the variant's)", choices=choices.TSA
    )
    skip: str | None = flag(
        None,
        "estimate to which the network adds a residual (default: the variant's)",
        choices=choices.SKIP,
    )
    architecture: list[list[Any]] = flag(  # noqa: RUF009, it is a dataclass field
        [], "fields of SwinSFConfig to set, such as channels=64 depths=6,6", nargs="+", type=flags.assignment
    )
    recipe: str = flag("paper", "loss, optimiser and schedule", choices=choices.RECIPES)
    epochs: int = flag(900, "number of epochs", type=flags.positive_int)
    max_steps: int = flag(0, "largest number of iterations; 0: no limit", type=flags.count)
    epoch_length: int = flag(
        1000, "number of samples in an epoch of photos:DIR, videos:DIR or frames:DIR", type=flags.samples
    )
    sensor: str | None = flag(
        None,
        "sensor of simulated scenes (default: reds, or x4k in data mode 1000)",
        choices=choices.SENSORS,
    )
    calibrated: float | None = flag(
        None,
        "share of the scenes of --sensor camera that come with a calibration, 0 to 1 (default 0.5)",
        type=flags.number(float, 0, 1),
    )
    steps_per_frame: int = flag(
        40, "steps between two frames of videos:DIR or frames:DIR", type=flags.positive_int
    )
    batch_size: int = flag(4, "number of samples in a batch, over all processes", type=flags.batch_size)
    accumulate: int = flag(
        1,
        "number of pieces in which each process computes its share of a batch",
        may_change=True,
        type=flags.positive_int,
    )
    crop_size: int = flag(0, "side of the random crops in pixels; 0: whole frames", type=flags.crop_size)
    lr: float | None = flag(
        None, "learning rate (default: the recipe's)", type=flags.number(float, 1e-12, 10)
    )
    weight_decay: float | None = flag(
        None, "weight decay (default: the recipe's)", type=flags.number(float, 0, 10)
    )
    amp: bool | None = flag(
        None,
        "compute in bfloat16 where it is safe (default: with recipe modern, if the device supports it)",
        action=YES_OR_NO,
    )
    tf32: bool = flag(
        True,
        "use TF32 for float32 products and convolutions on CUDA; --no-tf32: full float32",
        action=YES_OR_NO,
    )
    grad_checkpoint: bool = flag(
        False,
        "recompute blocks in the backward pass: less memory, a third slower",
        may_change=True,
        action=YES_OR_NO,
    )
    compile: bool = flag(
        False, "compile the blocks with torch.compile, for CUDA; slower on a CPU", action="store_true"
    )
    deterministic: bool = flag(
        False, "use deterministic algorithms on a GPU too; slower", may_change=True, action="store_true"
    )
    seed: int = flag(0, "random seed of weights, order, crops and scenes", type=flags.count)
    device: str | None = flag(
        None,
        "device: cpu, cuda:0, cuda:1, ... (default: cuda if there is one); give it again to resume",
        may_change=True,
    )
    device_ids: str = flag("", "GPUs for DataParallel, such as 01 or 0,1,10", may_change=True)
    workers: int = flag(
        2, "number of processes that read or simulate samples", may_change=True, type=flags.workers
    )
    load_model: str = flag("", "weights to start from, with their architecture")
    resume_path: str = flag(
        "", "run folder or last.pth to resume from; exact only on the same --device", may_change=True
    )
    auto_resume: bool = flag(
        False, "resume RUN_NAME if it exists, else start it", may_change=True, action="store_true"
    )
    save_path: str = flag("checkpoint", "folder for runs")
    run_name: str = flag("", "name of the run's folder (default: the variant or data mode, and the time)")
    val_every: int | None = flag(
        None,
        "number of epochs between validations; the last epoch always validates; 0: never "
        "(default: 1, or more if validation has more pixels than an epoch)",
        type=flags.count,
    )
    log_every: int = flag(
        10,
        "number of iterations between log lines with loss, learning rate and pictures per second",
        may_change=True,
        type=flags.positive_int,
    )
    save_minutes: float = flag(
        10.0,
        "longest time between saves of last.pth, in minutes",
        may_change=True,
        type=flags.number(float, 0, 1e6),
    )
    keep_last: int = flag(
        0,
        "number of latest epochs whose states are also kept, as epoch_0001.pth",
        may_change=True,
        type=flags.count,
    )
    timeout: float = flag(
        1800.0,
        "seconds after which a process stops waiting for the others",
        may_change=True,
        type=flags.number(float, 1, 1e6),
    )


FIELDS = {f.name: f for f in dataclasses.fields(TrainSettings)}


def parse_settings(
    arguments: list[str] | None, description: str | None = None
) -> tuple[TrainSettings, set[str]]:
    """(settings from the command line, names of the flags that were given)."""
    parser = cli.Parser(description, argument_default=argparse.SUPPRESS)
    for name, f in FIELDS.items():
        parser.add_argument(f"--{name}", help=f.metadata["help"], **f.metadata["options"])
    given = vars(parser.parse_args(arguments))
    return TrainSettings(**given), set(given)


def look(arguments: list[str] | None, description: str | None) -> None:
    """Check flags and their paths; `cli.begin` calls this before the slow imports."""
    asked, _ = parse_settings(arguments, description)
    resume_path, _ = choose_run(asked)
    if resume_path:
        run_folder(resume_path)
    else:
        choices.look_at_weights(asked.load_model)
        choices.look_at_dataset(asked.dataset_path)


def new_settings(asked: TrainSettings, given: set[str]) -> TrainSettings:
    """The settings of a new run, with None filled in. Raises UserError for contradictions."""
    from swinsf.models import VARIANTS  # here and below: slow imports, which `look` avoids
    from swinsf.models.fast import bfloat16_is_fast
    from swinsf.training.recipes import RECIPES
    from swinsf.utils.distributed import pick_device

    if asked.load_model and given & {"variant", "tsa", "skip", "architecture"}:
        raise UserError(
            "--load_model sets the architecture; leave out --variant, --tsa, --skip and --architecture"
        )
    if wrong := contradiction(asked):
        raise UserError(wrong)
    variant, recipe = VARIANTS[asked.variant or asked.data_mode], RECIPES[asked.recipe]
    filled = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    filled["amp"] = asked.recipe == "modern" and bfloat16_is_fast(pick_device(asked.device))
    if not asked.load_model:
        filled.update(tsa=variant.tsa, skip=variant.skip)
    missing = {name: value for name, value in filled.items() if getattr(asked, name) is None}
    return dataclasses.replace(asked, **missing)


def contradiction(settings: TrainSettings) -> str:
    """One line about a setting that does not fit the others, or ""."""
    from swinsf.datasets import is_simulated
    from swinsf.datasets.paired import PAIRED

    crop, data, name = settings.crop_size, PAIRED[settings.data_mode], settings.run_name
    if 0 < crop < 20:
        return f"--crop_size {crop}: the network needs 20 pixels; use 20 or more, or 0"
    smallest = min(data.height, data.width)
    if crop > smallest and not is_simulated(settings.dataset_path):
        return f"--crop_size {crop}: larger than the frames; use at most {smallest}"
    if Path(name).name != name or name == "..":
        return f"--run_name {name}: not a plain folder name; use --save_path for the folder of the runs"
    return ""


def run_length(settings: TrainSettings, samples: int) -> tuple[int, int]:
    """(iterations per epoch, iterations in total) of a run."""
    per_epoch = math.ceil(samples / settings.batch_size)
    total = settings.epochs * per_epoch
    return per_epoch, min(total, settings.max_steps) if settings.max_steps else total


def starts_again(settings: TrainSettings) -> bool:
    """Whether the same command resumes its run, because of --auto_resume or of torchrun's restarts."""
    return settings.auto_resume or int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def choose_run(settings: TrainSettings) -> tuple[str, str]:
    """(path to resume from or "", run name). Raises UserError if a restarted job could not find its run."""
    if settings.resume_path:
        path = Path(settings.resume_path)
        if starts_again(settings) and not path.is_dir() and path.name != "last.pth":
            raise UserError(
                f"--resume_path {path}: a restarted job would start from it each time; give the run's folder"
            )
        return settings.resume_path, settings.run_name
    if starts_again(settings):
        if not settings.run_name:
            name = "--auto_resume" if settings.auto_resume else "--max_restarts"
            raise UserError(f"{name} without --run_name: a restarted job finds its run by the name; add one")
        last = Path(settings.save_path) / settings.run_name / "last.pth"
        if last.is_file():
            return str(last), settings.run_name
    now = time.strftime("%Y%m%d_%H%M%S")
    return "", settings.run_name or f"{settings.variant or settings.data_mode}_{now}"


def run_folder(resume_path: str) -> Path:
    """The absolute folder of the run at --resume_path. Raises UserError if it has no state."""
    path = Path(os.path.abspath(resume_path))  # does not resolve links, so a run keeps the name it was given
    path = path / "last.pth" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"--resume_path {resume_path}: no such file {path}; check the path")
    return path.parent
