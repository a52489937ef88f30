"""The variants by name; building a model and loading weights."""

import dataclasses

import torch

from models.arithmetic import multiply_adds
from models.attention import TSA_CHOICES
from models.swinsf import SKIP_CHOICES, Reconstruction, SwinSF, SwinSFConfig
from models.weights import PRECISIONS, SHIPPED, check_config, load_model, shipped_weights

__all__ = [
    "PRECISIONS",
    "SHIPPED",
    "SKIP_CHOICES",
    "TSA_CHOICES",
    "VARIANTS",
    "Reconstruction",
    "SwinSF",
    "SwinSFConfig",
    "build_model",
    "load_model",
    "multiply_adds",
    "shipped_weights",
]

MOST_PARAMETERS = 10**9  # of a network with fresh weights; training one takes four times 4 GB

VARIANTS = {
    # As the paper describes them; what the released weights were trained with is tsa="released".
    "250": SwinSFConfig(tsa="paper"),
    "1000": SwinSFConfig(channels=64, patch=4, tsa="paper"),
    # Ours, for CPUs. Narrower and shallower than the paper's, to stay below 70 GFLOP at 250x400 as drawn,
    # and so small a network has nothing to gain from stochastic depth.
    "small": SwinSFConfig(channels=48, depths=(4, 3), patch=2, mlp_ratio=3.0, drop_path=0.0, tsa="paper", skip="aligned"),
}


def build_model(variant, **overrides):
    """A SwinSF with fresh weights: "250", "1000" or "small", with any field of SwinSFConfig replaced.

    Raises ValueError for an unknown variant, a value out of range or a network beyond MOST_PARAMETERS, TypeError for an unknown
    field.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}: choose from {', '.join(VARIANTS)}")
    config = dataclasses.replace(VARIANTS[variant], **overrides)
    check_config(config)
    with torch.device("meta"):  # no memory is taken
        parameters = sum(parameter.numel() for parameter in SwinSF(config).parameters())
    if parameters > MOST_PARAMETERS:
        raise ValueError(f"{config} has {parameters:,} parameters; at most {MOST_PARAMETERS:,} are built")
    return SwinSF(config)
