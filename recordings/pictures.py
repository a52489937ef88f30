"""From a recording to its pictures in one call: by a network, TFP or TFI."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from swinsf.models import SwinSF, classical, weights_for
from swinsf.recordings.calibration import Calibration
from swinsf.recordings.reconstructor import Reconstructor
from swinsf.recordings.recording import Recording
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
    calibration: str | Path | Calibration | None = None,
    repair: str = "auto",
    **options: Any,
) -> Iterator[tuple[int, np.ndarray]]:
    """Pictures of a recording as `reconstruct.py` makes them: an iterator of (step, uint8 (H, W)), ready for
    cv2.imwrite.

    model: a SwinSF, by default the shipped weights for recordings, on CUDA if there is
    one, in bfloat16 if that is fast. calibration: the
    camera's, by calibrate.py. The other arguments, and the errors, are those of `Reconstructor.recording`.
    """
    held = Reconstructor(model or weights_for("recordings"), calibration=calibration)
    return iter(held.recording(spikes, stride, start, stop, bin, exposure, gamma, rate, repair, **options))


def tfp_pictures(
    spikes: Any, key_frames: Iterable[int], window: int = STEPS, rate: float = RATE
) -> Iterator[np.ndarray]:
    """`models.classical.tfp_pictures` of a recording of any kind; see `Recording.of`."""
    return classical.tfp_pictures(Recording.of(spikes), key_frames, window, rate)


def tfi_pictures(spikes: Any, key_frames: Iterable[int], rate: float = RATE) -> Iterator[np.ndarray]:
    """`models.classical.tfi_pictures` of a recording of any kind; see `Recording.of`."""
    return classical.tfi_pictures(Recording.of(spikes), key_frames, rate)
