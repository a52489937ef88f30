"""Recipes: loss, optimiser, schedule and moving average."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from swinsf.models import Reconstruction
from swinsf.training.settings import TrainSettings
from swinsf.utils.timing import RATE

BETAS = (0.9, 0.999)  # for Adam and AdamW
SIDE_WEIGHT = 0.1  # weight of the left and right pictures' losses; the middle one's is 1


def smooth_l1(picture: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """smooth L1, beta 1, on grey levels"""
    return F.smooth_l1_loss(picture, truth, beta=1.0)


def charbonnier(picture: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Charbonnier, epsilon 1e-3, on 0..1"""
    return torch.sqrt(((picture - truth) / 255) ** 2 + 1e-6).mean()


def halving(lr: float, step: int, epoch: int, total_steps: int) -> float:
    """half every 300 epochs"""
    return lr * 0.5 ** (epoch // 300)


def warmup_cosine(lr: float, step: int, epoch: int, total_steps: int) -> float:
    """linear warm-up over 100 steps, a tenth of all at most, then a cosine towards a hundredth at the end"""
    warmup = min(100, total_steps // 10)
    if step < warmup:
        return lr * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    return lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@dataclass(frozen=True)
class Recipe:
    """Loss, optimiser and schedule. lr and weight_decay are the flags' defaults; the rest is fixed."""

    optimizer: type
    lr: float
    weight_decay: float
    # (picture, truth) -> scalar; grey levels are not clamped, because clamping has no gradient above 255
    loss: Callable
    schedule: Callable  # (lr, step, epoch, total_steps) -> learning rate of the iteration
    clip: float = math.inf  # largest norm of the gradient
    ema: float = 0.0  # largest decay of the moving average of the weights; 0: none

    def describe(self) -> dict[str, Any]:
        """The recipe as plain values for a checkpoint."""
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


def reconstruction_loss(
    pictures: Reconstruction, batch: dict[str, torch.Tensor], loss: Callable
) -> torch.Tensor:
    """A recipe's loss: middle + 0.1 (left + right), without pictures that the batch lacks.

    Simulated scenes come with the brightness of their white. Errors are divided by sqrt(white): unscaled,
    dark scenes hardly count; fully normalised, they dominate. The network's grey level 255 is always 0.6
    spikes per step, whatever the `rate` of the data, so all weights have one scale.
    """
    # bfloat16, from autocast, is too coarse for a loss
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


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The recipe's optimiser; no weight decay on biases, norms, position biases and segment scores."""
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


def make_average(model: nn.Module, recipe: Recipe) -> nn.Module | None:
    """The moving average of a model's weights (timm's ModelEmaV3), or None if the recipe has none.

    After iteration n, counted from 1, its decay is 1 - n^(-2/3), up to the recipe's. So it forgets the first
    weights.
    """
    if not recipe.ema:
        return None
    from timm.utils import ModelEmaV3  # slow to import

    return ModelEmaV3(model, decay=recipe.ema, use_warmup=True)
