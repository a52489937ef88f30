"""Where a model runs: a CPU, one GPU, several by DataParallel; and what the processes of torchrun do together."""

import contextlib
import importlib.util
import os
import shlex
import shutil
from datetime import timedelta

import torch
import torch.distributed as dist

from utils.cli import UserError


def pick_device(name=None):
    """The torch.device of a --device flag; None takes CUDA where there is one, else the CPU. Raises UserError.

    Under torchrun each process takes the GPU of its number on its machine, unless one is named.
    """
    if name is None or name == "cuda":
        if not torch.cuda.is_available():
            name = name or "cpu"
        else:
            name = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: not a device; take cpu, cuda or cuda:0") from None
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise UserError(f"--device {name}: PyTorch sees {found} CUDA devices here; take --device cpu or install its driver")
    elif device.type != "cpu":
        raise UserError(f"--device {name}: only cpu and cuda are supported")
    return device


def check_compiler(device):
    """Raises UserError where torch.compile has not what it needs: a C++ compiler, and Triton for CUDA."""
    compiler = (shlex.split(os.environ.get("CXX", "")) or ["g++"])[0]
    if not any(map(shutil.which, (compiler, "clang++"))):
        raise UserError(f"--compile: no C++ compiler found ({compiler}); install g++, or name one in CXX, or leave the flag out")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError("--compile on cuda: the package triton is missing; pip install triton, or leave the flag out")


def parse_device_ids(text):
    """[0, 1] for "01", [0, 1, 10] for "0,1,10", [] for "". Raises UserError."""
    numbers = text.split(",") if "," in text else list(text)
    if not all(number.strip().isdecimal() for number in numbers):
        raise UserError(f"--device_ids {text}: write the GPUs as 01 or 0,1,10")
    ids = [int(number) for number in numbers]
    if len(set(ids)) < len(ids):
        raise UserError(f"--device_ids {text}: names a GPU twice")
    return ids


def data_parallel(model, device, ids):
    """The model spread over GPUs by DataParallel, or as it is where fewer than two are named. Raises UserError."""
    if not ids:
        return model
    if device.type != "cuda":
        raise UserError(f"--device_ids {','.join(map(str, ids))} with --device {device}: DataParallel needs CUDA; leave it out")
    if max(ids) >= torch.cuda.device_count():
        raise UserError(f"--device_ids names GPU {max(ids)}, but PyTorch sees {torch.cuda.device_count()}; name existing ones")
    if (device.index or 0) != ids[0]:
        raise UserError(f"--device {device}: with --device_ids the first of them, cuda:{ids[0]}, holds the model; name that one")
    return torch.nn.DataParallel(model, device_ids=ids) if len(ids) > 1 else model


@contextlib.contextmanager
def processes():
    """Within `with`, the processes that torchrun started are one group; gives (rank, number of them), (0, 1) without torchrun."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield 0, 1
        return
    dist.init_process_group("gloo", timeout=timedelta(days=7))  # as long as one may have to wait for another's share
    try:
        yield rank, size
    finally:
        dist.destroy_process_group()


def wait_for_all():
    """Returns when every process of the group has come to this point; ends this one, in silence, where another has ended."""
    if dist.is_initialized():
        try:
            dist.barrier()
        except RuntimeError:  # the other said why
            raise SystemExit(2) from None


def agree(value):
    """Process 0's value in every process; ends this one, in silence, where process 0 has ended in an error before it."""
    if not dist.is_initialized():
        return value
    values = [value]
    try:
        dist.broadcast_object_list(values, src=0)
    except RuntimeError:  # process 0 said why
        raise SystemExit(2) from None
    return values[0]
