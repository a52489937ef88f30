"""Files: atomic writes, locks between processes, files that systems leave in folders.

Network and foreign file systems do not support all calls. A call that fails is ignored if the data is safe
without it.
"""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from swinsf.utils.cli import log

LOCKED = {errno.EAGAIN, errno.EACCES}  # errors of fcntl(2) if another process has the lock
UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES}
# files that file managers, file servers and mkfs leave in folders, in lower case
CLUTTER = {
    *(".ds_store", ".fseventsd", ".spotlight-v100", ".trashes", ".temporaryitems"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("lost+found", ".directory", "@eadir", ".snapshot"),
}


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Open a file that gets the name `path` only when it is whole: temporary name, flush to disk, rename.

    Text ("w") is UTF-8 in any locale. Permissions follow the umask and the folder, so that a group can share
    results.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        encoding = None if "b" in mode else "utf-8"
        with open(temporary, mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            file.flush()
            sync(file)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # errors of a full disk name no file, and others the temporary one
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def sync(file: IO) -> None:
    """Flush an open file to disk. Does nothing on a file system that does not support it."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def is_clutter(path: Path) -> bool:
    """Whether the system put a file or folder there, such as `.DS_Store` or macOS's `._NAME`."""
    return path.name.lower() in CLUTTER or path.name.startswith("._")


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # everywhere else
    msvcrt = None


def lock_file(handle: int, name: str | Path) -> None:
    """Lock an open file until this process closes it or ends.

    Raises BlockingIOError if another process has the lock. If the file system has no locks, warns on stderr
    with the folder's `name`.
    """
    with locking(name):
        if fcntl:
            # Not flock: child processes would hold its lock too, even for a while after a kill.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)


def lock_folder(folder: str | Path) -> int | None:
    """Lock a folder as `lock_file` does. Returns the handle to close, or None if folders cannot be locked."""
    if not fcntl:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        with locking(folder):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


@contextlib.contextmanager
def locking(name: str | Path) -> Iterator[None]:
    """Raises BlockingIOError if another process has the lock; only warns if the file system has no locks."""
    try:
        yield
    except OSError as error:
        if error.errno in LOCKED:
            raise BlockingIOError(error.errno, "locked by another process", str(name)) from None
        text = f"warning: {name}: no locks on this file system ({error.strerror}); start only one run there"
        log(text, trouble=True)
