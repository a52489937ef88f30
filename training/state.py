"""The state of a run: everything it needs to stop after any step and resume."""

import copy
import math
import random
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from swinsf.models import SwinSF
from swinsf.utils.distributed import gather, rank_and_size


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
    # of this epoch
    totals: dict = field(default_factory=lambda: {"loss": 0.0, "pictures": 0, "seconds": 0.0})

    @property
    def averaged(self):
        """The model to test and to ship: the moving average where there is one."""
        return self.ema.module if self.ema else self.model

    def state_dict(self):
        """Plain values and tensors. Under torchrun all processes have to call this, for the random state of
        each is in it."""
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
        rank, _ = rank_and_size()
        if rank < len(states):  # a process that the run did not have keeps its own seed
            restore_random_state(states[rank])


def random_state():
    """The state of every random generator that training draws from, as plain values and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state):
    """Set every generator to what `random_state` returned; GPUs that were not there then keep their state."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, gauss = state["numpy"]
    if not 0 <= position <= len(keys) == 624:  # numpy itself does not look
        raise ValueError(f"position {position} among {len(keys)} words of numpy's generator")
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    for index, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, index)
