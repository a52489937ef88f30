"""Weights files, checked against the architecture before the network is built.

A file cannot make us allocate more than it holds; wrong names or shapes are refused.
"""

import dataclasses
from pathlib import Path

import safetensors.torch
import torch

from swinsf.models import checkpoint
from swinsf.models.attention import TSA_CHOICES
from swinsf.models.fast import bfloat16_is_fast
from swinsf.models.swinsf import SKIP_CHOICES, SwinSF, SwinSFConfig
from swinsf.models.variants import VARIANTS
from swinsf.utils import choices
from swinsf.utils.cli import ArgumentError, UserError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHIPPED = Path(__file__).parent.parent / "checkpoint"

# Keys under which toolboxes store weights.
WRAPPERS = ("net", "params_ema", "params", "state_dict", "model_state_dict", "model")
LIMITS = {  # fields of SwinSFConfig: type, smallest and largest value
    "channels": (int, 1, 4096),
    "heads": (int, 1, 256),
    "window": (int, 1, 16),
    "patch": (int, 1, 64),
    "mlp_ratio": (float, 0.1, 64),
    "drop_path": (float, 0, 0.99),
}
MOST_BLOCKS = 256
CHOICES = {"tsa": TSA_CHOICES, "skip": SKIP_CHOICES}


def shipped_weights(variant: str = "small") -> Path:
    """The path of a shipped weights file, by default the one for noise-free light (see `weights_for`).

    Raises UserError if there is none.
    """
    path = SHIPPED / f"swinsf_{variant}.pth"
    if not path.is_file():
        raise UserError(f"{path}: no shipped weights there; give a file with --load_model")
    return path


@dataclasses.dataclass(frozen=True)
class Fit:
    """The data that a shipped file was trained for."""

    purpose: str
    light: tuple  # spikes per step of bright pixels, smallest and largest
    motion: float  # largest speed in pixels per step


SHIPPED_FOR = {
    "swinsf_camera.pth": Fit("recordings of cameras, with noise and in low light", (0.03, 0.7), 0.5),
    "swinsf_calibrated.pth": Fit("recordings of calibrated cameras", (0.03, 0.7), 0.5),
    "swinsf_small.pth": Fit("spike-REDS, and other light without noise", (0.2, 0.7), 0.5),
    "swinsf_250.pth": Fit("spike-REDS, with the paper's network for 250x400", (0.2, 0.7), 0.5),
    "swinsf_1000.pth": Fit("spike-X4K, with the paper's network for 1000x1000", (0.2, 0.7), 0.8),
}
CHOICE = {
    "recordings": ("swinsf_camera.pth", "swinsf_small.pth"),
    "calibrated recordings": ("swinsf_calibrated.pth", "swinsf_camera.pth", "swinsf_small.pth"),
    "spike-REDS": ("swinsf_small.pth",),
    "spike-X4K": ("swinsf_1000.pth", "swinsf_small.pth"),
}


def weights_for(purpose, calibrated=False):
    """The path of the shipped weights for a purpose.

    purpose: "recordings" (any data without ground truth), "spike-REDS" or "spike-X4K". calibrated: whether
    the recordings come with their camera's calibration.
    """
    if calibrated and purpose == "recordings":
        purpose = "calibrated recordings"
    found = [SHIPPED / name for name in CHOICE[purpose] if (SHIPPED / name).is_file()]
    return found[0] if found else shipped_weights()


def fit_of(path):
    """The `Fit` of a shipped file, or None for any other file."""
    return SHIPPED_FOR.get(Path(path).name) if Path(path).resolve().parent == SHIPPED.resolve() else None


def load_model(path: str | Path, device: str | torch.device = "cpu", precision: str = "fp32") -> SwinSF:
    """Load the model from a weights file, in eval mode on `device`.

    path: a checkpoint of this project, a run's folder (see `weights_file`), a released file, or a state_dict
    of a released or shipped architecture. A state_dict may be from torch.save or `.safetensors`, and nested
    under a key in `WRAPPERS`.

    precision: "fp32", "bf16" or "fp16", for the layers between spikes and pictures, or "auto", see
    `choose_precision`. Pictures are always float32. bf16 is faster on CPUs with bf16 instructions; fp16 is
    for GPUs.

    Raises UserError for an unknown precision, for fp16 on a CPU, if the file is missing, damaged or unsafe,
    or if its weights do not fit; the message names missing and unexpected weights.
    """
    precision = choose_precision(precision, path, device)
    path = weights_file(path)
    config, state = read_weights(path)
    check_fit(config, state, path)
    model = SwinSF(config)
    model.load_state_dict(state)
    model.set_precision(PRECISIONS[precision])
    return model.to(device).eval()


def choose_precision(precision: str, path: str | Path, device: str | torch.device) -> str:
    """The precision for weights on a device. "auto" is "bf16" for shipped weights if it is fast, else "fp32".

    In bf16, shipped weights change 99.9 % of a picture's pixels by less than half a grey level; other weights
    were not measured. Raises UserError for fp16 on a CPU.
    """
    device = torch.device(device)
    if precision == "fp16" and device.type == "cpu":
        raise UserError("--precision fp16 on a CPU: five times as slow; use bf16 or fp32")
    if precision not in ("auto", *PRECISIONS):
        raise ArgumentError(f"--precision {precision}: choose from auto, {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bf16" if fit_of(weights_file(path)) and bfloat16_is_fast(device) else "fp32"


def save_model(model: SwinSF, path: str | Path) -> None:
    """Write a network's weights and architecture, for `load_model`, atomically."""
    checkpoint.save({"config": dataclasses.asdict(model.config), "model": model.state_dict()}, path)


def weights_file(path):
    """The path of a weights file. In a run's folder: best.pth, or last.pth before the first validation.

    A name in `choices.SHIPPED` stands for a shipped file, unless a file or folder has that name. Raises
    UserError for a folder with neither best.pth nor last.pth.
    """
    path = Path(path)
    if str(path) in choices.SHIPPED and not path.exists():
        return shipped_weights(str(path))
    if not path.is_dir():
        return path
    for name in ("best.pth", "last.pth"):
        if (path / name).is_file():
            return path / name
    raise UserError(
        f"{path}: a folder without best.pth or last.pth; give a weights file, or the folder of a run"
    )


def read_weights(path):
    """(SwinSFConfig, state_dict) of a weights file or run's folder. Raises UserError as `load_model` does."""
    path = weights_file(path)
    contents = load_safetensors(path) if path.suffix.lower() == ".safetensors" else checkpoint.load(path)
    if isinstance(contents.get("config"), dict) and isinstance(contents.get("model"), dict):
        return read_config(contents["config"], path), plain_names(contents["model"])
    found = next((contents[name] for name in WRAPPERS if isinstance(contents.get(name), dict)), contents)
    state = plain_names(found)
    if not torch.is_tensor(state.get("conv_first.weight")):
        some_names = ", ".join(map(str, list(found)[:5])) or "nothing"
        raise UserError(
            f"{path}: neither a checkpoint of this project (config, model) nor the weights of a SwinSF (a "
            f"state_dict, by itself or under {', '.join(WRAPPERS)}); it holds {some_names}; save the weights "
            "with torch.save(model.state_dict(), PATH)"
        )
    return fitting_config(state), state


def load_safetensors(path):
    """name -> tensor of a `.safetensors` file. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; check the path")
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # damaged files raise many types
        raise UserError(
            f"{path}: not a safetensors file, or damaged ({error!s:.300}); use an undamaged copy"
        ) from None


def plain_names(state):
    """Rename weights to this project's names: removes the prefixes of DataParallel and torch.compile.

    Drops `conv_after_body`, which was never used, and buffers that this project derives from geometry (the
    masks in released files are for one picture size).
    """
    state = {
        str(key).replace("_orig_mod.", "").removeprefix("module."): value for key, value in state.items()
    }
    derived = ("relative_position_index", "attn_mask")
    return {
        k: v for k, v in state.items() if not k.endswith(derived) and not k.startswith("conv_after_body.")
    }


def fitting_config(state):
    """The SwinSFConfig for weights without one: the best fit among released and shipped architectures.

    Some options leave no trace in the weights. tsa is "released" for released architectures and "paper" for
    our own. skip is "motion" or "aligned" as in the variant's shipped weights.
    """
    released = [SwinSFConfig(), SwinSFConfig(channels=64, patch=4)]
    shipped = {"250": "motion", "1000": "motion", "small": "aligned"}
    own = [dataclasses.replace(VARIANTS[name], tsa="paper", skip=skip) for name, skip in shipped.items()]
    candidates = [*released, *own, dataclasses.replace(VARIANTS["small"], skip="none")]
    return min(candidates, key=lambda config: count_misfits(config, state))


def count_misfits(config, state):
    with torch.device("meta"):
        expected = SwinSF(config).state_dict()
    shapes = {name: getattr(value, "shape", None) for name, value in state.items()}
    return len({(n, v.shape) for n, v in expected.items()} ^ set(shapes.items()))


def read_config(fields, path):
    """The SwinSFConfig of a checkpoint's entry `config`. Raises UserError."""
    try:
        config = SwinSFConfig(**fields)
        check_config(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: unknown architecture ({error}); update the project") from None
    return config


def check_config(config):
    """Raises ValueError if a field of a SwinSFConfig is out of range."""
    for name, (kind, least, most) in LIMITS.items():
        value = getattr(config, name)
        if type(value) not in (int, kind) or not least <= value <= most:
            number = "an integer" if kind is int else "a number"
            raise ValueError(f"{name}={value!r:.80}: expected {number} from {least} to {most}")
    for name, allowed in CHOICES.items():
        if not isinstance(getattr(config, name), str) or getattr(config, name) not in allowed:
            raise ValueError(f"{name}={getattr(config, name)!r:.80}: choose from {', '.join(allowed)}")
    if (
        not all(type(depth) is int and depth > 0 for depth in config.depths)
        or not 0 < sum(config.depths) <= MOST_BLOCKS
    ):
        raise ValueError(
            f"depths={config.depths!s:.80}: expected positive integers whose sum is at most {MOST_BLOCKS}"
        )
    if config.channels % config.heads:
        raise ValueError(f"channels={config.channels} is not a multiple of heads={config.heads}")


def check_fit(config, state, path):
    """Raises UserError if weights, name -> tensor, do not fit a SwinSFConfig. Allocates no memory."""
    misfit = "more blocks than tensors" if sum(config.depths) > len(state) else ""
    if not misfit:
        with torch.device("meta"):
            misfit = describe_misfit(SwinSF(config).state_dict(), state)
    if misfit:
        raise UserError(
            f"{path}: does not fit a SwinSF of {config}: {misfit}; use the weights of another model"
        )


def describe_misfit(expected, found):
    """A text that names missing, unexpected and differently shaped weights, or "" if `found` fits."""

    def fits(key):
        return (
            torch.is_tensor(found[key])
            and found[key].is_floating_point()
            and found[key].shape == expected[key].shape
        )

    groups = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "with another shape or type": [
            f"{key} {tuple(getattr(found[key], 'shape', ()))}, expected {tuple(expected[key].shape)}"
            for key in expected
            if key in found and not fits(key)
        ],
    }
    return "; ".join(f"{len(keys)} {name}: {some(keys)}" for name, keys in groups.items() if keys)


def some(keys, most=6):
    return ", ".join(map(str, keys[:most])) + (f" and {len(keys) - most} more" if len(keys) > most else "")
