"""A camera's calibration: the dark charge and the response of each pixel, and which pixels are bad.

A pixel fires at the rate response x light + dark. A grey level stands for a light of RATE / 255 x grey, at
which a pixel of mean response and no dark charge fires. So (rate - dark) / response is the same for all
pixels. `calibrate.py` makes the file.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from swinsf.datasets.bad_pixels import KINDS, classify, nearest_good
from swinsf.datasets.dat import MOST_PIXELS
from swinsf.recordings.recording import Recording
from swinsf.recordings.repair import find_bad_pixels
from swinsf.utils.cli import UserError
from swinsf.utils.files import atomic_write
from swinsf.utils.timing import RATE

MAPS = ("dark", "response", "bad", "dark_error", "response_error")
PUBLISHED = ("Nd", "Nl", "D_light")  # of RSIR's calibration (ACM MM 2023)
MEDIUM, LIGHT = 153.0, 335.0  # lux of its lamps
# A recording is of another camera if less than this part of the pattern is in it, by this many standard
# errors.
SURE, PRESENT = 5, 0.3
STRONG = 0.95  # quantile of the response at which a pixel counts as strong
MOST_BYTES = 2**27  # largest size of a calibration, unpacked


@dataclass(frozen=True)
class Calibration:
    """Maps (H, W), upright, as recordings are after a flip.

    dark: float32, thresholds a step. response: float32, relative to a mean of 1. bad: uint8, an index of
    `KINDS`. dark_error, response_error: float32, standard errors; NaN if unknown.
    """

    dark: np.ndarray
    response: np.ndarray
    bad: np.ndarray
    dark_error: np.ndarray
    response_error: np.ndarray

    @property
    def shape(self):
        """(H, W)"""
        return self.dark.shape

    @property
    def maps(self) -> np.ndarray:
        """(2, H, W) float32, dark and response, as `SwinSF` expects them. A bad pixel has the values of the
        pixel that fills it."""
        maps = np.stack([self.dark, self.response])
        bad = self.bad > 0
        if bad.any() and not bad.all():
            rows, columns = nearest_good(bad)
            maps[:, bad] = maps[:, rows, columns]
        return maps

    @property
    def pixels(self) -> "Pixels":
        """The `Pixels` of a recording of this camera."""
        maps = self.maps
        full = float(1 / np.quantile(maps[1], STRONG))
        return Pixels(self.bad > 0, maps, dark=float(np.median(maps[0])), full=full)

    def check_shape(self, shape, path, recording):
        """Raises UserError if a recording's pictures have another shape (H, W)."""
        if self.shape != tuple(shape):
            own, other = ("x".join(map(str, size)) for size in (self.shape, shape))
            raise UserError(
                f"{path}: calibrates a camera of {own}, but {recording} is {other}; use the one of its camera"
            )

    def save(self, path: str | Path) -> None:
        """Write it as an `.npz` file, whole or not at all."""
        with atomic_write(path) as file:
            np.savez_compressed(file, **{name: getattr(self, name) for name in MAPS})


class Pixels(NamedTuple):
    """How the pixels of a recording are filled and corrected."""

    bad: np.ndarray  # (H, W) bool, pixels to fill
    maps: np.ndarray | None = None  # those of a `Calibration`
    lines: tuple = ()  # text on both
    dark: float = 0.0  # median dark charge of all pixels
    full: float = np.inf  # light at which a pixel of strong response fires at every step, without dark charge

    def crop(self, rows: slice, columns: slice) -> "Pixels":
        """The pixels within two slices."""
        return self._replace(
            bad=self.bad[rows, columns], maps=None if self.maps is None else self.maps[:, rows, columns]
        )

    def correct(self, picture: np.ndarray, bin: int = 1) -> np.ndarray:
        """Grey levels (H, W) of TFP or TFI, with `bin` steps a bin, corrected by the maps, then limited."""
        return self.limit(correct(picture, self.maps), bin)

    def limit(self, picture: np.ndarray, bin: int = 1) -> np.ndarray:
        """Clamp grey levels where pixels begin to saturate; above, white would show the response's
        pattern."""
        return picture if self.maps is None else np.minimum(picture, np.float32(self.most(bin)))

    def most(self, bin: int = 1) -> float:
        """The grey level at which `limit` clamps: above it, a pixel of strong response fires in every bin."""
        return 255 / RATE * self.full * max(0.0, 1 - bin * self.dark) / bin


def look_at_pixels(
    spikes: Any,
    calibration: Calibration | str | Path | None = None,
    repair: str = "auto",
    name: str = "the recording",
) -> Pixels:
    """The `Pixels` of a recording (T, H, W) whose bad pixels are not filled yet.

    calibration: a `Calibration`, its path, or None. repair: "auto" to fill the bad pixels of the calibration,
    or without one those that `find_bad_pixels` finds in the recording; "none" to fill none. Raises UserError
    if the calibration cannot be read or is of another camera.
    """
    spikes = Recording.of(spikes)
    if repair == "none" and not calibration:
        return Pixels(np.zeros(spikes.size, bool))
    found, maps = find_bad_pixels(spikes), None
    if calibration:
        loaded = calibration if isinstance(calibration, Calibration) else load_calibration(calibration)
        calibration = "the calibration" if loaded is calibration else calibration
        loaded.check_shape(found.rate.shape, calibration, name)
        bad, maps = loaded.bad > 0, loaded.maps
        check_camera(found.rate, maps, calibration, name)
        about = f"dark charge {np.median(maps[0]):.2g} a step, response 1 +- {1.4826 * np.median(np.abs(maps[1] - 1)):.1%}"
        lines = [f"calibration: {calibration}, {about}"]
        filled = f"the {np.count_nonzero(bad)} bad pixels of the calibration are filled from their neighbours"
    else:
        bad, lines = np.zeros(found.rate.shape, bool), []
        for rows, columns in (found.hot.T, found.dead.T):
            bad[rows, columns] = True
        some = f"{len(found.hot)} hot and {len(found.dead)} dead pixels"
        filled = (
            f"{some}, found in the recording, are filled from their neighbours (--repair none leaves them)"
        )
    if repair == "none":
        bad = np.zeros_like(bad)
    else:
        lines.append(f"repair: {filled if bad.any() else 'no bad pixels found'}")
    if maps is None:
        return Pixels(bad, lines=tuple(lines))
    return loaded.pixels._replace(bad=bad, lines=tuple(lines))


def correct(picture: np.ndarray, maps: np.ndarray | None) -> np.ndarray:
    """Grey levels (H, W) as pixels of equal response and no dark charge would show them. maps: (2, H, W), or
    None for no correction."""
    if maps is None:
        return picture
    dark, response = maps
    return (picture - 255 / RATE * dark) / response


def check_camera(rate: np.ndarray, maps: np.ndarray, path, recording) -> None:
    """Raises UserError if a recording's mean rate (H, W) lacks the pattern that maps (2, H, W) would leave.

    The pattern is the difference of a pixel from the mean of 3x3; the scene has other patterns. A recording
    with too little evidence, such as a small picture or bright texture, passes.
    """
    slope, error = pattern_in(rate, maps)
    if slope + SURE * error < PRESENT:
        turned, error_turned = pattern_in(rate, maps[:, ::-1])
        remedy = "take its own camera's calibration, or the --flip that it was calibrated with"
        if turned - SURE * error_turned > PRESENT:
            remedy = "it is there upside down; take the other --flip"
        raise UserError(
            f"{path}: another camera's, since its pattern is not in {recording} ({slope:.2f} of it, +-{error:.2f}); {remedy}"
        )


def pattern_in(rate: np.ndarray, maps: np.ndarray) -> tuple[float, float]:
    """(slope, standard error) of the pattern in a recording's mean rate (H, W) against the pattern of maps
    (2, H, W). The slope is 1 for the same camera."""
    dark, response = maps
    mean = mean_around(rate)
    light = np.maximum(mean - float(np.median(dark)), 0)
    pattern, found = light * (response - mean_around(response)) + dark - mean_around(dark), rate - mean
    inside = np.s_[2:-2, 2:-2]  # the outermost pixels of all cameras gather more light
    usable = (mean[inside] > 0) & (mean[inside] < 0.9)
    if np.count_nonzero(usable) < 100:
        return 1.0, np.inf
    scale = 1 / np.maximum(mean[inside][usable], 1e-3)  # so that bright texture does not dominate
    pattern, found = (
        np.clip(x, *np.quantile(x, (0.01, 0.99)))
        for x in (pattern[inside][usable] * scale, found[inside][usable] * scale)
    )
    power = float(np.sum(pattern**2))
    if not power:
        return 1.0, np.inf
    slope = float(np.sum(pattern * found)) / power
    return slope, float(np.sqrt(np.sum((pattern * (found - slope * pattern)) ** 2))) / power


def mean_around(picture):
    """The mean of 3x3 pixels."""
    return cv2.blur(picture, (3, 3), borderType=cv2.BORDER_REFLECT_101)


def make_calibration(dark, response, dark_error=None, response_error=None) -> Calibration:
    """A `Calibration` of maps (H, W). Classifies bad pixels; scales the response of good ones to mean 1."""
    unknown = np.full(dark.shape, np.nan)
    response_error = unknown if response_error is None else response_error
    bad = classify(dark, response / np.median(response))
    mean = np.mean(response[bad == 0]) if (bad == 0).any() else 1.0
    arrays = dark, response / mean, unknown if dark_error is None else dark_error, response_error / mean
    dark, response, dark_error, response_error = (array.astype(np.float32) for array in arrays)
    return Calibration(dark, response, bad, dark_error, response_error)


def solve_published(illuminance: np.ndarray, level: np.ndarray) -> Calibration:
    """A `Calibration` from arrays as RSIR publishes them: Nd, the dark current in lux, and D_light, the steps
    between two spikes at 335 lux less one.

    RSIR fits D = 1 / rate - 1 proportional to 1 / (L + Nd) to rates at L = 0, 153 and 335 lux. A pixel that
    only integrates has rate = a (L + x) instead. With th = D(153) / D(0) = Nd / (153 + Nd), the same
    measurements give x as the positive root of (1 - r) (1 - th) x^2 + (335 - 153 r - th (335 + 153 (1 - r)))
    x - 153 x 335 th = 0, r = 1 / (1 + D_light).
    """
    rate, ratio = 1 / (1 + level.astype(np.float64)), illuminance / (MEDIUM + illuminance.astype(np.float64))
    a = (1 - rate) * (1 - ratio)
    b = LIGHT - MEDIUM * rate - ratio * (LIGHT + MEDIUM * (1 - rate))
    c = -MEDIUM * LIGHT * ratio
    x = -2 * c / (b + np.sqrt(b * b - 4 * a * c))  # no difference of similar numbers
    return make_calibration(rate * x / (LIGHT + x), rate / (LIGHT + x))


def load_calibration(path: str | Path) -> Calibration:
    """The `Calibration` in a file of `calibrate.py`, or of arrays Nd, Nl, D_light. Raises UserError
    otherwise."""
    arrays = read_arrays(path)
    published = set(PUBLISHED) <= arrays.keys()
    names = PUBLISHED if published else MAPS
    missing = [name for name in names if name not in arrays]
    if missing:
        raise UserError(f"{path}: no calibration, it has no array {missing[0]}; make one by calibrate.py")
    maps = {name: arrays[name] for name in names}
    shape = maps[names[0]].shape
    fits = all(m.ndim == 2 and m.shape == shape and m.dtype.kind in "fui" for m in maps.values())
    if not fits or not 0 < np.prod(shape) <= MOST_PIXELS:
        raise UserError(
            f"{path}: no calibration, its arrays are not maps (H, W) of one size; make one by calibrate.py"
        )
    if published:
        dark, level = maps["Nd"], maps["D_light"]
        if not (
            np.all(dark >= 0) and np.all(level >= 0) and np.isfinite(dark).all() and np.isfinite(level).all()
        ):
            raise UserError(
                f"{path}: no calibration, Nd or D_light has negative or non-finite values; take an undamaged copy"
            )
        return solve_published(dark, level)
    found = Calibration(
        **{name: maps[name].astype(np.uint8 if name == "bad" else np.float32) for name in MAPS}
    )
    dark, response = found.maps
    if not (
        np.all((dark >= 0) & (dark <= 1))
        and np.all((response > 0) & (response < 100))
        and found.bad.max() < len(KINDS)
    ):
        raise UserError(
            f"{path}: a damaged calibration, dark charge is 0 to 1 and response above 0; make it again"
        )
    return found


def read_arrays(path):
    """Name -> array of an `.npz` file no larger than a calibration may be. Raises UserError otherwise."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such calibration; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise UserError(
                    f"{path}: no calibration, it unpacks to more than {MOST_BYTES:,} bytes; make one by calibrate.py"
                )
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files if name in (*MAPS, *PUBLISHED)}
    except (UserError, OSError):
        raise
    except Exception as error:  # numpy and zipfile fail in many ways
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise UserError(
            f"{path}: no calibration that can be read ({first:.200}); make one by calibrate.py"
        ) from None
