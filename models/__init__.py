"""The variants by name; building a model and loading weights."""

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

MOST_PARAMETERS = 10**9  # of a network with fresh weights; training one takes four times 4 GB


def build_model(variant: str, **overrides: Any) -> SwinSF:
    """A SwinSF with fresh weights: "250", "1000" or "small", with any field of SwinSFConfig replaced.

    Raises ValueError for an unknown variant, a value out of range or a network beyond MOST_PARAMETERS,
    TypeError for an unknown field.
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
