"""From a recording to its pictures in one call: by a network, TFP or TFI."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from swinsf.models import SwinSF, classical, load_model, weights_for
from swinsf.recordings import Recording, choose_bin, choose_exposure, look_at_pixels, open_recording, survey
from swinsf.recordings import repair as fill
from swinsf.recordings.output import ToneCurve
from swinsf.recordings.stream import key_frames, reconstruct
from swinsf.utils.distributed import pick_device
from swinsf.utils.timing import RATE, STEPS, STRIDE


def pictures(
    spikes: Any,
    stride: int = STRIDE,
    start: int | None = None,
    stop: int | None = None,
    bin: int | str = "auto",
    exposure: float | str | None = None,
    gamma: float = 1.0,
    model: SwinSF | None = None,
    rate: float | None = None,
    calibration: str | Path | None = None,
    repair: str = "auto",
    **options: Any,
) -> Iterator[tuple[int, np.ndarray]]:
    """Pictures of a recording as `reconstruct.py` makes them: an iterator of (step, uint8 (H, W)), ready for
    cv2.imwrite.

    spikes: a recording's path, an array (T, H, W) of 0 and 1 with 41 steps or more, or whatever gives one for
    a slice. stride, start, stop: the key frames, every stride-th of start..stop-1 that has a whole window
    round it. bin: steps taken as one, a divisor of stride, or "auto" by light and motion. exposure: factor on
    the grey levels, or "auto" for one that makes bright pixels white, which is the default without a rate.
    gamma: 1 keeps the grey levels linear. model: a SwinSF, by default the shipped weights for recordings, on
    CUDA where there is one, in bfloat16 where that is fast. rate: spikes a step that are white, 0.6 by default. calibration: path of the
    camera's, by calibrate.py. repair: "auto" to fill bad pixels, or "none". options: of
    `recordings.stream.reconstruct_at`, such as batch_size and tile.

    Raises UserError where a file cannot be read or its size not be told; ValueError where an array is not (T,
    H, W), or no key frame has a whole window.
    """
    spikes = open_recording(spikes)[0] if isinstance(spikes, str | os.PathLike) else Recording.of(spikes)
    model = model or load_model(weights_for("recordings"), pick_device(None), "auto")
    pixels = look_at_pixels(spikes, calibration, repair)
    spikes = fill(spikes, pixels.bad)
    seen = survey(spikes, start or 0, stop)
    bin = choose_bin(seen, stride, start, stop, pixels.maps is not None)[0] if bin == "auto" else bin
    exposure = exposure or ("auto" if rate is None else 1.0)
    rate = RATE if rate is None else rate
    lit = seen._replace(bright=seen.bright - pixels.dark)
    curve = ToneCurve((choose_exposure(lit, rate) if exposure == "auto" else exposure) * RATE / rate, gamma)
    made = reconstruct(spikes, model, stride, start, stop, bin, calibration=pixels.maps, **options)
    return (
        (step, curve(pixels.limit(picture, bin)))
        for step, picture in zip(key_frames(spikes.length, start, stop, stride, bin), made)
    )


def tfp_pictures(
    spikes: Any, key_frames: Iterable[int], window: int = STEPS, rate: float = RATE
) -> Iterator[np.ndarray]:
    """`models.classical.tfp_pictures` of a recording of any kind; see `Recording.of`."""
    return classical.tfp_pictures(Recording.of(spikes), key_frames, window, rate)


def tfi_pictures(spikes: Any, key_frames: Iterable[int], rate: float = RATE) -> Iterator[np.ndarray]:
    """`models.classical.tfi_pictures` of a recording of any kind; see `Recording.of`."""
    return classical.tfi_pictures(Recording.of(spikes), key_frames, rate)
