"""The flags of train.py; the settings of a new run, and of a resumed one."""

import argparse
import math
import os
import shlex
import time
from pathlib import Path

from swinsf.utils import choices, cli
from swinsf.utils.choices import look_at_dataset, look_at_weights
from swinsf.utils.cli import UserError
from swinsf.utils.timing import RATE

YES_OR_NO = argparse.BooleanOptionalAction


def flag(default, text, **options):
    """(default, help, options of argparse)"""
    shown = "" if default in (None, "", False, []) else f" (default {default})"
    return default, text + shown, options


FLAGS = {
    "data_mode": flag("250", "size and layout of the data", choices=choices.PAIRED),
    "dataset_path": flag(
        "./datasets/spike_reds", "a dataset folder, or photos:DIR or videos:DIR for simulated scenes"
    ),
    "flip": flag(
        None,
        "whether streams are stored upside down, True or False (default: goes by data_mode)",
        type=cli.truth,
    ),
    "rate": flag(None, "spikes a step at white (default: as recorded or measured)", type=cli.rate),
    "variant": flag(None, "network (default: the data mode's)", choices=choices.VARIANTS),
    "tsa": flag(None, "temporal-spatial attention (default: the variant's)", choices=choices.TSA),
    "skip": flag(None, "what the last convolution adds to (default: the variant's)", choices=choices.SKIP),
    "architecture": flag(
        [], "fields of SwinSFConfig to replace, as channels=64 depths=6,6", nargs="+", type=cli.assignment
    ),
    "recipe": flag("paper", "loss, optimiser and schedule", choices=choices.RECIPES),
    "epochs": flag(900, "epochs in all", type=cli.positive_int),
    "max_steps": flag(0, "end after this many optimiser steps; 0: after the epochs", type=cli.count),
    "epoch_length": flag(1000, "samples an epoch of photos:DIR or videos:DIR", type=cli.samples),
    "sensor": flag(
        None, "of simulated scenes (default: reds, or x4k in data mode 1000)", choices=choices.SENSORS
    ),
    "steps_per_frame": flag(40, "steps between two frames of videos:DIR", type=cli.positive_int),
    "batch_size": flag(4, "samples a step, of all processes together", type=cli.batch_size),
    "accumulate": flag(
        1, "pieces, one after the other, in which a process takes its share of a batch", type=cli.positive_int
    ),
    "crop_size": flag(0, "side of a random crop; 0: the whole frame", type=cli.crop_size),
    "lr": flag(None, "learning rate (default: the recipe's)", type=cli.number(float, 1e-12, 10)),
    "weight_decay": flag(None, "weight decay (default: the recipe's)", type=cli.number(float, 0, 10)),
    "amp": flag(
        None,
        "compute in bfloat16 where it is safe (default: under recipe modern, if the device has its instructions)",
        action=YES_OR_NO,
    ),
    "tf32": flag(
        True, "TF32 in float32 products and convolutions on CUDA; --no-tf32: full float32", action=YES_OR_NO
    ),
    "grad_checkpoint": flag(
        False, "compute blocks again in the backward pass: less memory, a third slower", action=YES_OR_NO
    ),
    "compile": flag(
        False, "run the blocks through torch.compile, for CUDA; slower on a CPU", action="store_true"
    ),
    "deterministic": flag(False, "the same weights each time on a GPU too, more slowly", action="store_true"),
    "seed": flag(0, "of the weights, the order, the crops and the scenes", type=cli.count),
    "device": flag(None, "cuda:0, cuda:1, ... or cpu (default: cuda where there is one)"),
    "device_ids": flag("", "GPUs for DataParallel, as 01 or 0,1,10"),
    "workers": flag(2, "processes that read or simulate samples", type=cli.workers),
    "load_model": flag("", "start from these weights and their architecture"),
    "resume_path": flag(
        "", "resume the run in this folder, or from this last.pth; exact on the same --device only"
    ),
    "auto_resume": flag(
        False, "resume RUN_NAME where it is there already, else begin it", action="store_true"
    ),
    "save_path": flag("checkpoint", "folder of runs"),
    "run_name": flag("", "the run's folder in it (default: the network's name and the time)"),
    "val_every": flag(
        None,
        "validate after every so many epochs, and after the last; 0: never (default: 1, or more where validation would have "
        "more pixels than the training between)",
        type=cli.count,
    ),
    "log_every": flag(
        10, "log loss, learning rate and pictures a second after every so many steps", type=cli.positive_int
    ),
    "save_minutes": flag(10.0, "write last.pth at least this often", type=cli.number(float, 0, 1e6)),
    "keep_last": flag(0, "epochs whose states are kept too, as epoch_0001.pth", type=cli.count),
    "timeout": flag(
        1800.0, "seconds until a process gives up waiting for the others", type=cli.number(float, 1, 1e6)
    ),
}
DEFAULTS = {name: default for name, (default, *_) in FLAGS.items()}
# What may change when a run is resumed; all else is part of what makes the run exact.
RESUME_FLAGS = {
    *(
        "resume_path",
        "auto_resume",
        "device",
        "device_ids",
        "workers",
        "dataset_path",
        "save_minutes",
        "keep_last",
    ),
    "log_every",
    *("grad_checkpoint", "accumulate", "deterministic", "timeout"),
}
# Under the other recipes the learning rate follows the length of the run, so these may change under the
# paper's only.
LENGTH_FLAGS = {"epochs", "max_steps"}


def parse_settings(arguments, description=None):
    """(settings as they were asked for, names of the flags that were given)."""
    parser = cli.Parser(description, argument_default=argparse.SUPPRESS)
    for name, (_, text, options) in FLAGS.items():
        parser.add_argument(f"--{name}", help=text, **options)
    given = vars(parser.parse_args(arguments))
    return argparse.Namespace(**DEFAULTS | given), set(given)


def replaced(settings, **values):
    """A copy of the settings with these values: nobody writes to settings once they are made."""
    return argparse.Namespace(**vars(settings) | values)


def look(arguments, description):
    """`cli.begin` of train.py: parse the flags and look at the paths that they name."""
    asked, _ = parse_settings(arguments, description)
    resume_path, _ = choose_run(asked)
    if resume_path:
        run_folder(resume_path)
    else:
        look_at_weights(asked.load_model)
        look_at_dataset(asked.dataset_path)


def new_settings(asked, given):
    """The settings of a new run: what depends on other flags is filled in. Raises UserError for what
    contradicts."""
    from swinsf.datasets import is_simulated  # here and below, what is slow to import, for `look`
    from swinsf.datasets.paired import PAIRED
    from swinsf.models import VARIANTS
    from swinsf.models.fast import bfloat16_is_fast
    from swinsf.training.recipes import RECIPES
    from swinsf.utils.distributed import pick_device

    if asked.load_model and given & {"variant", "tsa", "skip", "architecture"}:
        raise UserError(
            "--load_model brings its own architecture; leave out --variant, --tsa, --skip and --architecture"
        )
    if 0 < asked.crop_size < 20:
        raise UserError(f"--crop_size {asked.crop_size}: the network needs 20 pixels; take 20 or more, or 0")
    smallest = min(PAIRED[asked.data_mode].height, PAIRED[asked.data_mode].width)
    if asked.crop_size > smallest and not is_simulated(asked.dataset_path):
        raise UserError(f"--crop_size {asked.crop_size}: larger than the frames, take at most {smallest}")
    if Path(asked.run_name).name != asked.run_name or asked.run_name == "..":
        raise UserError(
            f"--run_name {asked.run_name}: a plain folder name, please; --save_path says where it lies"
        )
    variant, recipe = VARIANTS[asked.variant or asked.data_mode], RECIPES[asked.recipe]
    filled = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    filled["amp"] = asked.recipe == "modern" and bfloat16_is_fast(pick_device(asked.device))
    if not asked.load_model:
        filled.update(tsa=variant.tsa, skip=variant.skip)
    return replaced(asked, **{name: value for name, value in filled.items() if getattr(asked, name) is None})


def validation_interval(settings, train, val):
    """The epochs from one validation to the next, 0 for never.

    By default so many that no more pixels are validated than trained on. A pixel costs three times as much to
    train, for its gradients, so validation takes about a quarter of the time at most, also where few crops
    meet many whole frames.
    """
    if val is None or settings.val_every is not None:
        return settings.val_every or 0
    trained = len(train) * (settings.crop_size**2 or train.height * train.width)
    return math.ceil(len(val) * val.height * val.width / trained)


def run_length(settings, samples):
    """(steps an epoch, steps in all) of a run."""
    per_epoch = math.ceil(samples / settings.batch_size)
    return per_epoch, min(settings.epochs * per_epoch, settings.max_steps or math.inf)


def starts_again(settings):
    """Whether the same command resumes a run that it began: by its flag, or since torchrun is to restart
    it."""
    return settings.auto_resume or int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def choose_run(settings):
    """(path to resume from or "", the run's name). UserError where a job that starts again has no name to
    find its run by."""
    if settings.resume_path:
        path = Path(settings.resume_path)
        if starts_again(settings) and not path.is_dir() and path.name != "last.pth":
            raise UserError(
                f"--resume_path {path}: a job that starts again would begin there each time; name its folder"
            )
        return settings.resume_path, settings.run_name
    if starts_again(settings):
        if not settings.run_name:
            flag = "--auto_resume" if settings.auto_resume else "--max_restarts"
            raise UserError(
                f"{flag} without --run_name: a job that starts again finds its run by the name; add one"
            )
        last = Path(settings.save_path) / settings.run_name / "last.pth"
        if last.is_file():
            return str(last), settings.run_name
    return (
        "",
        settings.run_name or f"{settings.variant or settings.data_mode}_{time.strftime('%Y%m%d_%H%M%S')}",
    )


def run_folder(resume_path):
    """The folder of the run that --resume_path names, absolute. UserError where no state of a run is
    there."""
    path = Path(os.path.abspath(resume_path))  # links are left, for a run has the name that it is called by
    path = path / "last.pth" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"--resume_path {resume_path}: there is no file {path}; check the path")
    return path.parent


def resumed_settings(asked, given):
    """(settings, checkpoint) of the run to resume; only flags that leave it exact may differ from the run's
    own."""
    path = Path(asked.resume_path)
    path = path / "last.pth" if path.is_dir() else path
    from swinsf.datasets import is_simulated
    from swinsf.utils import checkpoint

    saved = checkpoint.load(path)
    check_run(saved, path)
    folder = run_folder(asked.resume_path)  # a run that was moved goes by its new place
    place = {"save_path": str(folder.parent), "run_name": folder.name, "resume_path": asked.resume_path}
    old = DEFAULTS | saved["settings"] | place
    if "rate" not in saved["settings"] and not is_simulated(old["dataset_path"]):
        old["rate"] = RATE  # what an older version took every dataset to have
    new = {name: getattr(asked, name) for name in given}
    if "save_path" in new:
        new["save_path"] = os.path.abspath(asked.save_path)
    for name in sorted(given - RESUME_FLAGS):
        if new[name] != old[name] and not (name in LENGTH_FLAGS and old["recipe"] == "paper"):
            if name in LENGTH_FLAGS:
                raise UserError(longer(name, new[name], old, folder))
            raise UserError(
                f"--{name} {new[name]}: the run has {old[name]}, and a resumed run keeps it; leave the flag out, "
                "or start a new run with --load_model"
            )
    return argparse.Namespace(**old | new), saved


def longer(name, value, old, folder):
    """The refusal of another length under a recipe whose learning rate follows it, with the command that
    trains on."""
    weights = folder / ("best.pth" if (folder / "best.pth").exists() else "last.pth")
    start = [
        "python",
        "train.py",
        "--load_model",
        str(weights),
        "--recipe",
        old["recipe"],
        f"--{name}",
        str(value),
    ]
    start += ["--dataset_path", old["dataset_path"], "--data_mode", old["data_mode"]]
    return (
        f"--{name} {value}: the run has {old[name]}, and under its recipe, {old['recipe']}, the learning rate follows the length "
        f"of the run; to train longer, start a new run from its weights: {shlex.join(start)}, and the other flags as they were"
    )


def check_run(saved, path):
    """Raises UserError where a last.pth has no settings that the flags could give, or an architecture not of
    its weights."""
    from swinsf.datasets.augment import DRAWS
    from swinsf.models.weights import check_fit, read_config

    if not {"training", "settings", "config", "samples"} <= saved.keys():
        raise UserError(
            f"{path}: holds weights but no run's state; resume from a last.pth, or start with --load_model"
        )
    for name, kind in (("training", dict), ("settings", dict), ("config", dict), ("samples", str)):
        if not isinstance(saved[name], kind):
            raise UserError(f"{path}: its entry {name} is no {kind.__name__}; take an undamaged last.pth")
    if saved.get("draws") != DRAWS:
        raise UserError(
            f"{path}: begun by an older version of this program, which draws other samples from a seed; resume it with that "
            "version, or start a new run with --load_model and its best.pth"
        )
    weights = saved["training"].get("model")
    if not isinstance(weights, dict):
        raise UserError(f"{path}: its training state has no weights; take an undamaged last.pth")
    check_fit(read_config(saved["config"], path), weights, path)
    settings = saved["settings"]
    if unknown := settings.keys() - FLAGS.keys():
        names = ", ".join(map(repr, unknown))
        raise UserError(f"{path}: its settings {names:.80} are no flags; start a new run with --load_model")
    for name, value in settings.items():
        if not could_give(name, value):
            raise UserError(
                f"{path}: its setting {name} {value!s:.80} is of no flag; take an undamaged last.pth"
            )
    try:
        new_settings(argparse.Namespace(**DEFAULTS | settings), set())
    except UserError as error:
        raise UserError(f"{path}: its settings are not those of a run: {error}") from None


def could_give(name, value):
    """Whether a value is such as a flag gives, or has by default."""
    default, _, options = FLAGS[name]
    if type(value) is type(default) and value == default:
        return True
    if "choices" in options:
        return isinstance(value, str) and value in options["choices"]
    if "action" in options:
        return type(value) is bool
    if "type" not in options:
        return isinstance(value, str) and "\0" not in value
    try:  # a number, or the fields of --architecture: the text of the value gives the value again
        again = (
            options["type"](repr(value))
            if "nargs" not in options
            else [options["type"](f"{n}={v}") for n, v in value]
        )
    except (argparse.ArgumentTypeError, TypeError, ValueError):
        return False
    return repr(again) == repr(value)
