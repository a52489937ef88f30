"""Choices for flags, and checks of their paths, without the slow import of PyTorch.

The scripts use these in `utils.cli.begin`. tests/test_start.py compares each list with the dict or tuple that
it mirrors.
"""

from pathlib import Path

from swinsf.utils.cli import UserError

SHIPPED = ("small", "camera", "calibrated", "1000", "250")  # names of shipped weights
VARIANTS = ("250", "1000", "small")
TSA = ("released", "paper")
SKIP = ("none", "motion", "aligned")
PRECISIONS = ("fp32", "bf16", "fp16")
RECIPES = ("paper", "modern")
PAIRED = ("250", "1000")
DATA_MODES = (*PAIRED, "no_gt")
SCENES = ("photos", "videos", "frames")
SPLITS = ("train", "val", "test")
SAMPLERS = ("bicubic", "spline")
SENSORS = ("ideal", "reds", "camera", "x4k", "spikecv", "spikezoo")
PROTOCOLS = ("released", "kair")
BIT_ORDERS = ("little", "big")
REPAIRS = ("auto", "none")
PRISTINE = Path(__file__).parent.parent / "evaluation" / "niqe_pristine.npz"  # NIQE's statistics
NO_DATA = (  # for users without a dataset
    "spike-REDS (--data_mode 250) is simulated from the REDS videos and published with Spk2ImgNet (Zhao et "
    "al., CVPR 2021); spike-X4K (1000) comes with the SwinSF paper. Without a dataset, use --dataset_path "
    "photos:DIR, which simulates spikes from a folder of photographs"
)


def look_at_dataset(path: str | Path) -> None:
    """Raises UserError if a dataset's path is not a folder. Scenes and the demo are checked when opened."""
    if str(path) != "demo" and str(path).partition(":")[0] not in SCENES and not Path(path).is_dir():
        raise UserError(f"{path}: no such dataset folder; check --dataset_path. {NO_DATA}")


def look_at(path: str | Path | None, what: str, remedy: str = "") -> None:
    """Raises UserError if a path does not exist. None passes."""
    if path and not Path(path).exists():
        raise UserError(f"{path}: no such {what}; check the path{remedy}")


def look_at_weights(path: str | Path | None) -> None:
    """`look_at` a weights file, or accept the name of a shipped one."""
    if str(path) not in SHIPPED:
        look_at(path, "weights file", f", or give one of {', '.join(SHIPPED)}")


def look_at_calibration(path: str | Path | None) -> None:
    look_at(path, "calibration", ", or make one with calibrate.py")


def look_at_recording(path: str) -> None:
    """`look_at` a recording, or accept a pattern or standard input."""
    if path != "-" and not set("*?[") & set(path):
        look_at(path, "spike stream")
