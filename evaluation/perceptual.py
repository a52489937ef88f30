"""LPIPS, the distance of two pictures by a network's features, from the package lpips if it is installed."""

import contextlib
import io
import warnings
from collections.abc import Callable

import numpy as np
import torch

from swinsf.utils.cli import UserError, one_line

LEAST = 64  # pixels a side; AlexNet has no features for smaller pictures


def load_lpips() -> Callable[[np.ndarray, np.ndarray], float]:
    """A function for the LPIPS, version 0.1 over AlexNet, of a picture and its ground truth (H, W) in grey
    levels, clamped to 0..255.

    Lower is better. The first call downloads AlexNet. Raises UserError if AlexNet or the package is missing;
    the function does so for pictures with a side below 64 pixels.
    """
    try:
        import lpips
    except ImportError:
        raise UserError("--lpips: the package lpips is missing; pip install lpips") from None
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls torchvision by an old name
            network = lpips.LPIPS(net="alex", verbose=False)
    except (OSError, RuntimeError) as error:  # no network; a download cut short
        raise UserError(
            f"--lpips: the weights of AlexNet cannot be loaded ({one_line(error)}); put alexnet-owt-7be5be79.pth of "
            f"download.pytorch.org/models into {torch.hub.get_dir()}/checkpoints"
        ) from None

    @torch.inference_mode()
    def distance(picture: np.ndarray, truth: np.ndarray) -> float:
        if min(truth.shape) < LEAST:
            size = "x".join(map(str, truth.shape))
            raise UserError(f"--lpips: pictures of {size}; it needs {LEAST} pixels a side, so leave it out")
        levels = np.stack([picture, truth]).clip(0, 255).astype(np.float32)
        pair = torch.from_numpy(levels / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)
        return network(pair[:1], pair[1:]).item()

    return distance
