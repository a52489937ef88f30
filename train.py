"""Fit SwinSF.

    python train.py --data_mode 250 --dataset_path ./datasets/spike_reds --device cuda:0
    python train.py --data_mode 1000 --dataset_path ./datasets/spike_x4k --device cuda:0 --device_ids 01
    python train.py --dataset_path photos:DIR --variant small --recipe modern --crop_size 80 --batch_size 8 --epochs 3
    python train.py --resume_path checkpoint/RUN
    torchrun --nproc_per_node 8 --max_restarts 3 train.py --dataset_path ./datasets/spike_reds --run_name RUN

A run keeps everything below SAVE_PATH/RUN: last.pth (the whole state, after every epoch and on Ctrl-C, SIGTERM or SIGUSR1),
best.pth (the weights with the best validation PSNR, for test.py --load_model), config.json, log.jsonl and TensorBoard's curves.
It goes on from last.pth to the same weights that it would have had without the stop. A batch is shared by the processes of
torchrun, so that their number changes how long a run takes and not what it does.
"""

import argparse
import dataclasses
import hashlib
import math
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torchvision.utils import make_grid

from datasets import PAIRED, is_simulated, open_dataset, scored_output
from datasets.augment import Augmented, EpochBatches
from datasets.paired import hold_out
from datasets.simulator import SENSORS
from engine import (
    BASELINES,
    RECIPES,
    NotFinite,
    TrainingState,
    evaluate,
    make_loader,
    make_optimizer,
    network,
    pixel_loss,
    train_one_epoch,
)
from models import (
    SKIP_CHOICES,
    TSA_CHOICES,
    VARIANTS,
    SwinSF,
    SwinSFConfig,
    build_model,
    check_fit,
    load_model,
    read_config,
)
from utils import checkpoint, cli
from utils.cli import UserError
from utils.distributed import (
    AGENT,
    agree,
    check_parallel,
    data_parallel,
    make_deterministic,
    parse_device_ids,
    pick_device,
    processes,
    total,
    wait_for_all,
    world,
)
from utils.files import keep_out, real_path
from utils.metrics import psnr_ssim, to_bytes
from utils.resume import restore
from utils.runs import RunFolder, create_folder

# What a resumed run may be given anew; all else is part of what makes the run exact.
RESUME_FLAGS = {
    *("resume_path", "auto_resume", "device", "device_ids", "workers", "dataset_path", "save_minutes", "keep_last"),
    *("grad_checkpoint", "accumulate", "deterministic", "timeout"),
}
# Under the modern recipe the learning rate follows the length of the run, so these may change under the paper's only.
LENGTH_FLAGS = {"epochs", "max_steps"}
LOCK_PATIENCE = 60.0  # seconds that a job which starts again waits for what is left of the one before


def parse_settings(arguments):
    """(settings, names of the flags that were given)."""
    parser = cli.Parser(__doc__, argument_default=argparse.SUPPRESS)
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


def resumed_settings(settings, given):
    """(settings, checkpoint) of the run to go on with; only flags that leave it exact may differ."""
    path = Path(settings.resume_path)
    path = path / "last.pth" if path.is_dir() else path
    saved = checked(checkpoint.load(path), path)
    folder = path.resolve().parent
    old = {**saved["settings"], "save_path": str(folder.parent), "run_name": folder.name}
    if "save_path" in given:
        settings.save_path = str(real_path(settings.save_path))
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


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def fresh_model(settings):
    if settings.load_model:
        return load_model(settings.load_model)
    try:
        fields = {"tsa": settings.tsa, "skip": settings.skip, **dict(settings.architecture)}
        return build_model(settings.variant or settings.data_mode, **fields)
    except (TypeError, ValueError) as error:  # a field or value that there is not
        raise UserError(f"--architecture: {error}; see SwinSFConfig in models/swinsf.py") from None


def open_data(settings):
    """(training set, validation set or None), and a line on each."""
    path, mode = settings.dataset_path, settings.data_mode
    scenes = {"sensor": settings.sensor, "steps_per_frame": settings.steps_per_frame}
    options = {"crop_size": settings.crop_size, "length": settings.epoch_length, "seed": settings.seed}
    train = open_dataset(path, mode, "train", **options, **scenes)
    if not settings.val_every:
        return train, None, [train.description, "val: none"]
    if is_simulated(path) or (Path(path) / "val").is_dir():
        val = open_dataset(path, mode, "val", **scenes)
        return train, val, [train.description, val.description]
    kept, held = hold_out(train)
    names = ", ".join(train.streams[i].path.name for i in held)
    val = train.subset(held)
    return train.subset(kept), val, [f"{train.description}, {len(kept)} of them to train on", f"val, held out of train: {names}"]


def validate(state, dataset, settings, device, should_stop):
    """({psnr, ssim, loss} means, comparison picture), or None where it was stopped."""
    shown = []

    def score(picture, truth):
        loss = pixel_loss(torch.from_numpy(picture), torch.from_numpy(truth), settings.recipe).item()
        return dict(zip(("psnr", "ssim", "loss"), (*psnr_ssim(picture, truth), loss)))

    def keep_first(_, item, pictures):
        if not shown:
            shown.extend([pictures["TFP21"], pictures["SwinSF"], item[scored_output(item)][0].numpy()])

    methods = {"TFP21": BASELINES["TFP21"], "SwinSF": network(state.averaged.eval())}
    rows = evaluate(methods, dataset, device, score, settings.workers, keep_first, "validate", should_stop)
    if rows is None:
        return None
    means = {key: float(np.mean([row["SwinSF"][key] for row in rows])) for key in ("psnr", "ssim", "loss")}
    return means, make_grid([torch.from_numpy(to_bytes(picture))[None] for picture in shown], nrow=3)


def finish_epoch(state, files, val, settings, device, should_stop):
    """Validate where it is due, keep the best weights, log. False where validation was stopped; it will be done anew."""
    line, comparison = {"epoch": state.epoch, "step": state.step}, None
    line["lr"] = state.optimizer.param_groups[0]["lr"]
    line["train_loss"] = state.totals["loss"] / state.totals["pictures"]
    line["train_pictures_per_second"] = state.totals["pictures"] / state.totals["seconds"]
    if val is not None:
        files.save()  # a kill while validating costs no training
        with cli.memory_errors("validation takes whole frames; set --val_every 0, or take a smaller --variant"):
            result = validate(state, val, settings, device, should_stop)
        if result is None:
            return False
        means, comparison = result
        line.update({f"val_{name}": value for name, value in means.items()})
        if means["psnr"] > state.best_psnr:
            state.best_psnr = means["psnr"]
            files.keep_best()
    files.log_epoch(line, comparison)
    cli.say(", ".join(f"{key} {value:.5g}" for key, value in line.items()))
    return True


def run_length(settings, samples):
    """(steps an epoch, steps in all) of a run."""
    per_epoch = math.ceil(samples / settings.batch_size)
    return per_epoch, min(settings.epochs * per_epoch, settings.max_steps or math.inf)


def fit(state, files, train, val, settings, device, stopper):
    """Train to the end or until stopper() is true, and return whether it was; leaves last.pth, also at a bad sample or loss."""
    parallel = data_parallel(state.model, device, parse_device_ids(settings.device_ids))
    per_epoch, total_steps = run_length(settings, len(train))
    samples = Augmented(train, settings.crop_size, settings.seed)

    def should_stop():
        return total(stopper())[0] > 0  # a signal to one process stops all, after the same step

    def after_step():
        stop, due = total(stopper(), files.is_due(settings.save_minutes))
        if due:
            files.save()
        return stop or state.step >= total_steps

    while state.step < total_steps or state.batch:  # batches without a step left: the epoch's validation was stopped
        share = (*world(), settings.accumulate)
        batches = EpochBatches(len(train), settings.batch_size, state.epoch, settings.seed, state.batch, *share)
        if len(batches) and state.step < total_steps:
            loader = make_loader(samples, settings.workers, device, batch_sampler=batches)
            try:
                train_one_epoch(state, parallel, loader, settings, total_steps, device, after_step)
            except (UserError, OSError) as error:  # a bad sample or loss, found before it reached the weights
                if isinstance(error, NotFinite) or world()[1] == 1:  # of several processes the others know of no bad sample
                    files.save()
                raise
        ended = state.step >= total_steps
        due = settings.val_every and ((state.epoch + 1) % settings.val_every == 0 or ended)
        if should_stop() or not finish_epoch(state, files, val if due else None, settings, device, stopper):
            break
        if state.batch < per_epoch:  # --max_steps ended the run within an epoch; a longer run goes on right here
            break
        state.epoch, state.batch = state.epoch + 1, 0
        state.totals = {"loss": 0.0, "pictures": 0, "seconds": 0.0}
        files.save(settings.keep_last)
    files.save()
    files.wait_until_saved(stopper)
    return should_stop()


def open_run(settings, saved, model, train):
    """(TrainingState, RunFolder) of a new run, or of the one that `saved` comes from."""
    recipe = RECIPES[settings.recipe]
    ema = ModelEmaV3(model, decay=recipe.ema, use_warmup=True) if recipe.ema else None
    state = TrainingState(model, make_optimizer(model, settings), ema)
    samples = hashlib.sha256("\n".join(train.names).encode(errors="surrogateescape")).hexdigest()
    if saved and saved["samples"] != samples:
        raise UserError(f"{train.description}: not the samples that the run was made with; restore them, or start a new run")
    if saved:
        restore(state, saved["training"], settings.resume_path)
        _, total_steps = run_length(settings, len(train))
        length = f"--epochs {settings.epochs}, --max_steps {settings.max_steps}: the run ends at step {total_steps}"
        if state.step > total_steps:
            raise UserError(f"{length}, but is at {state.step} already; ask for more, or for --max_steps 0 to go by epochs")
        if state.step == total_steps:
            cli.say(f"{length}, where it is already")
    folder, (rank, size) = Path(settings.save_path) / settings.run_name, world()
    if not saved and rank == 0:
        keep_out(folder, "--save_path", train.files, train.folders)
    if not saved and rank == 0 and not (settings.auto_resume and folder.is_dir()):
        create_folder(folder)
    about = {"config": dataclasses.asdict(model.config), "settings": vars(settings), "recipe": recipe.describe()}
    files = RunFolder(folder, {**about, "samples": samples}, state, rank == 0, patience=LOCK_PATIENCE if size > 1 else 0)
    if not saved:
        files.save()  # from here on the run can be resumed, whatever happens
        if files.trouble:
            raise UserError(f"{cli.one_line(files.trouble)}; no run was begun")
    return state, files


def choose_run(settings, given):
    """(path to resume from or "", the run's name). Raises UserError where a job that restarts has no name to find its run by."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0
    if settings.resume_path:
        return settings.resume_path, settings.run_name
    if (settings.auto_resume or restarts) and not settings.run_name:
        flag = "--auto_resume" if settings.auto_resume else "--max_restarts"
        raise UserError(f"{flag} without --run_name: a job that starts again finds its run by the name; add one")
    last = Path(settings.save_path) / settings.run_name / "last.pth"
    if (settings.auto_resume or restarts) and last.is_file():
        return str(last), settings.run_name
    return "", settings.run_name or f"{settings.variant or settings.data_mode}_{time.strftime('%Y%m%d_%H%M%S')}"


def prepare(settings, given, device):
    """(settings, the checkpoint to go on from or None, model, training set, validation set, lines on them)."""
    resume = settings.resume_path
    settings, saved = resumed_settings(settings, given) if resume else (new_settings(settings, given), None)
    ids = parse_device_ids(settings.device_ids)
    check_parallel(device, ids)
    if settings.compile and len(ids) > 1:
        raise UserError(f"--compile with --device_ids {settings.device_ids}: DataParallel cannot compile; leave one of them out")
    rank, size = world()
    if settings.batch_size < size * settings.accumulate:
        raise UserError(
            f"--batch_size {settings.batch_size}: less than a sample for each of {size} processes x --accumulate "
            f"{settings.accumulate}; raise it, it is the batch of all together"
        )
    if settings.deterministic:
        make_deterministic()
    seed_everything(settings.seed)
    model = SwinSF(SwinSFConfig(**saved["config"])) if saved else fresh_model(settings)
    if rank:
        seed_everything(settings.seed + rank)  # what is drawn while training, stochastic depth, is each process's own
    model.set_grad_checkpoint(settings.grad_checkpoint)
    if settings.compile:
        model.compile_blocks(device)
    return settings, saved, model, *open_data(settings)


def main(arguments=None):
    settings, given = parse_settings(arguments)
    device = pick_device(settings.device)
    with processes(device, settings.timeout) as (rank, size):
        prepared = None
        if rank == 0:  # it alone finds and says what is wrong
            settings.resume_path, settings.run_name = choose_run(settings, given)
            prepared = prepare(settings, given, device)
        settings.resume_path, settings.run_name = agree((settings.resume_path, settings.run_name))
        settings, saved, model, train, val, lines = prepared or prepare(settings, given, device)
        wait_for_all()  # all have read last.pth before one may write it
        remedy = f"lower --batch_size {settings.batch_size}, or set a smaller --crop_size ({settings.crop_size} now, 0 is all)"
        with cli.memory_errors(remedy), cli.Stopper() as stopper:
            state, files = open_run(settings, saved, model.to(device), train)
            parameters = sum(p.numel() for p in model.parameters())
            lines += [f"SwinSF with {parameters:,} parameters on {device}{f', {size} processes' if size > 1 else ''}"]
            for line in (*lines, f"run {files.folder}, from step {state.step}"):
                cli.say(line)
            try:
                stopped = fit(state, files, train, val, settings, device, stopper)
            finally:
                files.release()
    if stopped:
        if rank == 0:
            print(f"stopped at step {state.step}; go on with: python train.py --resume_path {files.folder}", file=sys.stderr)
        # To torchrun any other status is a failure, which it answers by a restart.
        return 0 if AGENT in os.environ else 128 + stopper.signal
    best = f", best validation PSNR {state.best_psnr:.2f} dB" if math.isfinite(state.best_psnr) else ""
    if rank == 0:
        cli.say(f"done: {state.step} steps{best}; weights in {files.folder}")
    return 0


if __name__ == "__main__":
    cli.run(main)
