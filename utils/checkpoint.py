"""Files with weights: written so that a crash never leaves half a file, read so that no file can run code.

    python -m swinsf.utils.checkpoint checkpoint/RUN/best.pth WEIGHTS.pth

writes a run's weights in half precision, to be shipped.
"""

import io
import warnings
from pathlib import Path

import torch

from swinsf.utils import cli, guard
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write


def save(contents, path):
    """Write a dict of tensors and plain values to `path`, whole or not at all."""
    # In memory first: within torch.save a full disk would be an error of PyTorch's own, not an OSError.
    data = io.BytesIO()
    torch.save(contents, data)
    with atomic_write(path) as file:
        file.write(data.getbuffer())


def load(path, device="cpu"):
    """Read what `save`, or another program's torch.save, wrote; tensors and plain values only.

    Raises UserError where the file is missing, no checkpoint, damaged, or holds objects that would run code
    on loading.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such weights file{' (a folder)' if path.is_dir() else ''}; check the path"
        )
    try:
        guard.check_pickles(path)
        with warnings.catch_warnings():  # of the pickle's protocol, which is no user's concern
            warnings.simplefilter("ignore")
            contents = torch.load(path, map_location=device, weights_only=True)
        guard.check_contents(contents, path.stat().st_size)
    except guard.Refused as reason:
        raise UserError(
            f"{path}: refused, since {reason}; take a file of train.py, or save the weights again where they load: "
            "torch.save(model.state_dict(), PATH)"
        ) from None
    except Exception as error:  # a damaged file fails in a dozen ways
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise UserError(
            f"{path}: not a checkpoint, or damaged ({first:.300}); take an undamaged copy"
        ) from None
    if not isinstance(contents, dict):
        raise UserError(
            f"{path}: holds a {type(contents).__name__}, not a dict of weights; save them by torch.save(model.state_dict(), PATH)"
        )
    return contents


def ship(source, target):
    """Write a run's weights to `target` in half precision, with their architecture, settings and figures.

    Raises UserError where `source` is no checkpoint of train.py, or where `target` is there already.
    """
    contents = load(source)
    if not {"model", "config", "settings"} <= contents.keys():
        raise UserError(
            f"{source}: not a run's best.pth (config, settings, model); take one that train.py wrote"
        )
    if Path(target).exists():
        raise UserError(f"{target}: is there already; remove it first, or take another name")
    model = contents["model"]
    if not isinstance(model, dict) or not all(map(torch.is_tensor, model.values())):
        raise UserError(
            f"{source}: its entry model is not named weights; take a best.pth that train.py wrote"
        )
    halves = {name: value.half() if value.is_floating_point() else value for name, value in model.items()}
    kept = ("config", "settings", "recipe", "step", "best_psnr")
    save({**{name: contents[name] for name in kept if name in contents}, "model": halves}, target)


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    parser.add_argument("source", type=Path, help="a run's best.pth")
    parser.add_argument("target", type=Path, help="the file to write")
    return parser.parse_args(arguments)


def main(arguments=None):
    settings = parse_settings(arguments)
    ship(settings.source, settings.target)


if __name__ == "__main__":
    cli.run(main)
