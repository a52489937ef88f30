"""Measures the benefit of a calibration: PSNR of simulated recordings, plain, repaired and calibrated.

    python -m tools.calibration --photos DIR
    python -m tools.calibration --photos DIR --camera CAMERA.npz --steps 500 --speed 0.1 --picture X.jpg

The simulated camera has the dark charge and response of CAMERA.npz, or random ones, either like those
measured on real cameras (see `measured_camera`) or with the constants of the simulator SCSim (see
`scsim_camera`). A spike takes 10,000 electrons. The camera is calibrated from simulated dark and flat
recordings, the flat at 0.2 spikes per step. Each row of the table is a light level, each figure the mean over
the photographs at the best bin size, after fitting gain and offset.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from swinsf.datasets.picture_files import read_grey
from swinsf.evaluation import tables
from swinsf.models import load_model, weights_for
from swinsf.recordings import load_calibration, look_at_pixels, repair
from swinsf.recordings.flat_field import calibrate
from swinsf.recordings.stream import reconstruct
from swinsf.recordings.tone import ToneCurve
from swinsf.utils import cli, flags
from swinsf.utils.cli import UserError

HEIGHT, WIDTH, ELECTRONS = 250, 400, 10_000
LEVELS = (0.35, 0.10, 0.035, 0.014)  # spikes per step at white
BINS = (1, 2, 4, 5, 10, 20)
STEPS, KEY = 842, 420  # length of a recording, and its key frame
FLAT = 0.2  # spikes per step
SHOWN = (0.10, 5)  # level and bin of the picture
KINDS = ("plain", "repaired", "calibrated")


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("--photos", type=Path, required=True, help="folder of photographs")
    count, steps, speed = flags.number(int, 1, 1000), flags.number(int, 500, 10**6), flags.number(float, 0, 2)
    flag("--count", type=count, default=3, help="photographs to use, evenly spread (default 3)")
    flag("--camera", type=Path, help="calibration of the camera to simulate (default: a random camera)")
    flag("--like", choices=CAMERAS, default="measured", help="kind of the random camera (default measured)")
    level = flags.number(float, 0.001, 1)
    flag(
        "--levels",
        type=level,
        nargs="+",
        default=LEVELS,
        help="spikes per step at white (default 0.35 to 0.014)",
    )
    flag(
        "--weights",
        type=Path,
        help="weights file (default: the shipped ones for plain and calibrated recordings)",
    )
    flag("--steps", type=steps, default=5000, help="steps of the dark and flat recordings (default 5000)")
    flag("--speed", type=speed, default=0.0, help="speed of scenes in pixels per step (default 0)")
    flag("--picture", type=Path, help="file for the first photograph, plain and calibrated side by side")
    settings = parser.parse_args(arguments)
    if settings.picture and SHOWN[0] not in settings.levels:
        raise UserError(f"--picture {settings.picture}: it is of level {SHOWN[0]:g}; add it to --levels")
    return settings


def measured_camera(rng, height=HEIGHT, width=WIDTH):
    """(dark, response) of a random camera, (H, W) each.

    Dark charge is log-normal with a median of 0.004, and 0.1 % of the pixels are hot. Response falls off
    smoothly towards the corners, with a random deviation of 2.2 %.
    """
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    response = (1.03 - 0.07 * (rows**2 + columns**2)) * (1 + 0.022 * rng.standard_normal((height, width)))
    response[:, 0] *= 1.2
    dark = 0.004 * np.exp(0.43 * rng.standard_normal((height, width)))
    hot = rng.random((height, width)) < 0.001
    return np.where(
        hot, np.exp(rng.uniform(*np.log((0.02, 0.4)), dark.shape)), dark
    ), response / response.mean()


def scsim_camera(rng, height=HEIGHT, width=WIDTH):
    """(dark, response), (H, W) each, of a random camera with SCSim's constants (arXiv 2405.16790, v2s.py).

    Standard deviations: 4.55 % of the thresholds, 5.77 % of the response to light, 0.00182 of the dark
    charge, whose mean is 0.00468.
    """
    threshold = 1 + 0.0455 * rng.standard_normal((height, width))
    response = 1 + 0.0577 * rng.standard_normal((height, width))
    dark = np.maximum(0.00468 + 0.00182 * rng.standard_normal((height, width)), 0)
    return dark / threshold, response / threshold


CAMERAS = {"measured": measured_camera, "scsim": scsim_camera}


def record(light, camera, steps, rng):
    """Spikes (steps, H, W). light: a function of the step that returns thresholds per step, (H, W) or one."""
    dark, response = (part.astype(np.float32) for part in camera)
    charge, spikes = rng.random(dark.shape, np.float32), np.zeros((steps, *dark.shape), np.uint8)
    for step in range(steps):
        gathered = response * light(step) + dark
        charge += gathered + np.sqrt(gathered / ELECTRONS) * rng.standard_normal(dark.shape, np.float32)
        spikes[step] = charge >= 1
        charge = np.minimum(charge - spikes[step], 1)
    return spikes


def moving(path, shape, speed):
    """A function of the step that returns the photograph, moving to the left, in grey levels (H, W)."""
    photo, (height, width) = read_grey(path), shape
    scale = max(height / photo.shape[0], (width + speed * STEPS) / photo.shape[1])
    photo = cv2.resize(photo, None, fx=1.001 * scale, fy=1.001 * scale, interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    return lambda step: cv2.warpAffine(photo, np.float32([[1, 0, -speed * step], [0, 1, 0]]), (width, height))


def matched(picture, truth):
    """A picture with the gain and offset that fit it best to the truth."""
    return np.polyval(np.polyfit(picture.ravel(), truth.ravel(), 1), picture)


def score(spikes, truth, level, models, calibration):
    """{(kind, bin): (PSNR, picture)} of a recording.

    models: for plain and for calibrated recordings. calibration: path of the camera's calibration.
    """
    ways = dict(zip(KINDS, ((None, "none"), (None, "auto"), (calibration, "auto"))))
    found = {}
    for kind, way in ways.items():
        pixels = look_at_pixels(spikes, *way)
        filled, model = repair(spikes, pixels.bad), models[kind == "calibrated"]
        for bin in (bin for bin in BINS if bin * level <= 1):
            picture = next(reconstruct(filled, model, 20, KEY, KEY + 1, bin, calibration=pixels.maps))
            picture = matched(pixels.limit(picture, bin), truth)
            found[kind, bin] = 20 * np.log10(255) - 10 * np.log10(np.mean((picture - truth) ** 2)), picture
    return found


def main(arguments=None):
    settings = parse_settings(arguments)
    rng = np.random.default_rng(0)
    known = load_calibration(settings.camera) if settings.camera else None
    camera = (known.dark, known.response) if known else CAMERAS[settings.like](rng)
    dark, flat = (record(lambda _, light=light: light, camera, settings.steps, rng) for light in (0, FLAT))
    made = calibrate(("dark", dark), [("flat", flat)])[0]
    photos = sorted(path for path in settings.photos.iterdir() if read_grey(path) is not None)
    photos = [photos[len(photos) * i // settings.count] for i in range(settings.count)]
    shipped = [weights_for("recordings", calibrated) for calibrated in (False, True)]
    models = [load_model(settings.weights or weights) for weights in shipped]
    with tempfile.TemporaryDirectory() as folder:
        calibration = Path(folder) / "camera.npz"
        made.save(calibration)
        measure(settings, camera, calibration, photos, models, rng)
    return 0


def measure(settings, camera, calibration, photos, models, rng):
    """Print the table, and write the picture."""
    cli.log("| white, spikes per step | " + " | ".join(KINDS) + " |\n| --- | --- | --- | --- |")
    for level in settings.levels:
        scores = []
        for photo in tqdm(photos, f"{level:g}", unit="photo", leave=False):
            frame = moving(photo, camera[0].shape, settings.speed)
            spikes = record(
                lambda step, frame=frame, level=level: frame(step) / 255 * np.float32(level),
                camera,
                STEPS,
                rng,
            )
            scores.append(score(spikes, frame(KEY), level, models, calibration))
        best = {}
        for kind in KINDS:
            means = {
                bin: np.mean([found[kind, bin][0] for found in scores])
                for _, bin in scores[0]
                if (kind, bin) in scores[0]
            }
            best[kind] = max(zip(means.values(), means))
        cli.log(
            f"| {level:g} | " + " | ".join(f"{psnr:.1f} (bin {bin})" for psnr, bin in best.values()) + " |"
        )
        if settings.picture and level == SHOWN[0]:
            shown = [ToneCurve()(scores[0][kind, SHOWN[1]][1]) for kind in ("plain", "calibrated")]
            tables.write_picture(settings.picture, np.hstack(shown))


if __name__ == "__main__":
    cli.run(main)
