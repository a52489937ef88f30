"""Reconstruct a dataset and score it.

    python test.py                                  # the embedded demo dataset, with the shipped weights
    python test.py --data_mode 250 --dataset_path ./datasets/spike_reds --device cuda:0
    python test.py --data_mode 1000 --dataset_path ./datasets/spike_x4k --load_model W --save_image False --save_path DIR
    python test.py --data_mode 250 --dataset_path ./datasets/classA         # no ground truth: NIQE
    python test.py --dataset_path ./datasets/spike_reds --report --compare WGSE=DIR      # DIR has a NAME.png for each stream
    torchrun --nproc_per_node 8 test.py --dataset_path ./datasets/spike_reds             # each process takes a share

Below SAVE_PATH: NAME.png, NAME_spike.png (the key frame) and NAME_gt.png of each stream, metrics.csv,
metrics.json, comparison.png and, with --report, report.html, to be opened in a browser.
"""

import math
import os
import time
from pathlib import Path

from swinsf.utils import choices, cli
from swinsf.utils.cli import UserError
from swinsf.utils.timing import KEY_FRAMES, KEY_IDS

FIGURE_ROWS = 6  # streams in the comparison figure
PURPOSES = {"250": "spike-REDS", "1000": "spike-X4K"}  # of the shipped weights that are taken, by data mode
# A GPU takes as many pictures at a time as have the pixels of one of 1000x1000, and threads score while it
# works. On a CPU they would take the network's cores, and its seconds would be wrong.
ON_GPU = {"pixels": 10**6, "scorers": 4}


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        "--data_mode",
        default="250",
        choices=choices.DATA_MODES,
        help="size and layout of the data (default 250)",
    )
    flag(
        "--dataset_path",
        default="demo",
        help="a dataset folder, photos:DIR or videos:DIR for simulated scenes, or demo",
    )
    flag("--split", default="test", choices=choices.SPLITS, help="part of the dataset (default test)")
    flag(
        "--key_id",
        type=int,
        help=f"which picture to score where a stream has several: {', '.join(map(str, KEY_IDS))}",
    )
    flag(
        "--flip",
        type=cli.truth,
        help="whether streams are stored upside down, True or False (default: goes by the dataset)",
    )
    flag(
        "--rate",
        type=cli.rate,
        help="spikes a step at white (default: as recorded or measured, 0.6 without pictures)",
    )
    flag("--load_model", type=Path, help="weights (default: the shipped ones for such data)")
    flag(
        "--precision",
        default="fp32",
        choices=choices.PRECISIONS,
        help="of the layers between spikes and pictures",
    )
    flag(
        "--tf32",
        action="store_true",
        help="TF32 in float32 products and convolutions on CUDA: faster, off by 0.3 grey levels",
    )
    flag(
        "--calibration",
        type=Path,
        help="the camera's, by calibrate.py, of streams without ground truth (default: none)",
    )
    flag(
        "--tile",
        type=cli.count,
        default=0,
        help="largest side of the tiles to cut pictures into; 0: whole (default 0)",
    )
    flag(
        "--compile",
        action="store_true",
        help="run the blocks through torch.compile, for CUDA; slower on a CPU",
    )
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda where there is one)")
    flag("--save_path", type=Path, help="folder of the results (default: results/ and the dataset's name)")
    flag("--overwrite", action="store_true", help="replace the results of another dataset")
    flag(
        "--save_image",
        nargs="?",
        type=cli.truth,
        const=True,
        default=True,
        help="write the PNGs, True or False (default True)",
    )
    flag(
        "--protocol",
        default="released",
        choices=choices.PROTOCOLS,
        help="how PSNR and SSIM are computed (default released)",
    )
    flag(
        "--niqe_params",
        type=Path,
        default=choices.PRISTINE,
        help="NIQE's pristine statistics, .npz or .mat (default: our own)",
    )
    flag(
        "--report", action="store_true", help="write report.html, a page that shows the methods side by side"
    )
    flag(
        "--compare",
        type=cli.named_folder,
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="pictures of another method, NAME.png as ours: a column more",
    )
    flag("--workers", type=cli.workers, default=1, help="processes that read streams (default 1)")
    return parser.parse_args(arguments)


def look():
    """`cli.begin` of this script: parse the flags and look at the paths that they name."""
    settings = parse_settings(None)
    choices.look_at_weights(settings.load_model)
    choices.look_at_calibration(settings.calibration)
    choices.look_at_dataset(settings.dataset_path)


if __name__ == "__main__":
    cli.begin(look)  # before the imports that take seconds

import numpy as np

from swinsf.datasets import is_simulated, open_dataset, scored_output
from swinsf.datasets.paired import LOOKED_AT, ClassA
from swinsf.evaluation import page, tables
from swinsf.evaluation.evaluate import BASELINES, evaluate, network
from swinsf.evaluation.metrics import psnr_ssim, to_bytes
from swinsf.evaluation.niqe import niqe, read_statistics
from swinsf.models import fast, fit_of, load_model, weights_file, weights_for
from swinsf.recordings import look_at_pixels
from swinsf.recordings.repair import Filler
from swinsf.utils.allocator import tune_allocator
from swinsf.utils.distributed import (
    check_compiler,
    first_then_others,
    interleaved,
    pick_device,
    processes,
    set_tf32,
)
from swinsf.utils.guard import keep_out, read_json, real_path


def check_outputs(folder, settings, dataset):
    """Make the results folder, and refuse what would write over the dataset or over another stream's
    pictures."""
    if not settings.overwrite:
        check_own(folder, settings)
    keep_out(folder, "--save_path", dataset.files, dataset.folders, [place for _, place in settings.compare])
    taken = {"comparison"}
    for name in dataset.names:
        outputs = {name, f"{name}_spike", f"{name}_gt"}
        if outputs & taken:
            raise UserError(
                f"{name}.dat: its pictures would be written over those of another stream; rename it"
            )
        taken |= outputs
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"--save_path {folder}: may not be written to; take another folder")


def check_own(folder, settings):
    """Raises UserError where the results of another dataset, or of another split, lie in the folder."""
    try:
        scored = read_json(folder / tables.METRICS).get("scored")
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError):
        scored = None
    if scored != describe_source(settings):
        raise UserError(
            f"--save_path {folder}: has the results of {scored or 'an older version of this script'}; add --overwrite, or "
            "take another folder"
        )


def describe_source(settings):
    """What a dataset's path and --split name, wherever the script was called."""
    kind, path = settings.dataset_path.partition(":")[0], settings.dataset_path
    place = path if path == "demo" else f"{kind}:{source_of(path)}" if is_simulated(path) else source_of(path)
    return f"{place} ({settings.split})"


def make_score(settings):
    """The score function of `evaluation.evaluate.evaluate`: PSNR and SSIM with a ground truth, NIQE without
    one."""
    statistics = read_statistics(settings.niqe_params)

    def score(picture, truth):
        if truth is None:
            return {"niqe": niqe(to_bytes(picture), statistics)}
        return psnr_ssim(picture, truth, settings.protocol)._asdict()

    return score


def prepare(settings, device):
    """(weights' path, methods, dataset, score, results folder); raises UserError for whatever is wrong with
    the settings."""
    stored = {"flip": settings.flip, "rate": settings.rate}
    dataset = open_dataset(
        settings.dataset_path, settings.data_mode, settings.split, settings.key_id, **stored
    )
    purpose = "recordings" if isinstance(dataset, ClassA) else PURPOSES[settings.data_mode]
    weights = weights_file(settings.load_model or weights_for(purpose))
    model = load_model(weights, device, settings.precision)
    if settings.compile:
        check_compiler(device)
        fast.compile_blocks(model)
    methods = {**BASELINES, "SwinSF": network(model, settings.tile)}
    if settings.calibration:
        limit = calibrate(dataset, settings)
        methods = {name: limited(method, limit) for name, method in methods.items()}
    score = make_score(settings)
    folder = settings.save_path or Path("results") / source_of(settings.dataset_path).name
    check_outputs(folder, settings, dataset)
    page.check_folders(settings.compare, dataset.names, methods)
    return weights, methods, dataset, score, folder


def calibrate(dataset, settings):
    """Give a dataset the maps of --calibration and have it fill bad pixels; the grey level at which pixels
    saturate.

    Raises UserError if the dataset has ground truth, or is of another camera.
    """
    path = settings.calibration
    if not isinstance(dataset, ClassA):
        raise UserError(
            f"--calibration {path}: for recordings of a camera without ground truth (classA); leave it out"
        )
    looks = np.concatenate([dataset.read(i)["spikes"] for i in range(min(LOOKED_AT, len(dataset)))])
    pixels = look_at_pixels(looks, path, name=settings.dataset_path)
    for line in pixels.lines:
        cli.log(line)
    dataset.maps = dict(zip(("dark", "response"), pixels.maps))
    if pixels.bad.any():
        dataset.fill = Filler(pixels.bad)
    return float(pixels.limit(np.inf))


def limited(method, limit):
    """A method of `evaluation.evaluate.evaluate` whose pictures are cut at a grey level."""
    return lambda *arguments: method(*arguments).clamp(max=limit)


def source_of(path):
    """The folder that a dataset's path names."""
    return real_path(path.partition(":")[2] if is_simulated(path) else path)


def write_results(folder, settings, rows, steps, shown, frames, facts):
    """The files of a dataset's figures, and the table on the screen. shown, frames: stream -> what
    `score_streams` has of it.

    steps: stream -> the step of it that was scored, counted from 1.
    """
    protocol = settings.protocol if "psnr" in rows[0]["SwinSF"] else f"NIQE with {settings.niqe_params.name}"
    about = {
        "protocol": protocol,
        "weights": facts["weights"],
        "weights_sha256": tables.sha256(Path(facts["weights"])),
        "dataset": facts["dataset"],
        "scored": describe_source(settings),
        "settings": {
            key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()
        },
    }
    tables.write_metrics(folder, rows, "SwinSF", about, steps)
    tables.comparison_figure(folder / "comparison.png", [*shown.items()])
    if settings.report:
        title = f"{source_of(settings.dataset_path).name}: spike camera reconstructions"
        facts = {**facts, "protocol": protocol, "precision": settings.precision}
        compared = settings.compare[0][0] if settings.compare else "TFP21"
        page.write_page(folder / "report.html", title, "stream", facts, rows, frames, (compared, "SwinSF"))
    cli.log(tables.format_table(rows, steps))


def score_streams(settings, methods, dataset, device, score, folder):
    """Reconstruct, score and save this process's share of a dataset.

    Returns a list of (row, figure, frame): {"name": ..., method: figures}; the pictures by title for the
    comparison figure, and the moment for the page, None where a stream is not shown there.
    """
    results, shown, framed = (
        [],
        dataset.names[:FIGURE_ROWS],
        dataset.names[: page.STREAMS] if settings.report else (),
    )
    options = ON_GPU if device.type == "cuda" else {}
    if settings.tile:  # memory is short
        options = {**options, "pixels": 0}
    for item, pictures, figures in evaluate(methods, dataset, device, score, settings.workers, **options):
        output, name = scored_output(item), item["name"]
        spikes = {"spikes": 255 * item["spikes"][KEY_FRAMES[output]].numpy()}
        truth = {page.TRUTH: item[output][0].numpy()} if output in item else {}
        for method, compared in settings.compare:
            pictures[method] = page.read_compared(compared, name, spikes["spikes"].shape)
            figures[method] = {**score(pictures[method], truth.get(page.TRUTH)), "seconds": math.nan}
        if settings.save_image:
            tables.write_picture(folder / f"{name}.png", pictures["SwinSF"])
            tables.write_picture(folder / f"{name}_spike.png", spikes["spikes"])
            for picture in truth.values():
                tables.write_picture(folder / f"{name}_gt.png", picture)
        figure = {**spikes, **{title: pictures[title] for title in ("TFI", "TFP21", "SwinSF")}, **truth}
        frame = page.make_frame({**spikes, **pictures, **truth}) if name in framed else None
        results.append(({"name": name, **figures}, figure if name in shown else None, frame))
    return results


def main(arguments=None):
    settings = parse_settings(arguments)
    device = pick_device(settings.device)
    set_tf32(settings.tf32)
    with processes() as (rank, size):
        weights, methods, dataset, score, folder = first_then_others(lambda: prepare(settings, device))
        cli.log(dataset.description)
        for text in dataset.warnings:
            cli.log(f"warning: {text}")
        fit, shared = fit_of(weights), f", {size} processes" if size > 1 else ""
        cli.log(
            f"weights {weights}{f', for {fit.purpose},' if fit else ''} in {settings.precision} on {device}{shared}"
        )
        begin = time.perf_counter()
        with cli.memory_errors("set --tile 320, or take --device cpu or the weights of a smaller variant"):
            results = score_streams(settings, methods, dataset, device, score, folder)
        seconds = time.perf_counter() - begin
        results = interleaved(results)
        if rank == 0:
            rows = [row for row, _, _ in results]
            shown = {row["name"]: figure for row, figure, _ in results if figure}
            frames = {row["name"]: [frame] for row, _, frame in results if frame}
            facts = {"dataset": dataset.description, "weights": str(weights), "device": str(device)}
            write_results(folder, settings, rows, dataset.steps, shown, frames, facts)
            cli.log(f"{len(rows)} pictures in {seconds:.1f} s; results in {folder.resolve()}")
    return 0


if __name__ == "__main__":
    tune_allocator()
    cli.run(main)
