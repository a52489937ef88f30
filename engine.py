"""What the scripts share: the recipes, one epoch of training, evaluation. Plain functions."""

import copy
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets import scored_output, start_worker
from datasets.augment import unpack
from models import SwinSF, fast
from models.classical import tfi, tfp
from utils.checkpoint import random_state, restore_random_state
from utils.cli import UserError
from utils.distributed import gather, sum_gradients, world
from utils.inference import check_tile, tiled
from utils.timing import KEY_FRAMES, RATE

BETAS = (0.9, 0.999)  # of Adam and AdamW
SIDE_WEIGHT = 0.1  # of the left and the right picture's loss; the middle one's is 1


def calibrated(picture, calibration, rate=RATE):
    """A picture (B, H, W) in grey levels of the spikes' rate, with a camera's calibration (B, 2, H, W) or None applied to it.

    The rate of the light is (spikes a step - dark) / response.
    """
    if calibration is None:
        return picture
    dark, response = calibration.unbind(1)
    return (picture - 255 / rate * dark) / response


def baseline(method, *options):
    return lambda spikes, output, maps=None: calibrated(method(spikes, KEY_FRAMES[output], *options), maps)


BASELINES = {"TFI": baseline(tfi), "TFP41": baseline(tfp, 41), "TFP21": baseline(tfp, 21)}  # methods for `evaluate`


class NotFinite(UserError):
    """A loss or a gradient is not finite. All processes see it after the same step, before the weights change."""


def smooth_l1(picture, truth):
    """smooth L1, beta 1, on grey levels"""
    return F.smooth_l1_loss(picture, truth, beta=1.0)


def charbonnier(picture, truth):
    """Charbonnier, epsilon 1e-3, on 0..1"""
    return torch.sqrt(((picture - truth) / 255) ** 2 + 1e-6).mean()


def halving(lr, step, epoch, total_steps):
    """half every 300 epochs"""
    return lr * 0.5 ** (epoch // 300)


def warmup_cosine(lr, step, epoch, total_steps):
    """linear warm-up over 100 steps, a tenth of all at most, then a cosine to a hundredth at the last step"""
    warmup = min(100, total_steps // 10)
    if step < warmup:
        return lr * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    return lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@dataclass(frozen=True)
class Recipe:
    """How to train. lr and weight_decay are defaults, which flags replace; the rest is fixed."""

    optimizer: type
    lr: float
    weight_decay: float
    loss: Callable  # (picture, truth), grey levels that nothing clamps: a clamp takes the gradient above 255 -> scalar
    schedule: Callable  # (lr, step, epoch, total_steps) -> learning rate of the step
    clip: float = math.inf  # largest norm of the gradient
    ema: float = 0.0  # largest decay of the moving average of the weights; 0: none

    def describe(self):
        """The recipe as plain values, which a checkpoint carries."""
        return {
            "optimizer": self.optimizer.__name__,
            "betas": BETAS,
            "loss": f"{self.loss.__doc__}; middle + {SIDE_WEIGHT} (left + right)",
            "schedule": self.schedule.__doc__,
            "clip": self.clip if self.clip < math.inf else None,
            "ema": self.ema,
            "ema_over": f"about the last step^(2/3) steps, {1 / (1 - self.ema):.0f} at most; 231 at step 3500"
            if self.ema
            else None,
        }


RECIPES = {
    "paper": Recipe(torch.optim.Adam, lr=1e-4, weight_decay=0.0, loss=smooth_l1, schedule=halving),
    "modern": Recipe(
        torch.optim.AdamW, lr=1e-3, weight_decay=1e-4, loss=charbonnier, schedule=warmup_cosine, clip=1.0, ema=0.999
    ),
}


def reconstruction_loss(pictures, batch, loss):
    """A recipe's loss of a `Reconstruction` compared with a batch: middle + 0.1 (left + right), of those pictures that it has.

    Scenes that say how bright their white is (`white`, as simulated ones do) have their errors divided by its root. That is half
    way between grey levels, by which dark scenes would be forgotten, and parts of the white, by which they would rule.
    The network's grey level 255 is 0.6 spikes a step whatever the data's `rate` is, so that all weights have one scale.
    """
    # What autocast left in bfloat16 is too coarse for a loss.
    pictures = {name: p.to(torch.promote_types(p.dtype, torch.float32)) for name, p in pictures._asdict().items()}
    scale = batch["white"].to(pictures["middle"]).rsqrt().view(-1, 1, 1, 1) if "white" in batch else 1.0
    levels = (batch["rate"] / RATE).to(pictures["middle"]).view(-1, 1, 1, 1) if "rate" in batch else 1.0
    losses = {name: loss(picture * scale, batch[name] * levels * scale) for name, picture in pictures.items() if name in batch}
    sides = losses.keys() - {"middle"}
    return losses["middle"] + SIDE_WEIGHT * (losses["left"] + losses["right"]) if sides else losses["middle"]


def make_optimizer(model, settings):
    """The recipe's optimiser; weight decay leaves out biases, norms, position biases and the firing-rate kernel."""
    decay, no_decay = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim < 2 or name.endswith("relative_position_bias_table")
            (no_decay if plain else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    return RECIPES[settings.recipe].optimizer(groups, lr=settings.lr, betas=BETAS)


def make_average(model, recipe):
    """The moving average of a model's weights, or None where the recipe has none.

    After step n, from 1, its decay is 1 - n^(-2/3), and the recipe's once that is larger; so it forgets the first weights.
    """
    if not recipe.ema:
        return None
    from timm.utils import ModelEmaV3  # takes seconds to import, and only training wants it

    return ModelEmaV3(model, decay=recipe.ema, use_warmup=True)


class Forward(nn.Module):
    """What DataParallel spreads: packed spikes (B, 6, H, W) -> `Reconstruction`, in bfloat16 where it is safe if `amp`.

    Autocast stands inside, since DataParallel's threads take over that it is on, but not its type.
    """

    def __init__(self, model, amp=False):
        super().__init__()
        self.model, self.amp = model, amp

    def forward(self, packed, calibration=None):
        """calibration: see `SwinSF`, or None."""
        with torch.autocast(packed.device.type, torch.bfloat16, enabled=self.amp):
            return fast.forward(self.model, unpack(packed), calibration)


@dataclass
class TrainingState:
    """All that a run is made of, so that it can stop after any step and be resumed as if it had not."""

    model: SwinSF  # bare, never wrapped
    optimizer: torch.optim.Optimizer
    ema: nn.Module | None = None  # timm's ModelEmaV3
    epoch: int = 0  # the current one
    batch: int = 0  # batches of this epoch that are done
    step: int = 0  # optimiser steps since the start
    best_psnr: float = -math.inf
    totals: dict = field(default_factory=lambda: {"loss": 0.0, "pictures": 0, "seconds": 0.0})  # of this epoch

    @property
    def averaged(self):
        """The model to test and to ship: the moving average where there is one."""
        return self.ema.module if self.ema else self.model

    def state_dict(self):
        """Plain values and tensors. Under torchrun all processes have to call this, for the random state of each is in it."""
        counters = {name: getattr(self, name) for name in ("epoch", "batch", "step", "best_psnr", "totals")}
        return {
            **copy.deepcopy(counters),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else None,
            "random": gather(random_state()),  # by rank
        }

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
        for name in ("epoch", "batch", "step", "best_psnr", "totals"):
            setattr(self, name, state[name])
        states = state["random"] if isinstance(state["random"], list) else [state["random"]]
        rank, _ = world()
        if rank < len(states):  # a process that the run did not have keeps its own seed
            restore_random_state(states[rank])


def train_one_epoch(state, forward, loader, settings, total_steps, device, after_step=lambda: False):
    """The rest of the current epoch, batch by batch; counts in `state`, over all processes.

    forward: `Forward` of state.model, or DataParallel round it. loader: of `settings.accumulate` pieces a batch, see
    `EpochBatches`. after_step() is called after each step; a true value stops.
    Raises NotFinite for a loss or gradient that is not, before it reaches the weights.
    """
    forward.train()
    recipe, (rank, _) = RECIPES[settings.recipe], world()
    batches = zip(*[iter(loader)] * settings.accumulate)
    count = state.batch + len(loader) // settings.accumulate
    label = f"epoch {state.epoch + 1}"  # from 1 on the screen
    bar = tqdm(batches, label, count, initial=state.batch, unit="batch", dynamic_ncols=True, disable=rank > 0)
    begin = time.perf_counter()
    for pieces in bar:
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.schedule(settings.lr, state.step, state.epoch, total_steps)
        state.optimizer.zero_grad(set_to_none=True)
        figures = backward(forward, pieces, recipe.loss, device)
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
        loss, pictures, norm = torch.cat([figures, norm[None]]).tolist()  # the one time that a step waits for the GPU
        if not math.isfinite(loss + norm):  # in one process and so in all
            names = {name for part in gather([name for piece in pieces for name in piece["name"]]) for name in part}
            raise NotFinite(
                f"loss {loss:.4g}, gradient {norm:.4g} at step {state.step}, epoch {state.epoch + 1}, batch {state.batch}: "
                f"{', '.join(sorted(names))}; the weights before it are kept. Look at these samples, or lower --lr"
            )
        state.optimizer.step()
        state.step += 1
        if state.ema:
            state.ema.update(state.model, step=state.step)
        now = time.perf_counter()
        state.batch += 1
        state.totals["loss"] += loss * pictures
        state.totals["pictures"] += round(pictures)
        state.totals["seconds"] += now - begin
        begin = now
        bar.set_postfix(
            loss=f"{state.totals['loss'] / state.totals['pictures']:.4g}",
            pictures_s=f"{state.totals['pictures'] / state.totals['seconds']:.3g}",
        )
        if after_step():
            break


def backward(forward, pieces, loss, device):
    """Add the gradients of a batch to the weights' `grad`; returns a tensor (2,), the batch's mean loss and its pictures.

    pieces: this process's share of the batch, see `EpochBatches`. All is summed over the processes once, after the last piece.
    """
    figures = []
    for piece in pieces:
        batch = {key: value.to(device, non_blocking=True) for key, value in piece.items() if torch.is_tensor(value)}
        part = reconstruction_loss(forward(batch["spikes"], calibration_of(batch)), batch, loss)
        part = batch["weight"].sum().to(part.dtype) * part
        part.backward()
        figures.append(torch.stack([part.detach(), (batch["weight"] > 0).sum().to(part.dtype)]))
    return sum_gradients(forward.parameters(), torch.stack(figures).sum(0))


def calibration_of(batch):
    """The calibration (B, 2, H, W) for `SwinSF` of a batch with `dark` and `response`, (B, 1, H, W) each; else None."""
    return torch.cat([batch["dark"], batch["response"]], 1) if "dark" in batch else None


def make_loader(dataset, workers, device, **options):
    """A DataLoader that leaves torch's global random state alone, whatever the number of workers."""
    return DataLoader(
        dataset,
        num_workers=workers,
        generator=torch.Generator(),
        worker_init_fn=start_worker,
        pin_memory=device.type == "cuda",
        **options,
    )


def network(model, tile=0):
    """A method for `evaluate`: the model's picture at the key frame of an output, in tiles of a side or (0) whole.

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

    methods: name -> function of spikes (B, 41, H, W), an output's name and, if the items have one, a calibration (B, 2, H, W);
    it returns (B, H, W) in grey levels, 255 for 0.6 spikes a step. They are brought to the item's own levels by its `rate`.
    score(picture, truth): numpy (H, W) arrays, truth None where there is none -> dict of figures. Scenes that have a `white` are
    scored as if they were exposed up to it.
    pixels: streams of one size in a row go through a method together, as long as they have no more pixels than that; 0: each
    alone. scorers: threads that score while a method runs; 0: scoring waits for the method, and the method for it.
    Yields (item, {method: picture (H, W)}, {method: {figure: value, "seconds": ...}}) for each stream, in their order.

    Of N processes each takes every N-th stream; `interleaved` puts their lists together.
    """
    rank, processes = world()
    share = range(rank, len(dataset), processes)
    loader = make_loader(dataset, workers, device, batch_size=None, sampler=share)
    bar = tqdm(total=len(share), desc=label, unit="picture", dynamic_ncols=True, leave=False, disable=rank > 0)
    waiting = deque()  # (item, pictures, figures), or what will be that

    def figures_of(item, pictures, seconds):
        output, white = scored_output(item), item.get("white", 1.0)
        truth = item[output][0].numpy() / white if output in item else None
        figures = {name: {**score(picture / white, truth), "seconds": seconds[name]} for name, picture in pictures.items()}
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
                seconds[name] = (time.perf_counter() - begin) / len(items)  # of reconstruction; scoring takes its own time
            for i, item in enumerate(items):
                levels = RATE / item.get("rate", RATE)
                scored = item, {name: picture[i] * levels for name, picture in pictures.items()}, seconds
                waiting.append(pool.submit(figures_of, *scored).result if scorers else partial(figures_of, *scored))
            while len(waiting) > (2 * len(items) if scorers else 0):
                yield waiting.popleft()()
                bar.update()
        while waiting:
            yield waiting.popleft()()
            bar.update()


def together(items, pixels):
    """Lists of items in a row of one shape, one key frame and all calibrated or none, up to so many pixels each."""
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
