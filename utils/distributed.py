"""Devices and processes: a CPU, one GPU, or several with DataParallel or torchrun."""

import contextlib
import importlib.util
import os
import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from swinsf.utils.cli import UserError, plural

T = TypeVar("T")
AGENT = "TORCHELASTIC_RUN_ID"  # set by torchrun only


def pick_device(name: str | None = None) -> torch.device:
    """The torch.device for --device; None: CUDA if there is one, else the CPU. Raises UserError.

    Under torchrun, each process uses the GPU of its local rank, unless one is given. The GPU becomes the
    current device, so that nothing is put on the first GPU by default.
    """
    if name is None or name == "cuda":
        if not torch.cuda.is_available():
            name = name or "cpu"
        else:
            name = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: not a device; choose cpu, cuda or cuda:0") from None
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise UserError(
                f"--device {name}: PyTorch sees {plural(found, 'CUDA device')} here; choose --device cpu, or "
                "install its driver"
            )
    elif device.type != "cpu":
        raise UserError(f"--device {name}: only cpu and cuda are supported")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def check_compiler(device: torch.device) -> None:
    """Raises UserError if torch.compile lacks a C++ compiler, or Triton for CUDA."""
    compiler = (shlex.split(os.environ.get("CXX", "")) or ["g++"])[0]
    if not any(map(shutil.which, (compiler, "clang++"))):
        missing = f"no C++ compiler found ({compiler}); install g++, or set CXX"
    elif device.type == "cuda" and importlib.util.find_spec("triton") is None:
        missing = "the package triton is missing; pip install triton"
    else:
        return
    raise UserError(f"--compile: {missing}, or leave the flag out")


def set_tf32(allowed: bool) -> None:
    """Set whether CUDA may compute float32 products and convolutions in TF32, with 10 bits of mantissa.

    PyTorch's default is convolutions only.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def make_deterministic() -> None:
    """Make PyTorch use deterministic algorithms; it raises an error if there is none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # no result depends on it
    torch.backends.cudnn.benchmark = False


def rank_and_size() -> tuple[int, int]:
    """(rank, number of processes) in the group of `processes`; (0, 1) without one."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


@contextlib.contextmanager
def processes(
    device: torch.device | None = None, seconds: float = 7 * 24 * 3600
) -> Iterator[tuple[int, int]]:
    """Within `with`, torchrun's processes form one group. Yields (rank, number of processes).

    They communicate through gloo, and tensors on a CUDA `device` through NCCL. seconds: longest wait for
    another process.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield 0, 1
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(
            f"WORLD_SIZE={size} without {', '.join(missing)}: start with torchrun, or unset WORLD_SIZE"
        )
    rank = int(os.environ["RANK"])
    cuda = device is not None and device.type == "cuda"
    # only process 0 prints
    output = contextlib.redirect_stdout(None) if rank else contextlib.nullcontext()
    with connection_errors(seconds), output:
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        options = {}
        if agent:
            options = {"store": rendezvous(rank, size, seconds), "rank": rank, "world_size": size}
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(seconds=seconds), **options
        )
        yield rank, size
    # Not after an error, when a pending exchange may never end.
    dist.destroy_process_group()


def rendezvous(rank: int, size: int, seconds: float) -> dist.Store:
    """The store in which the processes of this start of a job find each other.

    torchrun's own store prefixes keys with a restart count per host. If hosts disagree after a failure, a
    process may read a dead peer's address. So process 0 gives each start a new name. The others know that
    they have the right name when process 0 answers under it.
    """
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    server = dist.TCPStore(
        *place, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=seconds)
    )
    board, own = dist.PrefixStore("starts", server), uuid.uuid4().hex
    if rank == 0:
        board.set("newest", own)
        for other in range(1, size):
            board.set(f"{own}/welcome/{other}", board.get(f"{own}/hello/{other}"))  # waits for the other
        return dist.PrefixStore(own, board)
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        start = board.get("newest").decode()
        board.set(f"{start}/hello/{rank}", own)
        if board.check([f"{start}/welcome/{rank}"]) and board.get(f"{start}/welcome/{rank}").decode() == own:
            return dist.PrefixStore(start, board)
        time.sleep(0.05)
    raise dist.DistStoreError(f"process 0 did not answer for {seconds:g} s")


@contextlib.contextmanager
def connection_errors(seconds: float) -> Iterator[None]:
    """Turn gloo's and NCCL's errors about a process that ended or does not answer into a UserError."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        reason = (
            f"no answer within {seconds:g} s"
            if "timed out" in str(error).lower()
            else "the connection was closed"
        )
        rank = os.environ["RANK"]
        raise UserError(
            f"process {rank} has lost the others, {reason}; see their messages; the last save is whole"
        ) from None


def gather(value: Any) -> list[Any]:
    """All processes' values, in order of rank. They must be picklable."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def sum_over_processes(*numbers: float) -> list[float]:
    """Each number summed over the processes."""
    if not dist.is_initialized():
        return [float(number) for number in numbers]
    sums = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()


def interleaved(own: list[Any]) -> list[Any]:
    """The whole list, if process r of N has the entries r, r + N, r + 2N and so on."""
    parts = gather(own)
    return [part[i] for i in range(max(map(len, parts))) for part in parts if i < len(part)]


def sum_gradients(parameters: Iterable[nn.Parameter], figures: torch.Tensor) -> torch.Tensor:
    """Replace each `grad` with its sum over the processes; returns the sums of `figures` (n,).

    One flat tensor is exchanged, in the order of the parameters. So every iteration adds in the same order,
    and a resumed run equals an uninterrupted one. (DistributedDataParallel changes its buckets after the
    first iteration. With three or more processes, another order of addition changes the last bits.)
    """
    if not dist.is_initialized():
        return figures
    parts = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([*(part.flatten() for part in parts), figures])
    dist.all_reduce(flat)
    *sums, figures = flat.split([*(part.numel() for part in parts), len(figures)])
    for part, summed in zip(parts, sums):
        part.copy_(summed.view_as(part))
    return figures


def share_weights(model: nn.Module) -> None:
    """Copy process 0's weights to all: other machines may draw different weights from the same seed."""
    if dist.is_initialized():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def wait_for_all() -> None:
    """Wait for every process to reach this point. Exits silently if another has ended."""
    if dist.is_initialized():
        try:
            dist.barrier()
        except RuntimeError:  # the other process has printed why
            raise SystemExit(2) from None


def broadcast(value: Any) -> Any:
    """Process 0's value, in every process. Exits silently if process 0 has ended with an error."""
    if not dist.is_initialized():
        return value
    values = [value]
    try:
        dist.broadcast_object_list(values, src=0)
    except RuntimeError:  # process 0 has printed why
        raise SystemExit(2) from None
    return values[0]


def first_then_others(prepare: Callable[[], T]) -> T:
    """Call `prepare()`, in process 0 first, so that only one process reports an error."""
    rank, _ = rank_and_size()
    prepared = prepare() if rank == 0 else None
    broadcast(None)
    return prepare() if rank else prepared
