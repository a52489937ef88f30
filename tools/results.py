"""The table of results: the shipped weights compared with TFP and TFI, as Markdown.

    python -m tools.results --sample datasets/spike_reds_sample --photos DIR
    python -m tools.results --sample datasets/spike_reds_sample --photos DIR --check README.md    # make results

Columns are datasets: the demo; fixed scenes over the photographs that validation takes, at 250x400, by noisy
cameras at four levels of light, and, stronger in motion, at 1000x1000; and each stream of a spike-REDS
folder. What is missing is named and left out. Of a camera a network takes as many steps as one as
reconstruct.py does by itself (--bin auto), and its pictures are scored as if they were exposed up to the
scene's white; a second table has them by level. "TFP, best" is the best of the windows of 21 and 41 steps, of
cameras also of 81 and 161. The table is kept in SAVE_PATH/results.md, every figure of every stream in
results.json, and the learning curves of the weights' runs, whose logs lie with them, in curves.png. --check
holds the table against the one that a README shows: exit status 1 where a cell differs.
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
from swinsf.utils import choices, cli
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import pick_device
from swinsf.utils.files import atomic_write
from swinsf.utils.guard import keep_out
from swinsf.utils.timing import KEY_FRAMES, STEPS

CORNER = "| | demo |"  # how the table begins
COLUMNS = {
    "demo": "demo",
    "250": "validation, 250x400",
    "camera": "validation, cameras",
    "1000": "validation, 1000x1000",
}
LONG = 8 * STEPS + 1  # steps of the cameras' streams: what `survey` looks at, and long means where it is dark
STRIDE = 20  # of the recording that a camera's stream stands for: steps are taken as one by its divisors
BEST = "TFP, best"


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("--sample", help="a folder of spike-REDS test streams, each a column of its own")
    flag("--photos", help="the folder of photographs whose validation part the scenes are simulated over")
    flag("--weights", nargs="+", type=Path, help="weights files (default: all in checkpoint/)")
    flag(
        "--protocol",
        default="released",
        choices=PROTOCOLS,
        help="how PSNR and SSIM are computed (default released)",
    )
    flag(
        "--sampler",
        default="bicubic",
        choices=choices.SAMPLERS,
        help="sampler of the scenes; spline makes other ones (default bicubic)",
    )
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda where there is one)")
    flag("--workers", type=cli.workers, default=1, help="processes that read or simulate streams (default 1)")
    flag(
        "--save_path",
        type=Path,
        default=Path("results/table"),
        help="folder of the table (default results/table)",
    )
    flag(
        "--check",
        type=Path,
        metavar="README.md",
        help="a file whose table must have the same figures, seconds aside",
    )
    settings = parser.parse_args(arguments)
    if settings.check and (
        settings.weights or settings.protocol != "released" or settings.sampler != "bicubic"
    ):
        raise UserError(
            "--check: holds the shipped weights' figures under protocol released; leave out --weights, --protocol and --sampler"
        )
    return settings


def open_datasets(settings):
    """(column -> dataset, text on each that is left out)."""
    datasets, missing = {"demo": open_dataset("demo")}, []
    if settings.photos:
        for mode in ("250", "1000"):
            datasets[mode] = open_dataset(f"photos:{settings.photos}", mode, "val")
        datasets["camera"] = open_dataset(f"photos:{settings.photos}", "250", "val", sensor="camera")
        datasets["camera"].stream_steps = LONG
    else:
        missing.append("validation: left out, no --photos")
    if settings.sample:
        datasets["sample"] = SpikeREDS(settings.sample)
    else:
        missing.append("spike-REDS streams: left out, no --sample")
    return datasets, missing


def fits(model, column):
    """Whether a column is for a network: one token a pixel takes a minute a picture of 1000x1000."""
    return column != "1000" or model.config.patch > 1


def methods_of(column, networks):
    """name -> method for `evaluate`: TFI, TFP by several windows, and the networks."""
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
    """A network's pictures of long streams (B, T, H, W), with as many steps as one as reconstruct.py takes by
    itself.

    maps: the cameras' calibration (B, 2, H, W), of single steps, or None.
    """
    key, pictures = first + KEY_FRAMES[output], []
    for index, stream in enumerate(spikes.cpu().numpy()):
        bin, _ = choose_bin(survey(stream), STRIDE, key, key + 1)
        binned = bin_steps(stream, bin, key)
        start = binned.bin_of(key) - STEPS // 2
        window = torch.from_numpy(binned[start : start + STEPS])[None].to(spikes.device)
        of_bin = (
            None if maps is None else maps[index : index + 1] * maps.new_tensor([bin, 1]).view(1, 2, 1, 1)
        )
        pictures.append(reconstruct(window, "middle", of_bin) / bin)
    return torch.cat(pictures)


def with_best(figures):
    """method -> (PSNR, SSIM) of a column as its rows are shown: the best TFP takes the place of the long
    ones."""
    best = max((pair for name, pair in figures.items() if name.startswith("TFP")), key=lambda pair: pair[0])
    networks = {name: pair for name, pair in figures.items() if not name.startswith(("TFI", "TFP"))}
    return {**{name: figures[name] for name in BASELINES}, BEST: best, **networks}


def level_table(rows, kinds=VALIDATION["camera"]):
    """Markdown lines: the mean PSNR of the cameras' scenes by level of light, a table for each kind of
    camera.

    rows: those of the column, whose scenes take the kinds one after the other.
    """
    lines = []
    for name in dict.fromkeys(kind.name for kind in kinds):
        of_kind = [index for index, kind in enumerate(kinds) if kind.name == name]
        whites = [kinds[index].sensor.rate * kinds[index].sensor.exposure for index in of_kind]
        lines.append(
            f"| PSNR, {name}; white's spikes a step | " + " | ".join(f"{white:g}" for white in whites) + " |"
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
    """(parameters, GFLOP as they run at 250x400) of a network."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 41, 250, 400, device=device))
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() / 1e9


def scenes_by():
    """How the scenes are sampled, as the line below the table says it."""
    return "scenes by OpenCV {opencv}, grid {grid}, sampler {sampler}".format(**sampling.maker())


def make_table(scores, about):
    """Markdown lines. scores: column -> method -> (PSNR, SSIM). about: method -> (parameters, GFLOP,
    seconds)."""
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
    """method -> column -> cell, as texts, of the first table of results in Markdown; {} where there is
    none."""
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
    """The table of results that a README shows. Raises UserError where there is no such file, or no such
    table in it."""
    if not path.is_file():
        raise UserError(f"--check {path}: no such file; name the README that shows the table")
    shown = read_table(path.read_text(encoding="utf-8", errors="replace"))
    if not shown:
        raise UserError(
            f"--check {path}: no table that begins with {CORNER}; name the README that shows the table"
        )
    return shown


def columns_of(table):
    """A table's columns but for the seconds, which no two runs have alike."""
    titles = dict.fromkeys(title for row in table.values() for title in row)
    return [title for title in titles if not title.startswith("seconds")]


def compare(shown, made):
    """Hold two tables of `read_table` against each other -> (number of cells compared, a line on each that
    differs).

    Columns that only one of them has are left out; a method that only one has differs in all its cells.
    """
    count, differ = 0, []
    columns = [title for title in columns_of(shown) if title in columns_of(made)]
    for method in {**shown, **made}:
        for column in columns:
            before, now = (table.get(method, {}).get(column) or "empty" for table in (shown, made))
            count += (before, now) != ("empty", "empty")
            if before != now:
                differ.append(f"{method}, {column}: shown {before}, now {now}")
    return count, differ


def check(path, shown, made, text=""):
    """(exit status, lines) on whether the table of the file `path` is the one that was made, and on what was
    not compared. text: of the file, which may say by which OpenCV the scenes were made."""
    count, differ = compare(shown, made)
    lines = [
        f"{path}: {count} cells compared, " + (f"{len(differ)} of them differ:" if differ else "all equal"),
        *differ,
    ]
    if differ:
        before = re.search(r"scenes by (OpenCV [\d.]+), grid ([^,]+), sampler (\w+)", text)
        now = sampling.maker()
        if before and before.group(2, 3) != (now["grid"], now["sampler"]):
            lines.append(
                f"other scenes: those of {path} are by {before[1]}, grid {before[2]}, sampler {before[3]}; now by OpenCV "
                f"{now['opencv']}, grid {now['grid']}, sampler {now['sampler']}"
            )
        elif not before and now["grid"] != "exact":
            lines.append(
                f"the scenes may differ: OpenCV {now['opencv']} samples on a grid of {now['grid']}, OpenCV 5 exactly, and "
                f"{path} does not say which it was"
            )
        lines.append(
            "other photographs or streams give other figures; another processor or PyTorch may, in the last digit"
        )
    for why, one, other in ((f"not in {path}", made, shown), ("for want of their data", shown, made)):
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
