"""Reconstruct a dataset and score it."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from swinsf.datasets import scored_output
from swinsf.datasets.loader import make_loader
from swinsf.models import SwinSF, fast
from swinsf.models.classical import tfi, tfp
from swinsf.models.tiling import check_tile, tiled
from swinsf.utils.distributed import rank_and_size
from swinsf.utils.timing import KEY_FRAMES, RATE

# (spikes (B, 41, H, W), output, calibration (B, 2, H, W) if any) -> (B, H, W) in grey levels; 255 is a firing
# rate of 0.6
Method = Callable[..., torch.Tensor]
# (picture (H, W), truth (H, W) or None) -> figures
Score = Callable[[np.ndarray, np.ndarray | None], dict[str, float]]


def calibrated(picture: torch.Tensor, calibration: torch.Tensor | None, rate: float = RATE) -> torch.Tensor:
    """Correct a picture (B, H, W) in grey levels by a camera's calibration (B, 2, H, W).

    The firing rate due to light is (spikes per step - dark) / response. rate: firing rate at 255.
    """
    if calibration is None:
        return picture
    dark, response = calibration.unbind(1)
    return (picture - 255 / rate * dark) / response


def baseline(method: Method, *options: int) -> Method:
    """A method of `models.classical` as a method for `evaluate`."""
    return lambda spikes, output, maps=None: calibrated(method(spikes, KEY_FRAMES[output], *options), maps)


BASELINES = {"TFI": baseline(tfi), "TFP41": baseline(tfp, 41), "TFP21": baseline(tfp, 21)}


def calibration_of(batch: dict[str, Any]) -> torch.Tensor | None:
    """The calibration (B, 2, H, W) for `SwinSF` from `dark` and `response`, (B, 1, H, W) each, or None."""
    return torch.cat([batch["dark"], batch["response"]], 1) if "dark" in batch else None


def network(model: SwinSF, tile: int = 0) -> Method:
    """A method for `evaluate`: the model on whole pictures (0) or in tiles of a largest side.

    Raises UserError for tiles that are too small.
    """
    multiple = model.config.window * model.config.patch
    check_tile(tile, multiple)

    def method(spikes, output, calibration=None):
        pictures = tiled(partial(fast.infer, model), spikes, tile, multiple, calibration=calibration)
        return getattr(pictures, output)[:, 0].float()

    return method


def limited(method: Method, limit: float) -> Method:
    """The method with its pictures clamped to a grey level."""
    return lambda *arguments: method(*arguments).clamp(max=limit)


@torch.inference_mode()
def evaluate(
    methods: dict[str, Method],
    dataset: Any,
    device: torch.device,
    score: Score,
    workers: int = 0,
    label: str = "evaluate",
    pixels: int = 0,
    scorers: int = 0,
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray], dict[str, dict[str, float]]]]:
    """Reconstruct and score a dataset. Training's validation and test.py both call this.

    Pictures are scaled from a firing rate of 0.6 at white to the item's own `rate`. For scoring, scenes with
    a `white` are scaled so that it is white. pixels: consecutive streams of one size are batched up to this
    number of pixels; 0: no batches. scorers: number of threads that score while a method runs; 0: score in
    between. Yields (item, {method: picture (H, W)}, {method: {figure: value, "seconds": ...}}) per stream, in
    order.

    With N processes, each process evaluates every N-th stream; `interleaved` merges their lists.
    """
    rank, processes = rank_and_size()
    share = range(rank, len(dataset), processes)
    loader = make_loader(dataset, workers, device, batch_size=None, sampler=share)
    bar = tqdm(
        total=len(share), desc=label, unit="picture", dynamic_ncols=True, leave=False, disable=rank > 0
    )
    waiting = deque()  # calls that return (item, pictures, figures)

    def figures_of(item, pictures, seconds):
        output, white = scored_output(item), item.get("white", 1.0)
        truth = item[output][0].numpy() / white if output in item else None
        figures = {
            name: {**score(picture / white, truth), "seconds": seconds[name]}
            for name, picture in pictures.items()
        }
        return item, pictures, figures

    with bar, ThreadPoolExecutor(max(1, scorers)) as pool:
        for items in together(loader, pixels):
            tensors = [key for key in ("spikes", "dark", "response") if key in items[0]]
            batch = {key: torch.stack([item[key] for item in items]).to(device) for key in tensors}
            maps = [calibration_of(batch)] if "dark" in batch else []
            pictures, seconds = {}, {}
            for name, method in methods.items():
                begin = time.perf_counter()
                pictures[name] = method(batch["spikes"], scored_output(items[0]), *maps).cpu().numpy()
                # excludes scoring
                seconds[name] = (time.perf_counter() - begin) / len(items)
            for i, item in enumerate(items):
                levels = RATE / item.get("rate", RATE)
                scored = item, {name: picture[i] * levels for name, picture in pictures.items()}, seconds
                waiting.append(
                    pool.submit(figures_of, *scored).result if scorers else partial(figures_of, *scored)
                )
            while len(waiting) > (2 * len(items) if scorers else 0):
                yield waiting.popleft()()
                bar.update()
        while waiting:
            yield waiting.popleft()()
            bar.update()


def together(items: Iterable[dict[str, Any]], pixels: int) -> Iterator[list[dict[str, Any]]]:
    """Group consecutive items of one shape and key frame, all calibrated or none, up to a number of
    pixels."""
    group, kind = [], None
    for item in items:
        if group and kind != (item["spikes"].shape, scored_output(item), "dark" in item):
            yield group
            group = []
        group.append(item)
        kind = item["spikes"].shape, scored_output(item), "dark" in item
        if (len(group) + 1) * item["spikes"][0].numel() > pixels:
            yield group
            group = []
    if group:
        yield group
