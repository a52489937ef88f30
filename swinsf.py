"""The public names of SwinSF, for your own programs:

    from swinsf import pictures
    for step, picture in pictures("rec.dat"):
        ...

This file is also the package: the folders beside it are its subpackages, such as `swinsf.models`.
A name is imported at its first use, so that `import swinsf` is fast.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

__path__ = [str(Path(__file__).resolve().parent)]

if TYPE_CHECKING:
    from swinsf.datasets import open_dataset
    from swinsf.datasets.dat import open_dat, read_dat, write_dat
    from swinsf.datasets.simulation.sensor import integrate_and_fire
    from swinsf.evaluation.metrics import psnr_ssim
    from swinsf.models import build_model, load_model, save_model, shipped_weights
    from swinsf.recordings import Calibration, correct, load_calibration, look_at_pixels, open_recording
    from swinsf.recordings.inspect import inspect
    from swinsf.recordings.reconstructor import Reconstructor, pictures, tfi_pictures, tfp_pictures
    from swinsf.recordings.stream import reconstruct
    from swinsf.utils.cli import Error, UserError
    from swinsf.utils.cpus import tune

    __version__: str

__all__ = [
    "Calibration",
    "Error",
    "Reconstructor",
    "UserError",
    "build_model",
    "correct",
    "inspect",
    "integrate_and_fire",
    "load_calibration",
    "load_model",
    "look_at_pixels",
    "open_dat",
    "open_dataset",
    "open_recording",
    "pictures",
    "psnr_ssim",
    "read_dat",
    "reconstruct",
    "save_model",
    "shipped_weights",
    "tfi_pictures",
    "tfp_pictures",
    "tune",
    "write_dat",
]

_HOMES = {  # public name -> its module
    "build_model": "models",
    "Calibration": "recordings",
    "correct": "recordings",
    "Error": "utils.cli",
    "inspect": "recordings.inspect",
    "integrate_and_fire": "datasets.simulation.sensor",
    "load_calibration": "recordings",
    "load_model": "models",
    "look_at_pixels": "recordings",
    "open_dat": "datasets.dat",
    "open_dataset": "datasets",
    "open_recording": "recordings",
    "pictures": "recordings.reconstructor",
    "psnr_ssim": "evaluation.metrics",
    "read_dat": "datasets.dat",
    "reconstruct": "recordings.stream",
    "Reconstructor": "recordings.reconstructor",
    "save_model": "models",
    "shipped_weights": "models",
    "tfi_pictures": "recordings.reconstructor",
    "tfp_pictures": "recordings.reconstructor",
    "tune": "utils.cpus",
    "UserError": "utils.cli",
    "write_dat": "datasets.dat",
}


def read_version() -> str:
    """The latest release in CHANGELOG.md or, if installed, in the package's metadata."""
    import re
    from importlib import metadata  # slow to import

    changes = Path(__file__).with_name("CHANGELOG.md")
    if changes.is_file():
        return re.search(r"^## (\d[\d.]*)$", changes.read_text(encoding="utf-8"), re.M)[1]
    return metadata.version("swinsf")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return read_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'swinsf' has no attribute {name!r}")
    return getattr(importlib.import_module(f"swinsf.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
