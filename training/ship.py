"""Write the weights of a run as a small file to share:

    python -m swinsf.training.ship checkpoint/RUN/best.pth WEIGHTS.pth

Weights are in half precision. Absolute paths in their settings are cut to the last name, to hide the
machine's folders.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from swinsf.models import checkpoint
from swinsf.utils import cli
from swinsf.utils.cli import UserError


def ship(source: Path, target: Path) -> None:
    """Write a run's weights in half precision, with their architecture, settings and figures.

    Raises UserError if `source` is not a run's best.pth, or `target` exists.
    """
    contents = checkpoint.load(source)
    if not {"model", "config", "settings"} <= contents.keys():
        raise UserError(f"{source}: not a run's best.pth (config, settings, model); give one from train.py")
    if Path(target).exists():
        raise UserError(f"{target}: already exists; remove it, or choose another name")
    model = contents["model"]
    if not isinstance(model, dict) or not all(map(torch.is_tensor, model.values())):
        raise UserError(f"{source}: its entry model is not a dict of weights; give a best.pth from train.py")
    if not isinstance(contents["settings"], dict):
        raise UserError(f"{source}: its entry settings is not a dict; give a best.pth from train.py")
    contents["settings"] = {name: without_folders(value) for name, value in contents["settings"].items()}
    halves = {name: value.half() if value.is_floating_point() else value for name, value in model.items()}
    kept = ("config", "settings", "recipe", "step", "best_psnr")
    checkpoint.save({**{name: contents[name] for name in kept if name in contents}, "model": halves}, target)


def without_folders(value: Any) -> Any:
    """A setting, with an absolute path (also after photos: and the like) cut to its last name."""
    kind, colon, path = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    return f"{kind}{colon}{Path(path).name}" if Path(path).is_absolute() else value


def parse_settings(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("source", type=Path, help="a run's best.pth")
    parser.add_argument("target", type=Path, help="file to write")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    settings = parse_settings(arguments)
    ship(settings.source, settings.target)


if __name__ == "__main__":
    cli.run(main)
