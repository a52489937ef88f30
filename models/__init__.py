"""The network: its variants by name, building it, loading and saving weights."""

import dataclasses
from typing import Any

import torch

from swinsf.models.attention import TSA_CHOICES
from swinsf.models.swinsf import SKIP_CHOICES, Reconstruction, SwinSF, SwinSFConfig
from swinsf.models.variants import VARIANTS
from swinsf.models.weights import (
    PRECISIONS,
    SHIPPED,
    check_config,
    choose_precision,
    fit_of,
    load_model,
    save_model,
    shipped_weights,
    weights_file,
    weights_for,
)

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
    "choose_precision",
    "fit_of",
    "load_model",
    "save_model",
    "shipped_weights",
    "weights_file",
    "weights_for",
]

MOST_PARAMETERS = 10**9  # limit for a network with fresh weights; training one takes four times 4 GB


def build_model(variant: str, **overrides: Any) -> SwinSF:
    """Build a SwinSF with fresh weights. variant: "250", "1000" or "small". overrides: SwinSFConfig's fields.

    Raises ValueError for an unknown variant, a value out of range or more than MOST_PARAMETERS, and TypeError
    for an unknown field.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}: choose from {', '.join(VARIANTS)}")
    config = dataclasses.replace(VARIANTS[variant], **overrides)
    check_config(config)
    with torch.device("meta"):  # allocates no memory
        parameters = sum(parameter.numel() for parameter in SwinSF(config).parameters())
    if parameters > MOST_PARAMETERS:
        raise ValueError(f"{config} has {parameters:,} parameters; the limit is {MOST_PARAMETERS:,}")
    return SwinSF(config)
