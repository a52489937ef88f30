"""The GPUs of --device_ids: one process, DataParallel."""

import os

import torch
from torch import nn

from swinsf.utils.cli import UserError, plural
from swinsf.utils.distributed import rank_and_size


def parse_device_ids(text: str) -> list[int]:
    """[0, 1] for "01", [0, 1, 10] for "0,1,10", [] for "". Raises UserError."""
    numbers = text.split(",") if "," in text else list(text)
    if not all(number.strip().isdecimal() for number in numbers):
        raise UserError(f"--device_ids {text}: write the GPUs as 01 or 0,1,10")
    ids = [int(number) for number in numbers]
    if len(set(ids)) < len(ids):
        raise UserError(f"--device_ids {text}: names a GPU twice")
    return ids


def check_parallel(device: torch.device, ids: list[int]) -> None:
    """Raises UserError if the GPUs of --device_ids, or of torchrun's processes, do not fit."""
    text, found = ",".join(map(str, ids)), torch.cuda.device_count()
    if ids and rank_and_size()[1] > 1:
        raise UserError(
            f"--device_ids {text} under torchrun: each process has a GPU of its own; leave it out"
        )
    if ids and device.type != "cuda":
        raise UserError(f"--device_ids {text} with --device {device}: DataParallel needs CUDA; leave it out")
    if ids and max(ids) >= found:
        raise UserError(f"--device_ids names GPU {max(ids)}, but PyTorch sees {found}; name existing ones")
    if ids and (device.index or 0) != ids[0]:
        raise UserError(
            f"--device {device}: with --device_ids the first of them, cuda:{ids[0]}, holds the model; name that one"
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if device.type == "cuda" and here > found:
        raise UserError(
            f"--nproc_per_node {here}: PyTorch sees {plural(found, 'CUDA device')}, and each process takes one; ask for fewer"
        )
    if device.type == "cuda" and here > 1 and device.index != int(os.environ["LOCAL_RANK"]):
        raise UserError(
            f"--device {device} under torchrun: each process takes the GPU of its number; leave it out"
        )


def data_parallel(model: nn.Module, device_ids: str) -> nn.Module:
    """The model in DataParallel if --device_ids names several GPUs."""
    ids = parse_device_ids(device_ids)
    return nn.DataParallel(model, device_ids=ids) if len(ids) > 1 else model
