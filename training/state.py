"""The state of a run: everything needed to stop after any iteration and resume."""

import copy
import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from swinsf.models import SwinSF
from swinsf.utils.distributed import gather, rank_and_size

COUNTERS = ("epoch", "batch", "step", "best_psnr", "totals")


def no_totals() -> dict[str, float]:
    """The totals at the start of an epoch."""
    return {"loss": 0.0, "pictures": 0, "seconds": 0.0}


@dataclass
class TrainingState:
    """Everything a resumed run needs to continue as if it had not stopped."""

    model: SwinSF  # bare, never wrapped
    optimizer: torch.optim.Optimizer
    ema: nn.Module | None = None  # timm's ModelEmaV3
    epoch: int = 0  # the current one, from 0
    batch: int = 0  # number of finished batches in this epoch
    step: int = 0  # number of iterations since the start
    best_psnr: float = -math.inf  # best validation PSNR, dB
    totals: dict[str, float] = field(default_factory=no_totals)  # this epoch's

    @property
    def averaged(self) -> nn.Module:
        """The model to test and to ship: the moving average if there is one."""
        return self.ema.module if self.ema else self.model

    @property
    def lr(self) -> float:
        """The learning rate of the last iteration."""
        return self.optimizer.param_groups[0]["lr"]

    def begin_epoch(self) -> None:
        """Start the next epoch."""
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, no_totals()

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors. All processes must call this, because it gathers their random states."""
        return {
            **copy.deepcopy({name: getattr(self, name) for name in COUNTERS}),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else None,
            "random": gather(random_state()),  # by rank
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
        for name in COUNTERS:
            setattr(self, name, state[name])
        rank, _ = rank_and_size()
        if rank < len(state["random"]):  # additional processes keep their own seed
            restore_random_state(state["random"][rank])


def seed_everything(seed: int) -> None:
    """Seed every random generator that training draws from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every random generator that training draws from, as plain values and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set every generator to what `random_state` returned. Additional GPUs keep their state."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, gauss = state["numpy"]
    if not 0 <= position <= len(keys) == 624:  # numpy does not check
        raise ValueError(f"position {position} among {len(keys)} words of numpy's generator")
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    for index, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, index)
