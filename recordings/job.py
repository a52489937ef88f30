"""Turns one recording into its pictures, for `reconstruct.py`."""

import argparse
import collections
import contextlib
import itertools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from swinsf.models import SwinSF, fit_of
from swinsf.models.classical import tfi_pictures, tfp_pictures
from swinsf.models.tiling import check_tile
from swinsf.recordings.binning import bin_steps
from swinsf.recordings.calibration import Pixels, look_at_pixels
from swinsf.recordings.opening import open_recording
from swinsf.recordings.output import describe_settings, open_output
from swinsf.recordings.plan import Plan, group_size, is_mirrored, make_plan
from swinsf.recordings.recording import Recording
from swinsf.recordings.repair import repair
from swinsf.recordings.report import check_report, page_path, write_report
from swinsf.recordings.stream import check_side, prefetch, reconstruct_binned
from swinsf.recordings.tone import moment_name, stamp
from swinsf.recordings.workplace import Output
from swinsf.utils import cli, stopping
from swinsf.utils.cli import UserError
from swinsf.utils.distributed import wait_for_all
from swinsf.utils.timing import RATE, STEPS


class Network(NamedTuple):
    """The weights' path and their model; both None for TFP and TFI."""

    path: Path | None = None
    model: SwinSF | None = None


@dataclass(frozen=True)
class Job:
    """A recording, the plan for its pictures, and their output."""

    settings: argparse.Namespace  # with this job's `recording` and `output`
    recording: Recording
    lines: list  # text on the recording
    plan: Plan
    pixels: Pixels  # those of the part that is shown
    model: SwinSF | None  # None unless the method is swinsf
    output: Output
    clipped: list = field(default_factory=list)  # the part of each new picture's pixels above white

    @property
    def piped(self) -> bool:
        """Whether the recording is a pipe, so that the number of pictures is unknown until its end."""
        return self.recording.length is None

    def share(self, rank: int, size: int) -> tuple[list[int] | range, int | None]:
        """(key frames left for this process, how many are left for all). They are whole groups, see
        `plan.plan_passes`."""
        keys = self.plan.keys
        if self.piped:
            return keys, None
        done = self.output.done()
        group = group_size(keys.step, self.settings.outputs, self.plan.bin) if self.model else 1
        groups = [keys[i : i + group] for i in range(0, len(keys), group)]
        left = [part for part in groups if not done.issuperset(part)]
        own = left[len(left) * rank // size : len(left) * (rank + 1) // size]
        return list(itertools.chain(*own)), sum(map(len, left))

    def run(self, bar, rank: int, size: int) -> int:
        """Make the pictures that a claimed output lacks; returns the exit status."""
        left, total = self.share(rank, size)
        wait_for_all()  # nobody writes before all have read what is done
        bar.total = None if self.piped else (bar.total or 0) + len(left)  # with those of earlier recordings
        begin = time.perf_counter()
        try:
            remedy = "set --tile 320 or a smaller --batch_size, or take --device cpu"
            with cli.memory_errors(remedy), stopping.Stopper() as stopper:
                made = self.write_pictures(left, bar, stopper)
            if stopper():
                if rank == 0:
                    cli.log(f"stopped. {self.output.kept()}")
                return 128 + stopper.signal
            wait_for_all()
            if rank == 0:
                self.conclude(made if self.piped else total, time.perf_counter() - begin)
        except (UserError, OSError) as error:
            raise UserError(f"{cli.one_line(error)}. {self.output.kept()}") from None
        return 0

    def write_pictures(self, keys, bar, should_stop) -> int:
        """Make and write the pictures at the key frames; returns their number.

        Other threads read and write. The network has the main thread, where PyTorch is a quarter faster on a
        CPU.
        """
        made, pictures, written = 0, self.make_pictures(keys, should_stop), collections.deque()
        with contextlib.closing(pictures), ThreadPoolExecutor(1) as writer:
            for key, picture in pictures:
                written.append(writer.submit(self.write, key, picture))
                if len(written) > 2:
                    written.popleft().result()
                made += 1
                bar.update()
                if should_stop():
                    break
            for future in written:
                future.result()
        return made

    def make_pictures(self, keys, should_stop):
        """An iterator over (key frame, picture (H, W) of floats in grey levels). The network's windows are
        read ahead; the pictures of TFP and TFI are made ahead."""
        settings, bin, stride = self.settings, self.plan.bin, self.plan.keys.step
        if self.model:
            options = {name: getattr(settings, name) for name in ("batch_size", "tile", "outputs")}
            options |= {"calibration": self.pixels.maps, "should_stop": should_stop}
            options |= {"ends": True} if self.settings.ends else {}
            made = reconstruct_binned(self.recording, self.model, keys, stride, bin, **options)
            return limited(made, self.pixels, bin)
        binned = bin_steps(self.recording, bin, self.plan.keys.start)
        window = [settings.window] if settings.method == "tfp" else []
        made = (tfp_pictures if window else tfi_pictures)(binned, map(binned.bin_of, keys), *window)
        pictures = ((key, self.pixels.correct(picture / bin, bin)) for key, picture in zip(keys, made))
        if self.piped:
            return prefetch(of_whole_windows(pictures, binned), patience=1, should_stop=should_stop)
        return prefetch(pictures, should_stop=should_stop)

    def mean_at(self, key: int) -> np.ndarray:
        """The TFP picture (H, W) of a key frame, in grey levels."""
        bin = self.plan.bin
        binned = bin_steps(self.recording, bin, key)
        (picture,) = tfp_pictures(binned, [binned.bin_of(key)], self.settings.window)
        return self.pixels.correct(picture / bin, bin)

    def write(self, key: int, picture: np.ndarray):
        """Write a key frame's picture (H, W), in grey levels; with --beside, TFP's is on its left."""
        self.clipped.append(self.plan.curve.clipped(picture))
        if self.settings.beside:
            picture = np.hstack([self.mean_at(key), picture])
        shown = self.plan.curve(picture)
        if self.settings.stamp:
            text = moment_name(key, self.settings.steps_per_second)
            mirrored = self.settings.ends and is_mirrored(key, len(self.recording), self.plan.bin)
            shown = stamp(shown, f"{text}, mirrored" if mirrored else text)
        self.output.write(key, shown)

    def conclude(self, made: int, seconds: float):
        """Write the report, finish the output, and log both. Raises UserError if pictures are missing."""
        keys, path = self.plan.keys, self.output.path
        if self.piped:
            keys = keys[:made]
            self.check_end_of_pipe(made)
        missing = len(keys) - len(self.output.done().intersection(keys))
        if missing:
            raise UserError(f"{path}: {missing} pictures are missing, though every process has finished")
        self.report(seconds / made if made else math.nan)
        self.output.finish(len(keys))
        fps = self.plan.fps
        several = (
            f"pictures of steps {keys[0]} to {keys[-1]}" if len(keys) > 1 else f"picture of step {keys[0]}"
        )
        line = f"{self.output.place()}: {len(keys)} {several}, {made} made now in {seconds:.1f} s"
        if len(keys) > 1:
            slower = cli.short(self.settings.steps_per_second / (keys.step * fps))
            line += (
                f" ({cli.short(made / seconds)} pictures/s); {cli.short(len(keys) / fps)} s at {cli.short(fps)} "
                f"pictures a second, {slower} times slower than real time"
            )
        cli.log(line)
        if self.settings.bits == 16 and self.clipped:
            part = float(np.mean(self.clipped))
            remedy = f"; --exposure {RATE:g} shows a spike at every step as white" if part else ""
            cli.log(f"clipped: {part:.1%} of the pixels are above white, 65535{remedy}")

    def check_end_of_pipe(self, made: int):
        """Warn of a pipe that ended within a step. Raises UserError if it ended before the first picture."""
        pipe = self.recording.source
        if pipe.left_over:
            cli.log(f"warning: standard input: its last {pipe.left_over} bytes are no whole step")
        if not made:
            self.output.discard()
            raise UserError(
                f"standard input: ended after {pipe.position} steps; a picture needs {STEPS * self.plan.bin}"
                + (f" with {self.plan.bin} steps a bin; take --bin 1" if self.plan.bin > 1 else "")
            )

    def report(self, seconds: float):
        """Write the page of --report, if that is set. seconds: time per picture."""
        if self.settings.report:
            path = page_path(self.settings)
            write_report(path, self, seconds)
            cli.log(f"report: {path}")

    def show_finished(self):
        """Log that the output is complete, and write the page of --report all the same."""
        self.report(math.nan)
        cli.log(
            f"{self.output.place()}: already exists, by the same settings; nothing to do (--overwrite makes it again)"
        )


def open_shown(settings, repair_as: str | None = None, pixels: Pixels | None = None):
    """Open a recording, fill its bad pixels and crop it, by the flags.

    Returns (`Recording`, lines on it, `Pixels` of the whole picture, `Pixels` of the crop). repair_as:
    replaces --repair. pixels: those of the whole picture, if known.
    """
    size, name = (settings.height, settings.width), settings.recording
    recording, lines = open_recording(name, *size, settings.flip, bitorder=settings.bit_order)
    pixels = pixels or look_at_pixels(recording, settings.calibration, repair_as or settings.repair, name)
    shown, parts = repair(recording, pixels.bad), pixels  # before the crop: it must not change the pictures
    if settings.crop:
        spans = recording.spans(*settings.crop)
        shown, parts = shown.crop(*spans), pixels.crop(*spans)
    return shown, lines, pixels, parts


def prepare(settings, network: Network, plan: Plan | None = None) -> Job:
    """The `Job` of one recording; nothing is written yet. Raises UserError for a bad recording or setting.

    plan: the one of process 0, for the others, since the recording may have grown.
    """
    recording, lines, pixels, parts = open_shown(settings, pixels=plan and plan.pixels)
    weights, model = network
    plan = plan or make_plan(recording, settings, weights, weights and fit_of(weights), pixels)
    if model:
        group_size(plan.keys.step, settings.outputs, plan.bin)
        check_side(recording)
    height, width = recording.size
    path, piped = settings.output, recording.length is None
    if not piped and path.exists() and path.samefile(settings.recording):
        raise UserError(f"--output {path}: is the recording itself; take another name")
    about = describe_settings(settings, recording, plan, weights)
    shape = height, width * (2 if settings.beside else 1)
    output = open_output(path, about, shape, plan.keys, piped, plan.fps, settings.bits, settings.folder)
    check_report(settings, plan.keys, recording.size)
    if model:
        check_tile(settings.tile, model.config.window * model.config.patch)
    return Job(settings, recording, [*lines, *pixels.lines, *plan.lines], plan, parts, model, output)


def limited(pictures, pixels: Pixels, bin: int):
    """Yields the (key frame, picture) of an iterator, the pictures clamped by `Pixels.limit`."""
    with contextlib.closing(pictures):
        for key, picture in pictures:
            yield key, pixels.limit(picture, bin)


def of_whole_windows(pictures, piped):
    """Drop the pictures of key frames that fewer than 20 steps follow, as the network does."""
    held = collections.deque()
    for item in pictures:
        held.append(item)
        while held and piped.bin_of(held[0][0]) + STEPS // 2 < piped.position:
            yield held.popleft()
    yield from (item for item in held if piped.bin_of(item[0]) + STEPS // 2 < piped.position)
