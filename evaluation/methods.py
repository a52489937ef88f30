"""Methods of others to compare with: the Python functions and networks of test.py's --method."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from swinsf.evaluation.evaluate import Method, calibrated
from swinsf.models.motion import SEGMENTS, along_motion
from swinsf.utils.cli import UserError, one_line

WIDTH = -0.2  # a segment's log-weight per squared distance from the key frame, as at the start of training
OURS = ("TFI", "TFP41", "TFP21", "SwinSF")
RESERVED = (*OURS, "name", "spikes", "ground truth")


def motion_mean(spikes: torch.Tensor) -> torch.Tensor:
    """The mean along the motion, (B, H, W) grey levels, of spikes (B, 41, H, W): SwinSF without its network.

    The segments have the weights that training starts from.
    """
    segments = along_motion(spikes.float(), aligned=False)["middle"][1]
    offset = torch.arange(SEGMENTS, device=spikes.device) - SEGMENTS // 2
    weights = (WIDTH * offset**2).softmax(0).view(1, -1, 1, 1).expand_as(segments.counts)
    return segments.mean(weights)[:, 0]


def load_method(place: str, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function or network at "module:name". Raises UserError if it cannot be loaded.

    Modules are also looked up in the working directory. A class is called without arguments. A network is
    moved to the device, in eval mode.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module, _, name = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if inspect.isclass(found):
            found = found()
    except Exception as error:  # whatever the module does
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"--method {place}: cannot be loaded ({reason}); check module and name") from None
    if not callable(found):
        raise UserError(f"--method {place}: a {type(found).__name__}; name a function or an nn.Module")
    return found.to(device).eval() if isinstance(found, nn.Module) else found


def method_of(place: str, device: torch.device) -> Method:
    """A method for `evaluate` from "module:name".

    The function gets spikes (B, 41, H, W), float32 of 0 and 1 on the device, and returns the pictures at step
    21, (B, H, W) or (B, 1, H, W), in grey levels; 255 is a firing rate of 0.6. Raises UserError for another
    key frame or result.
    """
    function = load_method(place, device)

    def method(spikes: torch.Tensor, output: str, maps: torch.Tensor | None = None) -> torch.Tensor:
        if output != "middle":
            raise UserError(
                f"--method {place}: gives the picture at step 21; leave --key_id out, or set it to 21"
            )
        batch, _, height, width = spikes.shape
        picture = function(spikes.float())
        allowed = [(batch, height, width), (batch, 1, height, width)]
        if not torch.is_tensor(picture) or tuple(picture.shape) not in allowed:
            got = tuple(picture.shape) if torch.is_tensor(picture) else type(picture).__name__
            raise UserError(f"--method {place}: returned {got}; return a tensor {allowed[0]} of grey levels")
        if not picture.isfinite().all():
            raise UserError(f"--method {place}: returned NaN or infinity; return grey levels 0..255")
        return calibrated(picture.reshape(batch, height, width).float(), maps)

    return method


def own_methods(named: Iterable[tuple[str, str]], device: torch.device) -> dict[str, Method]:
    """name -> method, for each (name, "module:name") of --method. Raises UserError if a name is taken."""
    methods: dict[str, Method] = {}
    for name, place in named:
        if name in (*RESERVED, *methods):
            raise UserError(f"--method {name}={place}: the name {name} is taken; choose another")
        methods[name] = method_of(place, device)
    return methods


def compared(pictures: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The pictures of comparison.png: the baselines TFI and TFP21, other methods, ours last."""
    others = [title for title in pictures if title not in OURS]
    return {title: pictures[title] for title in ("TFI", "TFP21", *others, "SwinSF")}
