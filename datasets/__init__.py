"""Spike data: a path and a mode in, a dataset out."""

import signal
from pathlib import Path
from typing import Any

from swinsf.utils import opencv
from swinsf.utils.choices import PAIRED, SCENES
from swinsf.utils.cli import STOPPING, UserError, refuse
from swinsf.utils.timing import KEY_FRAMES, KEY_IDS, STEPS

SENSOR_OF = {"250": "reds", "1000": "x4k"}  # the sensor of simulated scenes, by data mode
FIXED_SCENES = 20  # scenes, at least, in the val and test split of photos:DIR, videos:DIR and frames:DIR


def open_dataset(
    path: str | Path,
    data_mode: str = "250",
    split: str = "test",
    key_id: int | None = None,
    crop_size: int = 0,
    length: int = 1000,
    seed: int = 0,
    sensor: str | None = None,
    steps_per_frame: int = 40,
    steps: int = STEPS,
    flip: bool | None = None,
    rate: float | None = None,
) -> Any:
    """The dataset at `path`: "demo", "photos:DIR", "videos:DIR", "frames:DIR" (simulated scenes) or a folder
    of spike streams.

    data_mode sets size and layout: "250" spike-REDS, "1000" spike-X4K, "no_gt" classA. A folder without
    pictures is taken as classA under "250" too. key_id chooses the picture to score of streams that have
    several. crop_size, length (samples an epoch) and seed are for scenes in training; other datasets are
    cropped by `Augmented`. sensor: of scenes, a name in SENSORS (default: SENSOR_OF). steps_per_frame, and
    steps that a scene must reach over: of videos. flip: whether a folder's streams are stored upside down
    (default: as those of its layout are). rate: spikes a step at white of a folder's streams (default: see
    `rates.choose`).

    The dataset has `description`, a line to print, `warnings`, more such lines, and items as in
    `augment.to_item`. Raises UserError where it cannot be opened or a file in it is bad.
    """
    # here, since PyTorch comes with them, for which the flags of scripts do not wait
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
            f"--key_id {key_id}: no output shows it; choose from {', '.join(map(str, KEY_IDS))}",
        ),
        (
            flip is not None and (demo or simulated),
            f"--flip {flip} with {path}: scenes are made upright; leave it out",
        ),
        (
            rate is not None and (demo or simulated),
            f"--rate {rate} with {path}: the rate of scenes is that of their sensor; leave it out",
        ),
        (
            demo and (data_mode, split) != ("250", "test"),
            "--dataset_path demo: only for testing, with --data_mode 250; name a dataset folder, photos:DIR, videos:DIR or frames:DIR",
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
            length = -(-FIXED_SCENES // kinds) * kinds  # as many of each kind
        style = STYLES[sensor if sensor in STYLES else data_mode]
        options = {"seed": seed, "key_id": key_id, "style": style, "sensors": SENSORS[sensor]}
        if kind != "photos":
            return (VideoScenes if kind == "videos" else FrameScenes)(
                source, split, height, width, length, steps_per_frame=steps_per_frame, steps=steps, **options
            )
        return PhotoScenes(source, split, height, width, length, **options)
    folder = layout.split_folder(Path(path), split)
    without = data_mode == "250" and split == "test" and not layout.has_truth(folder)
    if data_mode == "no_gt" or without:
        if key_id is not None:
            raise UserError(f"--key_id {key_id}: {folder} has no pictures to choose from; leave it out")
        try:
            return paired.ClassA(path, split, flip=flip, rate=rate)
        except UserError as error:
            raise UserError(
                f"{error} (taken as classA, since there is no {folder / 'gt'})" if without else str(error)
            ) from None
    return paired.PAIRED[data_mode](path, split, key_id, flip, rate)


def is_simulated(path):
    """Whether a dataset's path names scenes that are simulated as they are read."""
    return str(path).partition(":")[0] in SCENES and ":" in str(path)


def scored_output(item):
    """The output that an item is scored by: the middle one where the item has its picture or none, else the
    one it has."""
    there = [output for output in KEY_FRAMES if output in item]
    return there[0] if there and "middle" not in there else "middle"


def start_worker(_):
    """worker_init_fn: signals are the main process's affair, which ends its workers itself.

    Ctrl-C and many schedulers signal every process of a job; a worker that died of it would tear the current
    step.
    """
    opencv.set_up()  # its threads do not survive a fork; without this a worker would wait for them forever
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
