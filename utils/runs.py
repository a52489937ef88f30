"""A training run on disk."""

import contextlib
import json
import time

from torch.utils.tensorboard import SummaryWriter

from utils import checkpoint
from utils.cli import UserError
from utils.files import MOST_TEXT, parse_json, read_plain


def create_folder(folder):
    """Make a new run's folder; UserError where it is there already, since a run never writes over another."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        resume = f", or go on with --resume_path {folder}" if (folder / "last.pth").exists() else ""
        raise UserError(f"{folder}: is there already; take another --run_name{resume}") from None


class RunFolder:
    """What a run leaves in its folder: last.pth, best.pth, config.json, log.jsonl, tensorboard/.

    about: plain values that describe the run, with the entry `config` that loading needs. state: an engine.TrainingState.
    """

    def __init__(self, folder, about, state):
        self.folder, self.about, self.state = folder, about, state
        self.saved_at = time.monotonic()
        for name in ("last.pth", "best.pth", "config.json", "log.jsonl"):
            for torn in folder.glob(f".{name}.*"):  # of a save that was killed
                torn.unlink()
        # Where the epoch in hand has begun, no point of its own may stand on the board; else only those after the step.
        self.board = SummaryWriter(folder / "tensorboard", purge_step=state.step + (state.batch == 0) if state.step else None)
        # A kill between the log and last.pth leaves a line that will come again, or half a one.
        lines = [line for line in read_lines(folder / "log.jsonl") if line["epoch"] < state.epoch]
        with checkpoint.replacing(folder / "log.jsonl", "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def weights(self):
        progress = {"step": self.state.step, "best_psnr": self.state.best_psnr}
        return {**self.about, **progress, "model": self.state.averaged.state_dict()}

    def save_config(self):
        with checkpoint.replacing(self.folder / "config.json", "w") as file:
            json.dump(self.about, file, indent=1)

    def save_last(self):
        checkpoint.save({**self.weights(), "training": self.state.state_dict()}, self.folder / "last.pth")
        self.saved_at = time.monotonic()

    def save_last_after(self, minutes):
        if time.monotonic() - self.saved_at > 60 * minutes:
            self.save_last()

    def save_best(self):
        checkpoint.save(self.weights(), self.folder / "best.pth")

    def log_epoch(self, line, comparison):
        """line: dict of numbers. comparison: (3, H, W) uint8 picture or None."""
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        for name in line.keys() - {"epoch", "step"}:
            self.board.add_scalar(name.replace("_", "/", 1), line[name], self.state.step)
        if comparison is not None:
            self.board.add_image("val/TFP21_SwinSF_truth", comparison, self.state.step)
        self.board.flush()


def read_lines(path):
    """The lines of a run's log.jsonl that are whole, each a dict of numbers; none where there is no file."""
    lines = []
    for text in read_plain(path, MOST_TEXT).splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # torn by a crash
            lines.append(parse_json(text))
    return [line for line in lines if is_log_line(line)]


def is_log_line(line):
    """Whether a value out of a log is what `log_epoch` writes."""
    if not isinstance(line, dict) or not all(type(line.get(name)) is int for name in ("epoch", "step")):
        return False
    return all(type(value) in (int, float) and not abs(value) > 1e12 for name, value in line.items())
