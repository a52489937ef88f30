"""Reconstruct a dataset and score it.

    python test.py                                  # the embedded demo dataset, with the shipped weights
    python test.py --data_mode 250 --dataset_path ./datasets/spike_reds --device cuda:0
    python test.py --data_mode 1000 --dataset_path ./datasets/spike_x4k --load_model W --save_image False --save_path DIR
    python test.py --data_mode 250 --dataset_path ./datasets/classA         # no ground truth: NIQE
    python test.py --dataset_path ./datasets/spike_reds --report --compare WGSE=DIR      # DIR has a NAME.png for each stream
    torchrun --nproc_per_node 8 test.py --dataset_path ./datasets/spike_reds             # each process takes a share

Below SAVE_PATH: NAME.png, NAME_spike.png (the key frame) and NAME_gt.png of each stream, metrics.csv, metrics.json,
comparison.png and, with --report, report.html, to be opened in a browser.
"""

import collections
import math
import os
import time
from pathlib import Path

from datasets import DATA_MODES, is_simulated, open_dataset, scored_output
from datasets.paired import SPLITS, ClassA
from engine import BASELINES, evaluate, network
from models import PRECISIONS, fit_of, load_model, weights_for
from utils import cli, page, report
from utils.cli import UserError
from utils.distributed import agree, gather, pick_device, processes
from utils.files import keep_out, real_path
from utils.inference import keep_freed_memory
from utils.metrics import PROTOCOLS, psnr_ssim, to_bytes
from utils.niqe import PRISTINE, niqe, read_statistics
from utils.protocol import KEY_FRAMES, KEY_IDS

FIGURE_ROWS = 6  # streams in the comparison figure
PURPOSES = {"250": "spike-REDS", "1000": "spike-X4K"}  # of the shipped weights that are taken, by data mode


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("--data_mode", default="250", choices=DATA_MODES, help="size and layout of the data (default 250)")
    flag("--dataset_path", default="demo", help="a dataset folder, photos:DIR or videos:DIR for simulated scenes, or demo")
    flag("--split", default="test", choices=[*SPLITS], help="part of the dataset (default test)")
    flag("--key_id", type=int, help=f"which picture to score where a stream has several: {', '.join(map(str, KEY_IDS))}")
    flag("--load_model", type=Path, help="weights (default: the shipped ones for such data)")
    flag("--precision", default="fp32", choices=[*PRECISIONS], help="of the layers between spikes and pictures (default fp32)")
    flag("--tile", type=cli.count, default=0, help="largest side of the tiles to cut pictures into; 0: whole (default 0)")
    flag("--compile", action="store_true", help="run the blocks through torch.compile, for CUDA; slower on a CPU")
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda where there is one)")
    flag("--save_path", type=Path, help="folder of the results (default: results/ and the dataset's name)")
    flag("--save_image", nargs="?", type=cli.truth, const=True, default=True, help="write the PNGs, True or False (default True)")
    flag("--protocol", default="released", choices=PROTOCOLS, help="how PSNR and SSIM are computed (default released)")
    flag("--niqe_params", type=Path, default=PRISTINE, help="NIQE's pristine statistics, .npz or .mat (default: our own)")
    flag("--report", action="store_true", help="write report.html, a page that shows the methods side by side")
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


def check_outputs(folder, settings, dataset):
    """Make the results folder, and refuse what would write over the dataset or over another stream's pictures."""
    keep_out(folder, "--save_path", dataset.files, dataset.folders, [place for _, place in settings.compare])
    taken = {"comparison"}
    for name in dataset.names:
        outputs = {name, f"{name}_spike", f"{name}_gt"}
        if outputs & taken:
            raise UserError(f"{name}.dat: its pictures would be written over those of another stream; rename it")
        taken |= outputs
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"--save_path {folder}: may not be written to; take another folder")


def make_score(settings):
    """The score function of `engine.evaluate`: PSNR and SSIM beside a ground truth, NIQE without one."""
    statistics = read_statistics(settings.niqe_params)

    def score(picture, truth):
        if truth is None:
            return {"niqe": niqe(to_bytes(picture), statistics)}
        return dict(zip(("psnr", "ssim"), psnr_ssim(picture, truth, settings.protocol)))

    return score


def prepare(settings, device):
    """(weights' path, methods, dataset, score, results folder); raises UserError for whatever is wrong with the settings."""
    dataset = open_dataset(settings.dataset_path, settings.data_mode, settings.split, settings.key_id)
    purpose = "recordings" if isinstance(dataset, ClassA) else PURPOSES[settings.data_mode]
    weights = settings.load_model or weights_for(purpose)
    model = load_model(weights, device, settings.precision)
    if settings.compile:
        model.compile_blocks(device)
    methods = {**BASELINES, "SwinSF": network(model, settings.tile)}
    score = make_score(settings)
    folder = settings.save_path or Path("results") / source_of(settings.dataset_path).name
    check_outputs(folder, settings, dataset)
    page.check_folders(settings.compare, dataset.names, methods)
    return weights, methods, dataset, score, folder


def source_of(path):
    """The folder that a dataset's path names."""
    return real_path(path.partition(":")[2] if is_simulated(path) else path)


def write_results(folder, settings, rows, shown, frames, facts):
    """The files of a dataset's figures, and the table on the screen. shown, frames: by stream, see `main`."""
    protocol = settings.protocol if "psnr" in rows[0]["SwinSF"] else f"NIQE with {settings.niqe_params.name}"
    about = {
        "protocol": protocol,
        "weights": facts["weights"],
        "weights_sha256": report.sha256(Path(facts["weights"])),
        "dataset": facts["dataset"],
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()},
    }
    report.write_metrics(folder, rows, "SwinSF", about)
    report.comparison_figure(folder / "comparison.png", [*shown.items()])
    if settings.report:
        title = f"{source_of(settings.dataset_path).name}: spike camera reconstructions"
        facts = {**facts, "protocol": protocol, "precision": settings.precision}
        page.write_page(folder / "report.html", title, "stream", facts, rows, frames, ("TFP21", "SwinSF"))
    cli.say(report.format_table(rows))


def in_order(parts, names):
    """One dict of the processes' dicts by stream, in the order of the names."""
    merged = collections.ChainMap(*parts)
    return {name: merged[name] for name in names if name in merged}


def main(arguments=None):
    settings = parse_settings(arguments)
    device = pick_device(settings.device)
    with processes() as (rank, size):
        prepared = prepare(settings, device) if rank == 0 else None  # it alone says what is wrong
        agree(None)
        weights, methods, dataset, score, folder = prepared or prepare(settings, device)
        cli.say(dataset.description)
        fit, shared = fit_of(weights), f", {size} processes" if size > 1 else ""
        cli.say(f"weights {weights}{f', for {fit.purpose},' if fit else ''} in {settings.precision} on {device}{shared}")
        names, shown, frames = dataset.names, {}, {}  # of the first streams: pictures for the comparison figure, and for the page

        def keep(row, item, pictures):
            output, name = scored_output(item), item["name"]
            shot = {"spikes": 255 * item["spikes"][KEY_FRAMES[output]].numpy()}
            truth = {page.TRUTH: item[output][0].numpy()} if output in item else {}
            for method, compared in settings.compare:
                pictures[method] = page.read_compared(compared, name, shot["spikes"].shape)
                row[method] = {**score(pictures[method], *(truth.values() or [None])), "seconds": math.nan}
            if settings.save_image:
                report.write_picture(folder / f"{name}.png", pictures["SwinSF"])
                report.write_picture(folder / f"{name}_spike.png", shot["spikes"])
                for picture in truth.values():
                    report.write_picture(folder / f"{name}_gt.png", picture)
            if name in names[:FIGURE_ROWS]:
                shown[name] = {**shot, **{title: pictures[title] for title in ("TFI", "TFP21", "SwinSF")}, **truth}
            if settings.report and name in names[: page.STREAMS]:
                frames[name] = [page.make_frame({**shot, **pictures, **truth})]

        begin = time.perf_counter()
        with cli.memory_errors("set --tile 320, or take --device cpu or the weights of a smaller variant"):
            rows = evaluate(methods, dataset, device, score, settings.workers, keep)
        seconds = time.perf_counter() - begin
        shown, frames = (in_order(gather(part), names) for part in (shown, frames))
        if rank == 0:
            facts = {"dataset": dataset.description, "weights": str(weights), "device": str(device)}
            write_results(folder, settings, rows, shown, frames, facts)
            cli.say(f"{len(rows)} pictures in {seconds:.1f} s; results in {folder}")
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    cli.run(main)
