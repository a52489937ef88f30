"""What a program of your own imports, from any folder:

    import sys; sys.path.insert(0, "PATH/TO/SwinSF")
    from swinsf import pictures
    for step, picture in pictures("rec.dat"):
        ...

The parts lie in the packages `models`, `datasets` and `utils`. Other projects have packages of these names, HuggingFace's
`datasets` for one: where such a one comes first, the import ends in an ImportError that says so.
"""

import importlib.util
import os
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent


def check_packages(names=("utils", "datasets", "models", "engine")):
    """Raises ImportError where a package of ours is hidden by another one of its name."""
    for name in names:
        spec = sys.modules[name].__spec__ if name in sys.modules else importlib.util.find_spec(name)
        place = spec and (spec.origin or next(iter(spec.submodule_search_locations or []), None))
        if place is None or HOME not in Path(place).resolve().parents:
            raise ImportError(
                f"the package {name} is {place or 'missing'}, not the one of SwinSF in {HOME}; put "
                f"sys.path.insert(0, {str(HOME)!r}) before all other imports, and use the other package in another process"
            )


check_packages()

from datasets.dat import open_dat, read_dat, write_dat  # noqa: E402
from datasets.recordings import (  # noqa: E402
    Calibration,
    choose_bin,
    choose_exposure,
    correct,
    load_calibration,
    look_at_pixels,
    open_recording,
    survey,
)
from datasets.recordings import repair as fill  # noqa: E402
from datasets.simulation.sensor import integrate_and_fire  # noqa: E402
from models import build_model, load_model, shipped_weights, weights_for  # noqa: E402
from models.classical import tfi_pictures, tfp_pictures  # noqa: E402
from utils.distributed import pick_device  # noqa: E402
from utils.inference import check_recording, key_frames, reconstruct  # noqa: E402
from utils.metrics import psnr_ssim  # noqa: E402
from utils.output import Curve  # noqa: E402
from utils.timing import RATE  # noqa: E402

__all__ = [
    "Calibration",
    "build_model",
    "correct",
    "integrate_and_fire",
    "load_calibration",
    "load_model",
    "look_at_pixels",
    "open_dat",
    "open_recording",
    "pictures",
    "psnr_ssim",
    "read_dat",
    "reconstruct",
    "shipped_weights",
    "tfi_pictures",
    "tfp_pictures",
    "write_dat",
]


def pictures(
    spikes,
    stride=20,
    start=None,
    stop=None,
    bin="auto",
    exposure=None,
    gamma=1.0,
    model=None,
    rate=None,
    calibration=None,
    repair="auto",
    **options,
):
    """Pictures of a recording as `reconstruct.py` makes them: an iterator of (step, uint8 (H, W)), ready for cv2.imwrite.

    spikes: a recording's path, an array (T, H, W) of 0 and 1 with 41 steps or more, or whatever gives one for a slice.
    stride, start, stop: the key frames, every stride-th of start..stop-1 that has a whole window round it. bin: steps taken as
    one, a divisor of stride, or "auto" by light and motion. exposure: factor on the grey levels, or "auto" for one that makes
    bright pixels white, which is the default without a rate. gamma: 1 keeps the grey levels linear. model: a SwinSF, by default
    the shipped weights for recordings, on CUDA where there is one. rate: spikes a step that are white, 0.6 by default.
    calibration: path of the camera's, by calibrate.py. repair: "auto" to fill bad pixels, or "none".
    options: of `utils.inference.reconstruct_at`, such as batch_size and tile.

    Raises UserError where a file cannot be read or its size not be told; ValueError where an array is not (T, H, W), or no
    key frame has a whole window.
    """
    if isinstance(spikes, str | os.PathLike):
        spikes, _ = open_recording(spikes)
    check_recording(spikes)
    model = model or load_model(weights_for("recordings"), pick_device(None))
    pixels = look_at_pixels(spikes, calibration, repair)
    spikes = fill(spikes, pixels.bad)
    seen = survey(spikes, start or 0, stop)
    bin = choose_bin(seen, stride, start, stop, pixels.maps is not None)[0] if bin == "auto" else bin
    exposure = exposure or ("auto" if rate is None else 1.0)
    rate = RATE if rate is None else rate
    lit = seen._replace(bright=seen.bright - pixels.dark)
    curve = Curve((choose_exposure(lit, rate) if exposure == "auto" else exposure) * RATE / rate, gamma)
    made = reconstruct(spikes, model, stride, start, stop, bin, calibration=pixels.maps, **options)
    return (
        (step, curve(pixels.limit(picture, bin)))
        for step, picture in zip(key_frames(len(spikes), start, stop, stride, bin), made)
    )
