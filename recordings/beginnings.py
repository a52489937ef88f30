"""File types by their first bytes: gzip is unpacked; the error for a file of another type names that type."""

import gzip
import os
import shutil
import tempfile
import zlib
from pathlib import Path

from swinsf.utils.cli import UserError

GZIP, NUMPY = b"\x1f\x8b\x08", b"\x93NUMPY"
# Files that are not plain spikes: their first bytes, the offset of these, the type, the remedy.
KINDS = (
    (GZIP, 0, "a gzip file", "name the file, or unpack it by zcat"),
    (NUMPY, 0, "a .npy file", "unpack it by gunzip, or name the file"),
    (b"PK\x03\x04", 0, "a zip archive", "unpack it, or call it .npz if numpy wrote it"),
    (b"MATLAB", 0, "a MATLAB file", "save its spikes (T, H, W) by numpy.save"),
    (b"\x89HDF\r\n", 0, "an HDF5 file", "save its spikes (T, H, W) by numpy.save"),
    (b"ftyp", 4, "an MP4 video", "videos are for simulate.py"),
    (b"\x1aE\xdf\xa3", 0, "a Matroska video", "videos are for simulate.py"),
    (b"AVI LIST", 8, "an AVI video", "videos are for simulate.py"),
    (b"\x89PNG\r\n", 0, "a PNG picture", "pictures are for simulate.py"),
    (b"\xff\xd8\xff", 0, "a JPEG picture", "pictures are for simulate.py"),
    (b"GIF8", 0, "a GIF", "pictures are for simulate.py"),
    (b"\xfd7zXZ\0", 0, "an xz archive", "unpack it by xz -d"),
    (b"BZh", 0, "a bzip2 archive", "unpack it by bunzip2"),
    (b"\x28\xb5\x2f\xfd", 0, "a Zstandard archive", "unpack it by unzstd"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7-Zip archive", "unpack it"),
    (b"Rar!\x1a\x07", 0, "a RAR archive", "unpack it"),
    (b"%PDF-", 0, "a PDF document", "name a recording"),
)


def first_bytes(path):
    """The first bytes of a regular file; b"" for anything else."""
    if not Path(path).is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(64)


def refuse_other_kinds(name, head):
    """Raises UserError if the first bytes of `name`, `head`, are those of another type of file."""
    for mark, at, kind, remedy in KINDS:
        if head[at : at + len(mark)] == mark:
            raise UserError(f"{name}: is {kind}, by its first bytes, not packed spikes; {remedy}")


def unpack_gzip(path):
    """Unpack a gzip file into a temporary file, which the caller removes; returns its path.

    Raises UserError if the gzip file is damaged or the disk is full.
    """
    handle, unpacked = tempfile.mkstemp(prefix="spikes_", suffix=".dat")
    try:
        with os.fdopen(handle, "wb") as target, gzip.open(path) as source:
            shutil.copyfileobj(source, target, 1 << 20)
        return unpacked
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        os.unlink(unpacked)
        raise UserError(f"{path}: a damaged gzip file ({error}); take a whole copy") from None
    except BaseException as error:
        os.unlink(unpacked)
        if isinstance(error, OSError):
            raise UserError(
                f"{path}: cannot be unpacked to {unpacked} ({error.strerror}); set TMPDIR to a larger disk"
            ) from None
        raise
