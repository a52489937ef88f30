"""The scripts' command line, its log and one-line errors."""

import argparse
import contextlib
import difflib
import importlib.util
import itertools
import logging
import multiprocessing
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from swinsf.utils.cpus import set_wait_policy

# packages of requirements.txt that the scripts import
PACKAGES = (
    *("torch", "torchvision", "timm", "einops", "safetensors", "numpy", "scipy", "av", "cv2", "PIL"),
    *("skimage", "tifffile", "matplotlib", "tqdm"),
)

logger = logging.getLogger("swinsf")
logger.addHandler(logging.NullHandler())  # silent in a program that sets up no logging


class Error(Exception):
    """The base class of all errors that swinsf raises on purpose."""


class UserError(Error):
    """An error that the user can fix. Its text is one line with the file or flag, the value and the remedy."""

    def __init__(self, text):
        text = str(text)
        if text.startswith("Caught UserError in "):  # from a loader's worker, with its traceback
            text = text.strip().splitlines()[-1].removeprefix("swinsf.utils.cli.UserError: ")
        super().__init__(shown(text))


class UsageError(UserError):
    """A wrong command line. Under torchrun every process raises it, but only process 0 prints it."""


def shown(text, most=900):
    """Text as one printable line, whatever file names it has; beyond `most` characters, the middle is cut."""
    text = "".join(
        c if c.isprintable() else repr(c)[1:-1] for c in text[: 2 * most] + text[2 * most :][-2 * most :]
    )
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


class Parser(argparse.ArgumentParser):
    """The parser of every script. Prints `description` verbatim, and raises a one-line UserError for a wrong
    flag."""

    def __init__(self, description, **options):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # otherwise a wrong flag may match a longer one
            **options,
        )

    def parse_args(self, arguments=None, namespace=None):
        show_log()
        arguments = sys.argv[1:] if arguments is None else arguments
        for argument in arguments:
            if "\0" in argument:  # shells remove it, but a file of settings may have it
                raise UserError(f"{argument!r}: has a NUL character; leave it out")
            if argument.endswith("=--"):  # argparse would turn it into an empty list
                raise UserError(f"{argument}: has no value; give one, or leave it out")
        for argument in itertools.takewhile(lambda argument: argument != "--", arguments):
            self.check_flag(argument)
        return super().parse_args([expand_home(argument) for argument in arguments], namespace)

    def check_flag(self, argument):
        """Raises UsageError for an unknown flag, with similar ones."""
        flag = argument.partition("=")[0]
        if flag in self._option_string_actions or not flag.startswith("--") or " " in argument:
            return
        known, name = [option.lstrip("-") for option in self._option_string_actions], flag.lstrip("-")
        near = [other for other in known if name and other.startswith(name)]
        near += [other for other in difflib.get_close_matches(name, known) if other not in near]
        meant = f"; did you mean {' or '.join(f'--{other}' for other in near[:3])}?" if near else ""
        self.error(f"unrecognized arguments: {flag}{meant}")

    def error(self, message):
        raise UsageError(f"{message}; {self.prog} -h lists the flags")


def expand_home(argument):
    """Expand `~` in a path, which shells do not do in quotes or after = and :.

    The path is the whole argument, or follows `--flag=`, `NAME=`, `photos:`, `videos:` or `frames:`.
    """
    prefix, path = re.fullmatch(
        r"((?:--\w+=)?(?:photos:|videos:|frames:|[^=~/\\]+=)?)(.*)", argument, re.DOTALL
    ).groups()
    return prefix + os.path.expanduser(path)


def begin(look):
    """Check the command line with `look()` before a script's slow imports, so that -h, typos and missing
    packages end it at once, as in `run`.

    Under torchrun, flags are checked later, when processes can agree on which one prints the error. Also sets
    how PyTorch's threads wait, which must happen before its import.
    """
    set_wait_policy()
    with one_line_errors():
        if "RANK" not in os.environ:
            look()
        check_packages()


def check_packages():
    """Raises UsageError if this Python lacks a package that the scripts import. The message names the
    environment that has them."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return
    environment = Path(__file__).resolve().parent.parent / ".venv"
    pythons = [environment / "bin/python", environment / "Scripts/python.exe"]
    for python in filter(Path.exists, pythons):
        path, activate = (shlex.quote(os.path.relpath(p)) for p in (python, python.with_name("activate")))
        remedy = f"run {path} instead, or first: source {activate}"
        break
    else:
        remedy = "install them: python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
    raise UsageError(f"{sys.executable} lacks {', '.join(missing)}; {remedy}")


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call `main()` as a script, with `one_line_errors`."""
    from swinsf.utils import opencv  # slow to import, but by now the script has imported it

    opencv.set_up()
    show_log()
    # By default SIGTERM would end the process at once, and leave its workers and temporary files behind. Not
    # under torchrun: a process that waits for the others could not handle it.
    if threading.current_thread() is threading.main_thread() and "RANK" not in os.environ:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with one_line_errors():
            sys.exit(main())
    finally:
        end_children()


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Within `with`, a user's error is one line on stderr and exit status 2; Ctrl-C is status 130."""
    try:
        yield
    except (UserError, OSError) as error:  # OSError: a full disk, a folder without write permission
        if not isinstance(error, UsageError) or os.environ.get("RANK", "0") == "0":
            print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def one_line(error: Exception) -> str:
    """The message of a UserError or OSError, without the traceback of a loader's worker."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or 'file'}: {error.strerror}"
        return shown(text) + "; check its folder, its permissions and the free space on the disk"
    return shown((str(error).strip().splitlines() or [type(error).__name__])[-1])


def end_children() -> None:
    """Kill loader workers after an error. They ignore SIGTERM (see datasets.start_worker), so exit would hang."""
    if hasattr(signal, "SIGCHLD"):
        # torch's handler would report the killed workers
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        child.kill()


def log(text: str, trouble: bool = False) -> None:
    """Log a line to the logger "swinsf", as a warning if it starts with "warning: ". Scripts print it.

    trouble: whether it reports a problem that interrupts a run, or its end; scripts print it to stderr.
    """
    # a file's name may be undecodable, which would make handlers fail
    text = text.encode(errors="backslashreplace").decode()
    level = logging.WARNING if text.startswith("warning: ") else logging.INFO
    logger.log(level, "%s", text, extra={"trouble": trouble})


class Printer(logging.Handler):
    """Prints each line immediately, errors and trouble to stderr. If the reader has gone, as in
    `python train.py | head`, the work continues silently."""

    def emit(self, record):
        aside = record.levelno >= logging.ERROR or getattr(record, "trouble", False)
        stream = sys.stderr if aside else sys.stdout
        if stream is None:  # only process 0 prints, see utils.distributed.processes
            return
        text = record.getMessage()
        try:
            # the stream may be a notebook's capture or a logger, without an encoding
            encoding = getattr(stream, "encoding", None) or "utf-8"
            print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
        except BrokenPipeError:
            with contextlib.suppress(AttributeError, OSError):  # a stream without a file descriptor
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def short(value: float) -> str:
    """A number as short text: 0.333, 25, 20,000."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def printable(text: str) -> bool:
    """Whether standard output can print a text; without UTF-8, some locales cannot."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def show_log() -> None:
    """Print logged lines, as scripts do."""
    if not any(isinstance(handler, Printer) for handler in logger.handlers):
        logger.addHandler(Printer())
        logger.setLevel(logging.INFO)


def without_flags(text: str) -> str:
    """Turn flags in a message into argument names: "--bin 3" becomes "bin 3"."""
    return re.sub(r"(?<![^\s(])--(?=[a-z])", "", text)


class ArgumentError(UserError, ValueError):
    """An invalid argument to a function of the Python interface."""


@contextlib.contextmanager
def argument_errors() -> Iterator[None]:
    """Within `with`, turn a ValueError or `UserError` into an `ArgumentError`, which names no flags."""
    try:
        yield
    except (UserError, ValueError) as error:
        raise ArgumentError(without_flags(str(error))) from error


def refuse(rules: Iterable[tuple[Any, str]]) -> None:
    """Raises UserError with the text of the first rule, (condition, text), whose condition holds."""
    for wrong, text in rules:
        if wrong:
            raise UserError(text)


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 stream", "2 streams", "1,000 streams"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@contextlib.contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """Turn out-of-memory errors, on a GPU or the CPU, into a UserError with a remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own errors are RuntimeErrors
        text = str(error).lower()
        if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
            raise UserError(f"out of memory; {remedy}") from None
        if "dataloader worker" in text and "killed" in text:
            raise UserError(
                "a process that reads samples was killed, most likely because memory ran out; lower --workers"
            ) from None
        raise
