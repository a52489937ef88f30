"""Tunes the C library's memory allocator."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8  # from malloc.h
LARGEST_THRESHOLD = 2**25  # bytes; glibc's limit


def tune_allocator(training: bool = False) -> None:
    """Make glibc keep freed memory; does nothing with other C libraries.

    By default it returns large blocks to the system, which clears them page by page at the next use. That
    takes a third of the time at 1000x1000. training: keep only blocks of up to 32 MB, because an iteration
    frees blocks of too many different sizes to keep all.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    if training:
        options = ((M_MMAP_THRESHOLD, LARGEST_THRESHOLD), (M_TRIM_THRESHOLD, 2 * LARGEST_THRESHOLD))
    else:
        options = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
    for option, value in options:
        mallopt(option, value)
