"""Which steps of a recording are shown, how many are taken as one, and how light and fast: by the settings
and a look at it."""

from dataclasses import dataclass

from swinsf.recordings.binning import check_bin
from swinsf.recordings.calibration import Pixels
from swinsf.recordings.output import ToneCurve
from swinsf.recordings.stream import key_frames
from swinsf.recordings.survey import choose_bin, choose_exposure, survey
from swinsf.utils.cli import UserError
from swinsf.utils.timing import RATE, STEPS

STRIDE, FPS = 20, 25.0  # by default


@dataclass(frozen=True)
class Plan:
    """What is chosen by a look at the recording; of several processes one looks, and tells the others."""

    keys: range  # the key frames of the output, in steps of the recording
    bin: int  # steps that are taken as one
    curve: ToneCurve
    fps: float  # pictures a second of a video
    lines: tuple = ()  # of text on what was chosen
    pixels: Pixels | None = None  # what is done about bad pixels and their differences


def in_steps(moment, settings):
    """A `cli.moment` in steps."""
    if moment is None:
        return None
    value, unit = moment
    return value if unit == "steps" else round(value * settings.steps_per_second)


def choose_pace(settings):
    """(stride in steps, pictures a second) by --stride, --fps and --slowmo, of which two make the third.

    Raises UserError for all three, and for a stride of less than a step.
    """
    stride, fps, slowmo = in_steps(settings.stride, settings), settings.fps, settings.slowmo
    bin = 1 if settings.bin == "auto" else settings.bin
    if stride == 0:
        raise UserError("--stride: less than a step from one picture to the next; take 1 or more")
    if stride is not None:
        check_bin(bin, stride)
    if not slowmo:
        return stride or -(-STRIDE // bin) * bin, fps or FPS
    if stride and fps:
        raise UserError(
            f"--slowmo {slowmo:g} with --stride and --fps: any two of them make the third; leave one out"
        )
    second = settings.steps_per_second / slowmo  # steps that are shown in a second
    stride = stride or max(1, round(second / (fps or FPS) / bin)) * bin
    return stride, second / stride


def make_plan(spikes, settings, weights=None, fit=None, pixels=None):
    """The `Plan` of a recording (T, H, W). Raises UserError where there is no picture to show.

    weights: the network's path, None for other methods. fit: what they were fitted to, with `light` and
    `motion`, if known. pixels: the recording's `Pixels`, which have been dealt with in `spikes`.
    """
    start, stop = in_steps(settings.start, settings), in_steps(settings.stop, settings)
    stride, fps = choose_pace(settings)
    steps = len(spikes) if hasattr(spikes, "__len__") else None
    if steps is not None and start is not None and start >= steps:
        raise UserError(
            f"--start {start}: {settings.recording} ends before, it has {steps} step{'s' * (steps != 1)}, "
            f"{1e3 * steps / settings.steps_per_second:.4g} ms; no picture to show"
        )
    seen, lines = survey(spikes, start or 0, stop), []
    bin = 1 if settings.bin == "auto" else settings.bin
    if settings.bin == "auto" and weights:
        bin, reason = choose_bin(seen, stride, start, stop, bool(pixels) and pixels.maps is not None)
        lines.append(
            f"bin: {'each step as it is' if bin == 1 else f'{bin} steps as one'}, since {reason} (--bin N for others)"
        )
    rate = settings.rate or RATE
    # who says what is white is not to be corrected
    exposure = settings.exposure or (1.0 if settings.rate else "auto")
    if exposure == "auto":
        dark = pixels.dark if pixels else 0.0
        exposure = (
            1.0 if settings.bits == 32 else choose_exposure(seen._replace(bright=seen.bright - dark), rate)
        )
        chosen = (
            "1, as numbers are to be left"
            if settings.bits == 32
            else f"{exposure:.3g}, so that bright pixels are white"
        )
        lines.append(f"exposure: grey levels times {chosen} (--exposure says it otherwise)")
    lines += [
        f"warning: {weights.name} was fitted to other data: {line}"
        for line in describe_outside(seen, bin, fit)
    ]
    keys = key_frames(steps, start, stop, stride, bin)
    if not keys:
        asked = "".join(
            f" --{name} {value}" for name, value in (("start", start), ("stop", stop)) if value is not None
        )
        has = "its steps" if steps is None else f"{steps} step{'s' * (steps != 1)}"
        raise UserError(
            f"{settings.recording}: no picture to show of {has}{asked and ' with' + asked}: one wants "
            f"{STEPS * bin} steps, half of them on either side of its own; record more, or widen --start and --stop"
            + (f", or take a smaller --bin than {bin}" if bin > 1 else "")
        )
    return Plan(
        keys, bin, ToneCurve(exposure * RATE / rate, settings.gamma, settings.bits), fps, tuple(lines), pixels
    )


def describe_outside(seen, bin, fit):
    """Lines of text on where a recording, `bin` of its steps as one, is outside of what weights were fitted
    to."""
    lines = []
    if not fit or not seen.bright:
        return lines
    light, (least, most) = min(1.0, bin * seen.bright), fit.light
    if light < least:
        lines.append(
            f"bright pixels have {light:.2g} spikes a step; try a larger --bin, with a --stride that it divides"
        )
    elif light > most:
        remedy = "try a smaller --bin" if bin > 1 else "record with less light or a smaller aperture"
        lines.append(f"bright pixels have {light:.2g} spikes a step, near the end of the range; {remedy}")
    if seen.motion is not None and bin * seen.motion > fit.motion:
        remedy = "try a smaller --bin" if bin > 1 else "--method tfi shows fast motion without blur"
        lines.append(f"things move by {bin * seen.motion:.2g} pixels a step; {remedy}")
    return lines
