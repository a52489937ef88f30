"""What is to be known of the project on a GPU, in ten minutes by one call; and trainings, piece by piece.

    python -m tools.on_gpu --save_path OUT                                            # tests, speed, where the time goes
    python -m tools.on_gpu --save_path OUT --parts train --photos DIR --minutes 9     # begins to train 250 and small
    python -m tools.on_gpu --save_path OUT2 --parts train --photos DIR --minutes 9 --resume_path OUT    # goes on with them
    python -m tools.on_gpu --save_path OUT --device cpu --quick                       # tries the script itself, in tiny sizes

Each step is a command of the project, which is shown before it runs; what it says is kept in OUT/STEP.log. A
step that takes longer than its share of --minutes is ended by SIGTERM, and the next one begins. At the end:
what each step came to, in one list. A training stops at a step and keeps its state, from which the next call
goes on to the same weights as without the stop.
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
from swinsf.models import PRECISIONS, VARIANTS, build_model
from swinsf.utils import cli
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
GRACE = 60  # seconds that a step has to come to its end after SIGTERM
LEAST = 5.0  # seconds that a step has at least
# 250 begins anew, small goes on from the shipped weights.
TRAININGS = {
    "250": ["--variant", "250", "--lr", "1e-3"],
    "small": ["--load_model", "checkpoint/swinsf_small.pth", "--lr", "2e-4"],
}


@dataclass(frozen=True)
class Step:
    """A command with a name, and its part of the time."""

    name: str
    command: list
    weight: float = 1.0


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        "--save_path",
        type=Path,
        default=Path("results/gpu"),
        help="folder of logs, figures and runs (default results/gpu)",
    )
    flag("--parts", nargs="+", default=[*PARTS[:-1]], choices=PARTS, help="default: all but train")
    flag(
        "--minutes", type=cli.number(float, 0.05, 1e5), default=9.0, help="of all steps together (default 9)"
    )
    flag("--photos", type=Path, help="folder of photographs to train on")
    flag("--trainings", nargs="+", default=[*TRAININGS], choices=[*TRAININGS], help="default 250 small")
    flag("--max_steps", type=cli.positive_int, default=100_000, help="of a training in all (default 100000)")
    flag("--resume_path", type=Path, help="the save_path of an earlier call, whose trainings go on")
    flag(
        "--workers",
        type=cli.workers,
        default=12,
        help="processes that make samples for training (default 12)",
    )
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda where there is one)")
    flag("--quick", action="store_true", help="tiny sizes, to try the script itself")
    flag(
        "--profile", choices=[*VARIANTS], help="print where the time of a forward pass goes, and nothing else"
    )
    return parser.parse_args(arguments)


def module(name, *arguments):
    return [sys.executable, "-m", name, *map(str, arguments)]


def speed_steps(settings, device):
    """`tools.benchmark` in fp32, TF32, bf16, compiled or not, in batches of 1 and 8; training steps."""
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
    step = [
        "--parts",
        "training",
        "--train_batch_size",
        2 if settings.quick else 16,
        "--crop_size",
        20 if settings.quick else 96,
    ]
    cases["training"] = [*step, "--precisions", "fp32", "bf16"]
    cases["training_tf32"] = [*step, "--precisions", "fp32", "--tf32"]
    for name, options in cases.items():
        folder = settings.save_path / "speed" / name
        weight = 2.0 if "compile" in name else 1.0
        yield Step(
            f"speed_{name}", module("tools.benchmark", *common, *options, "--save_path", folder), weight
        )


def recording_steps(settings, device):
    """Whole recordings of both sizes; targets on an H100: small 200 pictures/s, 250 50 pictures/s in bf16,
    both at 250x400."""
    cases = (
        [("small", "fp32", 1)]
        if settings.quick
        else [(v, p, 8) for v in ("small", "250") for p in ("fp32", "bf16")]
    )
    for variant, precision, batch in cases:
        options = [
            "--methods",
            "swinsf",
            "--variant",
            variant,
            "--precision",
            precision,
            "--batch_size",
            batch,
        ]
        options += ["--sizes", "24x32"] if settings.quick else ["--sizes", "250x400", "1000x1000"]
        options += ["--lengths", 60 if settings.quick else 1000, "--pictures", 3 if settings.quick else 240]
        folder = settings.save_path / "recordings" / f"{variant}_{precision}"
        command = module("tools.benchmark_recordings", "--device", device, *options, "--save_path", folder)
        yield Step(f"recordings_{variant}_{precision}", command)


def training_steps(settings, device):
    """A piece of each training: begun, or resumed from a copy of what an earlier call left."""
    if not settings.photos:
        raise UserError("--parts train without --photos: name a folder of photographs to train on")
    for name in settings.trainings:
        run = settings.save_path / "runs" / name
        before = settings.resume_path and settings.resume_path / "runs" / name
        if before and not run.exists():
            if not (before / "last.pth").is_file():
                raise UserError(
                    f"--resume_path {settings.resume_path}: there is no {before / 'last.pth'}; name its save_path"
                )
            shutil.copytree(before, run)
        where = [
            "--device",
            device,
            "--workers",
            settings.workers,
            "--dataset_path",
            f"photos:{settings.photos}",
        ]
        if (run / "last.pth").is_file():
            options = ["--resume_path", run]
        else:
            size = [20, 2, 4] if settings.quick else [96, 16, 16_000]
            options = [
                *TRAININGS[name],
                "--recipe",
                "modern",
                "--max_steps",
                settings.max_steps,
                "--epochs",
                10**6,
            ]
            options += [
                x for pair in zip(("--crop_size", "--batch_size", "--epoch_length"), size) for x in pair
            ]
            options += [
                "--save_path",
                run.parent,
                "--run_name",
                name,
                "--val_every",
                0 if settings.quick else 1,
            ]
            options += ["--amp"] if device.startswith("cuda") else []
        yield Step(f"train_{name}", [sys.executable, "train.py", *map(str, [*where, *options])])


def list_steps(settings, device):
    """The steps of the parts that were asked for."""
    steps = []
    if "tests" in settings.parts:
        chosen = ["tests/models/test_windows.py"] if settings.quick else TESTS
        steps.append(Step("tests", module("pytest", "-q", *chosen), 2.0))
    if "speed" in settings.parts:
        steps += speed_steps(settings, device)
    if "profile" in settings.parts:
        options = ["--device", device, *(["--quick"] if settings.quick else [])]
        steps += [
            Step(f"profile_{name}", module("tools.on_gpu", "--profile", name, *options))
            for name in ("small", "250")
        ]
    if "recordings" in settings.parts:
        steps += recording_steps(settings, device)
    if "train" in settings.parts:
        steps += training_steps(settings, device)
    return steps


def run(step, limit, folder):
    """Run a step for `limit` seconds at most; show and keep what it says. Returns (what it came to, its last
    lines)."""
    print(f"\n=== {step.name}, at most {limit:.0f} s: {shlex.join(step.command)}", flush=True)
    begin, path = time.perf_counter(), folder / f"{step.name}.log"
    command = ["timeout", "-s", "TERM", "-k", str(GRACE), f"{limit:.1f}", *step.command]
    with open(path, "wb") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    lines = [line.rpartition("\r")[2] for line in path.read_text(errors="replace").splitlines()]
    print("\n".join(lines[-60:]), flush=True)
    words = {0: "done", 124: "stopped at its time limit", 137: "killed"}
    return f"{words.get(status, f'status {status}')} after {time.perf_counter() - begin:.0f} s"


def where_time_goes(variant, precision, size, device):
    """Print the operations of a forward pass by their time."""
    model = build_model(variant).eval()
    model.set_precision(PRECISIONS[precision])
    call = partial(torch.inference_mode()(model.to(device)), spikes_of(1, *size, device))
    call()
    times = sorted(seconds(call, device) for _ in range(10))
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as record:
        seconds(call, device)
    print(f"{variant} {precision} {size}: median {1e3 * times[5]:.2f} ms, least {1e3 * times[0]:.2f} ms")
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    print(record.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=60))


def copying_rate(numbers, device):
    """Bytes a second that a copy reads and writes: what an operation on each of many numbers cannot
    exceed."""
    source = torch.zeros(numbers, device=device)
    return 8 * numbers / min(seconds(source.clone, device) for _ in range(5))


def main(arguments=None):
    settings = parse_settings(arguments)
    device = pick_device(settings.device)
    if settings.profile:
        set_tf32(False)
        for precision in ("fp32", "bf16") if device.type == "cuda" else ("fp32",):
            where_time_goes(settings.profile, precision, (40, 60) if settings.quick else SIZES["250"], device)
        print(f"memory copies {copying_rate(2**20 if settings.quick else 2**28, device) / 1e9:.0f} GB/s")
        return 0
    settings.save_path.mkdir(parents=True, exist_ok=True)
    steps, came_to = list_steps(settings, str(device)), {}
    print(
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, {tables.device_name(device)}, {torch.get_num_threads()} threads"
    )
    begin, left = time.perf_counter(), math.fsum(step.weight for step in steps)
    for step in steps:  # what a step leaves of its time is the others'
        limit = max(LEAST, (60 * settings.minutes - (time.perf_counter() - begin)) * step.weight / left)
        came_to[step.name] = run(step, limit, settings.save_path)
        left -= step.weight
    print("\n=== all")
    for path in sorted(settings.save_path.glob("speed/*/benchmark.json")):  # also of those that were stopped
        cases = read_json(path)["cases"]
        print(
            f"{path.parent.name}\n{format_results(cases)}\n"
            if cases
            else f"{path.parent.name}: no case was finished\n"
        )
    for path in sorted(settings.save_path.glob("runs/*/log.jsonl")):
        print(f"{path.parent.name}: {''.join(path.read_text('utf-8').splitlines()[-1:])}\n")
    print("\n".join(tables.text_table([["step", "came to"], *map(list, came_to.items())])))
    return int(any("status" in text or "killed" in text for text in came_to.values()))


if __name__ == "__main__":
    cli.run(main)
