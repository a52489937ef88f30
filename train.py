"""Fit SwinSF.

    python train.py --data_mode 250 --dataset_path ./datasets/spike_reds --device cuda:0
    python train.py --data_mode 1000 --dataset_path ./datasets/spike_x4k --device cuda:0 --device_ids 01
    python train.py --dataset_path photos:DIR --variant small --recipe modern --crop_size 80 --batch_size 8 --epochs 3
    python train.py --resume_path checkpoint/RUN
    torchrun --nproc_per_node 8 --max_restarts 3 train.py --dataset_path ./datasets/spike_reds --run_name RUN

A run keeps everything below SAVE_PATH/RUN: last.pth (the whole state, after every epoch and on Ctrl-C,
SIGTERM or SIGUSR1), best.pth (the weights with the best validation PSNR, for test.py --load_model),
config.json, log.jsonl and TensorBoard's curves. Resumed from last.pth it comes to the same weights that it
would have had without the stop. A batch is shared by the processes of torchrun, so that their number changes
how long a run takes and not what it does.
"""

import dataclasses
import hashlib
import math
import os
import random
import signal
import sys
from pathlib import Path

from swinsf.training.settings import (
    choose_run,
    look,
    new_settings,
    parse_settings,
    replaced,
    resumed_settings,
    run_folder,
    run_length,
    starts_again,
    validation_interval,
)
from swinsf.utils import cli

if __name__ == "__main__":
    cli.begin(lambda: look(None, __doc__))  # before the imports that take seconds

import numpy as np
import torch

from swinsf.datasets import is_simulated, open_dataset, scored_output
from swinsf.datasets.augment import DRAWS, Augmented, EpochBatches
from swinsf.datasets.loader import make_loader
from swinsf.datasets.paired import hold_out
from swinsf.evaluation.evaluate import BASELINES, evaluate, network
from swinsf.evaluation.metrics import psnr_ssim, to_bytes
from swinsf.models import SwinSF, SwinSFConfig, build_model, fast, load_model
from swinsf.training.epoch import Forward, NotFinite, train_one_epoch
from swinsf.training.recipes import RECIPES, make_average, make_optimizer
from swinsf.training.resume import restore, totals_logged
from swinsf.training.run import RunFolder, RunLock, create_folder
from swinsf.training.state import TrainingState
from swinsf.utils.allocator import tune_allocator
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import (
    AGENT,
    broadcast,
    check_compiler,
    check_parallel,
    data_parallel,
    first_then_others,
    gather,
    interleaved,
    make_deterministic,
    parse_device_ids,
    pick_device,
    processes,
    rank_and_size,
    set_tf32,
    share_weights,
    sum_over_processes,
    wait_for_all,
)
from swinsf.utils.guard import keep_out

LOCK_PATIENCE = 60.0  # seconds that a job which starts again waits for the end of the one before


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def fresh_model(settings):
    if settings.load_model:
        return load_model(settings.load_model)
    try:
        fields = {"tsa": settings.tsa, "skip": settings.skip} | dict(settings.architecture)
        return build_model(settings.variant or settings.data_mode, **fields)
    except (TypeError, ValueError) as error:  # a field or value that there is not
        raise UserError(f"--architecture: {error}; see SwinSFConfig in models/swinsf.py") from None


def open_data(settings):
    """(training set, validation set or None), and a line on each."""
    path, mode = settings.dataset_path, settings.data_mode
    scenes = {"sensor": settings.sensor, "steps_per_frame": settings.steps_per_frame}
    options = {"crop_size": settings.crop_size, "length": settings.epoch_length, "seed": settings.seed}
    scenes.update(flip=settings.flip, rate=settings.rate)
    train, val = open_dataset(path, mode, "train", **options, **scenes), None
    lines, warnings = [train.description], [*train.warnings]
    if settings.val_every == 0:
        lines.append("val: none")
    elif is_simulated(path) or (Path(path) / "val").is_dir():
        val = open_dataset(path, mode, "val", **scenes)
        lines.append(val.description)
        warnings += val.warnings
    else:
        kept, held = hold_out(train)
        names = ", ".join(train.streams[i].path.name for i in held)
        train, val = train.subset(kept), train.subset(held)
        lines = [f"{lines[0]}, {len(kept)} of them to train on", f"val, held out of train: {names}"]
    every = validation_interval(settings, train, val)
    if val is not None and settings.val_every is None and every > 1:
        lines.append(
            f"val: after every {every} epochs, for it has more pixels than the training of one; --val_every N sets it"
        )
    if settings.batch_size > len(train):
        few = f"there are {len(train)} samples to train on, and a batch has no more"
        warnings.append(f"--batch_size {settings.batch_size}: {few}; lower it, or add data")
    return train, val, [*lines, *(f"warning: {text}" for text in warnings)]


def validate(state, dataset, settings, device, should_stop):
    """({psnr, ssim, loss} means, comparison picture), or None where it was stopped.

    Items of a `kind` have a mean of their own, psnr_KIND, too.
    """
    loss = RECIPES[settings.recipe].loss

    def score(picture, truth):
        return {
            **psnr_ssim(picture, truth)._asdict(),
            "loss": loss(torch.from_numpy(picture), torch.from_numpy(truth)).item(),
        }

    methods = {"TFP21": BASELINES["TFP21"], "SwinSF": network(state.averaged.eval())}
    rows, comparison = [], None
    for item, pictures, figures in evaluate(methods, dataset, device, score, settings.workers, "validate"):
        rows.append((item.get("kind"), figures["SwinSF"]))
        if comparison is None:
            shown = [pictures["TFP21"], pictures["SwinSF"], item[scored_output(item)][0].numpy()]
            # (1, H, 3W), as TensorBoard takes it
            comparison = np.hstack([to_bytes(picture) for picture in shown])[None]
        if should_stop():
            break
    if any(gather(should_stop())):
        return None
    rows = interleaved(rows)
    means = {key: float(np.mean([row[key] for _, row in rows])) for key in ("psnr", "ssim", "loss")}
    for kind in dict.fromkeys(kind for kind, _ in rows if kind):
        means[f"psnr_{kind}"] = float(np.mean([row["psnr"] for of, row in rows if of == kind]))
    return means, comparison


def finish_epoch(state, files, val, settings, device, should_stop):
    """Validate where it is due, keep the best weights, log. False where validation was stopped, which
    resuming repeats."""
    line, comparison = {"epoch": state.epoch, "step": state.step}, None
    line["lr"] = state.optimizer.param_groups[0]["lr"]
    line["train_loss"] = state.totals["loss"] / state.totals["pictures"]
    line["train_pictures_per_second"] = state.totals["pictures"] / state.totals["seconds"]
    if val is not None:
        files.save()  # a kill while validating costs no training
        with cli.memory_errors(
            "validation takes whole frames; set --val_every 0, or take a smaller --variant"
        ):
            result = validate(state, val, settings, device, should_stop)
        if result is None:
            return False
        means, comparison = result
        line.update({f"val_{name}": value for name, value in means.items()})
        if means["psnr"] > state.best_psnr:
            state.best_psnr = means["psnr"]
            files.keep_best()
    files.log_epoch(line, comparison)
    cli.log(", ".join(f"{key} {value:.5g}" for key, value in {**line, "epoch": state.epoch + 1}.items()))
    return True


def fit(state, files, train, val, settings, device, stopper):
    """Train to the end or until stopper() is true, and return whether it was; leaves last.pth, also at a bad
    sample or loss."""
    forward = data_parallel(Forward(state.model, settings.amp), parse_device_ids(settings.device_ids))
    (per_epoch, total_steps), val_every = (
        run_length(settings, len(train)),
        validation_interval(settings, train, val),
    )
    samples, share = (
        Augmented(train, settings.crop_size, settings.seed),
        (*rank_and_size(), settings.accumulate),
    )
    batches = EpochBatches(len(train), settings.batch_size, state.epoch, settings.seed, state.batch, *share)
    keep = {"persistent_workers": settings.workers > 0}  # with the photographs that they have read
    loader = make_loader(samples, settings.workers, device, batch_sampler=batches, **keep)

    def should_stop():
        return sum_over_processes(stopper())[0] > 0  # a signal to one process stops all, after the same step

    def after_step():
        if state.step == 1 or state.step % settings.log_every == 0:
            files.log_step()
        stop, due = sum_over_processes(stopper(), files.is_due(settings.save_minutes))
        if due:
            files.save()
        return stop or state.step >= total_steps

    # batches without a step left: the epoch's validation was stopped
    while state.step < total_steps or state.batch:
        batches.set_epoch(state.epoch, state.batch)
        if len(batches) and state.step < total_steps:
            try:
                train_one_epoch(state, forward, loader, settings, total_steps, device, after_step)
            except (UserError, OSError) as error:  # a bad sample or loss, found before it reached the weights
                # of several processes the others know of no bad sample
                if isinstance(error, NotFinite) or rank_and_size()[1] == 1:
                    files.save()
                raise
        ended = state.step >= total_steps
        due = val_every and ((state.epoch + 1) % val_every == 0 or ended)
        if should_stop() or not finish_epoch(state, files, val if due else None, settings, device, stopper):
            break
        if state.batch < per_epoch:  # --max_steps ended the run within an epoch, where a longer run resumes
            break
        state.epoch, state.batch = state.epoch + 1, 0
        files.begin_epoch()
        files.save(settings.keep_last)
    files.save()
    stopped = should_stop()
    files.wait_until_saved(stopper)  # process 0 alone; the others may leave
    return stopped


def open_run(settings, saved, model, train, lock):
    """(TrainingState, RunFolder) of a new run, whose folder is then made and locked, or of the one that
    `saved` comes from."""
    recipe = RECIPES[settings.recipe]
    state = TrainingState(model, make_optimizer(model, settings), make_average(model, recipe))
    samples = hashlib.sha256("\n".join(train.names).encode(errors="surrogateescape")).hexdigest()
    if saved and saved["samples"] != samples:
        raise UserError(
            f"{train.description}: not the samples that the run was made with; restore them, or start a new run"
        )
    logged = None
    if saved:
        restore(state, saved["training"], settings.resume_path)
        logged = totals_logged(saved.get("logged"), saved["training"], settings.resume_path)
        _, total_steps = run_length(settings, len(train))
        length = f"--epochs {settings.epochs}, --max_steps {settings.max_steps}: the run ends at step {total_steps}"
        if state.step > total_steps:
            raise UserError(
                f"{length}, but is at {state.step} already; ask for more, or for --max_steps 0 to go by epochs"
            )
        if state.step == total_steps:
            cli.log(f"{length}, where it is already")
    folder, (rank, _) = Path(settings.save_path) / settings.run_name, rank_and_size()
    if not saved and rank == 0:
        keep_out(folder, "--save_path", train.files, train.folders)
        create_folder(folder)
        lock.take(folder)
        if (folder / "last.pth").exists():
            raise UserError(
                f"{folder}: another process began it meanwhile; take another --run_name, or start again to resume it"
            )
    about = {
        "config": dataclasses.asdict(model.config),
        "settings": vars(settings),
        "recipe": recipe.describe(),
    }
    about.update(samples=samples, draws=DRAWS)
    files = RunFolder(folder, about, state, rank == 0, logged)
    if not saved:
        files.save()  # from here on the run can be resumed, whatever happens
        if files.trouble:
            raise UserError(f"{cli.one_line(files.trouble)}; no run was begun")
    wait_for_all()  # where one has found something wrong, it alone says so
    if len(set(gather(state.step))) > 1:
        raise UserError(
            f"{folder}: the processes read states of different steps; all have to see the same disk"
        )
    return state, files


def prepare(asked, given, device):
    """(settings, the checkpoint to resume from or None, model, training set, validation set, lines on
    them)."""
    settings, saved = (
        resumed_settings(asked, given) if asked.resume_path else (new_settings(asked, given), None)
    )
    ids = parse_device_ids(settings.device_ids)
    check_parallel(device, ids)
    if settings.compile and len(ids) > 1:
        raise UserError(
            f"--compile with --device_ids {settings.device_ids}: DataParallel cannot compile; leave one of them out"
        )
    rank, size = rank_and_size()
    if settings.batch_size < size * settings.accumulate:
        raise UserError(
            f"--batch_size {settings.batch_size}: less than a sample for each of {size} processes x --accumulate "
            f"{settings.accumulate}; raise it, it is the batch of all together"
        )
    set_tf32(settings.tf32)
    if settings.deterministic:
        make_deterministic()
    seed_everything(settings.seed)
    model = SwinSF(SwinSFConfig(**saved["config"])) if saved else fresh_model(settings)
    if rank:
        # what is drawn while training, stochastic depth, is each process's own
        seed_everything(settings.seed + rank)
    model.grad_checkpoint = settings.grad_checkpoint
    if settings.compile:
        check_compiler(device)
        fast.compile_blocks(model)
    return settings, saved, model, *open_data(settings)


def main(arguments=None):
    asked, given = parse_settings(arguments, __doc__)
    tune_allocator(training=True)
    device = pick_device(asked.device)
    with processes(device, asked.timeout) as (rank, size):
        resume_path, run_name = broadcast(choose_run(asked) if rank == 0 else None)
        asked, lock = replaced(asked, resume_path=resume_path, run_name=run_name), RunLock()
        if rank == 0 and resume_path:  # locked before it is read: the run may be at its last save
            lock.take(run_folder(resume_path), LOCK_PATIENCE if starts_again(asked) else 0)
        settings, saved, model, train, val, lines = first_then_others(lambda: prepare(asked, given, device))
        wait_for_all()  # all have read last.pth before one may write it
        remedy = f"lower --batch_size {settings.batch_size}, or set a smaller --crop_size ({settings.crop_size} now, 0 is all)"
        with cli.memory_errors(remedy), cli.Stopper() as stopper:
            share_weights(model.to(device))
            state, files = open_run(settings, saved, model, train, lock)
            parameters = sum(p.numel() for p in model.parameters())
            lines += [
                f"SwinSF with {parameters:,} parameters on {device}{f', {size} processes' if size > 1 else ''}"
            ]
            for line in (*lines, f"run {files.folder}, from step {state.step}"):
                cli.log(line)
            try:
                stopped = fit(state, files, train, val, settings, device, stopper)
            finally:
                lock.release()
    if stopped:
        if rank == 0:
            print(
                f"stopped at step {state.step}; resume it with: python train.py --resume_path {files.folder}",
                file=sys.stderr,
            )
        # To torchrun any other status is a failure, which it answers by a restart.
        return 0 if AGENT in os.environ else 128 + (stopper.signal or signal.SIGTERM)
    best = f", best validation PSNR {state.best_psnr:.2f} dB" if math.isfinite(state.best_psnr) else ""
    if rank == 0:
        cli.log(f"done: {state.step} steps{best}; weights in {files.folder}")
    return 0


if __name__ == "__main__":
    cli.run(main)
