"""Speed and memory of reconstructing recordings of two lengths.

    python -m tools.benchmark_recordings      # writes recordings of up to 2.5 GB to a temporary folder
    python -m tools.benchmark_recordings --lengths 1000 20000 --sizes 250x400 --methods tfp tfi
    python -m tools.benchmark_recordings --device cuda --methods swinsf --variant 250 --precision bf16 \\
        --batch_size 8

Each case runs in its own process. It reads, decodes and reconstructs a recording, with TFP and TFI at every
step and the network at --pictures key frames, and discards the pictures. Reports pictures per second and the
process's peak resident memory, before and after. Writes recordings.json into SAVE_PATH.
"""

import json
import multiprocessing
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from swinsf.datasets.dat import camera_of, open_dat
from swinsf.datasets.simulation.dataset import demo_photo
from swinsf.datasets.simulation.sensor import integrate_and_fire
from swinsf.evaluation import tables
from swinsf.models import PRECISIONS, VARIANTS, build_model, fast
from swinsf.models.classical import tfi_pictures, tfp_pictures
from swinsf.recordings.plan import key_frames
from swinsf.recordings.stream import reconstruct
from swinsf.utils import cli, flags
from swinsf.utils.allocator import tune_allocator
from swinsf.utils.distributed import pick_device, set_tf32
from swinsf.utils.files import atomic_write
from swinsf.utils.timing import STEPS

METHODS = ("swinsf", "swinsf_all", "tfp", "tfi")  # swinsf_all uses the three pictures of each pass
LOOP = 200  # steps that a recording repeats, half of them forward and half back
PIECE = 50  # steps written at a time


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    several, sizes, lengths = {"nargs": "+"}, [(250, 400), (1000, 1000)], [1000, 20000]
    flag("--sizes", **several, default=sizes, type=size, help="picture sizes (default 250x400 1000x1000)")
    flag("--lengths", **several, type=flags.positive_int, default=lengths, help="steps (default 1000 20000)")
    flag("--methods", **several, default=[*METHODS], choices=METHODS, help="methods (default all)")
    flag("--variant", default="small", choices=[*VARIANTS], help="network, random weights (default small)")
    flag("--precision", default="fp32", choices=[*PRECISIONS], help="network's precision (default fp32)")
    flag("--batch_size", type=flags.batch_size, default=1, help="windows in a batch (default 1)")
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda if there is a GPU)")
    flag("--pictures", type=flags.positive_int, default=40, help="most pictures by the network (default 40)")
    place = Path("results/benchmark")
    flag("--save_path", type=Path, default=place, help=f"folder for the results (default {place})")
    return parser.parse_args(arguments)


def size(text):
    height, _, width = text.partition("x")
    return flags.side(height), flags.side(width)


def write_recording(path, height, width, steps):
    """Write a recording of a photograph that drifts forward and back."""
    photo = cv2.resize(demo_photo("astronaut"), (width + LOOP // 5, height)).astype(np.float32) / 255
    offsets = [offset / 5 for offset in [*range(LOOP // 2), *range(LOOP // 2, 0, -1)]]
    shifts = (np.float32([[1, 0, -offset], [0, 1, 0]]) for offset in offsets)
    loop = integrate_and_fire(
        (cv2.warpAffine(photo, shift, (width, height)) for shift in shifts), np.random.default_rng(0)
    )
    loop = loop[:, ::-1] if camera_of(height, width).flip else loop
    packed = np.packbits(loop.reshape(LOOP, -1), axis=1, bitorder="little")
    with open(path, "wb") as file:
        for start in tqdm(range(0, steps, PIECE), f"writing {path.name}", unit="piece", leave=False):
            file.write(packed[np.arange(start, min(steps, start + PIECE)) % LOOP].tobytes())


def measure(path, height, width, method, settings):
    """Measure a case. Run it in a fresh process."""
    spikes, pictures, model = open_dat(path, height, width), settings.pictures, None
    if method.startswith("swinsf"):
        set_tf32(False)
        model = build_model(settings.variant).eval()
        model.set_precision(PRECISIONS[settings.precision])
        model.to(pick_device(settings.device))
        warm_up = torch.zeros(
            settings.batch_size, STEPS, height, width, dtype=torch.uint8, device=model.norm.weight.device
        )
        with torch.inference_mode():
            fast.infer(model, warm_up).middle.cpu()  # first calls load libraries
    before = peak_memory()
    stride = {"swinsf": max(1, (len(spikes) - 40) // pictures), "swinsf_all": 7}.get(method, 1)
    stop = 20 + 7 * 3 * max(1, pictures // 3) if method == "swinsf_all" else None  # whole groups of three
    keys = key_frames(len(spikes), stop=stop, stride=stride)
    made = {
        "swinsf": lambda: reconstruct(spikes, model, stride, batch_size=settings.batch_size),
        "swinsf_all": lambda: reconstruct(
            spikes, model, stride, stop=keys.stop, outputs="all", batch_size=settings.batch_size
        ),
        "tfp": lambda: tfp_pictures(spikes, keys),
        "tfi": lambda: tfi_pictures(spikes, keys),
    }
    begin, count = time.perf_counter(), 0
    for _ in tqdm(made[method](), method, len(keys), unit="picture", leave=False):
        count += 1
    seconds = time.perf_counter() - begin
    figures = {"pictures": count, "stride": keys.step, "pictures_per_second": count / seconds}
    return {**figures, "memory_before": before, "memory": peak_memory(), "seconds": seconds}


def peak_memory():
    """The peak resident memory of this process so far, in bytes. Linux only."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text("utf-8"))[1])


def main(arguments=None):
    settings = parse_settings(arguments)
    settings.save_path.mkdir(parents=True, exist_ok=True)
    fresh, results = multiprocessing.get_context("spawn"), []
    for height, width in settings.sizes:
        for steps in settings.lengths:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{height}x{width}_{steps}.dat"
                write_recording(path, height, width, steps)
                for method in settings.methods:
                    with ProcessPoolExecutor(1, fresh, initializer=tune_allocator) as process:
                        figures = process.submit(measure, path, height, width, method, settings).result()
                    results.append({"size": f"{height}x{width}", "steps": steps, "method": method, **figures})
                    cli.log(
                        f"{height}x{width}, {steps} steps, {method}: {figures['pictures']} pictures, stride "
                        f"{figures['stride']}, {figures['pictures_per_second']:.4g} pictures/s; "
                        f"{figures['memory'] / 1e6:.0f} MB, {figures['memory_before'] / 1e6:.0f} MB before"
                    )
    about = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": tables.device_name(pick_device(settings.device)),
    }
    about.update({name: getattr(settings, name) for name in ("variant", "precision", "batch_size")})
    with atomic_write(settings.save_path / "recordings.json", "w") as file:
        json.dump({**about, "cases": results}, file, indent=1)
    return 0


if __name__ == "__main__":
    cli.run(main)
