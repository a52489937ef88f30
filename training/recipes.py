"""Recipes: loss, optimiser, schedule and moving average."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from swinsf.utils.timing import RATE

BETAS = (0.9, 0.999)  # of Adam and AdamW
SIDE_WEIGHT = 0.1  # of the left and the right picture's loss; the middle one's is 1


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
    # (picture, truth), grey levels that nothing clamps: a clamp takes the gradient above 255 -> scalar
    loss: Callable
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
        torch.optim.AdamW,
        lr=1e-3,
        weight_decay=1e-4,
        loss=charbonnier,
        schedule=warmup_cosine,
        clip=1.0,
        ema=0.999,
    ),
}


def reconstruction_loss(pictures, batch, loss):
    """A recipe's loss of a `Reconstruction` compared with a batch: middle + 0.1 (left + right), of those
    pictures that it has.

    Scenes that say how bright their white is (`white`, as simulated ones do) have their errors divided by its
    root. That is half way between grey levels, by which dark scenes would be forgotten, and parts of the
    white, by which they would rule. The network's grey level 255 is 0.6 spikes a step whatever the data's
    `rate` is, so that all weights have one scale.
    """
    # What autocast left in bfloat16 is too coarse for a loss.
    pictures = {
        name: p.to(torch.promote_types(p.dtype, torch.float32)) for name, p in pictures._asdict().items()
    }
    scale = batch["white"].to(pictures["middle"]).rsqrt().view(-1, 1, 1, 1) if "white" in batch else 1.0
    levels = (batch["rate"] / RATE).to(pictures["middle"]).view(-1, 1, 1, 1) if "rate" in batch else 1.0
    losses = {
        name: loss(picture * scale, batch[name] * levels * scale)
        for name, picture in pictures.items()
        if name in batch
    }
    sides = losses.keys() - {"middle"}
    return losses["middle"] + SIDE_WEIGHT * (losses["left"] + losses["right"]) if sides else losses["middle"]


def make_optimizer(model, settings):
    """The recipe's optimiser; weight decay leaves out biases, norms, position biases and the firing-rate
    kernel."""
    decay, no_decay = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim < 2 or name.endswith("relative_position_bias_table")
            (no_decay if plain else decay).append(parameter)
    groups = [
        {"params": decay, "weight_decay": settings.weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]
    return RECIPES[settings.recipe].optimizer(groups, lr=settings.lr, betas=BETAS)


def make_average(model, recipe):
    """The moving average of a model's weights, or None where the recipe has none.

    After step n, from 1, its decay is 1 - n^(-2/3), and the recipe's once that is larger; so it forgets the
    first weights.
    """
    if not recipe.ema:
        return None
    from timm.utils import ModelEmaV3  # takes seconds to import, and only training wants it

    return ModelEmaV3(model, decay=recipe.ema, use_warmup=True)
