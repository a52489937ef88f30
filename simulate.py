"""Simulate a spike-camera dataset from photographs or videos.

    python simulate.py --source photos:DIR --save_path datasets/spike_sim --split train --count 1000
    python simulate.py --source photos:DIR --save_path datasets/spike_sim --split test --count 20
    python simulate.py --source videos:DIR --save_path datasets/spike_video --steps_per_frame 40 --sensor camera
    python simulate.py --source frames:DIR --save_path datasets/spike_long --split test --long
    python train.py --dataset_path datasets/spike_sim

--data_mode 250 writes the spike-REDS layout (250x400; train 41 steps, test 301), 1000 the spike-X4K layout
(1000x1000, 41 steps). Train streams come with pictures of ids 7, 14, 21, 28 and 35, test streams with the
middle one. No photograph is in two splits. The same command resumes after an interruption: scene i depends
only on the settings and i, and scenes whose stream exists are skipped. meta.json records every setting, and
the sensor drawn for each scene; a folder that has other files but no meta.json is refused.
"""

import dataclasses
import json
import re
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from swinsf.datasets.simulation.sensor import IDEAL, REMAINDERS, SENSORS, STARTS
from swinsf.utils import choices, cli, flags
from swinsf.utils.cli import UserError
from swinsf.utils.cpus import available_cpus

LIMITS = {  # (minimum, maximum) of fields of Sensor
    "rate": (1e-3, 1),
    "hot": (0, 1),
    "hot_most": (0.02, 1),
    "dead": (0, 1),
    "recovery": (0, 1),
    "shading": (0, 0.99),
}
SENSOR_FLAGS = {  # one flag for each field of Sensor
    "--rate": "firing rate of grey level 255, in spikes per step",
    "--exposure": "gain of the light, in spikes and pictures; from 1 / rate on, white fires at every step and saturates",
    "--electrons": "photo-electrons per spike, for shot noise; 0: none",
    "--dark": "dark charge, in thresholds per step; the median over pixels",
    "--dark_spread": "spread of the dark charge over pixels: standard deviation of its natural logarithm",
    "--gain_spread": "spread of the response over pixels: relative standard deviation",
    "--threshold_spread": "spread of the threshold over pixels: relative standard deviation",
    "--column_spread": "spread of the response over columns",
    "--row_spread": "spread of the response over rows",
    "--first_column": "extra response of the first column, relative",
    "--first_row": "extra response of the first row, relative",
    "--shading": "shading by lens and lamp: largest difference from its mean of 1",
    "--dust": "mean number of dark spots per 100,000 pixels",
    "--hot": "fraction of hot pixels",
    "--hot_most": "largest dark charge of hot pixels, in thresholds per step; the smallest is 0.02",
    "--dead": "fraction of pixels that never fire",
    "--recovery": "fraction of its charge that a pixel gathers in the step after a spike",
    "--start": "initial charge: uniform over 0..threshold, or zero in all pixels",
    "--before": "number of steps simulated before the stream begins",
    "--remainder": "whether a spike keeps the charge above the threshold, or loses it",
    "--blur": "blur of the light, but not of the ground truth: Gaussian sigma in pixels",
    "--frames_every": "steps between two frames of the video that provides the light; 0: no video",
    "--grain": "noise of each video frame, in grey levels",
    "--drift": "smooth change of brightness of each video frame, relative",
    "--displacement": "displacement of each video frame, in pixels",
}


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        "--source",
        required=True,
        help="source of the scenes: photos:DIR, videos:DIR, videos:FILE or frames:DIR",
    )
    flag(
        "--save_path",
        type=Path,
        required=True,
        help="folder of the dataset: new, or made by this script",
    )
    flag(
        "--data_mode",
        default="250",
        choices=choices.PAIRED,
        help="size and layout of the data: 250 like spike-REDS, 1000 like spike-X4K (default 250)",
    )
    flag("--split", default="train", choices=choices.SPLITS, help="part of the dataset (default train)")
    flag("--count", type=flags.samples, default=100, help="total number of streams (default 100)")
    flag(
        "--steps_per_frame",
        type=flags.positive_int,
        default=40,
        help="number of steps between two frames of a video (default 40)",
    )
    flag(
        "--long",
        action="store_true",
        help="make one long stream of each video, with a picture of every frame, whatever --count says; "
        "needs --split val or test",
    )
    flag(
        "--sampler",
        choices=choices.SAMPLERS,
        default="bicubic",
        help="interpolation of moving pictures: bicubic, or spline, which is exact within a pixel but slower "
        "(default bicubic)",
    )
    flag("--seed", type=flags.count, default=0, help="random seed of scenes and sensors (default 0)")
    flag(
        "--workers",
        type=flags.workers,
        default=available_cpus(),
        help="number of processes (default: one for each available CPU)",
    )
    flag(
        "--sensor",
        choices=[*SENSORS],
        help="sensor preset; the flags below override its values (default: reds, or x4k in data mode 1000)",
    )
    for option, text in SENSOR_FLAGS.items():
        name = option.removeprefix("--")
        own = {preset: sensors.describe(name) for preset, sensors in SENSORS.items()}
        presets = ", ".join(f"{preset} {value}" for preset, value in own.items() if value != own["ideal"])
        flag(
            option, help=f"{text} (default {own['ideal']}{presets and ', ' + presets})", **flag_options(name)
        )
    return parser.parse_args(arguments)


def flag_options(name):
    """argparse's options for the flag of a field of `Sensor`."""
    choices_of = {"start": STARTS, "remainder": REMAINDERS}
    if name in choices_of:
        return {"choices": choices_of[name]}
    if isinstance(getattr(IDEAL, name), int):
        return {"type": flags.count}
    return {"type": flags.number(float, *LIMITS.get(name, (0, 1e6)))}


def look():
    """Parse the flags and check their paths, for `cli.begin`."""
    settings = parse_settings(None)
    kind, _, source = settings.source.partition(":")
    if kind in choices.SCENES and not Path(source).exists():
        name = {
            "photos": "folder of photographs",
            "videos": "video or folder of videos",
            "frames": "folder of frames",
        }[kind]
        raise UserError(f"{source}: no such {name}; check the path after {kind}:")


if __name__ == "__main__":
    cli.begin(look)  # before the slow imports

import numpy as np
from tqdm import tqdm

from swinsf.datasets import SENSOR_OF, is_simulated, open_dataset, start_worker
from swinsf.datasets.dat import write_dat
from swinsf.datasets.layout import SPLITS
from swinsf.datasets.paired import PAIRED
from swinsf.datasets.simulation import sampling
from swinsf.datasets.simulation.dataset import SCENE_DRAWS
from swinsf.datasets.simulation.folder import Place, claim_folder
from swinsf.datasets.simulation.footage import find_frames, find_videos
from swinsf.datasets.simulation.kinds import Kind
from swinsf.datasets.simulation.long import LongScene, pack
from swinsf.datasets.simulation.scenes import STYLES
from swinsf.datasets.simulation.sensor import Sensor, replaced
from swinsf.evaluation.tables import write_picture
from swinsf.utils.files import atomic_write
from swinsf.utils.guard import keep_out


def draw_sensor(settings, index):
    """The `Sensor` of scene `index`, drawn from the preset and overridden by flags. Raises UserError for
    impossible values."""
    sensors = SENSORS[settings.sensor or SENSOR_OF[settings.data_mode]]
    sensor = replaced(sensors.draw(scene_rng(settings, index, "sensor")), given_values(settings))
    if sensor.hot + sensor.dead > 1:
        raise UserError(
            f"--hot {sensor.hot:g} and --dead {sensor.dead:g}: together more than all pixels; lower one"
        )
    return sensor


def given_values(settings):
    """Field of `Sensor` -> its flag's value, or None if not given."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(Sensor)}


def scene_rng(settings, index, what):
    """The random generator of scene `index`, for its "sensor" or its "scene"."""
    split = list(SPLITS).index(settings.split)
    return np.random.default_rng([SCENE_DRAWS, settings.seed, split, index, ("sensor", "scene").index(what)])


def write_scene(index, scenes, place, settings):
    """Write scene `index`: its stream and pictures."""
    stream, pictures = place.paths(index)
    shown_at = {step: step for step in pictures}
    kind = Kind(draw_sensor(settings, index))
    scene = scenes.simulate(scene_rng(settings, index, "scene"), place.steps, shown_at, kind)
    try:
        for step, path in pictures.items():
            write_picture(path, np.round(scene[step].clip(0, 255)).astype(np.uint8))
        # the stream comes last, so that it never exists without its pictures
        write_dat(stream, scene["spikes"], place.flip)
    except OSError as error:
        raise UserError(
            f"{cli.one_line(error)}. Finished streams can be used; the same command resumes"
        ) from None


def write_scenes(indices, workers, *job):
    """Call `write_scene` for each index, in parallel processes; yields as each is done."""
    if workers < 2:
        for index in indices:
            yield write_scene(index, *job)
        return
    with ProcessPoolExecutor(workers, initializer=remember, initargs=job) as pool:
        try:
            yield from pool.map(write_remembered, indices)
        except BrokenProcessPool:
            raise MemoryError("a process was killed, probably for lack of memory") from None
        finally:
            pool.shutdown(cancel_futures=True)


def remember(*job):
    """Give a pool process its arguments, only once, because the frames of videos are large."""
    global remembered
    remembered = job
    sampling.SAMPLER = job[-1].sampler
    start_worker(None)


def write_remembered(index):
    write_scene(index, *remembered)


def write_long(settings, place, make_about):
    """`main` for --long: one stream for each video of the source."""
    kind, _, source = settings.source.partition(":")
    if kind == "photos" or settings.split == "train":
        raise UserError("--long: makes streams to score, from videos: or frames:; use --split test")
    size = PAIRED[settings.data_mode].height, PAIRED[settings.data_mode].width
    found = {"videos": find_videos, "frames": find_frames}[kind](source)
    scenes, bad = look_at_all(found, *size, settings.steps_per_frame)
    if not scenes:
        raise UserError(bad[0])
    found = [scene.footage for scene in scenes]
    names = [f.name if f.pictures else str(Path(f.name).with_suffix("")) for f in found]
    names = [re.sub(r"[^\w.-]", "_", name) for name in names]
    names = [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]
    sizes = {f.name: len(f.pictures) if f.pictures else f.path.stat().st_size for f in found}
    sensors = {name: dataclasses.asdict(draw_sensor(settings, i)) for i, name in enumerate(names)}
    about = make_about({"long": True}, sizes, sensors)
    place.check_links()
    keep_out(settings.save_path, "--save_path", [(f.pictures or [f.path])[0] for f in found], [source])
    claim_folder(settings.save_path, settings.split, json.loads(json.dumps({**about, "count": len(found)})))
    for text in bad:
        cli.log(f"warning: skipped: {text}")
    streams, pictures = place.folders
    for index, (name, scene) in enumerate(zip(names, scenes)):
        path = streams / f"{name}.dat"
        for leftover in streams.glob(f".{name}.dat.*"):  # from a write that was killed
            leftover.unlink()
        if path.exists():
            cli.log(f"{path}: already exists")
            continue
        for note in scene.notes:
            cli.log(f"warning: {scene.name}: {note}")
        steps = scene.stream(scene_rng(settings, index, "scene"), draw_sensor(settings, index))
        bar = tqdm(steps, name, scene.steps, unit="step", dynamic_ncols=True)
        with atomic_write(path) as file:  # the stream never exists without its pictures
            for step, (spikes, picture) in enumerate(bar):
                file.write(pack(spikes, place.flip))
                if picture is not None:
                    picture = np.round(picture.clip(0, 255)).astype(np.uint8)
                    write_picture(pictures / f"{name}_key_id{step + 1}.png", picture)
        cli.log(f"{path}: {scene.steps} steps, {len(scene.shown)} pictures")
    cli.log(f"dataset: {settings.save_path}")
    return 0


def look_at_all(found, *options):
    """([the `LongScene` of each footage that can be used], [why the others cannot])."""
    scenes, bad = [], []
    for footage in tqdm(found, "reading", unit="video", leave=False, delay=2):
        try:
            scenes.append(LongScene(footage, *options))
        except UserError as error:
            bad.append(str(error))
    return scenes, bad


def main(arguments=None):
    settings = parse_settings(arguments)
    if not is_simulated(settings.source):
        raise UserError(
            f"--source {settings.source}: choose from {', '.join(f'{kind}:DIR' for kind in choices.SCENES)}"
        )
    place = Place(settings.save_path / settings.split, settings.data_mode, settings.split)
    sampling.SAMPLER = settings.sampler
    style = STYLES[settings.sensor if settings.sensor in STYLES else settings.data_mode]
    options = {"steps_per_frame": settings.steps_per_frame, "steps": place.steps}

    def about(more, sources, sensors):
        """The split's entry in meta.json."""
        return {
            "source": settings.source,
            "data_mode": settings.data_mode,
            "seed": settings.seed,
            **options,
            **({"sampler": settings.sampler} if settings.sampler != "bicubic" else {}),
            **more,
            "style": dataclasses.asdict(style),
            "sensor": settings.sensor or SENSOR_OF[settings.data_mode],
            "given": {name: value for name, value in given_values(settings).items() if value is not None},
            "sources": sources,
            "count": settings.count,
            "made_with": sampling.maker(),
            "sensors": sensors,
        }

    if settings.long:
        return write_long(settings, place, about)
    scenes = open_dataset(
        settings.source,
        settings.data_mode,
        settings.split,
        length=settings.count,
        sensor=settings.sensor,
        **options,
    )
    sensors = {place.name(i): dataclasses.asdict(draw_sensor(settings, i)) for i in range(settings.count)}
    place.check_links()
    _, _, source = settings.source.partition(":")
    trees = (
        [] if settings.source.startswith("photos:") else [source]
    )  # photographs are not searched in subfolders
    keep_out(settings.save_path, "--save_path", scenes.files, trees)
    claim_folder(
        settings.save_path, settings.split, json.loads(json.dumps(about({}, scenes.source_sizes, sensors)))
    )
    cli.log(scenes.description)
    for text in scenes.warnings:
        cli.log(f"warning: {text}")
    for leftover in place.folder.glob("*/.scene*"):  # from a write that was killed
        leftover.unlink()
    missing = [index for index in range(settings.count) if not place.paths(index)[0].exists()]
    done = settings.count - len(missing)
    written = write_scenes(missing, min(settings.workers, len(missing)), scenes, place, settings)
    with cli.memory_errors(f"lower --workers {settings.workers}"):
        for _ in tqdm(written, "simulate", settings.count, initial=done, unit="scene", dynamic_ncols=True):
            pass
    cli.log(
        f"{len(missing)} streams of {place.steps} steps written, {done} existed; dataset: {settings.save_path}"
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
