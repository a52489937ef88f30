"""The logs of a run: log.jsonl and TensorBoard."""

import contextlib
import threading
from pathlib import Path
from typing import Any

import numpy as np

from swinsf.utils.cli import log, one_line
from swinsf.utils.guard import MOST_TEXT, parse_json, read_plain

Line = dict[str, float]  # a line of log.jsonl; lines at the end of an epoch have an entry `epoch`


class Board:
    """Writes a run's TensorBoard curves. A disk error leaves a gap in them, but not in log.jsonl.

    lines: the growing list of log.jsonl's lines. purge_step: TensorBoard drops its points from this step on,
    and the points in `lines` are written again; None for a new run.
    """

    def __init__(self, folder: Path, lines: list[Line], purge_step: int | None):
        self.folder, self.lines, self.purge_step = folder, lines, purge_step
        self.writer: Any = None

    def open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        threading.excepthook = all_but_disk_errors
        self.writer = SummaryWriter(self.folder, purge_step=self.purge_step)
        if self.purge_step is not None:
            for line in self.lines[:-1]:  # the last is about to be written
                if "epoch" not in line and line["step"] >= self.purge_step:
                    self.add_scalars(line)

    def add_scalars(self, line: Line) -> None:
        """Write an iteration's figures as step/loss and so on, an epoch's as train/loss, val/psnr."""
        for name in line.keys() - {"epoch", "step"}:
            tag = name.replace("_", "/", 1) if "epoch" in line else f"step/{name}"
            self.writer.add_scalar(tag, line[name], line["step"])

    def add(self, line: Line, comparison: np.ndarray | None = None) -> None:
        """Write the newest line, and a comparison picture (1, H, W) uint8."""
        try:
            if not self.writer:
                self.open()
            self.add_scalars(line)
            if comparison is not None:
                self.writer.add_image("val/TFP21_SwinSF_truth", comparison, line["step"])
            self.writer.flush()
        except OSError as error:
            error.filename = error.filename or str(self.folder)
            text = f"warning: {one_line(error)}. TensorBoard's curves lack step {line['step']}"
            log(text, trouble=True)
            self.writer, self.purge_step = None, None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self.writer:
                self.writer.close()


def all_but_disk_errors(arguments: Any) -> None:
    """A threading.excepthook that hides disk errors in TensorBoard's thread; the main thread gets them too."""
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)


def read_lines(path: Path) -> list[Line]:
    """The epochs' lines in a run's log.jsonl, see `read_log`."""
    return [line for line in read_log(path) if "epoch" in line]


def read_log(path: Path) -> list[Line]:
    """All valid lines of a run's log.jsonl; [] without a file. Lines of iterations have no `epoch`."""
    lines = []
    for text in read_plain(path, MOST_TEXT).splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # a line cut off by a crash
            lines.append(parse_json(text))
    return [line for line in lines if is_log_line(line)]


def is_log_line(line: Any) -> bool:
    """Whether a value has the form of the lines that `RunFolder` writes."""
    if not isinstance(line, dict):
        return False
    if type(line.get("step")) is not int or type(line.get("epoch", 0)) is not int:
        return False
    return all(type(value) in (int, float) and not abs(value) > 1e12 for value in line.values())
