"""The training and the validation set of a run."""

import hashlib
import math
from pathlib import Path
from typing import Any

from swinsf.datasets import is_simulated, open_dataset
from swinsf.datasets.paired import hold_out
from swinsf.training.settings import TrainSettings
from swinsf.utils import cli


def open_data(settings: TrainSettings) -> tuple[Any, Any, list[str]]:
    """(training set, validation set or None, lines about both)."""
    path, mode = settings.dataset_path, settings.data_mode
    names = ("sensor", "steps_per_frame", "flip", "rate")
    stored = {name: getattr(settings, name) for name in names}
    crops = {"crop_size": settings.crop_size, "length": settings.epoch_length, "seed": settings.seed}
    train, val = open_dataset(path, mode, "train", **crops, **stored), None
    lines, warnings = [train.description], [*train.warnings]
    if settings.val_every == 0:
        lines.append("val: none")
    elif is_simulated(path) or (Path(path) / "val").is_dir():
        val = open_dataset(path, mode, "val", **stored)
        lines.append(val.description)
        warnings += val.warnings
    else:
        kept, held, warning = hold_out(train)
        warnings += [warning] if warning else []
        held_names = ", ".join(train.streams[i].path.name for i in held)
        train, val = train.subset(kept), train.subset(held)
        lines = [f"{lines[0]}, {len(kept)} of them to train on", f"val, held out of train: {held_names}"]
    every = validation_interval(settings, train, val)
    if val is not None and settings.val_every is None and every > 1:
        lines.append(
            f"val: after every {every} epochs, because it has more pixels than one epoch of training; "
            "--val_every N sets it"
        )
    if settings.batch_size > len(train):
        few = f"{cli.plural(len(train), 'sample')} to train on, and a batch has no more"
        warnings.append(f"--batch_size {settings.batch_size}: there are only {few}; lower it, or add data")
    return train, val, [*lines, *(f"warning: {text}" for text in warnings)]


def validation_interval(settings: TrainSettings, train: Any, val: Any) -> int:
    """Epochs from one validation to the next; 0: never.

    By default the fewest that validate no more pixels than are trained on. Training takes three times as long
    per pixel, for the gradients. So validation takes a quarter of the time at most, even with small crops and
    many whole frames.
    """
    if val is None or settings.val_every is not None:
        return settings.val_every or 0
    trained = len(train) * (settings.crop_size**2 or train.height * train.width)
    return math.ceil(len(val) * val.height * val.width / trained)


def identity(dataset: Any) -> str:
    """A hash of the names of all samples, which a resumed run compares."""
    return hashlib.sha256("\n".join(dataset.names).encode(errors="surrogateescape")).hexdigest()
