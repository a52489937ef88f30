"""Speed of training with several processes on one core each, compared with one process on one core.

    python -m tools.benchmark_processes --processes 2

Each case is a run of train.py over simulated scenes with one thread per process and no loading workers.
Cases alternate, and a run's first epoch is ignored. Efficiency is the speed-up over one process divided by
the number of processes: once with one batch split between them, once with a full batch each. Writes
processes.json into SAVE_PATH.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from swinsf.datasets.simulation.dataset import demo_photo
from swinsf.evaluation import tables
from swinsf.models import VARIANTS
from swinsf.training.log import read_lines
from swinsf.utils import cli, flags
from swinsf.utils.cli import UserError
from swinsf.utils.cpus import available_cpus
from swinsf.utils.distributed import pick_device
from swinsf.utils.files import atomic_write

ROOT = Path(__file__).parent.parent
PHOTOS = ("astronaut", "brick", "camera", "coffee", "grass", "gravel", "moon", "rocket")


def parse_settings(arguments):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    processes, cores = flags.number(int, 2, 64), max(2, available_cpus())
    flag("--processes", type=processes, default=cores, help="number of processes (default: one per CPU)")
    flag("--variant", default="small", choices=[*VARIANTS], help="network (default small)")
    flag("--batch_size", type=flags.positive_int, default=4, help="batch of one process (default 4)")
    flag("--crop_size", type=flags.number(int, 20, 1000), default=100, help="side of the crops (default 100)")
    flag("--steps", type=flags.positive_int, default=8, help="iterations per epoch (default 8)")
    epochs = flags.number(int, 2, 100)
    flag("--epochs", type=epochs, default=4, help="epochs per run; the first is ignored (default 4)")
    flag("--rounds", type=flags.positive_int, default=3, help="runs of each case (default 3)")
    place = Path("results/processes")
    flag("--save_path", type=Path, default=place, help=f"folder for the results (default {place})")
    return parser.parse_args(arguments)


def pictures_per_second(processes, batch, photos, place, settings):
    """The training speed in each epoch of a run, except the first."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes]
    command += ["train.py", "--dataset_path", f"photos:{photos}", "--variant", settings.variant]
    command += ["--recipe", "modern", "--batch_size", batch, "--crop_size", settings.crop_size]
    command += ["--epoch_length", batch * settings.steps, "--epochs", settings.epochs]
    command += ["--val_every", 0, "--workers", 0, "--device", "cpu"]
    command += ["--save_path", place, "--run_name", f"run{len(list(place.iterdir()))}"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([*map(str, command)], cwd=ROOT, env=one_thread, capture_output=True, text=True)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["failed"])[-1]
        raise UserError(f"{' '.join(map(str, command))}: {reason}")
    return [line["train_pictures_per_second"] for line in read_lines(place / command[-1] / "log.jsonl")[1:]]


def main(arguments=None):
    settings = parse_settings(arguments)
    count, batch = settings.processes, settings.batch_size
    if batch < count:
        raise UserError(f"--batch_size {batch}: less than one sample for each of {count} processes; raise it")
    settings.save_path.mkdir(parents=True, exist_ok=True)
    cases = {
        "one process": (1, batch),
        f"{count}, one batch shared": (count, batch),
        f"{count}, one batch each": (count, count * batch),
    }
    rates = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        photos, runs = Path(folder) / "photos", Path(folder) / "runs"
        runs.mkdir()
        for name in PHOTOS:
            tables.write_picture(photos / f"{name}.png", demo_photo(name))
        for name in tqdm([*cases] * settings.rounds, "runs", unit="run", dynamic_ncols=True):
            rates[name] += pictures_per_second(*cases[name], photos, runs, settings)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    alone = medians["one process"]
    with atomic_write(settings.save_path / "processes.json", "w") as file:
        json.dump(
            {"settings": {**vars(settings), "save_path": str(settings.save_path)}, "rates": rates},
            file,
            indent=1,
        )
    for name, median in medians.items():
        efficiency = "" if name == "one process" else f", efficiency {median / alone / count:.0%}"
        cli.log(f"{name}: {median:.2f} pictures/s{efficiency}")
    cli.log(
        f"{settings.variant}, crops of {settings.crop_size}, batches of {batch}; "
        + tables.device_name(pick_device("cpu"))
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
