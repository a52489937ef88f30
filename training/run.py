"""A training run on disk."""

import contextlib
import copy
import functools
import json
import os
import shutil
import stat
import sys
import threading
import time

from swinsf.utils import checkpoint, files
from swinsf.utils.cli import UserError, one_line
from swinsf.utils.files import lock_file
from swinsf.utils.guard import MOST_TEXT, parse_json, read_plain

# of an epoch that begins, see training.state.TrainingState
NO_TOTALS = {"loss": 0.0, "pictures": 0, "seconds": 0.0}
RETRY = 10.0  # seconds from a save that the disk refused to the next


def create_folder(folder):
    """Make a new run's folder. UserError where it is there already, since a run never writes over another.

    A run that was killed before its first save leaves a folder without a state; such a folder is taken.
    """
    there = {path.name for path in folder.glob("[!.]*")} if folder.is_dir() else {""}
    if there <= {"config.json", "log.jsonl"} and not read_log(folder / "log.jsonl"):
        return
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        resume = (
            f", or resume the run in it with --resume_path {folder}" if (folder / "last.pth").exists() else ""
        )
        raise UserError(f"{folder}: is there already; take another --run_name{resume}") from None


class RunLock:
    """One process at a time writes a run: a lock on the file .lock in its folder, which ends with the process
    at the latest."""

    file = None

    def take(self, folder, patience=0.0):
        """Raises UserError where another process has the lock and keeps it for `patience` seconds."""
        path, begin = folder / ".lock", time.monotonic()
        handle = os.open(
            path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o644
        )
        self.file = os.fdopen(handle, "rb", buffering=0)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UserError(f"{path}: no plain file; remove it")
        while True:
            try:
                return lock_file(handle)
            except OSError:
                if time.monotonic() - begin > patience:
                    self.release()
                    remedy = "wait for its end, or take another --run_name"
                    raise UserError(f"{folder}: another process is at this run; {remedy}") from None
                time.sleep(0.1)

    def release(self):
        if self.file:
            self.file.close()
        self.file = None


class RunFolder:
    """What a run leaves in its folder: last.pth, best.pth, config.json, log.jsonl, tensorboard/,
    epoch_0001.pth and so on.

    about: plain values that describe the run, with the entry `config` that loading needs. state: an
    training.state.TrainingState. logged: {loss, pictures} of the epoch's totals at the last line of a step,
    as last.pth has them. writes: whether this process does, one of all that train; the others call the same
    methods, for `save` wants all of them. The folder is locked by a `RunLock` before anything of it is read.

    A disk that is full or read-only does not end a run: what is on it stays whole, and a later save has what
    it missed.
    """

    def __init__(self, folder, about, state, writes=True, logged=None):
        self.folder, self.about, self.state, self.writes = folder, about, state, writes
        self.logged = dict(logged or {"loss": 0.0, "pictures": 0})
        self.timed = dict(state.totals)  # since when pictures a second are counted
        self.saved_at = time.monotonic()
        self.trouble = None  # why the last save failed
        self.board = None
        if not writes:
            return
        for name in ("last.pth", "best.pth", "epoch_*.pth", "config.json", "log.jsonl"):
            for torn in folder.glob(f".{name}.*"):  # of a save that was killed
                torn.unlink()
        # A kill between the log and last.pth leaves a line that will come again, or half a one.
        self.lines = [
            line
            for line in read_log(folder / "log.jsonl")
            if (line["epoch"] < state.epoch if "epoch" in line else line["step"] <= state.step)
        ]
        # TensorBoard drops its points from this step on, for the resumed run writes them again. Where an
        # epoch begins, the point of the step itself is the last epoch's, and stays.
        self.purge_step = state.step + (state.batch == 0) if state.step else None
        # File name -> what writes it, of files that are not yet as they should be; in this order.
        self.unsaved = {"log.jsonl": self.write_log, "config.json": self.write_config}
        self.write_unsaved()

    def write_text(self, name, text):
        with files.atomic_write(self.folder / name, "w") as file:
            file.write(text)

    def write_log(self):
        self.write_text("log.jsonl", "".join(json.dumps(line) + "\n" for line in self.lines))

    def write_config(self):
        self.write_text("config.json", json.dumps(self.about, indent=1))

    def weights(self):
        progress = {"step": self.state.step, "best_psnr": self.state.best_psnr}
        return {**self.about, **progress, "model": self.state.averaged.state_dict()}

    def is_due(self, minutes):
        """Whether last.pth is older than so many minutes, or was refused by the disk a while ago."""
        return time.monotonic() - self.saved_at > (RETRY if self.trouble else 60 * minutes)

    def save(self, keep_last=0):
        """Write last.pth, the whole state, and whatever else waits to be written. All processes have to call
        this.

        keep_last: at the end of an epoch, how many of such states to keep next to it, as epoch_0001.pth and
        so on.
        """
        training = self.state.state_dict()
        self.saved_at = time.monotonic()
        if not self.writes:
            return
        contents = {**self.weights(), "training": training, "logged": dict(self.logged)}
        for name in ("last.pth", "epochs"):  # in the end, so that what last.pth counts as done is there
            self.unsaved.pop(name, None)
        self.unsaved["last.pth"] = lambda: checkpoint.save(contents, self.folder / "last.pth")
        if keep_last:
            self.unsaved["epochs"] = functools.partial(self.keep_epoch, self.state.epoch, keep_last)
        self.write_unsaved()

    def write_unsaved(self):
        """Write what waits; where the disk refuses, say so, once, and leave it waiting."""
        try:
            for name in [*self.unsaved]:
                self.unsaved[name]()
                del self.unsaved[name]
        except OSError as error:
            if self.trouble is None:
                text = f"warning: {one_line(error)}. What was saved before is whole; the run continues, and saves when it can"
                print(text, file=sys.stderr, flush=True)
            self.trouble = error
        else:
            if self.trouble is not None:
                print(f"{self.folder}: saved again", file=sys.stderr, flush=True)
            self.trouble = None

    def keep_epoch(self, epoch, count):
        """Give last.pth the epoch's name too, and remove all but the `count` newest of such names."""
        last, own = self.folder / "last.pth", self.folder / f"epoch_{epoch:04d}.pth"
        own.unlink(missing_ok=True)
        try:
            os.link(last, own)  # takes no room until last.pth is replaced
        except OSError:  # a file system without links
            with files.atomic_write(own) as file, open(last, "rb") as source:
                shutil.copyfileobj(source, file)
        for old in sorted(self.folder.glob("epoch_*.pth"), key=lambda path: (len(path.name), path.name))[
            :-count
        ]:
            old.unlink()

    def keep_best(self):
        """Have best.pth written with the next save, as the weights are now."""
        if self.writes:
            contents = copy.deepcopy(self.weights())
            self.unsaved["best.pth"] = lambda: checkpoint.save(contents, self.folder / "best.pth")

    def begin_epoch(self):
        """Count the epoch's loss, pictures and seconds from nothing on."""
        self.state.totals, self.timed = dict(NO_TOTALS), dict(NO_TOTALS)
        self.logged = {"loss": 0.0, "pictures": 0}

    def log_step(self):
        """Log the learning rate, and the loss and pictures a second since the last such line of this epoch:
        at once."""
        now = self.state.totals
        line = {"step": self.state.step, "lr": self.state.optimizer.param_groups[0]["lr"]}
        line["loss"] = (now["loss"] - self.logged["loss"]) / (now["pictures"] - self.logged["pictures"])
        line["pictures_per_second"] = (now["pictures"] - self.timed["pictures"]) / (
            now["seconds"] - self.timed["seconds"]
        )
        self.logged, self.timed = {name: now[name] for name in self.logged}, dict(now)
        if not self.writes:
            return
        self.lines.append(line)
        if "log.jsonl" not in self.unsaved:  # else the whole of it waits for the next save
            try:
                with open(self.folder / "log.jsonl", "a") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError:  # it may have half a line now
                self.unsaved["log.jsonl"] = self.write_log
        self.to_board(line)

    def log_epoch(self, line, comparison):
        """Log a dict of numbers: on TensorBoard at once, in log.jsonl with the next save.

        comparison: (1, H, 3W) uint8 for TensorBoard, three pictures side by side, or None.
        """
        if not self.writes:
            return
        self.lines.append(line)
        self.unsaved["log.jsonl"] = self.write_log
        self.to_board(line, comparison)

    def open_board(self):
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

        threading.excepthook = all_but_disk_errors
        self.board = SummaryWriter(self.folder / "tensorboard", purge_step=self.purge_step)
        if self.purge_step is not None:
            for line in self.lines[:-1]:  # the last is about to be written
                if "epoch" not in line and line["step"] >= self.purge_step:
                    self.add_scalars(line)

    def add_scalars(self, line):
        """A step's figures as step/loss and so on, an epoch's as train/loss, val/psnr."""
        for name in line.keys() - {"epoch", "step"}:
            tag = name.replace("_", "/", 1) if "epoch" in line else f"step/{name}"
            self.board.add_scalar(tag, line[name], line["step"])

    def to_board(self, line, comparison=None):
        """Show the newest line on TensorBoard; where the disk refuses, say so."""
        try:
            if not self.board:
                self.open_board()
            self.add_scalars(line)
            if comparison is not None:
                self.board.add_image("val/TFP21_SwinSF_truth", comparison, self.state.step)
            self.board.flush()
        except OSError as error:  # the curves have a gap then, which log.jsonl fills
            error.filename = error.filename or str(self.folder / "tensorboard")
            print(
                f"warning: {one_line(error)}. TensorBoard's curves lack step {self.state.step}",
                file=sys.stderr,
                flush=True,
            )
            self.board, self.purge_step = None, None

    def wait_until_saved(self, should_stop):
        """At the end of a run, wait for the disk to take what it refused, or until should_stop().

        Raises UserError where it never did.
        """
        with contextlib.suppress(OSError):
            if self.board:
                self.board.close()
        if self.trouble and not should_stop():
            print(
                f"{self.folder}: waits for the disk to take the last state; Ctrl-C gives it up",
                file=sys.stderr,
                flush=True,
            )
        while self.trouble and not should_stop():
            time.sleep(0.1)
            if self.is_due(0):
                self.saved_at = time.monotonic()
                self.write_unsaved()
        if self.trouble:
            raise UserError(
                f"{one_line(self.trouble)}; not saved: {', '.join(self.unsaved)}. What was saved before is whole"
            )


def all_but_disk_errors(arguments):
    """A threading.excepthook for TensorBoard's writer, a thread whose errors come up again in the main
    one."""
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)


def read_lines(path):
    """The lines of epochs in a run's log.jsonl that are whole, each a dict of numbers; none where there is no
    file."""
    return [line for line in read_log(path) if "epoch" in line]


def read_log(path):
    """All lines of a run's log.jsonl that are whole, those of steps too, which have no `epoch`."""
    lines = []
    for text in read_plain(path, MOST_TEXT).splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # torn by a crash
            lines.append(parse_json(text))
    return [line for line in lines if is_log_line(line)]


def is_log_line(line):
    """Whether a value out of a log is what `log_epoch` or `log_step` writes."""
    if (
        not isinstance(line, dict)
        or type(line.get("step")) is not int
        or type(line.get("epoch", 0)) is not int
    ):
        return False
    return all(type(value) in (int, float) and not abs(value) > 1e12 for name, value in line.items())
