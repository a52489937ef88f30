"""One epoch of training."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from swinsf.datasets.augment import unpack
from swinsf.evaluation.evaluate import calibration_of
from swinsf.models import Reconstruction, SwinSF, fast
from swinsf.training.recipes import RECIPES, reconstruction_loss
from swinsf.training.settings import TrainSettings
from swinsf.training.state import TrainingState
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import gather, rank_and_size, sum_gradients


class NotFinite(UserError):
    """A loss or a gradient is not finite. All processes raise it for the same batch; the weights are
    unchanged."""


class Forward(nn.Module):
    """The module to wrap in DataParallel: packed spikes (B, 6, H, W) -> `Reconstruction`.

    amp: use bfloat16 where it is safe. Autocast is set here, because DataParallel's threads do not inherit
    its dtype.
    """

    def __init__(self, model: SwinSF, amp: bool = False):
        super().__init__()
        self.model, self.amp = model, amp

    def forward(self, packed: torch.Tensor, calibration: torch.Tensor | None = None) -> Reconstruction:
        """calibration: None, or see `SwinSF`."""
        with torch.autocast(packed.device.type, torch.bfloat16, enabled=self.amp):
            return fast.forward(self.model, unpack(packed), calibration)


def train_one_epoch(
    state: TrainingState,
    forward: nn.Module,
    loader: Iterable[dict[str, Any]],
    settings: TrainSettings,
    total_steps: int,
    device: torch.device,
    after_step: Callable[[], bool] = lambda: False,
) -> None:
    """Train for the rest of the current epoch. Updates `state`, whose totals are over all processes.

    forward: `Forward` of state.model, or a DataParallel of it. loader: yields `settings.accumulate` pieces
    per batch, see `EpochBatches`. after_step() is called after each iteration; True stops. Raises NotFinite
    before a bad loss or gradient reaches the weights.
    """
    forward.train()
    recipe, (rank, _) = RECIPES[settings.recipe], rank_and_size()
    batches = zip(*[iter(loader)] * settings.accumulate)
    count = state.batch + len(loader) // settings.accumulate
    label = f"epoch {state.epoch + 1}"  # the screen counts from 1
    bar = tqdm(batches, label, count, initial=state.batch, unit="batch", dynamic_ncols=True, disable=rank > 0)
    begin = time.perf_counter()
    for pieces in bar:
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.schedule(settings.lr, state.step, state.epoch, total_steps)
        state.optimizer.zero_grad(set_to_none=True)
        figures = backward(forward, pieces, recipe.loss, device)
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
        # the only time that an iteration waits for the GPU
        loss, pictures, norm = torch.cat([figures, norm[None]]).tolist()
        check_finite(loss, norm, pieces, state)
        state.optimizer.step()
        state.step, state.batch = state.step + 1, state.batch + 1
        if state.ema:
            state.ema.update(state.model, step=state.step)
        now = time.perf_counter()
        state.totals["loss"] += loss * pictures
        state.totals["pictures"] += round(pictures)
        state.totals["seconds"] += now - begin
        begin = now
        bar.set_postfix(
            loss=f"{state.totals['loss'] / state.totals['pictures']:.4g}",
            pictures_s=f"{state.totals['pictures'] / state.totals['seconds']:.3g}",
            refresh=False,  # tqdm refreshes ten times a second; a log would get a line for each batch
        )
        if after_step():
            break


def check_finite(loss: float, norm: float, pieces: Iterable[dict[str, Any]], state: TrainingState) -> None:
    """Raises NotFinite, in all processes, with the names of all samples in the batch."""
    if math.isfinite(loss + norm):
        return
    own = [name for piece in pieces for name in piece["name"]]
    names = sorted({name for part in gather(own) for name in part})
    raise NotFinite(
        f"loss {loss:.4g}, gradient {norm:.4g} at step {state.step}, epoch {state.epoch + 1}, batch {state.batch}: "
        f"{', '.join(names)}; the weights are unchanged. Check these samples, or lower --lr"
    )


def backward(
    forward: nn.Module, pieces: Iterable[dict[str, Any]], loss: Callable, device: torch.device
) -> torch.Tensor:
    """Add the gradients of a batch to the weights' `grad`.

    pieces: this process's share of the batch, see `EpochBatches`. Returns a tensor (2,): mean loss and number
    of pictures. Gradients and figures are summed over the processes once, after the last piece.
    """
    figures = []
    for piece in pieces:
        batch = {
            key: value.to(device, non_blocking=True) for key, value in piece.items() if torch.is_tensor(value)
        }
        part = reconstruction_loss(forward(batch["spikes"], calibration_of(batch)), batch, loss)
        part = batch["weight"].sum().to(part.dtype) * part
        part.backward()
        figures.append(torch.stack([part.detach(), (batch["weight"] > 0).sum().to(part.dtype)]))
    return sum_gradients(forward.parameters(), torch.stack(figures).sum(0))
