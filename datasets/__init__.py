"""Opens spike datasets, on disk or simulated, by path and data mode."""

import signal
from pathlib import Path
from typing import Any

from swinsf.utils import opencv
from swinsf.utils.choices import PAIRED, SCENES
from swinsf.utils.cli import UserError, refuse
from swinsf.utils.stopping import STOPPING
from swinsf.utils.timing import KEY_FRAMES, KEY_IDS, STEPS

SENSOR_OF = {"250": "reds", "1000": "x4k"}  # default sensor of simulated scenes, by data mode
FIXED_SCENES = 20  # minimum number of scenes in val and test of photos:DIR, videos:DIR and frames:DIR


def open_dataset(
    path: str | Path,
    data_mode: str = "250",
    split: str = "test",
    key_id: int | None = None,
    crop_size: int = 0,
    length: int = 1000,
    seed: int = 0,
    sensor: str | None = None,
    calibrated: float | None = None,
    steps_per_frame: int = 40,
    steps: int = STEPS,
    flip: bool | None = None,
    rate: float | None = None,
) -> Any:
    """Open the dataset at `path`: "demo", simulated scenes ("photos:DIR", "videos:DIR", "frames:DIR") or a
    folder of spike streams.

    data_mode sets size and layout: "250" spike-REDS, "1000" spike-X4K, "no_gt" classA. A folder without
    pictures opens as classA under "250" too. key_id: the picture to score if a stream has several.
    crop_size, length (samples per epoch) and seed are for training scenes; `Augmented` crops other datasets.
    sensor: the scenes' sensor, a name in SENSORS (default: SENSOR_OF). calibrated: share of the training scenes
    of sensor "camera" that come with a calibration (default: half). steps_per_frame, and steps that each
    scene must cover, are for videos and frames. flip: whether a folder's streams are stored upside down
    (default: as usual in its layout). rate: spikes per step at white of a folder's streams (default: see
    `rates.choose`).

    The dataset has `description`, a line to print; `warnings`, a list of lines; and items as in
    `augment.to_item`. Raises UserError if it cannot be opened or has a bad file.
    """
    # Imported here because they load PyTorch, and the scripts parse their flags before that.
    from swinsf.datasets import layout, paired
    from swinsf.datasets.simulation.dataset import DemoScenes, PhotoScenes
    from swinsf.datasets.simulation.kinds import fixed_kinds
    from swinsf.datasets.simulation.scenes import STYLES
    from swinsf.datasets.simulation.sensor import SENSORS
    from swinsf.datasets.simulation.videos import FrameScenes, VideoScenes

    path = str(path)
    simulated, demo = is_simulated(path), path == "demo"
    rules = (
        (
            key_id is not None and key_id not in KEY_IDS,
            f"--key_id {key_id}: the network has no such output; choose from {', '.join(map(str, KEY_IDS))}",
        ),
        (
            flip is not None and (demo or simulated),
            f"--flip {flip} with {path}: simulated scenes are always upright; leave it out",
        ),
        (
            rate is not None and (demo or simulated),
            f"--rate {rate} with {path}: the sensor sets the rate of simulated scenes; leave it out",
        ),
        (
            calibrated is not None and not (simulated and sensor == "camera"),
            f"--calibrated {calibrated}: only scenes of --sensor camera come with a calibration; leave it out",
        ),
        (
            demo and (data_mode, split) != ("250", "test"),
            "--dataset_path demo: only for testing, with --data_mode 250; give a dataset folder, photos:DIR, videos:DIR or frames:DIR",
        ),
        (
            simulated and data_mode not in PAIRED,
            f"--data_mode {data_mode} with {path}: scenes have ground truth; choose from {', '.join(PAIRED)}",
        ),
    )
    refuse(rules)
    if demo:
        return DemoScenes(key_id)
    if simulated:
        kind, _, source = path.partition(":")
        height, width = paired.PAIRED[data_mode].height, paired.PAIRED[data_mode].width
        if split == "train":
            height, width = crop_size or height, crop_size or width
        sensor = sensor or SENSOR_OF[data_mode]
        if split != "train":
            kinds = len(fixed_kinds(SENSORS[sensor])) or 1
            length = -(-FIXED_SCENES // kinds) * kinds  # the same number of each kind
        style = STYLES[sensor if sensor in STYLES else data_mode]
        options = {"seed": seed, "key_id": key_id, "style": style, "sensors": SENSORS[sensor]}
        if calibrated is not None:
            options["calibrated"] = calibrated
        if kind != "photos":
            return (VideoScenes if kind == "videos" else FrameScenes)(
                source, split, height, width, length, steps_per_frame=steps_per_frame, steps=steps, **options
            )
        return PhotoScenes(source, split, height, width, length, **options)
    folder = layout.split_folder(Path(path), split)
    no_truth = data_mode == "250" and split == "test" and not layout.has_truth(folder)
    if data_mode == "no_gt" or no_truth:
        if key_id is not None:
            raise UserError(f"--key_id {key_id}: {folder} has no pictures to choose from; leave it out")
        try:
            return paired.ClassA(path, split, flip=flip, rate=rate)
        except UserError as error:
            raise UserError(
                f"{error} (opened as classA, since there is no {folder / 'gt'})" if no_truth else str(error)
            ) from None
    return paired.PAIRED[data_mode](path, split, key_id, flip, rate)


def is_simulated(path):
    """Whether a dataset path stands for scenes simulated on the fly."""
    return str(path).partition(":")[0] in SCENES and ":" in str(path)


def scored_output(item):
    """The output to score an item by: the middle one, unless the item has only another output's picture."""
    pictures = [output for output in KEY_FRAMES if output in item]
    return pictures[0] if pictures and "middle" not in pictures else "middle"


def start_worker(_):
    """worker_init_fn of a DataLoader: ignore signals, since the main process stops its workers.

    Ctrl-C and many schedulers signal every process of a job; a worker that died of it would break the current
    iteration.
    """
    opencv.set_up()  # OpenCV's threads do not survive a fork; a worker would wait for them forever
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
