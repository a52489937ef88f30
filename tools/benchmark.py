"""Speed, memory and arithmetic of the network, compared with the machine's limit.

    python -m tools.benchmark    # make bench: every variant
    python -m tools.benchmark --variants 250 --precisions fp32 bf16 --parts inference
    python -m tools.benchmark --variants 250 1000 --skip motion --parts inference   # as in shipped weights
    python -m tools.benchmark --variants small --parts scaling    # time and memory by size of the picture
    python -m tools.benchmark --device cuda:0 --precisions bf16 --batch_size 8 --train_batch_size 16 \\
        --crop_size 128 --compile
    python -m tools.benchmark --parts loading    # writes a recording of 1.25 GB to a temporary folder

Each case runs in its own process. Reports per case: the median time after a warm-up; peak memory above
weights and input; multiply-adds as the paper draws the network and as computed (torch's flop counter); the
rate of the former; and its share of the rate of a 4096^3 matrix product in the same precision, timed
alternately with the runs. Writes benchmark.json into SAVE_PATH, and scaling.png with --parts scaling.
"""

import argparse
import functools
import json
import math
import mmap
import multiprocessing
import statistics
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from swinsf.datasets import open_dataset
from swinsf.datasets.augment import Augmented, EpochBatches
from swinsf.datasets.dat import read_dat, write_dat
from swinsf.datasets.loader import make_loader
from swinsf.datasets.paired import PAIRED
from swinsf.datasets.simulation.dataset import demo_photo
from swinsf.evaluation import tables
from swinsf.models import PRECISIONS, SKIP_CHOICES, VARIANTS, build_model, fast
from swinsf.training.recipes import RECIPES, make_optimizer, reconstruction_loss
from swinsf.utils import cli, flags
from swinsf.utils.allocator import tune_allocator
from swinsf.utils.cli import UserError
from swinsf.utils.cpus import set_wait_policy
from swinsf.utils.distributed import check_compiler, pick_device, set_tf32
from swinsf.utils.files import atomic_write
from swinsf.utils.timing import STEPS
from tools.arithmetic import multiply_adds

PARTS = ("inference", "training", "scaling", "loading")
SIZES = {"250": (250, 400), "1000": (1000, 1000), "small": (250, 400)}  # intended for each variant
SCALES = ((100, 100), (250, 400), (500, 800), (1000, 1000), (1400, 1400), (2000, 2000))  # 0.01 to 4 MP
PRODUCT = 4096  # side of the matrices in the product for comparison
# For the flop counter: x (..., in) by weight (out, in) gives (..., out).
ONEDNN_FLOPS = (
    {torch.ops.mkldnn._linear_pointwise: lambda x, weight, *_, **__: 2 * math.prod(x) * weight[0]}
    if fast.ONEDNN
    else {}
)


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    several, parts = {"nargs": "+"}, ["inference", "training"]
    flag("--parts", **several, default=parts, choices=PARTS, help="what to measure (default the first two)")
    flag("--variants", **several, default=[*VARIANTS], choices=[*VARIANTS], help="networks (default all)")
    flag(
        "--skip", choices=SKIP_CHOICES, help="estimate that the network adds to (default: each variant's own)"
    )
    precisions = {"default": ["fp32", "bf16"], "choices": [*PRECISIONS]}
    flag("--precisions", **several, **precisions, help="numeric formats (default fp32 bf16)")
    flag("--runs", type=flags.positive_int, default=5, help="timed runs per case (default 5)")
    flag("--batch_size", type=flags.batch_size, default=1, help="batch size of inference (default 1)")
    flag("--train_batch_size", type=flags.batch_size, default=4, help="batch size of training (default 4)")
    side = flags.number(int, 20, 10**4)
    flag("--crop_size", type=side, default=100, help="side of the crops in training (default 100)")
    flag("--compile", action="store_true", help="run the blocks through torch.compile")
    flag("--tf32", action="store_true", help="use TF32 for float32 products and convolutions on CUDA")
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda if there is a GPU)")
    place = Path("results/benchmark")
    flag("--save_path", type=Path, default=place, help=f"folder for the results (default {place})")
    return parser.parse_args(arguments)


def list_cases(settings):
    """The cases to measure, each described by a dict of plain values."""
    cases, common = [], {name: getattr(settings, name) for name in ("skip", "compile", "tf32", "runs")}
    for variant in settings.variants:
        for precision in settings.precisions:
            case = {"variant": variant, "precision": precision, **common}
            if "inference" in settings.parts:
                cases.append({"part": "inference", **case, **size_of(settings.batch_size, *SIZES[variant])})
            if "training" in settings.parts and precision != "fp16":
                case |= size_of(settings.train_batch_size, settings.crop_size, settings.crop_size)
                cases += [{"part": "training", **case, "grad_checkpoint": on} for on in (False, True)]
        if "scaling" in settings.parts:
            case = {"part": "scaling", "variant": variant, "precision": settings.precisions[0], **common}
            cases += [{**case, **size_of(1, *scale)} for scale in SCALES]
    return cases


def size_of(batch, height, width):
    return {"batch": batch, "height": height, "width": width}


class PeakMemory:
    """Context manager: `bytes` is the process's peak memory on the device, less that at the start."""

    def __init__(self, device):
        self.device = device

    def now(self):
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * mmap.PAGESIZE  # resident

    def watch(self):
        while not self.done.wait(0.002):
            self.peak = max(self.peak, self.now())

    def __enter__(self):
        self.start = self.peak = self.now()
        self.done = threading.Event()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self.thread = threading.Thread(target=self.watch)
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
        else:
            self.thread.join()
        self.bytes = self.peak - self.start


def seconds(function, device):
    """The duration of a call, with the device idle before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def spikes_of(batch, height, width, device):
    return (torch.rand(batch, STEPS, height, width, device=device) < 0.3).to(torch.uint8)


def inference_call(model, case, device):
    """The function to time for inference on spikes (B, 41, H, W)."""
    model.set_precision(PRECISIONS[case["precision"]])
    return functools.partial(fast.infer, model.eval())


def training_call(model, case, device):
    """The function to time for training on spikes (B, 41, H, W): forward, backward, optimiser."""
    recipe = RECIPES["modern"]
    settings = argparse.Namespace(recipe="modern", lr=recipe.lr, weight_decay=recipe.weight_decay)
    optimizer = make_optimizer(model.train(), settings)
    model.grad_checkpoint = case["grad_checkpoint"]

    def step(spikes):
        truth = torch.full((len(spikes), 1, *spikes.shape[-2:]), 100.0, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=case["precision"] == "bf16"):
            pictures = fast.forward(model, spikes)
        reconstruction_loss(pictures, dict.fromkeys(pictures._fields, truth), recipe.loss).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(case, device_name):
    """The case with its figures. Run it in a fresh process, so that memory figures are right."""
    device = torch.device(device_name)
    torch.manual_seed(0)
    set_tf32(case["tf32"])
    model = build_model(case["variant"], **({"skip": case["skip"]} if case["skip"] else {})).to(device)
    if case["compile"]:
        check_compiler(device)
        fast.compile_blocks(model)
    call = (training_call if case["part"] == "training" else inference_call)(model, case, device)
    call(spikes_of(1, 20, 20, device))  # first calls load libraries
    spikes = spikes_of(case["batch"], case["height"], case["width"], device)
    if case["compile"]:  # compile before measuring
        call(spikes)
    with PeakMemory(device) as memory:
        warm_up = seconds(lambda: call(spikes), device)
    matrix = torch.randn(PRODUCT, PRODUCT, device=device).to(PRECISIONS[case["precision"]])
    times, products = [], []
    for _ in range(case["runs"] if warm_up < 30 else 1):
        times.append(seconds(lambda: call(spikes), device))
        products.append(seconds(lambda: matrix @ matrix, device))
    with FlopCounterMode(display=False, custom_mapping=ONEDNN_FLOPS) as counter:
        call(spikes)
    passes = 3 if case["part"] == "training" else 1  # the backward pass counts twice
    drawn = passes * case["batch"] * multiply_adds(model, case["height"], case["width"])
    rate, product_rate = 2 * drawn / statistics.median(times), 2 * PRODUCT**3 / statistics.median(products)
    return {
        **case,
        "seconds": statistics.median(times),
        "all_seconds": times,
        "peak_bytes": memory.bytes,
        "multiply_adds_drawn": drawn,
        "multiply_adds_done": counter.get_total_flops() // 2,
        "rate": rate,
        "product_rate": product_rate,
        "share": rate / product_rate,
    }


def measure_loading():
    """The speed of loading, as name -> figure.

    Milliseconds to read a window of a long recording, and samples per second of one worker for whole frames,
    crops and simulated scenes.
    """
    figures, rng = {}, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path, length = Path(folder) / "long.dat", 10_000
        with open(path, "wb") as file:
            for _ in tqdm(range(100), "writing 10,000 steps of 1000x1000", leave=False):
                file.write(rng.bytes(length // 100 * 125_000))
        starts = rng.integers(0, length - STEPS, 50)
        cpu = torch.device("cpu")
        windows = [
            functools.partial(read_dat, path, 1000, 1000, start, start + STEPS, flip=False)
            for start in starts
        ]
        times = [seconds(window, cpu) for window in windows]
        figures["window_of_1000x1000_ms"] = 1e3 * statistics.median(times)
        path.unlink()
        for mode, dataset in PAIRED.items():
            height, width, root = dataset.height, dataset.width, Path(folder) / mode
            write_samples(root, dataset, rng)
            train = open_dataset(root, mode, "train")
            for crop in (0, 128):
                name = f"{height}x{width}" if not crop else f"{crop}x{crop}_of_{height}x{width}"
                figures[f"samples_per_second_{name}"] = samples_per_second(train, crop)
        photos = Path(folder) / "photos"
        for name in ("astronaut", "brick", "camera", "coffee", "grass", "gravel", "moon", "rocket"):
            tables.write_picture(photos / f"{name}.png", demo_photo(name))
        for crop in (64, 128):
            scenes = open_dataset(f"photos:{photos}", split="train", crop_size=crop, length=100)
            figures[f"samples_per_second_{crop}x{crop}_simulated"] = samples_per_second(scenes, crop)
    return figures


def samples_per_second(dataset, crop):
    """The speed of one worker with batches of 4, without its start-up."""
    batches = EpochBatches(len(dataset), 4, 0, 0)
    loader = make_loader(Augmented(dataset, crop, 0), 1, torch.device("cpu"), batch_sampler=[*batches] * 4)
    count, samples = 0, iter(loader)
    next(samples)
    begin = time.perf_counter()
    for batch in tqdm(samples, "loading", leave=False):
        count += len(batch["name"])
    return count / (time.perf_counter() - begin)


def write_samples(root, dataset, rng, count=40):
    """Write a training set of random spikes and smooth pictures."""
    picture = np.add.outer(np.arange(dataset.height), np.arange(dataset.width)).astype(np.uint8)
    for index in tqdm(range(count), f"writing samples of {dataset.label}", leave=False):
        spikes = rng.random((STEPS, dataset.height, dataset.width), np.float32) < 0.3
        write_dat(root / "train" / "input" / f"{index:03d}id21.dat", spikes, dataset.flip)
        for key_id in (14, 21, 28):
            path = root / "train" / "gt" / f"{index:03d}id{key_id}.png"
            tables.write_picture(path, picture + rng.integers(0, 9))


def format_results(results):
    """A text table with a row for each case."""
    head = ["case", "precision", "seconds", "peak MB", "G drawn", "G done", "GFLOP/s", "product", "share"]
    lines = [head]
    for case in results:
        name = f"{case['variant']} {case['part']} {case['batch']}x{case['height']}x{case['width']}"
        name += "".join(f" {word}" for word in ("grad_checkpoint", "compile", "tf32") if case.get(word))
        lines.append([name, case["precision"], f"{case['seconds']:.3f}", f"{case['peak_bytes'] / 1e6:.0f}"])
        lines[-1] += [f"{case[key] / 1e9:.1f}" for key in ("multiply_adds_drawn", "multiply_adds_done")]
        lines[-1] += [f"{case[key] / 1e9:.0f}" for key in ("rate", "product_rate")]
        lines[-1] += [f"{100 * case['share']:.0f} %"]
    return "\n".join(tables.text_table(lines))


def scaling_figure(path, results):
    """Plot time and memory over pixels, a line for each variant."""
    figure = Figure((9, 3.6), layout="constrained")
    for axis, key, scale, label in zip(
        figure.subplots(1, 2), ("seconds", "peak_bytes"), (1, 1e-6), ("seconds", "peak MB")
    ):
        for variant in dict.fromkeys(case["variant"] for case in results):
            cases = [case for case in results if case["variant"] == variant]
            pixels = [case["height"] * case["width"] / 1e6 for case in cases]
            values = [case[key] * scale for case in cases]
            axis.loglog(pixels, values, "o-", label=f"{variant} {cases[0]['precision']}")
        axis.set(xlabel="megapixels", ylabel=label)
        axis.grid(True, which="both", alpha=0.3)
        axis.legend()
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


def main(arguments=None):
    settings = parse_settings(arguments)
    set_wait_policy()  # of the processes that measure
    device = pick_device(settings.device)
    settings.save_path.mkdir(parents=True, exist_ok=True)
    about = {
        "torch": torch.__version__,
        "device": tables.device_name(device),
        "threads": torch.get_num_threads(),
    }
    cases, results = list_cases(settings), []
    contents, fresh = {**about, "cases": results}, multiprocessing.get_context("spawn")

    def write(contents):
        with atomic_write(settings.save_path / "benchmark.json", "w") as file:
            json.dump(contents, file, indent=1)

    bar = tqdm(cases, "benchmark", unit="case", dynamic_ncols=True)
    for case in bar:
        bar.set_postfix_str(
            f"{case['variant']} {case['part']} {case['precision']} {case['height']}x{case['width']}"
        )
        with (
            cli.memory_errors("leave out the case that the bar names"),
            ProcessPoolExecutor(
                1, fresh, initializer=tune_allocator, initargs=(case["part"] == "training",)
            ) as process,
        ):
            try:
                results.append(process.submit(measure, case, str(device)).result())
            except BrokenProcessPool:
                raise UserError(
                    f"{case}: its process was killed, probably out of memory; leave this case out"
                ) from None
        write(contents)
    if "loading" in settings.parts:
        contents["loading"] = measure_loading()
        write(contents)
        for name, value in contents["loading"].items():
            cli.log(f"{name} {value:.1f}")
    scaling = [case for case in results if case["part"] == "scaling"]
    if scaling:
        scaling_figure(settings.save_path / "scaling.png", scaling)
    if results:
        cli.log(format_results(results))
    cli.log(
        "torch {torch}, {threads} threads, {device}; ".format(**about) + f"results in {settings.save_path}"
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
