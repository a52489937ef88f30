"""Export the network for runtimes without this project.

    python -m tools.export --load_model small --size 250 400 --output small.onnx
    python -m tools.export --load_model small --size 240 400 --dynamic --output small.pt2

`.onnx` is for onnxruntime and similar runtimes; it needs the packages onnx, onnxscript and onnxruntime (`pip
install .[export]`). `.pt2` is for `torch.export.load`. The input is `spikes`, uint8 (1, 41, H, W) of 0 and 1.
The outputs are `middle`, `left` and `right`, float32 (1, 1, H, W) in grey levels, not clamped. The exported
file is then compared with PyTorch on the same spikes: largest difference, seconds per picture, memory for
loading and running.
"""

import contextlib
import multiprocessing
import os
import queue
import re
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from swinsf.models import load_model, motion, weights_file
from swinsf.models.fast import infer
from swinsf.utils import cli, flags
from swinsf.utils.cli import UserError
from swinsf.utils.timing import LEAST_SIDE, RATE, STEPS

OPSET = 20
OUTPUTS = ["middle", "left", "right"]
MOST = 4096  # largest side of a dynamic export, in pixels
KINDS = (".onnx", ".pt2")


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("--load_model", default="small", help="a shipped network's name, or a weights file (default small)")
    flag("--size", type=flags.side, nargs=2, default=(250, 400), help="height and width (default 250 400)")
    flag(
        "--dynamic",
        action="store_true",
        help="export for any height and width of whole windows; --size must be one of them",
    )
    flag("--output", type=Path, required=True, help="file to write, X.onnx or X.pt2")
    flag(
        "--threads",
        type=flags.positive_int,
        default=1,
        help="number of threads in the comparison (default 1)",
    )
    return parser.parse_args(arguments)


def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Scaled dot-product attention as plain products: converters support the fused one only in 4
    dimensions."""
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ value


class Plain(nn.Module):
    """The network with a plain tuple as its result, since an exported file cannot contain our classes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, spikes):
        return tuple(self.model(spikes))


def export_program(model, height, width, dynamic=False):
    """The `torch.export.ExportedProgram` of a model in eval mode, for spikes (1, 41, H, W), uint8.

    dynamic: H and W may be any multiples of a window's side, patch * window pixels. Raises ValueError if
    height and width are not such multiples.
    """
    side, shapes = model.config.patch * model.config.window, None
    if dynamic:
        if height % side or width % side:
            raise ValueError(f"{height}x{width}: a dynamic export needs whole windows, multiples of {side}")
        least = -(-LEAST_SIDE // side) + 1  # PyTorch treats a dimension of 1 as a constant
        shapes = ({2 + i: side * Dim(name, min=least, max=MOST // side) for i, name in enumerate("hw")},)
    example = torch.zeros(1, STEPS, height, width, dtype=torch.uint8)
    # A graph for all sizes cannot be cut into pieces that fit a cache.
    whole = dict.fromkeys(motion.PLACES, 2**62) if dynamic else {}
    # PyTorch 2.14 saves an autocast region but cannot load it. Nothing is cast here.
    no_regions = mock.patch.object(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    with mock.patch.dict(motion.PLACES, whole), no_regions, torch.no_grad():
        return torch.export.export(Plain(model), (example,), dynamic_shapes=shapes, strict=False)


def write_onnx(program, path):
    """Write an exported program as ONNX, without PyTorch's optimization of the graph: on these networks it
    takes many minutes, and runtimes optimize graphs themselves."""
    table = {torch.ops.aten.scaled_dot_product_attention.default: attend}
    names = {"input_names": ["spikes"], "output_names": OUTPUTS}
    options = {"dynamo": True, "optimize": False, "opset_version": OPSET, "verbose": False}
    torch.onnx.export(program.run_decompositions(table), (), path, external_data=False, **names, **options)


def draw_spikes(height, width):
    """Spikes (1, 41, H, W) uint8 of soft stripes that move by 0.2 pixels a step."""
    y, x = np.mgrid[:height, :width]
    light = (0.5 + 0.4 * np.sin((x + y / 2 - step / 5) / 4) for step in range(STEPS))
    charge = np.cumsum(RATE * np.stack([*light]), 0) + np.random.default_rng(0).random((height, width))
    return (np.diff(np.floor(charge), axis=0, prepend=np.floor(charge[:1] - RATE)) > 0).astype(np.uint8)[None]


def run_onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda spikes: session.run(None, {"spikes": spikes})


def run_torch(path, threads):
    """A function that runs a file of `torch.export`, or weights as reconstruct.py does: spikes ->
    pictures."""
    torch.set_num_threads(threads)
    if path.suffix == ".pt2":
        call = torch.export.load(path).module()
    else:
        model = load_model(path)
        call = lambda spikes: infer(model, spikes)  # noqa: E731

    @torch.inference_mode()
    def run(spikes):
        return [picture.numpy() for picture in call(torch.from_numpy(spikes))]

    return run


def memory(kind):
    """This process's memory in MB: "VmRSS" now, "VmHWM" at its peak. NaN except on Linux."""
    status = Path("/proc/self/status")
    found = re.search(rf"{kind}:\s+(\d+) kB", status.read_text("utf-8")) if status.is_file() else None
    return int(found[1]) / 1024 if found else float("nan")


def measure(path, spikes, threads, results):
    """Put (pictures, seconds of the faster of two runs, MB for loading and running) into a queue."""
    before = memory("VmRSS")
    run, seconds = (run_onnx if path.suffix == ".onnx" else run_torch)(path, threads), []
    for _ in range(2):
        begin = time.perf_counter()
        pictures = run(spikes)
        seconds.append(time.perf_counter() - begin)
    results.put((pictures, min(seconds), memory("VmHWM") - before))


def measured(path, spikes, threads):
    """`measure` in its own process, so that its memory is measured alone."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measure, args=(path, spikes, threads, results), daemon=True)
    process.start()
    while True:
        ended = not process.is_alive()  # asked first: a process may put its results and end during the wait
        try:
            return results.get(timeout=1)
        except queue.Empty:
            if ended:
                raise UserError(f"{path}: its run ended with exit status {process.exitcode}") from None


def main(arguments=None):
    settings = parse_settings(arguments)
    path, kind = settings.output, settings.output.suffix
    if kind not in KINDS:
        raise UserError(f"--output {path}: {kind or 'no suffix'} is not written; take {' or '.join(KINDS)}")
    if kind == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            try:
                __import__(package)
            except ImportError:
                raise UserError(
                    f"{package} is not installed; pip install onnx onnxscript onnxruntime"
                ) from None
    weights = weights_file(settings.load_model)
    model = load_model(weights)
    begin = time.perf_counter()
    try:
        program = export_program(model, *settings.size, settings.dynamic)
    except ValueError as error:
        raise UserError(f"--size {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{kind}")
    try:
        (write_onnx if kind == ".onnx" else torch.export.save)(program, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    seconds = time.perf_counter() - begin
    cli.log(f"{path}: {path.stat().st_size / 1e6:.1f} MB, made in {seconds:.0f} s from {weights}")
    compare(path, weights, draw_spikes(*settings.size), settings.threads)
    return 0


def compare(path, weights, spikes, threads):
    """Compare an exported file with PyTorch and log it; returns the largest difference in grey levels."""
    ours, theirs = (measured(file, spikes, threads) for file in (weights, path))
    for name, (_, seconds, memory) in (("PyTorch", ours), (path.name, theirs)):
        cli.log(f"{name}: {seconds:.2f} s a picture, {memory:,.0f} MB")
    most = max(float(np.abs(a - b).max()) for a, b in zip(ours[0], theirs[0]))
    cli.log(f"largest difference: {most:.2g} grey levels")
    return most


if __name__ == "__main__":
    cli.run(main)
