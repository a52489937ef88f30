"""What train.py is asked to do: its flags, and those of a run that is gone on with."""

import argparse
import os
import time
from pathlib import Path

from datasets import PAIRED, is_simulated
from datasets.simulator import SENSORS
from engine import RECIPES
from models import SKIP_CHOICES, TSA_CHOICES, VARIANTS
from models.weights import check_fit, read_config
from utils import checkpoint, cli
from utils.cli import UserError

# What a resumed run may be given anew; all else is part of what makes the run exact.
RESUME_FLAGS = {
    *("resume_path", "auto_resume", "device", "device_ids", "workers", "dataset_path", "save_minutes", "keep_last"),
    *("grad_checkpoint", "accumulate", "deterministic", "timeout"),
}
# Under the modern recipe the learning rate follows the length of the run, so these may change under the paper's only.
LENGTH_FLAGS = {"epochs", "max_steps"}


def parse_settings(arguments, description=None):
    """(settings, names of the flags that were given)."""
    parser = cli.Parser(description, argument_default=argparse.SUPPRESS)
    defaults = {}

    def flag(option, default, text, **options):
        defaults[option.removeprefix("--")] = default
        shown = "" if default in (None, "", False) else f" (default {default})"
        parser.add_argument(option, help=text + shown, **options)

    flag("--data_mode", "250", "size and layout of the data", choices=[*PAIRED])
    flag("--dataset_path", "./datasets/spike_reds", "a dataset folder, or photos:DIR or videos:DIR for simulated scenes")
    flag("--variant", None, "network (default: the data mode's)", choices=[*VARIANTS])
    flag("--tsa", "paper", "temporal-spatial attention", choices=TSA_CHOICES)
    flag("--skip", "motion", "what the last convolution adds to", choices=SKIP_CHOICES)
    flag("--architecture", [], "fields of SwinSFConfig to replace, as channels=64 depths=6,6", nargs="+", type=cli.assignment)
    flag("--recipe", "paper", "loss, optimiser and schedule", choices=[*RECIPES])
    flag("--epochs", 900, "epochs in all", type=cli.positive_int)
    flag("--max_steps", 0, "end after this many optimiser steps; 0: after the epochs", type=cli.count)
    flag("--epoch_length", 1000, "samples an epoch of photos:DIR or videos:DIR", type=cli.samples)
    flag("--sensor", None, "of simulated scenes (default: reds, or ideal in data mode 1000)", choices=[*SENSORS])
    flag("--steps_per_frame", 40, "steps between two frames of videos:DIR", type=cli.positive_int)
    flag("--batch_size", 4, "samples a step, of all processes together", type=cli.batch_size)
    flag("--accumulate", 1, "pieces, one after the other, in which a process takes its share of a batch", type=cli.positive_int)
    flag("--crop_size", 0, "side of a random crop; 0: the whole frame", type=cli.crop_size)
    flag("--lr", None, "learning rate (default: the recipe's)", type=cli.number(float, 1e-12, 10))
    flag("--weight_decay", None, "weight decay (default: the recipe's)", type=cli.number(float, 0, 10))
    flag("--amp", False, "bfloat16 where it is safe, on CUDA and on CPUs that have its instructions", action="store_true")
    flag("--grad_checkpoint", False, "less memory, a quarter slower", action=argparse.BooleanOptionalAction)
    flag("--compile", False, "run the blocks through torch.compile, for CUDA; slower on a CPU", action="store_true")
    flag("--deterministic", False, "the same weights each time on a GPU too, more slowly", action="store_true")
    flag("--seed", 0, "of the weights, the order, the crops and the scenes", type=cli.count)
    flag("--device", None, "cuda:0, cuda:1, ... or cpu (default: cuda where there is one)")
    flag("--device_ids", "", "GPUs for DataParallel, as 01 or 0,1,10")
    flag("--workers", 2, "processes that read or simulate samples", type=cli.workers)
    flag("--load_model", "", "start from these weights and their architecture")
    flag("--resume_path", "", "go on with the run in this folder, or with this last.pth")
    flag("--auto_resume", False, "go on with RUN_NAME where it is there already, else begin it", action="store_true")
    flag("--save_path", "checkpoint", "folder of runs")
    flag("--run_name", "", "the run's folder in it (default: the network's name and the time)")
    flag("--val_every", 1, "validate after every so many epochs; 0: never", type=cli.count)
    flag("--save_minutes", 10.0, "write last.pth at least this often", type=cli.number(float, 0, 1e6))
    flag("--keep_last", 0, "epochs whose states are kept too, as epoch_0001.pth", type=cli.count)
    flag("--timeout", 1800.0, "seconds until a process gives up waiting for the others", type=cli.number(float, 1, 1e6))
    given = vars(parser.parse_args(arguments))
    return argparse.Namespace(**{**defaults, **given}), set(given)


def new_settings(settings, given):
    """Fill in what depends on other flags, and refuse what contradicts."""
    recipe = RECIPES[settings.recipe]
    settings.lr = recipe.lr if settings.lr is None else settings.lr
    settings.weight_decay = recipe.weight_decay if settings.weight_decay is None else settings.weight_decay
    if settings.load_model and given & {"variant", "tsa", "skip", "architecture"}:
        raise UserError("--load_model brings its own architecture; leave out --variant, --tsa, --skip and --architecture")
    if 0 < settings.crop_size < 20:
        raise UserError(f"--crop_size {settings.crop_size}: the network needs 20 pixels; take 20 or more, or 0")
    smallest = min(PAIRED[settings.data_mode].height, PAIRED[settings.data_mode].width)
    if settings.crop_size > smallest and not is_simulated(settings.dataset_path):
        raise UserError(f"--crop_size {settings.crop_size}: larger than the frames, take at most {smallest}")
    if Path(settings.run_name).name != settings.run_name or settings.run_name == "..":
        raise UserError(f"--run_name {settings.run_name}: a plain folder name, please; --save_path says where it lies")
    return settings


def starts_again(settings):
    """Whether the same command goes on with a run that it began: by its flag, or since torchrun is to restart it."""
    return settings.auto_resume or int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def choose_run(settings):
    """(path to resume from or "", the run's name). UserError where a job that starts again has no name to find its run by."""
    if settings.resume_path:
        path = Path(settings.resume_path)
        if starts_again(settings) and not path.is_dir() and path.name != "last.pth":
            raise UserError(f"--resume_path {path}: a job that starts again would begin there each time; name its folder")
        return settings.resume_path, settings.run_name
    if starts_again(settings):
        if not settings.run_name:
            flag = "--auto_resume" if settings.auto_resume else "--max_restarts"
            raise UserError(f"{flag} without --run_name: a job that starts again finds its run by the name; add one")
        last = Path(settings.save_path) / settings.run_name / "last.pth"
        if last.is_file():
            return str(last), settings.run_name
    return "", settings.run_name or f"{settings.variant or settings.data_mode}_{time.strftime('%Y%m%d_%H%M%S')}"


def run_folder(resume_path):
    """The folder of the run that --resume_path names, absolute. UserError where no state of a run is there."""
    path = Path(os.path.abspath(resume_path))  # links are left, for a run has the name that it is called by
    path = path / "last.pth" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"--resume_path {resume_path}: there is no file {path}; check the path")
    return path.parent


def resumed_settings(settings, given):
    """(settings, checkpoint) of the run to go on with; only flags that leave it exact may differ."""
    path = Path(settings.resume_path)
    path = path / "last.pth" if path.is_dir() else path
    saved = checked(checkpoint.load(path), path)
    folder = run_folder(settings.resume_path)
    here = {"save_path": str(folder.parent), "run_name": folder.name, "resume_path": settings.resume_path}
    old = {**saved["settings"], **here}
    if "save_path" in given:
        settings.save_path = os.path.abspath(settings.save_path)
    for name in sorted(given - RESUME_FLAGS):
        value = getattr(settings, name)
        if value != old.get(name) and not (name in LENGTH_FLAGS and old["recipe"] == "paper"):
            raise UserError(
                f"--{name} {value}: the run has {old.get(name)}, and a resumed run keeps it; leave the flag out, "
                "or start a new run with --load_model"
            )
    new = {name: getattr(settings, name) for name in given}
    return argparse.Namespace(**{**vars(settings), **old, **new}), saved


def checked(saved, path):
    """A last.pth whose settings are such as the flags could give, and whose architecture is that of its weights; or UserError."""
    if not {"training", "settings", "config", "samples"} <= saved.keys():
        raise UserError(f"{path}: holds weights but no run's state; resume from a last.pth, or start with --load_model")
    for name, kind in (("training", dict), ("settings", dict), ("config", dict), ("samples", str)):
        if not isinstance(saved[name], kind):
            raise UserError(f"{path}: its entry {name} is no {kind.__name__}; take an undamaged last.pth")
    weights = saved["training"].get("model")
    if not isinstance(weights, dict):
        raise UserError(f"{path}: its training state has no weights; take an undamaged last.pth")
    check_fit(read_config(saved["config"], path), weights, path)
    unknown = saved["settings"].keys() - vars(parse_settings([])[0]).keys()
    if unknown:
        raise UserError(f"{path}: its settings {', '.join(map(str, unknown)):.80} are no flags; start a new run by --load_model")
    try:
        parsed, _ = parse_settings([word for name, value in saved["settings"].items() for word in as_words(name, value)])
        settings = vars(new_settings(parsed, set()))
    except UserError as error:
        raise UserError(f"{path}: its settings are not those of a run: {error}") from None
    for name, value in saved["settings"].items():
        if repr(value) != repr(settings[name]):
            raise UserError(f"{path}: its setting {name} {value!s:.80} is of no flag; take an undamaged last.pth")
    return {**saved, "settings": settings}


def as_words(name, value):
    """A setting as the command line has it: the words of its flag."""
    if value is None or value is False or value == "" or value == []:  # no flag gives these, but by default
        return []
    if value is True:
        return [f"--{name}"]
    if name == "architecture" and isinstance(value, list):
        return [f"--{name}", *("=".join(map(str, field)) if isinstance(field, list) else str(field) for field in value)]
    return [f"--{name}={value}"]
