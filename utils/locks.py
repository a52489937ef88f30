"""Locks between processes, on the platforms that have them."""

import os

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # everywhere else
    msvcrt = None


def lock_file(handle):
    """Lock an open file for this process, until it closes it or ends. Raises OSError where another process has the lock."""
    if fcntl:
        # Not flock, which a process's children would hold too, and for a while after a kill.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif msvcrt:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)


def lock_folder(folder):
    """Lock a folder; the handle to close, or None where folders cannot be locked. Raises OSError where it is locked already."""
    if not fcntl:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
