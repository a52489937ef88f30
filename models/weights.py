"""Weights files: what one claims is held against the architecture, and the architecture against its limits, before it is built.

So no file makes more than its own tensors, and none whose names or shapes differ is taken for another.
"""

from pathlib import Path

import torch

from models.attention import TSA_CHOICES
from models.swinsf import SKIP_CHOICES, SwinSF, SwinSFConfig
from utils import checkpoint
from utils.cli import UserError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHIPPED = Path(__file__).parent.parent / "checkpoint"

# What the numbers of a SwinSFConfig may be, both ends included.
LIMITS = {
    **{"channels": (int, 1, 4096), "heads": (int, 1, 256), "window": (int, 1, 16), "patch": (int, 1, 64)},
    **{"mlp_ratio": (float, 0.1, 64), "drop_path": (float, 0, 0.99)},
}
MOST_BLOCKS = 256
CHOICES = {"tsa": TSA_CHOICES, "skip": SKIP_CHOICES}


def shipped_weights(variant="small"):
    """The path of the shipped weights; by default the file that scores best on every validation set of the README's table.

    Raises UserError where it is not there.
    """
    path = SHIPPED / f"swinsf_{variant}.pth"
    if not path.is_file():
        raise UserError(f"{path}: no shipped weights there; name a file with --load_model")
    return path


def load_model(path, device="cpu", precision="fp32"):
    """The model that a weights file holds, in eval mode on `device`: the project's own checkpoint or a released file.

    precision: "fp32", "bf16" or "fp16" for the layers between spikes and pictures, which stay float32 themselves. bf16 is
    the faster one on CPUs that have its instructions; fp16 is for GPUs, and very slow on most CPUs.

    Raises UserError where the file is missing, damaged or unsafe, or where its weights do not fit, with the names of the
    missing and the unexpected ones.
    """
    config, state = read_weights(path)
    check_fit(config, state, path)
    model = SwinSF(config)
    model.load_state_dict(state)
    model.set_precision(PRECISIONS[precision])
    return model.to(device).eval()


def read_weights(path):
    """(SwinSFConfig, state_dict) of either kind of file; see `load_model` for the errors."""
    contents = checkpoint.load(path)
    if isinstance(contents.get("config"), dict) and isinstance(contents.get("model"), dict):
        return read_config(contents["config"], path), contents["model"]
    if isinstance(contents.get("net"), dict):
        return translate_released(contents["net"])
    raise UserError(
        f"{path}: neither a checkpoint of this project (config, model) nor a released file (net); "
        f"it holds {', '.join(map(str, list(contents)[:5])) or 'nothing'}"
    )


def translate_released(net):
    """(SwinSFConfig, state_dict) from the `net` entry of a released file.

    Its keys carry DataParallel's prefix. Buffers derived from geometry are made anew here (the masks in the files belong to
    one picture size), and `conv_after_body` was never used.
    """
    derived = ("relative_position_index", "attn_mask")
    state = {str(key).removeprefix("module."): value for key, value in net.items()}
    state = {k: v for k, v in state.items() if not k.endswith(derived) and not k.startswith("conv_after_body.")}
    is_1000 = "patch_embed.proj.weight" in state
    return SwinSFConfig(channels=64, patch=4) if is_1000 else SwinSFConfig(), state


def read_config(fields, path):
    """The SwinSFConfig of a checkpoint's entry config, or UserError."""
    try:
        config = SwinSFConfig(**fields)
        check_config(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: its architecture is not known here ({error}); update the project") from None
    return config


def check_config(config):
    """Raises ValueError where a SwinSFConfig has a value that no network is built of."""
    for name, (kind, least, most) in LIMITS.items():
        value = getattr(config, name)
        if type(value) not in (int, kind) or not least <= value <= most:
            raise ValueError(f"{name}={value!r:.80}: a {'whole ' if kind is int else ''}number from {least} to {most} is wanted")
    for name, choices in CHOICES.items():
        if not isinstance(getattr(config, name), str) or getattr(config, name) not in choices:
            raise ValueError(f"{name}={getattr(config, name)!r:.80}: choose from {', '.join(choices)}")
    if not all(type(depth) is int and depth > 0 for depth in config.depths) or not 0 < sum(config.depths) <= MOST_BLOCKS:
        raise ValueError(f"depths={config.depths!s:.80}: whole numbers are wanted, from 1 to {MOST_BLOCKS} in all")
    if config.channels % config.heads:
        raise ValueError(f"channels={config.channels} is not a multiple of heads={config.heads}")


def check_fit(config, state, path):
    """Raises UserError where weights, name -> tensor, are not those of a `SwinSFConfig`. What it claims takes no memory."""
    misfit = "more blocks than tensors" if sum(config.depths) > len(state) else ""
    if not misfit:
        with torch.device("meta"):
            misfit = describe_misfit(SwinSF(config).state_dict(), state)
    if misfit:
        raise UserError(f"{path}: does not fit a SwinSF of {config}: {misfit}; take the weights file of another model")


def describe_misfit(expected, found):
    """Text that names missing, unexpected and differently shaped weights, or "" where `found` fits."""

    def fits(key):
        return torch.is_tensor(found[key]) and found[key].is_floating_point() and found[key].shape == expected[key].shape

    groups = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape or type": [
            f"{key} {tuple(getattr(found[key], 'shape', ()))} for {tuple(expected[key].shape)}"
            for key in expected
            if key in found and not fits(key)
        ],
    }
    return "; ".join(f"{len(keys)} {name}: {some(keys)}" for name, keys in groups.items() if keys)


def some(keys, most=6):
    return ", ".join(map(str, keys[:most])) + (f" and {len(keys) - most} more" if len(keys) > most else "")
