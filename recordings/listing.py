"""Several recordings by one command: which they are, and what their outputs are called."""

import collections
import glob
from pathlib import Path

from swinsf.utils.cli import UserError

SUFFIXES = (".dat", ".npy", ".npz", ".gz")


def list_recordings(names):
    """The recordings that names stand for, texts: a folder for those in it, a pattern with * for those that
    fit, in order.

    Hidden files are left out. Raises UserError where a folder or a pattern has none, and for a recording that
    comes twice.
    """
    found = []
    for name in map(str, names):
        if name == "-" or Path(name).is_file():
            found.append(name)
        elif Path(name).is_dir():
            files = sorted(
                file for file in Path(name).iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES
            )
            inside = [str(file) for file in files if not file.name.startswith(".")]
            if not inside:
                raise UserError(
                    f"{name}: a folder without recordings, no plain file; name a folder of {', '.join(SUFFIXES)}"
                )
            found += inside
        elif glob.has_magic(name):
            fitting = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())
            if not fitting:
                raise UserError(f"{name}: no file fits this pattern; check the path")
            found += fitting
        else:
            found.append(name)  # which opening it will name
    twice = [name for name, count in collections.Counter(found).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: named twice; name each recording once")
    if "-" in found and len(found) > 1:
        raise UserError("standard input with other recordings: take it alone")
    return found


def stem_of(name):
    """A recording's name without its suffix, and without .gz before that."""
    if name == "-":
        return "standard_input"
    path = Path(name)
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def output_paths(recordings, output, suffix=".mp4"):
    """The output of each recording, paths. output: that of the only one; of several a folder, or a path with
    {name} in it.

    Without one they go below results/. Where names collide, they carry their folder's. Raises UserError where
    they still do, or where several would go to one file.
    """
    names = [stem_of(name) for name in recordings]
    for i, count in enumerate([names.count(name) for name in names]):
        if count > 1:
            names[i] = f"{Path(recordings[i]).absolute().parent.name}_{stem_of(recordings[i])}"
    if len(set(names)) < len(names):
        first = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{first}: several recordings would have outputs of this name; take them one by one")
    if output is None:
        return [Path("results") / f"{name}{suffix}" for name in names]
    if "{name}" in str(output):
        return [Path(str(output).replace("{name}", name)) for name in names]
    if len(recordings) == 1:
        return [Path(output)]
    if Path(output).suffix and not Path(output).is_dir():
        raise UserError(
            f"--output {output}: one file for {len(recordings)} recordings; take {{name}} for their names, "
            f"as in {Path(output).with_name('{name}' + Path(output).suffix)}, or a folder"
        )
    return [Path(output) / (name + (suffix if suffix == "_inspect.png" else "")) for name in names]
