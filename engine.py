"""What the scripts share: the loss, the learning rate, one epoch of training, evaluation. Plain functions."""

import contextlib
import copy
import math
import time
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets import scored_output, start_worker
from models import SwinSF
from models.classical import tfi, tfp
from utils.checkpoint import random_state, restore_random_state
from utils.cli import UserError
from utils.distributed import gather, total, world
from utils.inference import check_tile, tiled
from utils.protocol import KEY_FRAMES

BETAS = (0.9, 0.999)  # of Adam and AdamW
SIDE_WEIGHT = 0.1  # of the left and the right picture's loss beside the middle one's
BASELINES = {  # methods for `evaluate`
    "TFI": lambda spikes, output: tfi(spikes, KEY_FRAMES[output]),
    "TFP41": lambda spikes, output: tfp(spikes, KEY_FRAMES[output], 41),
    "TFP21": lambda spikes, output: tfp(spikes, KEY_FRAMES[output], 21),
}


class NotFinite(UserError):
    """A loss or gradient that is not finite, found by all processes at once and before it reached the weights."""


@dataclass(frozen=True)
class Recipe:
    """How to train. lr and weight_decay are defaults, which flags replace; the rest is fixed."""

    lr: float
    weight_decay: float
    optimizer: type
    loss: str  # in words, for the record; `pixel_loss` and `learning_rate` compute them
    schedule: str
    clip: float = math.inf  # largest norm of the gradient
    ema: float = 0.0  # decay of the moving average of the weights; 0: none
    warmup: int = 0  # steps over which the learning rate rises to lr

    def describe(self):
        """The recipe as plain values, which a checkpoint carries."""
        fixed = {"optimizer": self.optimizer.__name__, "betas": BETAS, "clip": self.clip if self.clip < math.inf else None}
        return {**fixed, "ema": self.ema, "warmup": self.warmup, "loss": self.loss, "schedule": self.schedule}


RECIPES = {
    "paper": Recipe(
        lr=1e-4,
        weight_decay=0.0,
        optimizer=torch.optim.Adam,
        loss="smooth L1, beta 1, on grey levels; middle + 0.1 (left + right)",
        schedule="half every 300 epochs",
    ),
    "modern": Recipe(
        lr=1e-3,
        weight_decay=1e-4,
        optimizer=torch.optim.AdamW,
        loss="Charbonnier, epsilon 1e-3, on 0..1; middle + 0.1 (left + right)",
        schedule="linear warm-up over a tenth of the steps at most, cosine to a hundredth at the last step",
        clip=1.0,
        ema=0.999,
        warmup=100,
    ),
}


def pixel_loss(picture, truth, recipe):
    """Scalar loss of pictures in grey levels. paper: smooth L1, beta 1. modern: Charbonnier, epsilon 1e-3, on 0..1.

    Nothing is clamped: a clamp would take the gradient from every pixel above 255.
    """
    if recipe == "paper":
        return F.smooth_l1_loss(picture, truth, beta=1.0)
    return torch.sqrt(((picture - truth) / 255) ** 2 + 1e-6).mean()


def reconstruction_loss(pictures, batch, recipe):
    """The loss of a `Reconstruction` beside a batch with all three pictures: middle + 0.1 (left + right).

    Scenes that say how bright their white is (`white`, as simulated ones do) are compared with their errors divided by its root,
    half way between grey levels, by which dark scenes would be forgotten, and parts of the white, by which they would rule.
    """
    # What autocast left in bfloat16 is too coarse for a loss.
    pictures = {name: p.to(torch.promote_types(p.dtype, torch.float32)) for name, p in pictures._asdict().items()}
    scale = 1.0
    if "white" in batch:
        scale = batch["white"].to(pictures["middle"]).rsqrt().view(-1, 1, 1, 1)
    losses = {name: pixel_loss(picture * scale, batch[name] * scale, recipe) for name, picture in pictures.items()}
    return losses["middle"] + SIDE_WEIGHT * (losses["left"] + losses["right"])


def learning_rate(settings, step, epoch, total_steps):
    """The learning rate of a step. paper: halved every 300 epochs. modern: warm-up, then a cosine down to a hundredth."""
    if settings.recipe == "paper":
        return settings.lr * 0.5 ** (epoch // 300)
    warmup = min(RECIPES[settings.recipe].warmup, total_steps // 10)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    return settings.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def make_optimizer(model, settings):
    """The recipe's optimiser; weight decay leaves out biases, norms, position biases and the firing-rate kernel."""
    decay, keep = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim < 2 or name.endswith("relative_position_bias_table")
            (keep if plain else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": keep, "weight_decay": 0.0}]
    return RECIPES[settings.recipe].optimizer(groups, lr=settings.lr, betas=BETAS)


@dataclass
class TrainingState:
    """All that a run is made of, so that it can stop after any step and go on as if it had not."""

    model: SwinSF  # bare, never wrapped
    optimizer: torch.optim.Optimizer
    ema: ModelEmaV3 | None = None
    epoch: int = 0  # in hand
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
        if rank < len(states):  # a process that the run did not have goes on from its own seed
            restore_random_state(states[rank])


def train_one_epoch(state, parallel_model, loader, settings, total_steps, device, after_step=lambda: False):
    """The rest of the epoch in hand, batch by batch; counts in `state`, over all processes.

    parallel_model: state.model itself, or DataParallel or DistributedDataParallel round it. loader: of `settings.accumulate`
    pieces a batch, see `EpochBatches`. after_step() is called after each step; a true value stops.
    Raises NotFinite for a loss or gradient that is not, before it reaches the weights.
    """
    parallel_model.train()
    rank, _ = world()
    batches = zip(*[iter(loader)] * settings.accumulate)
    count = state.batch + len(loader) // settings.accumulate
    bar = tqdm(batches, f"epoch {state.epoch}", count, initial=state.batch, unit="batch", dynamic_ncols=True, disable=rank > 0)
    begin = time.perf_counter()
    for pieces in bar:
        names = [name for piece in pieces for name in piece["name"]]
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(settings, state.step, state.epoch, total_steps)
        state.optimizer.zero_grad(set_to_none=True)
        loss, pictures = total(*backward(parallel_model, pieces, settings.recipe, device, settings.amp))
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), RECIPES[settings.recipe].clip)
        if not (math.isfinite(loss) and torch.isfinite(norm)):  # in one process and so in all
            names = sorted({name for part in gather(names) for name in part})
            raise NotFinite(
                f"loss {loss:.4g}, gradient {norm.item():.4g} at step {state.step}, epoch {state.epoch}, "
                f"batch {state.batch}: {', '.join(names)}; the weights before it are kept. Look at these samples, or lower --lr"
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


def backward(parallel_model, pieces, recipe, device, amp=False):
    """Add the gradients of a batch to the weights' `grad`; (this process's part of the batch's mean loss, its pictures).

    pieces: of this process's share of the batch, see `EpochBatches`. The processes' gradients are exchanged once, after the last.
    """
    loss, pictures, processes = 0.0, 0, 1
    if isinstance(parallel_model, DistributedDataParallel):
        _, processes = world()
    for number, piece in enumerate(pieces, 1):
        weight = piece["weight"].sum().item()
        batch = {key: value.to(device, non_blocking=True) for key, value in piece.items() if key not in ("name", "weight")}
        alone = processes > 1 and number < len(pieces)
        with parallel_model.no_sync() if alone else contextlib.nullcontext():
            with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                output = parallel_model(batch["spikes"])
            part = weight * reconstruction_loss(output, batch, recipe)
            (processes * part).backward()  # the exchange takes the mean over the processes; wanted is the sum
        loss += part.item()
        pictures += len(piece["name"]) if weight else 0
    return loss, pictures


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
    return lambda spikes, output: getattr(tiled(model, spikes, tile, multiple), output)[:, 0].float()


@torch.inference_mode()
def evaluate(methods, dataset, device, score, workers=0, on_stream=None, label="evaluate", should_stop=lambda: False):
    """Score reconstruction methods on a dataset; training's validation and test.py both call this.

    methods: name -> function of spikes (1, 41, H, W) and an output's name, that returns (1, H, W) in grey levels.
    score(picture, truth): numpy (H, W) arrays, truth None where there is none -> dict of figures. Scenes are scored as if they
    were exposed up to their `white`.
    on_stream(row, item, pictures) is called after each stream, to save what it wants.
    Returns a list of {"name": ..., method: {figure: value, "seconds": ...}}, None where should_stop() cut it short.

    Of N processes each takes every N-th stream, and all return the rows of all, in the dataset's order.
    """
    rank, processes = world()
    rows, stopped = {}, False
    share = range(rank, len(dataset), processes)
    loader = make_loader(dataset, workers, device, batch_size=None, sampler=share)
    bar = tqdm(loader, label, len(share), unit="picture", dynamic_ncols=True, leave=False, disable=rank > 0)
    for item in bar:
        stopped = should_stop()
        if stopped:
            break
        row = rows[share[len(rows)]] = {"name": item["name"]}
        spikes = item["spikes"][None].to(device)
        output = scored_output(item)
        truth, pictures = item[output][0].numpy() if output in item else None, {}
        white = item.get("white", 1.0)
        for name, method in methods.items():
            begin = time.perf_counter()
            pictures[name] = method(spikes, output)[0].cpu().numpy()
            seconds = time.perf_counter() - begin  # of the reconstruction; scoring takes its own time
            scaled = truth if truth is None else truth / white
            row[name] = {**score(pictures[name] / white, scaled), "seconds": seconds}
        if on_stream:
            on_stream(row, item, pictures)
    parts = gather(None if stopped else rows)
    if None in parts:
        return None
    rows = {index: row for part in parts for index, row in part.items()}
    return [rows[index] for index in sorted(rows)]
