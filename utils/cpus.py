"""The CPUs that a process may use, and how PyTorch's threads wait on them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from swinsf.utils.allocator import tune_allocator

# Spins of a waiting thread of PyTorch's OpenMP library (libgomp) before it sleeps. The default, some
# milliseconds, takes CPU time from other processes; sleeping at once makes each operation start late.
SPINS = 3000


def available_cpus(root: str | Path = "/") -> int:
    """The number of CPUs this process may use, limited by its affinity and its control groups' quotas.

    A quota of 2.5 counts as 2. root: the folder of /proc and /sys.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(int, quotas(Path(root)))]))


def quotas(root: Path) -> Iterator[float]:
    """The quotas, in CPUs, of this process's control groups (versions 1 and 2)."""
    try:
        groups = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        inner = mount / group.lstrip("/")
        # a container sees its own group at the mount
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(mount):
                break
            try:
                if controllers:
                    quota = (folder / "cpu.cfs_quota_us").read_text("utf-8")
                    period = (folder / "cpu.cfs_period_us").read_text("utf-8")
                else:
                    quota, period = (folder / "cpu.max").read_text("utf-8").split()
                if quota.strip() not in ("max", "-1"):
                    yield int(quota) / int(period)
            except (OSError, ValueError):
                continue


def set_wait_policy() -> None:
    """Set the number of PyTorch's threads and how they wait, before it is imported. Keeps the user's
    settings."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    os.environ.setdefault("OMP_NUM_THREADS", str(available_cpus()))


def tune(training: bool = False) -> None:
    """Tune this process for speed, as the scripts do.

    PyTorch uses the CPUs that the process may use, its waiting threads soon sleep, and freed memory is kept
    (see `tune_allocator`). Call it before importing torch, because threads learn how to wait at the import.
    """
    set_wait_policy()
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.set_num_threads(min(torch.get_num_threads(), available_cpus()))
    tune_allocator(training)
