"""The table of results: the shipped weights beside TFP and TFI, as Markdown.

    python results.py --sample datasets/spike_reds_sample --photos DIR        # make results SAMPLE=... PHOTOS=...

Columns are datasets: the demo; fixed scenes over the photographs that validation takes, at 250x400 and, stronger in motion, at
1000x1000; and each stream of a spike-REDS folder. What is not at hand is named and left out. The table is kept in
SAVE_PATH/results.md, every figure of every stream in results.json, and the learning curves of the weights' runs, whose logs lie
beside them, in curves.png.
"""

import json
import statistics
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from datasets import open_dataset
from datasets.paired import SpikeREDS
from engine import BASELINES, evaluate, network
from models import SHIPPED, load_model
from utils import cli, report
from utils.checkpoint import replacing
from utils.distributed import pick_device
from utils.files import keep_out
from utils.metrics import PROTOCOLS, psnr_ssim
from utils.runs import read_lines

COLUMNS = {"demo": "demo", "250": "validation, 250x400", "1000": "validation, 1000x1000"}


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag("--sample", help="a folder of spike-REDS test streams, each a column of its own")
    flag("--photos", help="the folder of photographs whose validation part the scenes are simulated over")
    flag("--weights", nargs="+", type=Path, help="weights files (default: all in checkpoint/)")
    flag("--protocol", default="released", choices=PROTOCOLS, help="how PSNR and SSIM are computed (default released)")
    flag("--device", help="cuda:0, cuda:1, ... or cpu (default: cuda where there is one)")
    flag("--workers", type=cli.workers, default=1, help="processes that read or simulate streams (default 1)")
    flag("--save_path", type=Path, default=Path("results/table"), help="folder of the table (default results/table)")
    return parser.parse_args(arguments)


def open_datasets(settings):
    """(column -> dataset, text on each that is left out)."""
    datasets, missing = {"demo": open_dataset("demo")}, []
    if settings.photos:
        for mode in ("250", "1000"):
            datasets[mode] = open_dataset(f"photos:{settings.photos}", mode, "val")
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


def describe(model, device):
    """(parameters, GFLOP as they run at 250x400) of a network."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 41, 250, 400, device=device))
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() / 1e9


def make_table(scores, about):
    """Markdown lines. scores: column -> method -> (PSNR, SSIM). about: method -> (parameters, GFLOP, seconds)."""
    columns = list(scores)
    lines = ["| | " + " | ".join(columns) + " | parameters | GFLOP at 250x400 | seconds at 250x400 |"]
    lines.append("| --- " * (len(columns) + 4) + "|")
    for method in scores[columns[0]]:
        cells = [f"{scores[c][method][0]:.2f} / {scores[c][method][1]:.3f}" if method in scores[c] else "" for c in columns]
        parameters, gflop, seconds = about.get(method, (None, None, None))
        cells += [f"{parameters:,}", f"{gflop:.1f}", f"{seconds:.2f}"] if parameters else ["", "", ""]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def main(arguments=None):
    settings = parse_settings(arguments)
    device = pick_device(settings.device)
    paths = settings.weights or sorted(SHIPPED.glob("*.pth"), key=lambda path: path.stat().st_size)
    names = [path.name for path in paths]
    models = {f"`{path.name if names.count(path.name) == 1 else path}`": load_model(path, device) for path in paths}
    datasets, missing = open_datasets(settings)
    for dataset in datasets.values():
        keep_out(settings.save_path, "--save_path", dataset.files, dataset.folders)
    settings.save_path.mkdir(parents=True, exist_ok=True)

    def score(picture, truth):
        return dict(zip(("psnr", "ssim"), psnr_ssim(picture, truth, settings.protocol)))

    scores, rows, seconds = {}, {}, {}
    for column, dataset in datasets.items():
        networks = {name: network(model) for name, model in models.items() if fits(model, column)}
        rows[column] = evaluate({**BASELINES, **networks}, dataset, device, score, settings.workers, label=column)
        if column == "demo":
            seconds = {name: statistics.median(row[name]["seconds"] for row in rows[column]) for name in models}
        parts = [[row] for row in rows[column]] if column == "sample" else [rows[column]]
        for part in parts:
            title = COLUMNS.get(column, part[0]["name"].split("_key")[0])
            scores[title] = {name: (m["psnr"], m["ssim"]) for name, m in report.mean_figures(part).items()}
    about = {name: (*describe(model, device), seconds[name]) for name, model in models.items()}
    lines = [
        *make_table(scores, about),
        "",
        f"PSNR / SSIM, protocol {settings.protocol}; on {report.device_name(device)}",
        *missing,
    ]
    with replacing(settings.save_path / "results.md", "w") as file:
        file.write("\n".join(lines) + "\n")
    with replacing(settings.save_path / "results.json", "w") as file:
        json.dump(report.finite({"rows": rows, "about": about}), file, indent=1)
    logs = {log.stem: read_lines(log) for path in paths for log in sorted(path.parent.glob(f"{path.stem}*.jsonl"))}
    if logs:
        report.learning_curves(settings.save_path / "curves.png", logs)
    cli.say("\n".join(lines))
    return 0


if __name__ == "__main__":
    cli.run(main)
