"""The folder of a run."""

import contextlib
import copy
import functools
import json
import os
import shlex
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from swinsf.models import checkpoint
from swinsf.training.epoch import NotFinite
from swinsf.training.log import Board, Line, read_log
from swinsf.training.state import TrainingState
from swinsf.utils import files
from swinsf.utils.cli import UserError, log, one_line
from swinsf.utils.distributed import rank_and_size

RETRY = 10.0  # seconds from a failed save to the next attempt
PATIENCE = 60.0  # seconds that a restarted job waits for the previous one to end


def create_folder(folder: Path) -> None:
    """Create a new run's folder. Raises UserError if it exists, because a run never overwrites another.

    A folder without a state, from a run that was killed before its first save, is reused.
    """
    names = (
        {path.name for path in folder.glob("[!.]*") if not files.is_clutter(path)}
        if folder.is_dir()
        else {""}
    )
    if names <= {"config.json", "log.jsonl"} and not read_log(folder / "log.jsonl"):
        return
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        saved = (folder / "last.pth").exists()
        resume = f", or resume the run in it with --resume_path {shlex.quote(str(folder))}" if saved else ""
        raise UserError(f"{folder}: already exists; choose another --run_name{resume}") from None


class RunLock:
    """Lets one process at a time write a run: a lock on .lock in its folder, which ends with the process."""

    file = None

    def take(self, folder: Path, patience: float = 0.0) -> None:
        """Raises UserError if another process keeps the lock for `patience` seconds."""
        path, begin = folder / ".lock", time.monotonic()
        safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | safe, 0o666)
        self.file = os.fdopen(handle, "rb", buffering=0)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UserError(f"{path}: not a regular file; remove it")
        while True:
            try:
                return files.lock_file(handle, folder)
            except BlockingIOError:
                if time.monotonic() - begin > patience:
                    self.release()
                    remedy = "wait until it ends, or choose another --run_name"
                    raise UserError(f"{folder}: another process uses this run; {remedy}") from None
                time.sleep(0.1)

    def release(self) -> None:
        if self.file:
            self.file.close()
        self.file = None


class RunFolder:
    """Writes last.pth, best.pth, epoch_0001.pth, config.json, log.jsonl and tensorboard/ of a run.

    about: plain values that describe the run, with the `config` that loading needs. writes: whether this
    process writes; only one does, but all call the same methods, because `save` gathers their state. logged:
    the epoch's total {loss, pictures} at the last logged iteration, from last.pth. The folder is locked by a
    `RunLock` before any of it is read.

    A full or read-only disk does not end a run: files stay whole, and a later save catches up.
    """

    def __init__(
        self,
        folder: Path,
        about: dict[str, Any],
        state: TrainingState,
        writes: bool = True,
        logged: dict[str, float] | None = None,
    ):
        self.folder, self.about, self.state, self.writes = folder, about, state, writes
        self.logged = dict(logged or {"loss": 0.0, "pictures": 0})
        self.timed = dict(state.totals)  # totals from which pictures per second are counted
        self.saved_at = time.monotonic()
        self.trouble: OSError | None = None  # why the last save failed
        if not writes:
            return
        for name in ("last.pth", "best.pth", "epoch_*.pth", "config.json", "log.jsonl"):
            for leftover in folder.glob(f".{name}.*"):  # from a save that was killed
                leftover.unlink()
        # A kill between writing the log and last.pth leaves lines that the run will write again.
        self.lines = [
            line
            for line in read_log(folder / "log.jsonl")
            if (line["epoch"] < state.epoch if "epoch" in line else line["step"] <= state.step)
        ]
        # TensorBoard drops its points from this step on, because the resumed run writes them again. At the
        # start of an epoch, the current step's point belongs to the previous epoch and stays.
        purge_step = state.step + (state.batch == 0) if state.step else None
        self.board = Board(folder / "tensorboard", self.lines, purge_step)
        # files to write, in this order: name -> function that writes it
        self.unsaved = {"log.jsonl": self.write_log, "config.json": self.write_config}
        self.write_unsaved()

    def write_text(self, name: str, text: str) -> None:
        with files.atomic_write(self.folder / name, "w") as file:
            file.write(text)

    def write_log(self) -> None:
        self.write_text("log.jsonl", "".join(json.dumps(line) + "\n" for line in self.lines))

    def write_config(self) -> None:
        self.write_text("config.json", json.dumps(self.about, indent=1))

    def weights(self) -> dict[str, Any]:
        """The contents of best.pth."""
        progress = {"step": self.state.step, "best_psnr": self.state.best_psnr}
        return {**self.about, **progress, "model": self.state.averaged.state_dict()}

    def is_due(self, minutes: float) -> bool:
        """Whether last.pth is older than this, or its last save failed a while ago."""
        return time.monotonic() - self.saved_at > (RETRY if self.trouble else 60 * minutes)

    def save(self, keep_last: int = 0) -> None:
        """Write last.pth and all pending files. All processes must call this.

        keep_last: number of epochs whose states are kept, as epoch_0001.pth; passed at the end of an epoch.
        """
        training = self.state.state_dict()
        self.saved_at = time.monotonic()
        if not self.writes:
            return
        contents = {**self.weights(), "training": training, "logged": dict(self.logged)}
        for name in ("last.pth", "epochs"):  # last, so that everything they count as done is on disk
            self.unsaved.pop(name, None)
        self.unsaved["last.pth"] = lambda: checkpoint.save(contents, self.folder / "last.pth")
        if keep_last:
            self.unsaved["epochs"] = functools.partial(self.keep_epoch, self.state.epoch, keep_last)
        self.write_unsaved()

    @contextlib.contextmanager
    def saved_on_error(self) -> Iterator[None]:
        """Within `with`, save if a bad sample or a non-finite loss ends the run."""
        try:
            yield
        except (UserError, OSError) as error:  # before it reached the weights
            # All processes notice a non-finite loss, but only one a bad sample.
            if isinstance(error, NotFinite) or rank_and_size()[1] == 1:
                self.save()
            raise

    def write_unsaved(self) -> None:
        """Write the pending files. On a disk error, warn once and keep them pending."""
        try:
            for name in [*self.unsaved]:
                self.unsaved[name]()
                del self.unsaved[name]
        except OSError as error:
            if self.trouble is None:
                text = f"warning: {one_line(error)}. Earlier files are whole; the run continues, and saves as soon as it can"
                log(text, trouble=True)
            self.trouble = error
        else:
            if self.trouble is not None:
                log(f"{self.folder}: saved again", trouble=True)
            self.trouble = None

    def keep_epoch(self, epoch: int, count: int) -> None:
        """Keep last.pth under the epoch's name, too. Only the `count` newest such files are kept."""
        last, own = self.folder / "last.pth", self.folder / f"epoch_{epoch:04d}.pth"
        own.unlink(missing_ok=True)
        try:
            os.link(last, own)  # takes no space until last.pth is replaced
        except OSError:  # file system without links
            with files.atomic_write(own) as file, open(last, "rb") as source:
                shutil.copyfileobj(source, file)
        kept = sorted(self.folder.glob("epoch_*.pth"), key=lambda path: (len(path.name), path.name))
        for old in kept[:-count]:
            old.unlink()

    def keep_best(self) -> None:
        """Write the current weights as best.pth with the next save."""
        if self.writes:
            contents = copy.deepcopy(self.weights())
            self.unsaved["best.pth"] = lambda: checkpoint.save(contents, self.folder / "best.pth")

    def begin_epoch(self) -> None:
        """Start the next epoch, whose loss, pictures and seconds count from zero."""
        self.state.begin_epoch()
        self.timed = dict(self.state.totals)
        self.logged = {"loss": 0.0, "pictures": 0}

    def log_step(self) -> None:
        """Log the learning rate, and loss and pictures per second since the last such line."""
        now = self.state.totals
        line: Line = {"step": self.state.step, "lr": self.state.lr}
        line["loss"] = (now["loss"] - self.logged["loss"]) / (now["pictures"] - self.logged["pictures"])
        line["pictures_per_second"] = (now["pictures"] - self.timed["pictures"]) / (
            now["seconds"] - self.timed["seconds"]
        )
        self.logged, self.timed = {name: now[name] for name in self.logged}, dict(now)
        if not self.writes:
            return
        self.lines.append(line)
        if "log.jsonl" not in self.unsaved:  # otherwise the next save writes all of it
            try:
                with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError:  # the file may now end in half a line
                self.unsaved["log.jsonl"] = self.write_log
        self.board.add(line)

    def log_epoch(self, line: Line, comparison: np.ndarray | None) -> None:
        """Log a line on TensorBoard at once, and in log.jsonl with the next save.

        comparison: (1, H, 3W) uint8 for TensorBoard, three pictures side by side, or None.
        """
        if not self.writes:
            return
        self.lines.append(line)
        self.unsaved["log.jsonl"] = self.write_log
        self.board.add(line, comparison)

    def wait_until_saved(self, should_stop: Callable[[], bool]) -> None:
        """At the end of a run, retry failed saves until should_stop(). Raises UserError if none succeeds."""
        if not self.writes:
            return
        self.board.close()
        if self.trouble and not should_stop():
            text = f"{self.folder}: waiting for the disk to save the last state; Ctrl-C gives up"
            log(text, trouble=True)
        while self.trouble and not should_stop():
            time.sleep(0.1)
            if self.is_due(0):
                self.saved_at = time.monotonic()
                self.write_unsaved()
        if self.trouble:
            missing = ", ".join(self.unsaved)
            raise UserError(f"{one_line(self.trouble)}; not saved: {missing}. Earlier files are whole")
