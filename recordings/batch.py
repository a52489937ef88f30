"""All recordings of one `reconstruct.py` command, one after the other, with one model."""

import argparse
import collections
import contextlib
import glob
from pathlib import Path

import torch
from tqdm import tqdm

from swinsf.models import choose_precision, fit_of, load_model, weights_file, weights_for
from swinsf.recordings.inspect import show_inspection
from swinsf.recordings.job import Job, Network, open_shown, prepare
from swinsf.recordings.plan import in_steps, resolve_gain
from swinsf.recordings.survey import survey
from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import broadcast

SUFFIXES = (".dat", ".npy", ".npz", ".gz")


def list_jobs(settings, size: int) -> list[argparse.Namespace]:
    """The settings of each recording, with its `recording` and `output`. size: number of processes.

    Raises UserError for flags that do not go together.
    """
    recordings = list_recordings(settings.recordings)
    paths = output_paths(recordings, settings.output, "_inspect.png" if settings.inspect else ".mp4")
    inspect = settings.inspect
    rules = inspect_rules(settings, recordings, paths) if inspect else flag_rules(settings, recordings, size)
    cli.refuse(rules)
    # each recording gets a folder in --output, even if its name looks like a file's
    folder = len(recordings) > 1 and not inspect and settings.output and "{name}" not in str(settings.output)
    batch = [
        argparse.Namespace(
            **{**vars(settings), "recording": recording, "output": path, "folder": bool(folder)}
        )
        for recording, path in zip(recordings, paths)
    ]
    if settings.exposure == "batch" and not settings.inspect:
        gain = batch_gain(batch)
        cli.log(
            f"exposure: grey levels times {gain:.3g} in all {len(batch)} recordings (--exposure sets another)"
        )
        for one in batch:
            one.exposure = gain
    return batch


def list_recordings(names):
    """The paths of the recordings that names refer to, in order. A name is a file, a folder or a pattern.

    Hidden files are left out. Raises UserError if a name refers to no recording, or two to the same one.
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
                    f"{name}: a folder without recordings, not a regular file; give a folder of {', '.join(SUFFIXES)}"
                )
            found += inside
        elif glob.has_magic(name):
            fitting = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())
            if not fitting:
                raise UserError(f"{name}: no file fits this pattern; check the path")
            found += fitting
        else:
            found.append(name)  # opening it raises the error
    twice = [name for name, count in collections.Counter(found).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: named twice; name each recording once")
    if "-" in found and len(found) > 1:
        raise UserError("standard input with other recordings: take it alone")
    return found


def stem_of(name):
    """A recording's file name without its suffix; without both of `.dat.gz`. Names may have other dots."""
    if name == "-":
        return "standard_input"
    path = Path(name)
    both = [suffix.lower() for suffix in path.suffixes[-2:]] == [".dat", ".gz"]
    return Path(path.stem).stem if both else path.stem


def output_paths(recordings, output, suffix=".mp4"):
    """The output path of each recording, by default below results/.

    output: a path; for several recordings a folder, or a path with {name} in it. If names collide, the
    recording's folder is added. Raises UserError if they still do, or if several recordings share one file.
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


def inspect_rules(settings, recordings: list[str], paths: list[Path]) -> list[tuple]:
    """[(whether flags or outputs do not go with --inspect, the message if so)]"""
    table, count = settings.bad_pixels, len(recordings)
    there = table and table.exists() and not settings.overwrite
    return [
        (
            "-" in recordings,
            "--inspect with standard input: a pipe cannot be sampled in several places; name a file",
        ),
        *(
            (
                path.suffix.lower() != ".png" or path.is_dir(),
                f"--output {path}: the sheet of --inspect is a PNG; take the name of a file that ends in .png",
            )
            for path in paths
        ),
        (
            table and table.suffix.lower() != ".csv",
            f"--bad_pixels {table}: a table in CSV; take a name that ends in .csv",
        ),
        (table and count > 1, f"--bad_pixels with {count} recordings: the table is for one; name one"),
        (there, f"--bad_pixels {table}: already exists; add --overwrite, or choose another name"),
    ]


def flag_rules(settings, recordings: list[str], size: int) -> list[tuple]:
    """[(whether flags do not go together, the message if so)]"""
    piped, count = "-" in recordings, len(recordings)
    report, pipe = {"--report": settings.report}, {"standard input": piped}
    others = (  # flags that do not go with --beside, with --ends, and with standard input
        report | pipe | {"--method tfp": settings.method == "tfp"},
        report
        | {"--beside": settings.beside}
        | pipe
        | {f"--method {settings.method}": settings.method != "swinsf"},
        report | {"--exposure batch": settings.exposure == "batch"},
    )
    no_beside, no_ends, no_pipe = (
        next((name for name, used in flags.items() if used), None) for flags in others
    )
    return [
        (settings.bad_pixels, f"--bad_pixels {settings.bad_pixels}: --inspect finds them; add it"),
        (
            settings.stamp and settings.bits == 32,
            "--stamp with --bits 32: floats are for numbers; leave one of them out",
        ),
        (
            settings.bits == 32 and settings.gamma != 1,
            f"--gamma {settings.gamma:g} with --bits 32: floats are linear grey levels; leave one of them out",
        ),
        (
            settings.beside and no_beside,
            f"--beside {settings.beside} with {no_beside}: these do not go together; leave one out",
        ),
        (
            settings.ends and no_ends,
            f"--ends with {no_ends}: only the network uses mirrored windows; leave one out",
        ),
        (
            settings.compare and not settings.report,
            "--compare: its pictures are for the page; add --report",
        ),
        (
            settings.compare and count > 1,
            f"--compare with {count} recordings: name one, whose pictures they are",
        ),
        (
            piped and size > 1,
            f"standard input with {size} processes: only one can read it; name a file, or leave out torchrun",
        ),
        (
            piped and no_pipe,
            f"{no_pipe} with standard input: it reads the recording twice; name a file",
        ),
    ]


def inspect_all(batch: list[argparse.Namespace]) -> int:
    """Show what each recording is like; returns the exit status."""
    for settings in batch:
        # Without a calibration, the sheet shows bad pixels unfilled.
        recording, lines, _, pixels = open_shown(settings, None if settings.calibration else "none")
        show_inspection(settings, recording, lines, pixels)
    return 0


def batch_gain(batch: list[argparse.Namespace]) -> float:
    """The gain for all recordings that makes bright pixels of the brightest one white."""
    gains = []
    for settings in batch:
        with contextlib.suppress(UserError, OSError):  # the recording's job raises it again
            recording, _, pixels, _ = open_shown(settings)
            start, stop = (in_steps(moment, settings) for moment in (settings.start, settings.stop))
            seen = survey(recording, start or 0, stop)
            one = argparse.Namespace(**{**vars(settings), "exposure": "auto"})
            if seen.bright:
                gains.append(resolve_gain(seen, one, pixels.dark)[0])
    return min(gains, default=1.0)


def load_network(settings, device: torch.device) -> tuple[Network, str]:
    """(the `Network`, a line on it); both are empty for TFP and TFI."""
    if settings.method != "swinsf":
        return Network(), ""
    own = weights_for("recordings", calibrated=bool(settings.calibration))
    weights = weights_file(settings.load_model) if settings.load_model else own
    fit = fit_of(weights)
    settings.precision = choose_precision(settings.precision, weights, device)
    model = load_model(weights, device, settings.precision)
    purpose = f", for {fit.purpose}" if fit else ""
    return Network(weights, model), f"weights: {weights}{purpose}, in {settings.precision}"


def reconstruct_all(batch: list[argparse.Namespace], device: torch.device, rank: int, size: int) -> int:
    """Reconstruct all recordings with one model; returns the exit status."""
    network, line = load_network(batch[0], device)
    for settings in batch:
        settings.precision = batch[0].precision  # recorded with the pictures
    if line and rank == 0:
        cli.log(line)
    label = "reconstruct" if size == 1 else f"process 0 of {size}"
    with tqdm(desc=label, unit="picture", dynamic_ncols=True, disable=rank > 0, delay=0.5) as bar:
        return work_through(batch, network, bar, rank, size)


def work_through(batch: list[argparse.Namespace], network: Network, bar, rank: int, size: int) -> int:
    """Reconstruct each recording; returns the exit status. In a batch, an error ends only its recording."""
    status, rows = 0, []
    for settings in batch:
        try:
            job, finished = start(settings, network, rank)
            with contextlib.closing(job.output):
                if finished and rank == 0:
                    job.show_finished()
                ended = 0 if finished else job.run(bar, rank, size)
            plan = job.plan
            rows.append([len(plan.keys), plan.bin, f"{plan.curve.exposure:.3g}", settings.output])
            if ended:
                return ended
        except (UserError, OSError) as error:
            if len(batch) == 1 or size > 1:  # other processes wait for this one
                raise
            cli.logger.error("error: %s", cli.one_line(error))
            status = 2
            rows.append(["none, see its error"])
    if len(batch) > 1 and rank == 0:
        for line in summarize(batch, rows):
            cli.log(line)
    return status


def summarize(batch: list[argparse.Namespace], rows: list[list]) -> list[str]:
    """The lines of a table with one row per recording: its name, and the entries in `rows`."""
    names = [cli.shown(Path(settings.recording).name, 40) for settings in batch]
    wide = max(len("recording"), *map(len, names))
    lines = [f"{'recording':{wide}}  pictures  bin   gain  output"]
    for name, (pictures, *rest) in zip(names, rows):
        if rest:
            bin, gain, output = rest
            lines.append(f"{name:{wide}}  {pictures:8,}  {bin:3}  {gain:>5}  {output}")
        else:
            lines.append(f"{name:{wide}}  {pictures}")
    return lines


def start(settings, network: Network, rank: int) -> tuple[Job, bool]:
    """(the claimed `Job` of one recording, whether it is finished already); the same in all processes."""
    plan, finished = broadcast(None) if rank else (None, False)  # waits for process 0
    job = prepare(settings, network, plan)
    if rank == 0:
        finished = not settings.overwrite and job.output.is_finished()
        if not finished:
            job.output.claim(settings.overwrite)
        for line in job.lines:
            cli.log(line)
        broadcast((job.plan, finished))
    return job, finished
