"""The variants by name; building a model and loading weights."""

import dataclasses
from pathlib import Path

import torch

from models.arithmetic import multiply_adds
from models.swinsf import SKIP_CHOICES, TSA_CHOICES, Reconstruction, SwinSF, SwinSFConfig
from utils import checkpoint
from utils.cli import UserError

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
    "fit_of",
    "load_model",
    "multiply_adds",
    "shipped_weights",
    "weights_for",
]

MOST_PARAMETERS = 10**9  # of a network with fresh weights; training one takes four times 4 GB
SHIPPED = Path(__file__).parent.parent / "checkpoint"

VARIANTS = {
    # As the paper describes them; what the released weights were trained with is tsa="released".
    "250": SwinSFConfig(tsa="paper"),
    "1000": SwinSFConfig(channels=64, patch=4, tsa="paper"),
    # Ours, for CPUs. Narrower and shallower than the paper's, to stay below 70 GFLOP at 250x400 as drawn,
    # and so small a network has nothing to gain from stochastic depth.
    "small": SwinSFConfig(channels=48, depths=(4, 3), patch=2, mlp_ratio=3.0, drop_path=0.0, tsa="paper", skip="motion"),
}

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_model(variant, **overrides):
    """A SwinSF with fresh weights: "250", "1000" or "small", with any field of SwinSFConfig replaced.

    Raises ValueError for an unknown variant or a network beyond MOST_PARAMETERS, TypeError for an unknown field.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}: choose from {', '.join(VARIANTS)}")
    config = dataclasses.replace(VARIANTS[variant], **overrides)
    with torch.device("meta"):  # no memory is taken
        parameters = sum(parameter.numel() for parameter in SwinSF(config).parameters())
    if parameters > MOST_PARAMETERS:
        raise ValueError(f"{config} has {parameters:,} parameters; at most {MOST_PARAMETERS:,} are built")
    return SwinSF(config)


def shipped_weights(variant="small"):
    """The path of the shipped weights; by default the file that scores best on every validation set of the README's table.

    Raises UserError where it is not there.
    """
    path = SHIPPED / f"swinsf_{variant}.pth"
    if not path.is_file():
        raise UserError(f"{path}: no shipped weights there; name a file with --load_model")
    return path


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a shipped file was fitted to."""

    purpose: str
    light: tuple  # spikes a step of bright pixels, least and most
    motion: float  # pixels a step, at most


# file -> what it is for. swinsf_camera.pth is taken once it is there, swinsf_1000.pth once it is ahead on spike-X4K.
SHIPPED_FOR = {
    "swinsf_camera.pth": Fit("recordings of cameras, with noise and in little light", (0.1, 0.7), 0.5),
    "swinsf_small.pth": Fit("spike-REDS, and other light without noise", (0.2, 0.7), 0.5),
    "swinsf_250.pth": Fit("spike-REDS, by the paper's network for 250x400", (0.2, 0.7), 0.5),
    "swinsf_1000.pth": Fit("spike-X4K, by the paper's network for 1000x1000", (0.2, 0.7), 0.8),
}
CHOICE = {
    "recordings": ("swinsf_camera.pth", "swinsf_small.pth"),
    "spike-REDS": ("swinsf_small.pth",),
    "spike-X4K": ("swinsf_small.pth",),
}


def weights_for(purpose):
    """The path of the shipped weights for "recordings" (any data without ground truth), "spike-REDS" or "spike-X4K"."""
    there = [SHIPPED / name for name in CHOICE[purpose] if (SHIPPED / name).is_file()]
    return there[0] if there else shipped_weights()


def fit_of(path):
    """The `Fit` of a shipped file, None of any other."""
    return SHIPPED_FOR.get(Path(path).name) if Path(path).resolve().parent == SHIPPED.resolve() else None


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


def check_fit(config, state, path):
    """Raises UserError where weights, name -> tensor, are not those of a `SwinSFConfig`. What it claims takes no memory."""
    misfit = "more blocks than tensors" if sum(config.depths) > len(state) else ""
    if not misfit:
        with torch.device("meta"):
            misfit = describe_misfit(SwinSF(config).state_dict(), state)
    if misfit:
        raise UserError(f"{path}: does not fit a SwinSF of {config}: {misfit}; take the weights file of another model")


def read_weights(path):
    """(SwinSFConfig, state_dict) of either kind of file; see `load_model` for the errors."""
    contents = checkpoint.load(path)
    if isinstance(contents.get("config"), dict) and isinstance(contents.get("model"), dict):
        return read_config(contents["config"], path), contents["model"]
    if isinstance(contents.get("net"), dict):
        return translate_released(contents["net"], path)
    raise UserError(
        f"{path}: neither a checkpoint of this project (config, model) nor a released file (net); "
        f"it holds {', '.join(map(str, list(contents)[:5])) or 'nothing'}"
    )


def read_config(fields, path):
    """The SwinSFConfig of a checkpoint's entry config, or UserError."""
    try:
        return SwinSFConfig(**fields)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: its architecture is not known here ({error}); update the project") from None


def translate_released(net, path):
    """(SwinSFConfig, state_dict) from the `net` entry of a released file.

    Its keys carry DataParallel's prefix. Buffers derived from geometry are made anew here (the masks in the files belong to
    one picture size), and `conv_after_body` was never used.
    """
    derived = ("relative_position_index", "attn_mask")
    state = {str(key).removeprefix("module."): value for key, value in net.items()}
    state = {k: v for k, v in state.items() if not k.endswith(derived) and not k.startswith("conv_after_body.")}
    first = state.get("conv_first.weight")
    if not torch.is_tensor(first):
        raise UserError(f"{path}: its entry net has no conv_first.weight; not the weights of a SwinSF")
    variant = "1000" if "patch_embed.proj.weight" in state else "250"
    return dataclasses.replace(VARIANTS[variant], tsa="released"), state


def describe_misfit(expected, found):
    """Text that names missing, unexpected and differently shaped weights, or "" where `found` fits."""
    groups = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {tuple(getattr(found[key], 'shape', ()))} for {tuple(expected[key].shape)}"
            for key in expected
            if key in found and getattr(found[key], "shape", None) != expected[key].shape
        ],
        "of no floating-point numbers": [
            key for key in expected if torch.is_tensor(found.get(key)) and not found[key].is_floating_point()
        ],
    }
    return "; ".join(f"{len(keys)} {name}: {_some(keys)}" for name, keys in groups.items() if keys)


def _some(keys, most=6):
    return ", ".join(map(str, keys[:most])) + (f" and {len(keys) - most} more" if len(keys) > most else "")
