"""A run's training and validation sets."""

import hashlib
import math
import re
from pathlib import Path
from typing import Any

from swinsf.datasets import is_simulated, open_dataset
from swinsf.datasets.series import natural, series_of
from swinsf.training.settings import TrainSettings
from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.guard import read_json


def open_data(settings: TrainSettings) -> tuple[Any, Any, list[str]]:
    """(training set, validation set or None, lines about both)."""
    path, mode = settings.dataset_path, settings.data_mode
    names = ("sensor", "calibrated", "steps_per_frame", "flip", "rate")
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
        few = f"{cli.plural(len(train), 'sample')} to train on, so batches are smaller"
        warnings.append(f"--batch_size {settings.batch_size}: there are only {few}; lower it, or add data")
    return train, val, [*lines, *(f"warning: {text}" for text in warnings)]


def hold_out(dataset: Any) -> tuple[list[int], list[int], str | None]:
    """(indices to train on, indices to validate on, a warning or None).

    Holds out the last twentieth of the scenes. Scenes stay whole, because their parts look alike. Streams
    belong to one scene if their names agree up to _part1, _f4305, key or id, or else in all but the last
    number.
    """
    scenes = {}
    for index, stream in enumerate(dataset.streams):
        # such as 000_part1_key_id21, occ008.649_f4305
        scene, *more = re.split(r"_part\d|_f\d", stream.path.stem)
        scene = re.split(r"_?key_|_id\d|id21$", scene)[0]
        scenes.setdefault(scene if more else series_of(scene)[0], []).append(index)
    groups = list(scenes.values())
    if len(dataset) < 2:
        raise UserError(
            f"{dataset.streams[0].path}: the only stream, so there is none to validate on; add more, or use "
            "--val_every 0"
        )
    held = [index for group in groups[-max(1, len(groups) // 20) :] for index in group]
    warning = None
    if len(held) > 0.75 * len(dataset) and len(groups) > 1:
        held = min(groups, key=len)
    elif len(groups) < 2:
        held = sorted(range(len(dataset)), key=lambda i: natural(dataset.streams[i].path.name))
        held = sorted(held[-max(1, len(dataset) // 20) :])
        if not is_of_simulate(dataset.path):  # simulate.py numbers independent scenes
            first = dataset.streams[0].path.name
            warning = f"{dataset.folder}: names such as {first} differ only in their last number, so streams "
            warning += "of one scene may be held out and trained on; a folder val/ avoids that"
    return [index for index in range(len(dataset)) if index not in held], held, warning


def is_of_simulate(folder: Path) -> bool:
    """Whether simulate.py made a dataset."""
    try:
        return read_json(folder / "meta.json").get("made_by") == "simulate.py"
    except (OSError, ValueError, AttributeError):
        return False


def validation_interval(settings: TrainSettings, train: Any, val: Any) -> int:
    """Epochs between validations; 0: never.

    The default is the smallest number with no more validation pixels than training pixels. Gradients make
    training three times as slow per pixel. So validation takes at most a quarter of the time, even with small
    crops and many whole frames.
    """
    if val is None or settings.val_every is not None:
        return settings.val_every or 0
    trained = len(train) * (settings.crop_size**2 or train.height * train.width)
    return math.ceil(len(val) * val.height * val.width / trained)


def identity(dataset: Any) -> str:
    """A hash of all samples' names, by which a resumed run recognises its data."""
    return hashlib.sha256("\n".join(dataset.names).encode(errors="surrogateescape")).hexdigest()
