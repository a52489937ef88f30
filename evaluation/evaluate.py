"""Reconstruct a dataset and score it."""

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from tqdm import tqdm

from swinsf.datasets import scored_output
from swinsf.datasets.loader import make_loader
from swinsf.models import fast
from swinsf.models.classical import tfi, tfp
from swinsf.models.tiling import check_tile, tiled
from swinsf.utils.distributed import rank_and_size
from swinsf.utils.timing import KEY_FRAMES, RATE


def calibrated(picture, calibration, rate=RATE):
    """A picture (B, H, W) in grey levels of the spikes' rate, with a camera's calibration (B, 2, H, W) or
    None applied to it.

    The rate of the light is (spikes a step - dark) / response.
    """
    if calibration is None:
        return picture
    dark, response = calibration.unbind(1)
    return (picture - 255 / rate * dark) / response


def baseline(method, *options):
    return lambda spikes, output, maps=None: calibrated(method(spikes, KEY_FRAMES[output], *options), maps)


# methods for `evaluate`
BASELINES = {"TFI": baseline(tfi), "TFP41": baseline(tfp, 41), "TFP21": baseline(tfp, 21)}


def calibration_of(batch):
    """The calibration (B, 2, H, W) for `SwinSF` of a batch with `dark` and `response`, (B, 1, H, W) each;
    else None."""
    return torch.cat([batch["dark"], batch["response"]], 1) if "dark" in batch else None


def network(model, tile=0):
    """A method for `evaluate`: the model's picture at the key frame of an output, in tiles of a side or (0)
    whole.

    Raises UserError for tiles that are too small.
    """
    multiple = model.config.window * model.config.patch
    check_tile(tile, multiple)

    def method(spikes, output, calibration=None):
        pictures = tiled(partial(fast.infer, model), spikes, tile, multiple, calibration=calibration)
        return getattr(pictures, output)[:, 0].float()

    return method


@torch.inference_mode()
def evaluate(methods, dataset, device, score, workers=0, label="evaluate", pixels=0, scorers=0):
    """Reconstruct and score a dataset; training's validation and test.py both call this.

    methods: name -> function of spikes (B, 41, H, W), an output's name and, if the items have one, a
    calibration (B, 2, H, W); it returns (B, H, W) in grey levels, 255 for 0.6 spikes a step. They are brought
    to the item's own levels by its `rate`. score(picture, truth): numpy (H, W) arrays, truth None where there
    is none -> dict of figures. Scenes that have a `white` are scored as if they were exposed up to it.
    pixels: streams of one size in a row go through a method together, as long as they have no more pixels
    than that; 0: each alone. scorers: threads that score while a method runs; 0: scoring waits for the
    method, and the method for it. Yields (item, {method: picture (H, W)}, {method: {figure: value, "seconds":
    ...}}) for each stream, in their order.

    Of N processes each takes every N-th stream; `interleaved` puts their lists together.
    """
    rank, processes = rank_and_size()
    share = range(rank, len(dataset), processes)
    loader = make_loader(dataset, workers, device, batch_size=None, sampler=share)
    bar = tqdm(
        total=len(share), desc=label, unit="picture", dynamic_ncols=True, leave=False, disable=rank > 0
    )
    waiting = deque()  # (item, pictures, figures), or what will be that

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
                # of reconstruction; scoring takes its own time
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


def together(items, pixels):
    """Lists of items in a row of one shape, one key frame and all calibrated or none, up to so many pixels
    each."""
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
