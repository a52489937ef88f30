"""Checkpoint files: written so that a crash never leaves half a file, read so that no file can run code."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from swinsf.utils import guard
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write


def save(contents: dict[str, Any], path: str | Path) -> None:
    """Write a dict of tensors and plain values, whole or not at all."""
    # In memory first: within torch.save a full disk would be an error of PyTorch's own, not an OSError.
    data = io.BytesIO()
    torch.save(contents, data)
    with atomic_write(path) as file:
        file.write(data.getbuffer())


def load(path: str | Path) -> dict[str, Any]:
    """Read a file of `save` or torch.save to the CPU; tensors and plain values only.

    Raises UserError if the file is missing, damaged, no checkpoint, or could run code on loading.
    """
    path = Path(path)
    if not path.is_file():
        folder = " (a folder)" if path.is_dir() else ""
        raise UserError(f"{path}: no such weights file{folder}; check the path")
    try:
        guard.check_pickles(path)
        with warnings.catch_warnings():  # about the pickle's protocol
            warnings.simplefilter("ignore")
            contents = torch.load(path, map_location="cpu", weights_only=True)
        guard.check_contents(contents, path.stat().st_size)
    except guard.Refused as reason:
        raise UserError(
            f"{path}: refused, since {reason}; take a file of train.py, or save the weights again where they load: "
            "torch.save(model.state_dict(), PATH)"
        ) from None
    except Exception as error:  # a damaged file fails in many ways
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise UserError(
            f"{path}: not a checkpoint, or damaged ({first:.300}); take an undamaged copy"
        ) from None
    if not isinstance(contents, dict):
        kind = type(contents).__name__
        raise UserError(
            f"{path}: holds a {kind}, not a dict of weights; save them by torch.save(model.state_dict(), PATH)"
        )
    return contents
