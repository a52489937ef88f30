"""Starts or resumes a run, from its flags to its first iteration."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from swinsf.datasets import is_simulated
from swinsf.datasets.augment import DRAWS
from swinsf.datasets.simulation import sampling
from swinsf.models import SwinSF, SwinSFConfig, build_model, fast, load_model
from swinsf.training.data import identity, open_data, validation_interval
from swinsf.training.devices import check_machine
from swinsf.training.recipes import RECIPES, make_average, make_optimizer
from swinsf.training.resume import restore, resumed_settings
from swinsf.training.run import PATIENCE, RunFolder, RunLock, create_folder
from swinsf.training.settings import (
    TrainSettings,
    choose_run,
    new_settings,
    run_folder,
    run_length,
    starts_again,
)
from swinsf.training.state import TrainingState, seed_everything
from swinsf.utils import cli, distributed
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import rank_and_size
from swinsf.utils.guard import keep_out


@dataclass(frozen=True)
class Prepared:
    """A run that is checked and loaded, before anything is written to disk."""

    settings: TrainSettings
    saved: dict[str, Any] | None  # contents of the last.pth to resume from
    model: SwinSF
    train: Any  # datasets; val may be None
    val: Any
    lines: list[str]  # describe the data
    lock: RunLock

    @property
    def remedy(self) -> str:
        """Advice in case memory runs out."""
        batch, crop = self.settings.batch_size, self.settings.crop_size
        return f"lower --batch_size {batch}, or set a smaller --crop_size ({crop} now, 0: whole frames)"


@dataclass(frozen=True)
class Run:
    """A run that is ready for its next iteration."""

    settings: TrainSettings
    state: TrainingState
    files: RunFolder
    train: Any
    val: Any
    per_epoch: int  # iterations in an epoch
    total_steps: int  # iterations in the run
    val_every: int  # epochs; 0: never


@contextlib.contextmanager
def prepare(asked: TrainSettings, given: set[str], device: torch.device) -> Iterator[Prepared]:
    """A context manager that checks the flags, opens the data and loads the model. Raises UserError.

    A run to resume is locked until the end of the `with`.
    """
    lock, (rank, _) = RunLock(), rank_and_size()
    resume_path, run_name = distributed.broadcast(choose_run(asked) if rank == 0 else None)
    asked = dataclasses.replace(asked, resume_path=resume_path, run_name=run_name)
    try:
        if rank == 0 and resume_path:  # lock before reading: the run may be saving for the last time
            lock.take(run_folder(resume_path), PATIENCE if starts_again(asked) else 0)
        parts = distributed.first_then_others(lambda: open_parts(asked, given, device))
        distributed.wait_for_all()  # all have read last.pth before one may write it
        yield Prepared(*parts, lock)
    finally:
        lock.release()


def open_parts(asked: TrainSettings, given: set[str], device: torch.device) -> tuple[Any, ...]:
    """(settings, contents of last.pth or None, model, training set, validation set, lines about the data)."""
    settings, saved = (
        resumed_settings(asked, given) if asked.resume_path else (new_settings(asked, given), None)
    )
    check_machine(settings, device)
    distributed.set_tf32(settings.tf32)
    if settings.deterministic:
        distributed.make_deterministic()
    seed_everything(settings.seed)
    model = SwinSF(SwinSFConfig(**saved["config"])) if saved else fresh_model(settings)
    if rank := rank_and_size()[0]:
        seed_everything(settings.seed + rank)  # stochastic depth differs between processes
    model.grad_checkpoint = settings.grad_checkpoint
    if settings.compile:
        distributed.check_compiler(device)
        fast.compile_blocks(model)
    return settings, saved, model, *open_data(settings)


def fresh_model(settings: TrainSettings) -> SwinSF:
    """The network that a new run starts from."""
    if settings.load_model:
        return load_model(settings.load_model)
    try:
        fields = {"tsa": settings.tsa, "skip": settings.skip} | dict(settings.architecture)
        return build_model(settings.variant or settings.data_mode, **fields)
    except (TypeError, ValueError) as error:  # an unknown field or value
        raise UserError(f"--architecture: {error}; see SwinSFConfig in models/swinsf.py") from None


def begin(prepared: Prepared, device: torch.device) -> Run:
    """Move the model to its device, and create a new run's folder or load a resumed run's state."""
    settings, saved, model, train = prepared.settings, prepared.saved, prepared.model, prepared.train
    distributed.share_weights(model.to(device))
    recipe, (rank, size) = RECIPES[settings.recipe], rank_and_size()
    state = TrainingState(model, make_optimizer(model, settings), make_average(model, recipe))
    per_epoch, total_steps = run_length(settings, len(train))
    samples, logged = identity(train), None
    if saved:
        distributed.first_then_others(lambda: check_samples(saved["samples"], samples, train.description))
        restore(state, saved, settings.resume_path)
        logged = saved["logged"]
        check_length(settings, state.step, total_steps)
    about = {
        "config": dataclasses.asdict(model.config),
        "settings": vars(settings),
        "recipe": recipe.describe(),
    }
    about.update(samples=samples, draws=DRAWS)
    folder = Path(settings.save_path) / settings.run_name
    lines = []
    if is_simulated(settings.dataset_path):
        about["made_with"] = sampling.maker()
        lines += warn_of_other_scenes(folder, settings, saved, about["made_with"])
    if not saved and rank == 0:
        keep_out(folder, "--save_path", train.files, train.folders)
        claim(folder, prepared.lock)
    distributed.wait_for_all()  # so that only the process that fails prints its error
    files = RunFolder(folder, about, state, rank == 0, logged)
    if not saved:
        files.save()  # from here on the run can be resumed
        if files.trouble:
            raise UserError(f"{cli.one_line(files.trouble)}; no run was started")
    distributed.wait_for_all()
    if len(set(distributed.gather(state.step))) > 1:
        raise UserError(
            f"{folder}: the processes read states of different iterations; use a disk that all of them share"
        )
    parameters = sum(p.numel() for p in model.parameters())
    shared = f", {size} processes" if size > 1 else ""
    lines += [
        f"SwinSF with {parameters:,} parameters on {device}{shared}",
        f"run {folder}, from step {state.step}",
    ]
    for line in (*prepared.lines, *lines):
        cli.log(line)
    every = validation_interval(settings, train, prepared.val)
    return Run(settings, state, files, train, prepared.val, per_epoch, total_steps, every)


def warn_of_other_scenes(folder: Path, settings: TrainSettings, saved: Any, now: dict[str, str]) -> list[str]:
    """Warnings if a resumed run now samples its scenes differently."""
    text = sampling.describe_other((saved or {}).get("made_with"), now)
    if saved and "made_with" not in saved and not settings.dataset_path.startswith("photos:"):
        text = "started by an older version, which read videos differently"
    return [f"warning: {folder}: {text}; new scenes differ slightly from the earlier ones"] if text else []


def claim(folder: Path, lock: RunLock) -> None:
    """Create and lock a new run's folder. Raises UserError if another process was faster."""
    create_folder(folder)
    lock.take(folder)
    if (folder / "last.pth").exists():
        raise UserError(
            f"{folder}: another process has just started it; choose another --run_name, or start again to "
            "resume it"
        )


def check_samples(saved: Any, now: Any, description: str) -> None:
    """Raises UserError if the samples of a resumed run are others than those that it started with."""
    if saved != now:
        raise UserError(
            f"{description}: not the samples that the run started with; restore them, or start a new run"
        )


def check_length(settings: TrainSettings, step: int, total_steps: int) -> None:
    """Raises UserError if a resumed run is beyond its end; logs a line if it has reached it."""
    length = (
        f"--epochs {settings.epochs}, --max_steps {settings.max_steps}: the run ends at step {total_steps}"
    )
    if step > total_steps:
        raise UserError(f"{length}, but is already at {step}; raise them, or use --max_steps 0 for no limit")
    if step == total_steps:
        cli.log(f"{length}, and is already there")
