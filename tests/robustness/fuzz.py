"""Thousands of hostile and broken inputs: each ends with a result or one clear line, and runs no code.

    python -m tests.robustness.fuzz --cases 20000                  # make fuzz
    python -m tests.robustness.fuzz --seed 0 --only 123            # one case again, with its traceback

Case i depends only on (seed, i). It runs in this process, in its own folder, under limits of time and memory.
It passes if it ends with a result, with a UserError or an OSError that `utils.cli.run` prints as one line, or
with SystemExit 0 or 2; if the datasets next to it are untouched; and if no code from a file was run.
"""

import collections
import contextlib
import ctypes
import faulthandler
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from swinsf.datasets.simulation.photos import read_photo
from swinsf.utils import cli, flags
from swinsf.utils.cli import UserError
from tests.robustness import hostile

SECONDS = 20  # time limit of a case
# peak memory of a case in bytes, above that of the process before; the largest colour picture takes 1200 MB
MEMORY = 1500 * 10**6
LONGEST = 1000  # characters in an error's line
ORDER = (  # kinds of cases; case i has the kind ORDER[i % len(ORDER)]
    *(
        "recording",
        "picture",
        "weights",
        "flags",
        "array",
        "dataset",
        "picture",
        "recording",
        "weights",
        "resume",
    ),
    *("array", "niqe", "picture", "text", "weights", "recording", "dataset", "array", "picture", "flags"),
)
KINDS = tuple(dict.fromkeys(ORDER))


class OverTime(BaseException):
    """A case exceeded its time. A BaseException, so that no `except Exception` catches it."""


def kind_of(index):
    return ORDER[index % len(ORDER)]


def run_case(ground, seed, index):
    """(outcome, None or the fault, peak memory added to the process in bytes) of one case.

    outcome: "result", "error" or "exit".
    """
    rng = np.random.default_rng([seed, index])
    torch.manual_seed(index)
    folder = Path(tempfile.mkdtemp(dir=ground.root, prefix=f"case{index}_"))
    before = ground.signature()
    place = folder / "a" / "b" / "c"  # so that ../.. stays inside the case's folder
    place.mkdir(parents=True)
    read_photo.clear()
    held = reset_peak()
    try:
        with quiet(place), within(SECONDS):
            outcome, fault = judged(lambda: hostile.CASES[kind_of(index)](rng, ground, place))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    added = peak_memory() - held if held else 0
    if added > MEMORY:
        fault = fault or f"memory: {added / 1e9:.2f} GB more"
    if ground.marker.exists():
        ground.marker.unlink()
        fault = "code of a file was run"
    if ground.signature() != before:
        fault = "a file of the datasets was changed"
    return outcome, fault, added


def judged(case):
    """(outcome, fault) of a call."""
    try:
        status = case()
    except SystemExit as end:
        return "exit", None if end.code in (0, 2) else f"exit status {end.code}"
    except (UserError, OSError) as error:
        return "error", judged_line(cli.one_line(error))
    except OverTime:
        return "error", f"more than {SECONDS} s: {''.join(traceback.format_exc()).splitlines()[-3:]}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (
            "error",
            f"{type(error).__name__}: {error!s:.200} ({place.filename}:{place.lineno})\n{traceback.format_exc()}",
        )
    return "result", f"exit status {status}" if isinstance(status, int) and status else None


def judged_line(line):
    """The fault in an error's line, or None."""
    if not line.strip() or not line.isprintable():
        return f"no line: {line!r}"
    if len(line) >= LONGEST:
        return f"a line of {len(line)} characters: {line[:200]}"
    if not re.search(r"--\w|[/\\]|\.\w|argument|standard input|: no such |check its folder", line):
        return f"a line that names neither file nor flag: {line}"
    return None


@contextlib.contextmanager
def quiet(place):
    """Context manager: the working folder is `place`, standard input is empty and nothing is printed."""
    before, stdin = os.getcwd(), sys.stdin
    # A real file, since scripts use standard output's file number and encoding.
    with open(os.devnull) as nothing, open(os.devnull, "w") as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(place)
        sys.stdin = nothing
        try:
            with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            sys.stdin = stdin
            os.chdir(before)


@contextlib.contextmanager
def within(seconds):
    """Context manager that raises OverTime after the time limit. If the code is stuck in C for another
    minute, it ends the process with a traceback."""

    def ring(*_):
        raise OverTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + 60, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def reset_peak():
    """Let the kernel restart its count of peak memory. Returns the process's memory in bytes, or 0 if the
    kernel cannot do so."""
    # return freed memory, so that using it again counts; only glibc
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return peak_memory()
    except (OSError, TypeError):
        return 0


def peak_memory():
    """The largest resident memory of this process since `reset_peak`, in bytes."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def run_cases(indices, seed, root, bar=False):
    """(counts of (kind, outcome), {index: fault}, largest memory added by a case in bytes)."""
    counts, faults, most = collections.Counter(), {}, 0
    ground = hostile.Ground(Path(root))
    for index in tqdm(indices, "fuzz", unit="case", dynamic_ncols=True, disable=not bar):
        outcome, fault, added = run_case(ground, seed, index)
        most = max(most, added)
        counts[kind_of(index), "fault" if fault else outcome] += 1
        if fault:
            faults[index] = fault
            if bar:
                tqdm.write(
                    f"case {index} ({kind_of(index)}): {fault.splitlines()[0]}; again: {again(seed, index)}"
                )
    return counts, faults, most


def again(seed, index):
    return f"python -m tests.robustness.fuzz --seed {seed} --only {index}"


def main(arguments=None):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("--cases", type=flags.positive_int, default=2000, help="number of cases (default 2000)")
    flag("--seed", type=flags.count, default=0, help="seed of all cases (default 0)")
    flag("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of cases to run (default all)")
    flag("--only", type=flags.count, help="this case alone")
    settings = parser.parse_args(arguments)
    indices = [index for index in range(settings.cases) if kind_of(index) in settings.kinds]
    indices = indices if settings.only is None else [settings.only]
    with tempfile.TemporaryDirectory() as root:
        counts, faults, most = run_cases(indices, settings.seed, root, bar=True)
    outcomes = ("result", "error", "exit", "fault")
    print(f"{'':10}" + "".join(f"{outcome:>9}" for outcome in outcomes))
    for kind in KINDS:
        print(f"{kind:10}" + "".join(f"{counts[kind, outcome]:9}" for outcome in outcomes))
    print(f"{len(indices)} cases, {len(faults)} faults; a case takes {most / 1e6:.0f} MB at most")
    if settings.only is not None:
        print(*faults.values(), sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    cli.run(main)
