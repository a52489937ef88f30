"""The table of results: shipped weights, TFP and TFI, as Markdown.

    python -m tools.results --sample datasets/spike_reds_sample --photos DIR
    # make results:
    python -m tools.results --sample datasets/spike_reds_sample --photos DIR --check README.md

Each column is a dataset: the demo; fixed scenes over the validation photographs at 250x400, at 1000x1000 with
more motion, and with noisy cameras at four light levels; and each stream of a spike-REDS folder. Columns
without data are left out, with a message. Camera streams are binned as by --bin auto of reconstruct.py, and
their pictures scored after scaling to the scene's white; a second table lists them by light level. "TFP,
best" is the best of windows of 21 and 41 steps, for cameras also of 81 and 161.

Writes into SAVE_PATH: the tables, results.md; every figure of every stream, results.json; and the learning
curves from the logs beside the weights, curves.png. --check compares the table with the one in a README; the
exit status is 1 if a cell differs.
"""

import json
import re
import statistics
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from swinsf.datasets import open_dataset
from swinsf.datasets.paired import SpikeREDS
from swinsf.datasets.simulation import sampling
from swinsf.datasets.simulation.kinds import VALIDATION
from swinsf.evaluation import tables
from swinsf.evaluation.evaluate import BASELINES, calibrated, evaluate, network
from swinsf.evaluation.metrics import PROTOCOLS, psnr_ssim
from swinsf.models import SHIPPED, load_model
from swinsf.models.classical import tfi, tfp
from swinsf.recordings import choose_bin, survey
from swinsf.recordings.binning import bin_steps
from swinsf.training.log import read_lines
from swinsf.utils import choices, cli, flags
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import pick_device
from swinsf.utils.files import atomic_write
from swinsf.utils.guard import keep_out
from swinsf.utils.timing import KEY_FRAMES, STEPS

CORNER = "| | demo |"  # beginning of the table
COLUMNS = {
    "demo": "demo",
    "250": "validation, 250x400",
    "camera": "validation, cameras",
    "1000": "validation, 1000x1000",
}
LONG = 8 * STEPS + 1  # length of the cameras' streams, enough for `survey` and for long means in the dark
STRIDE = 20  # stride assumed for --bin auto, which chooses among its divisors
BEST = "TFP, best"


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("--sample", help="folder of spike-REDS test streams, one column each")
    flag("--photos", help="folder of photographs; scenes are simulated over its validation split")
    flag("--weights", nargs="+", type=Path, help="weights files (default: all in checkpoint/)")
    flag("--protocol", default="released", choices=PROTOCOLS, help="scoring protocol (default released)")
    sampler = {"default": "bicubic", "choices": choices.SAMPLERS}
    flag(
        "--sampler", **sampler, help="sampler of the scenes; spline makes different scenes (default bicubic)"
    )
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda if there is a GPU)")
    flag("--workers", type=flags.workers, default=1, help="data-loading processes (default 1)")
    place = Path("results/table")
    flag("--save_path", type=Path, default=place, help=f"folder for the results (default {place})")
    readme = {"type": Path, "metavar": "README.md"}
    flag("--check", **readme, help="file whose table must have the same figures, except for seconds")
    settings = parser.parse_args(arguments)
    if settings.check and (
        settings.weights or settings.protocol != "released" or settings.sampler != "bicubic"
    ):
        raise UserError(
            "--check: compares shipped weights under protocol released; leave out --weights, --protocol and "
            "--sampler"
        )
    return settings


def open_datasets(settings):
    """({column: dataset}, messages about columns left out)."""
    datasets, missing = {"demo": open_dataset("demo")}, []
    if settings.photos:
        for mode in ("250", "1000"):
            datasets[mode] = open_dataset(f"photos:{settings.photos}", mode, "val")
        datasets["camera"] = open_dataset(f"photos:{settings.photos}", "250", "val", sensor="camera")
        datasets["camera"].stream_steps = LONG
    else:
        missing.append("validation columns left out: no --photos")
    if settings.sample:
        datasets["sample"] = SpikeREDS(settings.sample)
    else:
        missing.append("spike-REDS columns left out: no --sample")
    return datasets, missing


def fits(model, column):
    """Whether to run a network on a column: with a token per pixel, a 1000x1000 picture takes a minute."""
    return column != "1000" or model.config.patch > 1


def methods_of(column, networks):
    """{name: method} for `evaluate`: TFI, TFP with several windows, and the networks."""
    if column != "camera":
        return {**BASELINES, **networks}
    first = (LONG - STEPS) // 2
    methods = {
        "TFI": lambda spikes, output, maps=None: calibrated(tfi(spikes, first + KEY_FRAMES[output]), maps)
    }
    for window in (41, 21, 81, 161):
        methods[f"TFP{window}"] = partial(tfp_in_long, first=first, window=window)
    for name, reconstruct in networks.items():
        methods[name] = partial(of_a_recording, reconstruct=reconstruct, first=first)
    return methods


def tfp_in_long(spikes, output, maps=None, *, first, window):
    return calibrated(tfp(spikes, first + KEY_FRAMES[output], window), maps)


def of_a_recording(spikes, output, maps=None, *, reconstruct, first):
    """A network's pictures of long streams (B, T, H, W), binned as by --bin auto of reconstruct.py.

    maps: the cameras' calibration (B, 2, H, W), for single steps, or None.
    """
    key, pictures = first + KEY_FRAMES[output], []
    for index, stream in enumerate(spikes.cpu().numpy()):
        bin, _ = choose_bin(survey(stream), STRIDE, key, key + 1)
        binned = bin_steps(stream, bin, key)
        start = binned.bin_of(key) - STEPS // 2
        window = torch.from_numpy(binned[start : start + STEPS])[None].to(spikes.device)
        own = None if maps is None else maps[index : index + 1] * maps.new_tensor([bin, 1]).view(1, 2, 1, 1)
        pictures.append(reconstruct(window, "middle", own) / bin)
    return torch.cat(pictures)


def with_best(figures):
    """{method: (PSNR, SSIM)} of a column for display: the best TFP replaces those of long windows."""
    best = max((pair for name, pair in figures.items() if name.startswith("TFP")), key=lambda pair: pair[0])
    networks = {name: pair for name, pair in figures.items() if not name.startswith(("TFI", "TFP"))}
    return {**{name: figures[name] for name in BASELINES}, BEST: best, **networks}


def level_table(rows, kinds=VALIDATION["camera"]):
    """Markdown lines: mean PSNR of the cameras' scenes by light level, one table for each kind of camera.

    rows: the rows of the column, whose scenes alternate between the kinds.
    """
    lines = []
    for name in dict.fromkeys(kind.name for kind in kinds):
        of_kind = [index for index, kind in enumerate(kinds) if kind.name == name]
        whites = [kinds[index].sensor.rate * kinds[index].sensor.exposure for index in of_kind]
        lines.append(
            f"| PSNR, {name}; spikes per step at white | "
            + " | ".join(f"{white:g}" for white in whites)
            + " |"
        )
        lines.append("| --- " * (len(of_kind) + 1) + "|")
        for method in sorted(rows[0].keys() - {"name"}):
            means = [
                statistics.mean(row[method]["psnr"] for row in rows[index :: len(kinds)]) for index in of_kind
            ]
            lines.append(f"| {method} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
        lines.append("")
    return lines[:-1]


def describe(model, device):
    """(parameters, GFLOP at 250x400 of the layers as drawn) of a network."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 41, 250, 400, device=device))
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() / 1e9


def scenes_by():
    """How the scenes are sampled, for the line below the table."""
    return "scenes by OpenCV {opencv}, grid {grid}, sampler {sampler}".format(**sampling.maker())


def make_table(scores, about):
    """Markdown lines.

    scores: {column: {method: (PSNR, SSIM)}}. about: {method: (parameters, GFLOP, seconds)}.
    """
    columns = list(scores)
    lines = ["| | " + " | ".join(columns) + " | parameters | GFLOP at 250x400 | seconds at 250x400 |"]
    lines.append("| --- " * (len(columns) + 4) + "|")
    for method in scores[columns[0]]:
        cells = [
            f"{scores[c][method][0]:.2f} / {scores[c][method][1]:.3f}" if method in scores[c] else ""
            for c in columns
        ]
        parameters, gflop, seconds = about.get(method, (None, None, None))
        cells += [f"{parameters:,}", f"{gflop:.1f}", f"{seconds:.2f}"] if parameters else ["", "", ""]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def read_table(text):
    """{method: {column: cell}} of the first table of results in Markdown, as text; {} if there is none."""
    _, corner, rest = text.partition(CORNER)
    table = {}
    for line in (corner + rest).splitlines():
        if not line.startswith("|"):
            break
        method, *table[method] = [cell.strip() for cell in line.strip().strip("|").split("|")]
    titles = table.pop("", [])
    table.pop("---", None)
    return {method: dict(zip(titles, cells)) for method, cells in table.items()}


def read_shown(path):
    """The table of results in a README. Raises UserError if there is no such file or table."""
    if not path.is_file():
        raise UserError(f"--check {path}: no such file; name the README that shows the table")
    shown = read_table(path.read_text(encoding="utf-8", errors="replace"))
    if not shown:
        raise UserError(
            f"--check {path}: no table that begins with {CORNER}; name the README that shows the table"
        )
    return shown


def columns_of(table):
    """A table's columns except seconds, which differ between runs."""
    titles = dict.fromkeys(title for row in table.values() for title in row)
    return [title for title in titles if not title.startswith("seconds")]


def compare(shown, made):
    """Compare two tables of `read_table`. Returns (number of cells compared, a line for each difference).

    Columns in only one table are left out. A method in only one table differs in all its cells.
    """
    count, differ = 0, []
    columns = [title for title in columns_of(shown) if title in columns_of(made)]
    for method in {**shown, **made}:
        for column in columns:
            before, now = (table.get(method, {}).get(column) or "empty" for table in (shown, made))
            count += (before, now) != ("empty", "empty")
            if before != now:
                differ.append(f"{method}, {column}: was {before}, is {now}")
    return count, differ


def check(path, shown, made, text=""):
    """(exit status, lines): differences between the table in the file `path` and the new one.

    text: the file's contents, which may name the OpenCV that made the scenes.
    """
    count, differ = compare(shown, made)
    lines = [
        f"{path}: {count} cells compared, " + (f"{len(differ)} differ:" if differ else "all equal"),
        *differ,
    ]
    if differ:
        before = re.search(r"scenes by (OpenCV [\d.]+), grid ([^,]+), sampler (\w+)", text)
        now = sampling.maker()
        if before and before.group(2, 3) != (now["grid"], now["sampler"]):
            lines.append(
                f"other scenes: those of {path} are by {before[1]}, grid {before[2]}, sampler {before[3]}; "
                f"now by OpenCV {now['opencv']}, grid {now['grid']}, sampler {now['sampler']}"
            )
        elif not before and now["grid"] != "exact":
            lines.append(
                f"the scenes may differ: OpenCV {now['opencv']} samples on a grid of {now['grid']}, OpenCV 5 "
                f"exactly, and {path} does not name its version"
            )
        lines.append(
            "figures depend on photographs and streams, and in the last digit on processor and PyTorch"
        )
    for why, one, other in ((f"not in {path}", made, shown), ("no data", shown, made)):
        columns = [title for title in columns_of(one) if title not in columns_of(other)]
        if columns:
            lines.append(f"unchecked, {why}: {', '.join(columns)}")
    return int(bool(differ)), lines


def main(arguments=None):
    settings = parse_settings(arguments)
    shown = read_shown(settings.check) if settings.check else None
    sampling.SAMPLER = settings.sampler
    device = pick_device(settings.device)
    paths = settings.weights or sorted(SHIPPED.glob("*.pth"), key=lambda path: path.stat().st_size)
    names = [path.name for path in paths]
    models = {
        f"`{path.name if names.count(path.name) == 1 else path}`": load_model(path, device) for path in paths
    }
    datasets, missing = open_datasets(settings)
    for dataset in datasets.values():
        keep_out(settings.save_path, "--save_path", dataset.files, dataset.folders)
    settings.save_path.mkdir(parents=True, exist_ok=True)

    def score(picture, truth):
        return psnr_ssim(picture, truth, settings.protocol)._asdict()

    scores, rows, seconds = {}, {}, {}
    for column, dataset in datasets.items():
        networks = {name: network(model) for name, model in models.items() if fits(model, column)}
        scored = evaluate(methods_of(column, networks), dataset, device, score, settings.workers, column)
        rows[column] = [{"name": item["name"], **figures} for item, _, figures in scored]
        if column == "demo":
            seconds = {
                name: statistics.median(row[name]["seconds"] for row in rows[column]) for name in models
            }
        parts = [[row] for row in rows[column]] if column == "sample" else [rows[column]]
        for part in parts:
            title = COLUMNS.get(column, part[0]["name"].split("_key")[0])
            means = {name: (m["psnr"], m["ssim"]) for name, m in tables.mean_figures(part).items()}
            scores[title] = with_best(means)
    about = {name: (*describe(model, device), seconds[name]) for name, model in models.items()}
    lines = [
        *make_table(scores, about),
        "",
        *([*level_table(rows["camera"]), ""] if "camera" in rows else []),
        f"PSNR / SSIM, protocol {settings.protocol}; on {tables.device_name(device)}; {scenes_by()}",
        *missing,
    ]
    with atomic_write(settings.save_path / "results.md", "w") as file:
        file.write("\n".join(lines) + "\n")
    with atomic_write(settings.save_path / "results.json", "w") as file:
        json.dump(tables.plain({"rows": rows, "about": about, "scenes": sampling.maker()}), file, indent=1)
    runs = {
        path.stem: [read_lines(log) for log in sorted(path.parent.glob(f"{path.stem}_*.jsonl"))]
        for path in paths
    }
    if any(runs.values()):
        tables.learning_curves(settings.save_path / "curves.png", runs)
    cli.log("\n".join(lines))
    if not shown:
        return 0
    text = settings.check.read_text(encoding="utf-8", errors="replace")
    status, found = check(settings.check, shown, read_table("\n".join(lines)), text)
    cli.log("\n".join(["", *found]))
    return status


if __name__ == "__main__":
    cli.run(main)
