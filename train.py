"""Train SwinSF.

    python train.py --data_mode 250 --dataset_path ./datasets/spike_reds --device cuda:0
    python train.py --data_mode 1000 --dataset_path ./datasets/spike_x4k --device cuda:0 --device_ids 01
    python train.py --dataset_path photos:DIR --variant small --recipe modern --crop_size 80 --batch_size 8 --epochs 3
    python train.py --resume_path checkpoint/RUN
    torchrun --nproc_per_node 8 --max_restarts 3 train.py --dataset_path ./datasets/spike_reds --run_name RUN

A run writes to SAVE_PATH/RUN: last.pth (the whole state, after every epoch and on Ctrl-C, SIGTERM or
SIGUSR1), best.pth (the weights with the best validation PSNR, for test.py --load_model), config.json,
log.jsonl and TensorBoard's curves. A resumed run ends with the same weights as one that never stopped.
torchrun's processes share each batch: their number changes the rounding and the draws of stochastic depth, but
not the batches.
"""

import math
import os
import shlex
import signal

from swinsf.training.settings import look, parse_settings
from swinsf.utils import cli, stopping

if __name__ == "__main__":
    cli.begin(lambda: look(None, __doc__))  # before the slow imports

import torch

from swinsf.datasets.augment import Augmented, EpochBatches
from swinsf.datasets.loader import make_loader
from swinsf.training.devices import data_parallel
from swinsf.training.epoch import Forward, train_one_epoch
from swinsf.training.start import Run, begin, prepare
from swinsf.training.validation import finish_epoch
from swinsf.utils import distributed
from swinsf.utils.allocator import tune_allocator


def fit(run: Run, device: torch.device, stopper: stopping.Stopper) -> bool:
    """Train to the end or until a signal; returns whether one came.

    Saves last.pth, even after a non-finite loss or, with one process, a bad sample.
    """
    settings, state, files, total_steps = run.settings, run.state, run.files, run.total_steps
    samples = Augmented(run.train, settings.crop_size, settings.seed)
    order = len(run.train), settings.batch_size, state.epoch, settings.seed, state.batch
    batches = EpochBatches(*order, *distributed.rank_and_size(), settings.accumulate)
    keep = {"persistent_workers": settings.workers > 0}  # workers keep the photographs that they have read
    loader = make_loader(samples, settings.workers, device, batch_sampler=batches, **keep)
    forward = data_parallel(Forward(state.model, settings.amp), settings.device_ids)

    def should_stop():  # a signal to one process stops all, after the same iteration
        return distributed.sum_over_processes(stopper())[0] > 0

    def after_step():
        if state.step == 1 or state.step % settings.log_every == 0:
            files.log_step()
        stop, due = distributed.sum_over_processes(stopper(), files.is_due(settings.save_minutes))
        if due:
            files.save()
        return stop or state.step >= total_steps

    # state.batch at the last iteration: the epoch's validation was stopped; or --max_steps ended within an epoch,
    # and a resumed run repeats its validation
    while state.step < total_steps or state.batch:
        batches.set_epoch(state.epoch, state.batch)
        if len(batches) and state.step < total_steps:
            with files.saved_on_error():
                train_one_epoch(state, forward, loader, settings, total_steps, device, after_step)
        ended = state.step >= total_steps
        due = run.val_every and (ended or (state.epoch + 1) % run.val_every == 0)
        val = run.val if due else None
        if should_stop() or not finish_epoch(state, files, val, settings, device, stopper):
            break
        if state.batch < run.per_epoch:  # --max_steps ended within an epoch; a longer run resumes there
            break
        files.begin_epoch()
        files.save(settings.keep_last)
    files.save()
    stopped = should_stop()
    files.wait_until_saved(stopper)
    return stopped


def main(arguments: list[str] | None = None) -> int:
    asked, given = parse_settings(arguments, __doc__)
    tune_allocator(training=True)
    device = distributed.pick_device(asked.device)
    with (
        distributed.processes(device, asked.timeout) as (rank, _),
        prepare(asked, given, device) as prepared,
        cli.memory_errors(prepared.remedy),
        stopping.Stopper() as stopper,
    ):
        run = begin(prepared, device)
        stopped = fit(run, device, stopper)
    state, folder = run.state, run.files.folder
    if stopped:
        if rank == 0:
            again = f"python train.py --resume_path {shlex.quote(str(folder))}"
            again += f" --device {asked.device}" if asked.device else ""
            cli.log(f"stopped at step {state.step}; resume it with: {again}", trouble=True)
        # torchrun treats any status except 0 as a failure and restarts the job
        return 0 if distributed.AGENT in os.environ else 128 + (stopper.signal or signal.SIGTERM)
    best = f", best validation PSNR {state.best_psnr:.2f} dB" if math.isfinite(state.best_psnr) else ""
    if rank == 0:
        cli.log(f"done: {state.step} steps{best}; weights in {folder}")
    return 0


if __name__ == "__main__":
    cli.run(main)
