"""The names that flags choose from, and looks at the paths that they name, without PyTorch, which takes its
seconds to import.

The scripts call `utils.cli.begin` with these before they import the rest. Each list has the keys or the
members of what it is named after elsewhere; tests/test_start.py holds them together.
"""

from pathlib import Path

from swinsf.utils.cli import UserError

SHIPPED = ("small", "camera", "1000", "250")  # weights by name
VARIANTS = ("250", "1000", "small")
TSA = ("released", "paper")
SKIP = ("none", "motion", "aligned")
PRECISIONS = ("fp32", "bf16", "fp16")
RECIPES = ("paper", "modern")
PAIRED = ("250", "1000")
DATA_MODES = (*PAIRED, "no_gt")
SCENES = ("photos", "videos")
SPLITS = ("train", "val", "test")
SENSORS = ("ideal", "reds", "camera", "x4k", "spikecv", "spikezoo")
PROTOCOLS = ("released", "kair")
BIT_ORDERS = ("little", "big")
REPAIRS = ("auto", "none")
PRISTINE = Path(__file__).parent.parent / "evaluation" / "niqe_pristine.npz"  # NIQE's statistics
NO_DATA = (  # what to do for whoever has none
    "spike-REDS (--data_mode 250) is spike streams simulated from the REDS videos, published with Spk2ImgNet (Zhao et al., "
    "CVPR 2021); spike-X4K (1000) comes with the SwinSF paper. No dataset is needed for --dataset_path photos:DIR, which "
    "simulates spikes from a folder of photographs"
)


def look_at_dataset(path):
    """Raises UserError where a dataset's path is not that of a folder; scenes and the demo are looked at when
    they are opened."""
    if str(path) != "demo" and str(path).partition(":")[0] not in SCENES and not Path(path).is_dir():
        raise UserError(f"{path}: no such dataset folder; check --dataset_path. {NO_DATA}")


def look_at_weights(path):
    """Raises UserError if there is nothing at a path of weights, and it is no shipped file's name. None
    passes."""
    if path and not Path(path).exists() and str(path) not in SHIPPED:
        raise UserError(f"{path}: no such weights file; check the path, or name one of {', '.join(SHIPPED)}")


def look_at_calibration(path):
    """Raises UserError if there is nothing at a calibration's path; none is passed over."""
    if path and not Path(path).exists():
        raise UserError(f"{path}: no such calibration; check the path, or make one by calibrate.py")


def look_at_recording(path):
    """Raises UserError where there is nothing at a recording's path; patterns and standard input are passed
    over."""
    if path != "-" and not set("*?[") & set(path) and not Path(path).exists():
        raise UserError(f"{path}: no such spike stream; check the path")
