"""`Reconstructor`: loads a network once, for any number of windows and recordings, as a service needs."""

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swinsf.datasets.bad_pixels import nearest_good
from swinsf.models import (
    PRECISIONS,
    SwinSF,
    choose_precision,
    classical,
    fast,
    fit_of,
    load_model,
    weights_file,
    weights_for,
)
from swinsf.recordings.calibration import Calibration, Pixels, load_calibration, look_at_pixels
from swinsf.recordings.opening import open_recording
from swinsf.recordings.plan import Plan, make_plan
from swinsf.recordings.recording import Recording
from swinsf.recordings.repair import repair as fill
from swinsf.recordings.stream import check_keys, check_number, check_side, reconstruct_binned
from swinsf.utils.cli import UserError, argument_errors, without_flags
from swinsf.utils.distributed import pick_device
from swinsf.utils.timing import RATE, STEPS, STRIDE


class Reconstructor:
    """Weights on a device, and a camera's calibration if there is one.

    weights: a file, a run's folder, the name of shipped weights, or a SwinSF, which stays on its device; by
    default the shipped "camera", or "calibrated" with a calibration.
    device: for example "cpu" or "cuda:0"; by default CUDA if there is one. precision: "fp32", "bf16", "fp16",
    or "auto": bf16 for shipped weights on hardware with bf16 instructions. calibration: a `Calibration`, or
    the path of one from `calibrate.py`.

    Attributes: `model`, `device`, `precision`, `weights` (the file's path; None for a SwinSF). Raises
    `swinsf.Error` for files that cannot be read or do not fit; for a bad argument it is a ValueError too.
    """

    def __init__(
        self,
        weights: str | Path | SwinSF | None = None,
        device: str | torch.device | None = None,
        precision: str = "auto",
        calibration: str | Path | Calibration | None = None,
    ):
        with argument_errors():
            self.model: SwinSF
            self.weights: Path | None = None
            if isinstance(weights, SwinSF):
                self.model, self.device = weights, next(weights.parameters()).device
                self.precision = precision_of(weights)
            else:
                self.device = pick_device(None if device is None else str(device))
                own = weights_for("recordings", calibrated=calibration is not None)
                self.weights = weights_file(weights or own)
                self.precision = choose_precision(precision, self.weights, self.device)
                self.model = load_model(self.weights, self.device, self.precision)
            if isinstance(calibration, str | os.PathLike):
                calibration = load_calibration(calibration)
            self.calibration: Calibration | None = calibration
            self._pixels = calibration.pixels if calibration else None

    def __call__(self, spikes: Any) -> Any:
        """The picture in the middle of a window (41, H, W), or of each window in a batch (B, 41, H, W).

        spikes: an array or a tensor of 0 and 1, or 0 and 255. Returns float32 (H, W) or (B, H, W), a tensor
        for a tensor, in grey levels, not clamped; 255 is 0.6 spikes a step. The calibration's bad pixels are
        filled from their neighbours. Raises `swinsf.Error` for other shapes and values.
        """
        with argument_errors():
            given = spikes if torch.is_tensor(spikes) else torch.from_numpy(np.array(spikes))
            if given.dim() not in (3, 4) or given.shape[-3] != STEPS:
                raise UserError(
                    f"spikes of shape {tuple(given.shape)}: expected a window ({STEPS}, H, W) or a batch of them"
                )
            batch = (given if given.dim() == 4 else given[None]).to(self.device)
            pixels, maps = self._pixels, None
            if pixels:
                self.calibration.check_shape(batch.shape[-2:], "the calibration", "the window")
                batch, maps = filled(batch, pixels.bad), torch.from_numpy(pixels.maps)[None].to(self.device)
            pictures = fast.infer(self.model, batch, maps).middle[:, 0].float()
        if pixels:
            pictures = pictures.clamp(max=pixels.most())
        pictures = pictures if given.dim() == 4 else pictures[0]
        return pictures if torch.is_tensor(spikes) else pictures.cpu().numpy()

    def recording(
        self,
        spikes: Any,
        stride: int = STRIDE,
        start: int | None = None,
        stop: int | None = None,
        bin: int | str = "auto",
        exposure: float | str | None = None,
        gamma: float = 1.0,
        rate: float | None = None,
        repair: str = "auto",
        height: int | None = None,
        width: int | None = None,
        flip: bool | None = None,
        bit_order: str | None = None,
        **options: Any,
    ) -> "Pictures":
        """The `Pictures` of a recording, as `reconstruct.py` makes them, each made on demand.

        spikes: a recording's path, an array (T, H, W) of 0 and 1 with 41 steps or more, or an object whose
        slices are such arrays. stride, start, stop: the key frames are every stride-th of start..stop-1 with
        a whole window around it. bin: steps a bin, or "auto" to choose it by light and motion. exposure: gain
        on the grey levels, or "auto" to make bright pixels white, the default without a rate. gamma: 1 keeps
        the grey levels linear. rate: spikes a step at white, 0.6 by default. repair: "auto" to fill bad
        pixels, or "none". height, width, flip, bit_order: format of a `.dat` file, by default detected.
        options: those of `recordings.stream.reconstruct_at`, such as batch_size and tile.

        Raises `swinsf.Error` if a file cannot be read, a value is out of range, or there is no key frame.
        """
        with argument_errors():
            check_keys(stride, start, stop, 1 if bin == "auto" else bin)
            check_number("gamma", gamma, 0.1, 10)
            if exposure not in (None, "auto"):
                check_number("exposure", exposure, 1e-3, 1e4)
            if rate is not None:
                check_number("rate", rate, 1e-3, 2)
            if repair not in ("auto", "none"):
                raise UserError(f"repair {repair!r}: choose from auto, none")
            lines: list[str] = []
            if isinstance(spikes, str | os.PathLike):
                spikes, lines = open_recording(spikes, height, width, flip, bitorder=bit_order)
            recording = Recording.of(spikes)
            check_side(recording)
            pixels = look_at_pixels(recording, self.calibration, repair, recording.name)
            settings = argparse.Namespace(
                **{"recording": recording.name, "method": "swinsf", "steps_per_second": 20000.0, "bits": 8},
                **{
                    "fps": None,
                    "slowmo": None,
                    "bin": bin,
                    "exposure": exposure,
                    "gamma": gamma,
                    "rate": rate,
                },
                **{"stride": (stride, "steps"), "start": start if start is None else (start, "steps")},
                stop=stop if stop is None else (stop, "steps"),
            )
            recording = fill(recording, pixels.bad)
            fit = fit_of(self.weights) if self.weights else None
            plan = make_plan(recording, settings, self.weights, fit, pixels)
        return Pictures(recording, self.model, plan, (*lines, *pixels.lines, *plan.lines), options)


class Pictures:
    """The pictures of a recording: iterate over them for (step, uint8 (H, W)), ready for cv2.imwrite.

    steps: the key frames, a range. bin: steps a bin. gain: factor on the grey levels. warnings, lines: text
    on the recording and the choices made. size: (H, W).
    """

    def __init__(self, recording: Recording, model: SwinSF, plan: Plan, lines: tuple, options: dict):
        self._recording, self._model, self._plan, self._options = recording, model, plan, options
        lines = tuple(map(without_flags, lines))
        self.steps, self.bin, self.gain, self.size = plan.keys, plan.bin, plan.curve.exposure, recording.size
        self.warnings = tuple(
            line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")
        )
        self.lines = tuple(line for line in lines if not line.startswith("warning: "))

    def __len__(self) -> int:
        if self._recording.length is None:
            raise TypeError(f"{self._recording.name}: comes through a pipe, and its length is not known")
        return len(self.steps)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        plan, pixels = self._plan, self._plan.pixels or Pixels(np.zeros(self.size, bool))
        options = {"calibration": pixels.maps, **self._options}
        made = reconstruct_binned(
            self._recording, self._model, self.steps, self.steps.step, self.bin, **options
        )
        return ((key, plan.curve(pixels.limit(picture, self.bin))) for key, picture in made)


def precision_of(model: SwinSF) -> str:
    """The name of a network's precision. Raises UserError for a type without one, such as float64."""
    kind = model.conv_first.weight.dtype
    for name, other in PRECISIONS.items():
        if kind == other:
            return name
    raise UserError(f"a network in {kind}; choose from {', '.join(PRECISIONS)}")


def filled(spikes: torch.Tensor, bad: np.ndarray) -> torch.Tensor:
    """A copy of spikes (..., H, W) whose `bad` pixels, (H, W) bool, have those of the nearest good one."""
    if not bad.any() or bad.all():
        return spikes
    places = (*np.nonzero(bad), *nearest_good(bad))
    rows, columns, from_rows, from_columns = (torch.from_numpy(p).to(spikes.device) for p in places)
    spikes = spikes.clone()
    spikes[..., rows, columns] = spikes[..., from_rows, from_columns]
    return spikes


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

    model: a SwinSF; by default the shipped weights for recordings, on CUDA if there is one, in bfloat16 if
    that is fast. calibration: the camera's, from `calibrate.py`. Other arguments and errors: see
    `Reconstructor.recording`.
    """
    held = Reconstructor(model, calibration=calibration)
    return iter(held.recording(spikes, stride, start, stop, bin, exposure, gamma, rate, repair, **options))


def tfp_pictures(
    spikes: Any, key_frames: Iterable[int], window: int = STEPS, rate: float = RATE
) -> Iterator[np.ndarray]:
    """`models.classical.tfp_pictures` for recordings of any kind, see `Recording.of`."""
    return classical.tfp_pictures(Recording.of(spikes), key_frames, window, rate)


def tfi_pictures(spikes: Any, key_frames: Iterable[int], rate: float = RATE) -> Iterator[np.ndarray]:
    """`models.classical.tfi_pictures` for recordings of any kind, see `Recording.of`."""
    return classical.tfi_pictures(Recording.of(spikes), key_frames, rate)
