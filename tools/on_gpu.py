"""Check the project on a GPU within a few minutes: tests, speed, profiles. Also trains, in several calls.

    python -m tools.on_gpu --save_path OUT    # tests, speed, profiles, recordings
    python -m tools.on_gpu --save_path OUT --parts train --photos DIR --minutes 9    # trains 250 and small
    python -m tools.on_gpu --save_path OUT2 --parts train --photos DIR --resume_path OUT    # resumes them
    python -m tools.on_gpu --save_path OUT --device cpu --quick    # tries this script, with tiny sizes

Each task is a command of the project. It is printed before it runs, and its output is saved as OUT/TASK.log.
A task that exceeds its share of --minutes is ended by SIGTERM, and the next one begins. A summary follows.
Trainings save their state. The next call resumes them, with the same weights as without the interruption.
"""

import math
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from swinsf.evaluation import tables
from swinsf.models import PRECISIONS, VARIANTS, build_model, fast
from swinsf.utils import cli, flags
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import pick_device, set_tf32
from swinsf.utils.guard import read_json
from tools.benchmark import SIZES, format_results, seconds, spikes_of

PARTS = ("tests", "speed", "profile", "recordings", "train")
TESTS = [
    "tests/models",
    "tests/utils/test_cli.py",
    "tests/training/test_epoch.py",
    "tests/tools/test_benchmark.py",
]
GRACE = 60  # seconds between SIGTERM and SIGKILL
LEAST = 5.0  # smallest time limit of a task in seconds
# 250 starts from fresh weights, small from the shipped ones.
TRAININGS = {
    "250": ["--variant", "250", "--lr", "1e-3"],
    "small": ["--load_model", "checkpoint/swinsf_small.pth", "--lr", "2e-4"],
}


@dataclass(frozen=True)
class Task:
    """A named command, and its share of the time."""

    name: str
    command: list
    weight: float = 1.0


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    place, parts, trainings = Path("results/gpu"), [*PARTS[:-1]], [*TRAININGS]
    flag("--save_path", type=Path, default=place, help=f"folder for logs and runs (default {place})")
    flag("--parts", nargs="+", default=parts, choices=PARTS, help="what to do (default: all but train)")
    minutes = flags.number(float, 0.05, 1e5)
    flag("--minutes", type=minutes, default=9.0, help="time limit for all tasks together (default 9)")
    flag("--photos", type=Path, help="folder of photographs to train on")
    flag("--trainings", nargs="+", default=trainings, choices=trainings, help="networks (default 250 small)")
    steps = 100_000
    flag("--max_steps", type=flags.positive_int, default=steps, help=f"iterations of a run (default {steps})")
    flag("--resume_path", type=Path, help="--save_path of an earlier call whose trainings to resume")
    flag("--workers", type=flags.workers, default=12, help="data-loading processes in training (default 12)")
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda if there is a GPU)")
    flag("--quick", action="store_true", help="tiny sizes, to try this script")
    flag("--profile", choices=[*VARIANTS], help="only print a profile of this network's forward pass")
    return parser.parse_args(arguments)


def module(name, *arguments):
    return [sys.executable, "-m", name, *map(str, arguments)]


def speed_tasks(settings, device):
    """`tools.benchmark` in fp32, TF32 and bf16, plain and compiled, with batches of 1 and 8; training."""
    common = ["--device", device, "--runs", 1 if settings.quick else 20]
    if settings.quick:
        common += ["--variants", "small"]
    inference, cases = ["--parts", "inference", "--precisions"], {}
    for batch in (1,) if settings.quick else (1, 8):
        size = ["--batch_size", batch]
        cases[f"batch_{batch}"] = [*inference, "fp32", "bf16", *size]
        cases[f"batch_{batch}_tf32"] = [*inference, "fp32", "--tf32", *size]
    if not settings.quick:
        cases["compile_1"] = [*inference, "fp32", "bf16", "--compile"]
        cases["compile_8"] = [*inference, "bf16", "--compile", "--batch_size", 8]
    batch, side = (2, 20) if settings.quick else (16, 96)
    training = ["--parts", "training", "--train_batch_size", batch, "--crop_size", side]
    cases["training"] = [*training, "--precisions", "fp32", "bf16"]
    cases["training_tf32"] = [*training, "--precisions", "fp32", "--tf32"]
    for name, options in cases.items():
        folder = settings.save_path / "speed" / name
        command = module("tools.benchmark", *common, *options, "--save_path", folder)
        yield Task(f"speed_{name}", command, 2.0 if "compile" in name else 1.0)


def recording_tasks(settings, device):
    """`tools.benchmark_recordings` at both picture sizes.

    Targets on an H100 at 250x400 in bf16: 200 pictures/s with small, 50 pictures/s with 250.
    """
    cases = [("small", "fp32", 1)]
    if not settings.quick:
        cases = [(variant, precision, 8) for variant in ("small", "250") for precision in ("fp32", "bf16")]
    for variant, precision, batch in cases:
        options = ["--methods", "swinsf", "--variant", variant, "--precision", precision]
        options += ["--batch_size", batch]
        options += ["--sizes", "24x32"] if settings.quick else ["--sizes", "250x400", "1000x1000"]
        options += ["--lengths", 60 if settings.quick else 1000, "--pictures", 3 if settings.quick else 240]
        folder = settings.save_path / "recordings" / f"{variant}_{precision}"
        command = module("tools.benchmark_recordings", "--device", device, *options, "--save_path", folder)
        yield Task(f"recordings_{variant}_{precision}", command)


def training_tasks(settings, device):
    """A part of each training: a new run, or a copy of an earlier call's run to resume."""
    if not settings.photos:
        raise UserError("--parts train: needs --photos; name a folder of photographs to train on")
    for name in settings.trainings:
        run = settings.save_path / "runs" / name
        before = settings.resume_path and settings.resume_path / "runs" / name
        if before and not run.exists():
            if not (before / "last.pth").is_file():
                raise UserError(
                    f"--resume_path {settings.resume_path}: no {before / 'last.pth'}; name its --save_path"
                )
            shutil.copytree(before, run)
        common = ["--device", device, "--workers", settings.workers]
        common += ["--dataset_path", f"photos:{settings.photos}"]
        if (run / "last.pth").is_file():
            options = ["--resume_path", run]
        else:
            crop, batch, length = (20, 2, 4) if settings.quick else (96, 16, 16_000)
            options = [*TRAININGS[name], "--recipe", "modern", "--max_steps", settings.max_steps]
            options += [
                "--epochs",
                10**6,
                "--epoch_length",
                length,
                "--crop_size",
                crop,
                "--batch_size",
                batch,
            ]
            options += ["--save_path", run.parent, "--run_name", name, "--val_every", int(not settings.quick)]
            options += ["--amp"] if device.startswith("cuda") else []
        yield Task(f"train_{name}", [sys.executable, "train.py", *map(str, [*common, *options])])


def list_tasks(settings, device):
    """The tasks of the chosen parts."""
    tasks = []
    if "tests" in settings.parts:
        chosen = ["tests/models/test_windows.py"] if settings.quick else TESTS
        tasks.append(Task("tests", module("pytest", "-q", *chosen), 2.0))
    if "speed" in settings.parts:
        tasks += speed_tasks(settings, device)
    if "profile" in settings.parts:
        options = ["--device", device, *(["--quick"] if settings.quick else [])]
        for name in ("small", "250"):
            tasks.append(Task(f"profile_{name}", module("tools.on_gpu", "--profile", name, *options)))
    if "recordings" in settings.parts:
        tasks += recording_tasks(settings, device)
    if "train" in settings.parts:
        tasks += training_tasks(settings, device)
    return tasks


def run(task, limit, folder):
    """Run a task for at most `limit` seconds, save its output, print the end. Returns its outcome."""
    print(f"\n=== {task.name}, at most {limit:.0f} s: {shlex.join(task.command)}", flush=True)
    begin, path = time.perf_counter(), folder / f"{task.name}.log"
    command = ["timeout", "-s", "TERM", "-k", str(GRACE), f"{limit:.1f}", *task.command]
    with open(path, "wb") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    lines = [line.rpartition("\r")[2] for line in path.read_text(errors="replace").splitlines()]
    print("\n".join(lines[-60:]), flush=True)
    words = {0: "done", 124: "stopped at its time limit", 137: "killed"}
    return f"{words.get(status, f'status {status}')} after {time.perf_counter() - begin:.0f} s"


def profile_forward(variant, precision, size, device):
    """Print the operations of a forward pass, slowest first."""
    model = build_model(variant).eval()
    model.set_precision(PRECISIONS[precision])
    call = partial(fast.infer, model.to(device), spikes_of(1, *size, device))
    call()
    times = sorted(seconds(call, device) for _ in range(10))
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as record:
        seconds(call, device)
    print(f"{variant} {precision} {size}: median {1e3 * times[5]:.2f} ms, least {1e3 * times[0]:.2f} ms")
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    print(record.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=60))


def copying_rate(numbers, device):
    """Bytes per second that a copy reads and writes: the limit for element-wise operations."""
    source = torch.zeros(numbers, device=device)
    return 8 * numbers / min(seconds(source.clone, device) for _ in range(5))


def main(arguments=None):
    settings = parse_settings(arguments)
    device = pick_device(settings.device)
    if settings.profile:
        set_tf32(False)
        for precision in ("fp32", "bf16") if device.type == "cuda" else ("fp32",):
            profile_forward(settings.profile, precision, (40, 60) if settings.quick else SIZES["250"], device)
        print(f"memory copies {copying_rate(2**20 if settings.quick else 2**28, device) / 1e9:.0f} GB/s")
        return 0
    settings.save_path.mkdir(parents=True, exist_ok=True)
    tasks, outcomes = list_tasks(settings, str(device)), {}
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, {tables.device_name(device)}")
    print(f"{torch.get_num_threads()} threads")
    begin, left = time.perf_counter(), math.fsum(task.weight for task in tasks)
    for task in tasks:  # time that a task does not use goes to the next ones
        limit = max(LEAST, (60 * settings.minutes - (time.perf_counter() - begin)) * task.weight / left)
        outcomes[task.name] = run(task, limit, settings.save_path)
        left -= task.weight
    print("\n=== all")
    for path in sorted(settings.save_path.glob("speed/*/benchmark.json")):  # also of stopped tasks
        cases = read_json(path)["cases"]
        print(f"{path.parent.name}\n{format_results(cases) if cases else 'no case was finished'}\n")
    for path in sorted(settings.save_path.glob("runs/*/log.jsonl")):
        print(f"{path.parent.name}: {''.join(path.read_text('utf-8').splitlines()[-1:])}\n")
    print("\n".join(tables.text_table([["task", "outcome"], *map(list, outcomes.items())])))
    return int(any("status" in text or "killed" in text for text in outcomes.values()))


if __name__ == "__main__":
    cli.run(main)
