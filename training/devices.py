"""The GPUs of a run, checked against its settings."""

import os

import torch
from torch import nn

from swinsf.training.settings import TrainSettings
from swinsf.utils.cli import UserError, plural, refuse
from swinsf.utils.distributed import rank_and_size


def parse_device_ids(text: str) -> list[int]:
    """[0, 1] for "01", [0, 1, 10] for "0,1,10", [] for "". Raises UserError."""
    numbers = text.split(",") if "," in text else list(text)
    wrong = ""
    if not all(number.strip().isdecimal() for number in numbers):
        wrong = "write the GPUs as 01 or 0,1,10"
    elif len(set(map(int, numbers))) < len(numbers):
        wrong = "lists a GPU twice"
    if wrong:
        raise UserError(f"--device_ids {text}: {wrong}")
    return [int(number) for number in numbers]


def check_machine(settings: TrainSettings, device: torch.device) -> None:
    """Raises UserError if the GPUs or the number of processes do not fit the settings."""
    text, found = settings.device_ids, torch.cuda.device_count()
    ids, size = parse_device_ids(text), rank_and_size()[1]
    here, cuda = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), device.type == "cuda"
    rules = (
        (
            ids and size > 1,
            f"--device_ids {text} under torchrun: each process has its own GPU; leave it out",
        ),
        (
            ids and not cuda,
            f"--device_ids {text} with --device {device}: DataParallel needs CUDA; leave it out",
        ),
        (
            max(ids, default=-1) >= found,
            f"--device_ids {text}: PyTorch sees {plural(found, 'GPU')}; give existing ones",
        ),
        (
            ids and (device.index or 0) != ids[0],
            f"--device {device} with --device_ids {text}: the first GPU listed holds the model; give that one",
        ),
        (
            cuda and here > found,
            f"--nproc_per_node {here}: one GPU each, but PyTorch sees {plural(found, 'CUDA device')}; use fewer",
        ),
        (
            cuda and here > 1 and device.index != int(os.environ.get("LOCAL_RANK", 0)),
            f"--device {device} under torchrun: each process uses the GPU of its local rank; leave it out",
        ),
        (
            settings.compile and len(ids) > 1,
            f"--compile with --device_ids {text}: DataParallel cannot compile; leave one of them out",
        ),
        (
            settings.batch_size < size * settings.accumulate,
            f"--batch_size {settings.batch_size}: the batch over all processes has less than {size} processes "
            f"x --accumulate {settings.accumulate} samples; raise it",
        ),
    )
    refuse(rules)


def data_parallel(model: nn.Module, device_ids: str) -> nn.Module:
    """The model in DataParallel if --device_ids names several GPUs."""
    ids = parse_device_ids(device_ids)
    return nn.DataParallel(model, device_ids=ids) if len(ids) > 1 else model
