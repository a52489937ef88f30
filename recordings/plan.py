"""Plans the pictures of a recording from settings and a survey: key frames, bin, tone curve, speed."""

import sys
from dataclasses import dataclass

from swinsf.recordings.calibration import Pixels
from swinsf.recordings.formats import VIDEOS
from swinsf.recordings.recording import Recording
from swinsf.recordings.survey import WHITE, Survey, survey
from swinsf.recordings.tone import ToneCurve, in_ms
from swinsf.utils.cli import UserError, plural
from swinsf.utils.timing import KEY_FRAMES, MOST_BIN, RATE, STEPS, STRIDE

MIDDLE = KEY_FRAMES["middle"]
APART = MIDDLE - KEY_FRAMES["left"]  # steps between the key frames of a window's three pictures
ENDLESS = sys.maxsize  # end of the key frames of a recording of unknown length

FPS = 25.0  # by default
SHORT, LONG = 2.0, 5.0  # seconds: a video shorter than SHORT gets a proposal for one of LONG
# How much a bin may gather. swinsf_camera.pth was trained on dark recordings, so larger bins soon lose more
# to motion than they gain in light. The values are the best of a grid, on recordings that tools/bins.py
# simulates and scores.
FULL = 0.5  # largest number of spikes of a bright pixel in a bin
LIT = 0.1  # the same for bins of more than two steps
UNSEEN = 0.06  # the same if the motion is unknown
STILL = 0.3  # largest motion in a bin, in pixels
BINS = (2, 4, 5, 10, 20)  # candidates at any stride: the divisors of the default one


@dataclass(frozen=True)
class Plan:
    """The choices made after a survey of the recording. One process makes them for all."""

    keys: range  # the key frames of the output, in steps of the recording
    bin: int  # steps a bin
    curve: ToneCurve
    fps: float  # pictures a second of a video
    lines: tuple = ()  # text on the choices
    pixels: Pixels | None = None  # how pixels are filled and corrected


def make_plan(recording: Recording, settings, weights=None, fit=None, pixels: Pixels | None = None) -> Plan:
    """The `Plan` of a recording. Raises UserError if there is no picture to show.

    settings: the flags of reconstruct.py. weights: the path of the network's weights, if any. fit: the range
    of `light` and `motion` that they were fitted to, if known. pixels: the recording's `Pixels`; its bad ones
    are already filled.
    """
    start, stop = in_steps(settings.start, settings), in_steps(settings.stop, settings)
    stride, fps = choose_pace(settings)
    steps = recording.length
    if steps is not None and start is not None and start >= steps:
        raise UserError(
            f"--start {start}: {settings.recording} ends before, it has {plural(steps, 'step')}, "
            f"{in_ms(steps, settings.steps_per_second)}; no picture to show"
        )
    seen, lines = survey(recording, start or 0, stop), describe_rounding(settings)
    bin = 1 if settings.bin == "auto" else settings.bin
    if settings.bin == "auto" and settings.method == "swinsf":
        bin, reason = choose_bin(seen, stride, start, stop, bool(pixels) and pixels.maps is not None)
        lines.append(
            f"bin: {'each step as it is' if bin == 1 else f'{bin} steps a bin'}, since {reason} (--bin N for others)"
        )
    gain, line = resolve_gain(seen, settings, pixels.dark if pixels else 0.0)
    lines += line
    lines += [
        f"warning: {weights.name} was fitted to other data: {line}"
        for line in describe_outside(seen, bin, fit)
    ]
    ends = getattr(settings, "ends", False)
    keys = key_frames(steps, start, stop, stride, bin, ends)
    output = getattr(settings, "output", None)
    if steps is not None:
        lines += describe_short(keys, fps, settings)
    if keys and output and output.suffix.lower() == ".png" and not output.is_dir() and stop is None:
        middle = 0 if steps is None or start is not None else len(keys) // 2
        keys = keys[middle : middle + 1]  # a PNG shows one moment
    if ends and (mirrored := [key for key in keys if is_mirrored(key, steps, bin)]):
        several = f"the first of step {mirrored[0]} and the last of step {mirrored[-1]}"
        which = several if len(mirrored) > 1 else f"of step {mirrored[0]}"
        lines.append(f"ends: {plural(len(mirrored), 'picture')}, {which}, by windows mirrored at the ends")
    if not keys:
        raise UserError(
            f"{settings.recording}: no picture to show{describe_shortage(steps, start, stop, bin)}"
        )
    curve = ToneCurve(gain * RATE / (settings.rate or RATE), settings.gamma, settings.bits)
    return Plan(keys, bin, curve, fps, tuple(lines), pixels)


def in_steps(moment, settings) -> int | None:
    """A `flags.moment` in steps; None for None."""
    if moment is None:
        return None
    value, unit = moment
    return value if unit == "steps" else round(value * settings.steps_per_second)


def describe_rounding(settings) -> list[str]:
    """A line on a stride given as a time that is not a whole number of steps."""
    if settings.stride is None or settings.stride[1] == "steps":
        return []
    exact, rounded = settings.stride[0] * settings.steps_per_second, in_steps(settings.stride, settings)
    if abs(exact - rounded) < 1e-6:
        return []
    drift = 1e3 * (rounded - exact) / exact
    return [
        f"stride: {1e3 * settings.stride[0]:.6g} ms is {exact:.6g} steps, rounded to {rounded}, "
        f"{1e3 * rounded / settings.steps_per_second:.6g} ms; pictures come {abs(drift):.3g} ms "
        f"{'later' if drift > 0 else 'earlier'} with each second of the recording"
    ]


def choose_pace(settings):
    """(stride in steps, pictures a second) from --stride, --fps and --slowmo; any two set the third.

    Raises UserError for all three, and for a stride of less than a step.
    """
    stride, fps, slowmo = in_steps(settings.stride, settings), settings.fps, settings.slowmo
    bin = 1 if settings.bin == "auto" else settings.bin
    apart = 1 if settings.method == "swinsf" else bin  # the network's bins may overlap
    if stride == 0:
        raise UserError("--stride: less than a step from one picture to the next; take 1 or more")
    if stride is not None:
        check_bin(apart, stride)
    if not slowmo:
        return stride or -(-STRIDE // bin) * bin, fps or FPS
    if stride and fps:
        raise UserError(
            f"--slowmo {slowmo:g} with --stride and --fps: any two of them set the third; leave one out"
        )
    second = settings.steps_per_second / slowmo  # steps shown in a second
    stride = stride or max(1, round(second / (fps or FPS) / apart)) * apart
    return stride, second / stride


def first_key(bin):
    """The first step with a whole window, 41 times `bin` steps, around it."""
    return KEY_FRAMES["middle"] * bin + bin // 2


def last_key(steps, bin):
    """The last step with a whole window around it; less than `first_key` if there is none."""
    return steps - STEPS * bin + first_key(bin)


def is_mirrored(key: int, steps: int, bin: int = 1) -> bool:
    """Whether the window of a key frame reaches beyond the recording."""
    return not first_key(bin) <= key <= last_key(steps, bin)


def check_bin(bin, stride):
    """Raises UserError unless pictures are whole bins apart, which TFP and TFI need."""
    if stride % bin:
        near = sorted({max(1, stride // bin) * bin, -(-stride // bin) * bin})
        raise UserError(
            f"--bin {bin} with --stride {stride}: pictures of TFP and TFI are a multiple of {bin} steps apart; "
            f"take --stride {' or '.join(map(str, near))}"
        )


def key_frames(steps, start=None, stop=None, stride=1, bin=1, ends=False):
    """The key frames of a recording, a range: every stride-th of start..stop-1 with a whole window around it.

    steps: the recording's length, None for a pipe, whose range goes up to ENDLESS. bin: steps a bin; a window
    has 41 bins. ends: include steps without a whole window.
    """
    earliest = 0 if ends else first_key(bin)
    first = earliest if start is None else max(start, earliest)
    if start is not None:  # count from `start`, even if it has no whole window
        first = start + -(-(first - start) // stride) * stride
    end = ENDLESS if steps is None else steps if ends else last_key(steps, bin) + 1
    return range(first, max(first, end if stop is None else min(stop, end)), stride)


def group_size(stride, outputs, bin=1):
    """The number of consecutive key frames whose passes of the network belong together: 1, or with all
    outputs the key frames in 21 bins.

    Raises UserError for a stride at which some of the left, middle and right pictures are no key frames.
    """
    if outputs == "middle":
        return 1
    apart = APART * bin
    if apart % stride:
        raise UserError(
            f"--outputs all with --stride {stride}: a pass shows steps {apart} apart; take --stride {apart} or 1"
        )
    return 3 * apart // stride


def plan_passes(keys, group):
    """[(centre, {output: key frame})] for one group of key frames. An incomplete group has a pass for
    each."""
    third = group // 3
    if group == 1 or len(keys) < group:
        return [(key, {"middle": key}) for key in keys]
    lefts, middles, rights = keys[:third], keys[third : 2 * third], keys[2 * third :]
    return [
        (m, {"left": left, "middle": m, "right": right}) for left, m, right in zip(lefts, middles, rights)
    ]


def choose_bin(seen, stride, first=None, stop=None, calibrated=False):
    """(steps a bin, why) from a `Survey`: the largest of `BINS` and the divisors of `stride` that light and
    motion allow (see `FULL`, `LIT`, `UNSEEN`, `STILL`) and that leaves a picture in first..stop-1.

    calibrated: whether dark charge and response are corrected, so that their pattern does not grow with the
    light.
    """
    best, limit = 1, f"bright pixels have {seen.bright:.2g} spikes a step"
    for bin in sorted({*BINS, *(bin for bin in range(2, min(stride, MOST_BIN) + 1) if stride % bin == 0)}):
        light = bin * seen.bright
        if light > (FULL if bin == 2 or calibrated else LIT):
            break
        if seen.motion is None and light > UNSEEN:
            limit += ", and the motion is unknown"
            break
        if seen.motion is not None and bin * seen.motion > STILL:
            limit += f", and things move by {seen.motion:.2g} pixels a step"
            break
        if seen.steps is not None:
            last = min(last_key(seen.steps, bin), (seen.steps if stop is None else stop) - 1)
            if max(first_key(bin), first or 0) > last:
                limit += f", and a picture of larger bins needs more than {seen.steps} steps"
                break
        best = bin
    return best, limit


def choose_gain(seen, rate=RATE):
    """The factor on grey levels that brings a bright pixel of a `Survey` to `WHITE` of the range, from 1/64
    to 64; 1 without light. rate: spikes a step at grey level 255."""
    return min(64.0, max(1 / 64, WHITE * rate / seen.bright)) if seen.bright > 0 else 1.0


def resolve_gain(seen: Survey, settings, dark: float = 0.0) -> tuple[float, list[str]]:
    """(factor on grey levels, a line on it if no flag set it). dark: dark charge, spikes a step."""
    # --rate already sets white
    exposure = settings.exposure or (1.0 if settings.rate else "auto")
    if exposure != "auto":
        return exposure, []
    if settings.bits > 8 and settings.exposure is None:
        gain, chosen = 1.0, "1, so that numbers stay as they are"
    else:
        gain = choose_gain(seen._replace(bright=seen.bright - dark), settings.rate or RATE)
        chosen = f"{gain:.3g}, so that bright pixels are white"
    return gain, [f"exposure: grey levels times {chosen} (--exposure sets another)"]


def describe_short(keys: range, fps: float, settings) -> list[str]:
    """A line on a video that is too short to watch, and how to slow it down."""
    output, speed = getattr(settings, "output", None), settings.steps_per_second
    chosen = settings.stride or settings.fps or settings.slowmo
    if chosen or not output or output.suffix.lower() not in VIDEOS or not 0 < len(keys) < SHORT * fps:
        return []
    span = keys[-1] - keys[0] + 1
    stride = max(1, round(span / (LONG * fps)))
    return [
        f"video: {len(keys) / fps:.2g} s; --slowmo {speed / stride / fps:.3g} makes it about {span / stride / fps:.2g} s, "
        f"with a picture every {plural(stride, 'step')}"
    ]


def describe_shortage(steps, start, stop, bin) -> str:
    """Why a recording has no picture to show, as text."""
    asked = "".join(
        f" --{name} {value}" for name, value in (("start", start), ("stop", stop)) if value is not None
    )
    has = "its steps" if steps is None else plural(steps, "step")
    return (
        f" of {has}{asked and ' with' + asked}: a picture needs {STEPS * bin} steps, {STEPS // 2 * bin} before "
        f"and {STEPS // 2 * bin} after its key frame; record more, or widen --start and --stop"
        + (f", or take a smaller --bin than {bin}" if bin > 1 else "")
    )


def describe_outside(seen, bin, fit):
    """Lines on light and motion of a recording, with `bin` steps a bin, outside the range of `fit`."""
    lines = []
    if not fit or not seen.bright:
        return lines
    light, (least, most) = min(1.0, bin * seen.bright), fit.light
    if light < least:
        lines.append(f"bright pixels have {light:.2g} spikes a step; try a larger --bin")
    elif light > most:
        remedy = "try a smaller --bin" if bin > 1 else "record with less light or a smaller aperture"
        lines.append(f"bright pixels have {light:.2g} spikes a step, near the end of the range; {remedy}")
    if seen.motion is not None and bin * seen.motion > fit.motion:
        remedy = "try a smaller --bin" if bin > 1 else "--method tfi shows fast motion without blur"
        lines.append(f"things move by {bin * seen.motion:.2g} pixels a step; {remedy}")
    return lines
