"""How often white fires in a dataset's streams: as a flag says it, as simulate.py recorded it, or as the
pictures show it."""

import re
from typing import NamedTuple

import cv2
import numpy as np

from swinsf.utils.cli import UserError
from swinsf.utils.guard import read_json
from swinsf.utils.timing import RATE

META = "meta.json"  # of simulate.py
USUAL = (RATE, 0.5, 1.0, 0.2)  # spike-REDS, Spike-Zoo, USP-Gaussian, SpikeCV's videos
# a measured rate this close to a usual one is that: noise and dark charge move it by up to 2 %
TOLERANCE = 0.03
# The steps that are counted. A stream that starts empty has half a spike a pixel too few in all 41 steps, so
# it would measure 0.57 to 0.58 for 0.6. Without the first steps it measures 0.595 to 0.605.
COUNTED = slice(7, 34)
DARKEST = 16  # grey levels that a picture needs in the mean, or its dark charge tells more than its light
BLOCK = 8  # side in pixels of the blocks that are told dark from bright, as far as things move meanwhile
SPREAD = 1.15  # by which the rate may differ from stream to stream
# The least that the rate may be in the dark half of a picture, relative to the bright half. Linear pictures
# have 1.00 to 1.02, the same gamma-encoded 0.6 to 0.8 mostly.
BENT = 0.85


class Look(NamedTuple):
    """What one stream and its pictures say."""

    rate: float  # spikes a step at white
    bend: float  # the same in the dark half of the picture, relative to the bright half


def compare(spikes, pictures):
    """A `Look` at spikes (41, H, W) and their pictures (H, W) in grey levels, or None if the pictures are too
    dark to tell.

    The rate is a ratio of means: unlike a regression over pixels it is right for things that move, too.
    """
    picture, fired = np.mean(pictures, axis=0, dtype=np.float32), spikes[COUNTED].mean(0, dtype=np.float32)
    if picture.mean() < DARKEST:
        return None
    rate, size = 255 * fired.mean() / picture.mean(), [max(1, side // BLOCK) for side in picture.shape[::-1]]
    picture, fired = (
        cv2.resize(array, size, interpolation=cv2.INTER_AREA).ravel() for array in (picture, fired)
    )
    dark, bright = np.array_split(np.argsort(picture, kind="stable"), 2)
    in_dark, in_bright = (255 * fired[half].sum() / max(1.0, picture[half].sum()) for half in (dark, bright))
    return Look(float(rate), float(in_dark / in_bright) if in_bright > 0 else 1.0)


def measure(looks):
    """(rate, why it is in doubt or None) by the `Look`s at some streams; the rate is None if there are
    none."""
    if not looks:
        return None, None
    rates = sorted(look.rate for look in looks)
    rate, bend = float(np.median(rates)), float(np.median([look.bend for look in looks]))
    usual = min(USUAL, key=lambda known: abs(rate / known - 1))
    rate = usual if abs(rate / usual - 1) <= TOLERANCE else round(rate, 3)
    kept = rates[1:-1] if len(rates) > 4 else rates  # a single odd stream is no doubt
    if not 0.005 <= rate <= 2:
        return rate, f"white would fire {rate:.3g} times a step, which no camera does"
    if kept[-1] > SPREAD * kept[0]:
        return (
            rate,
            f"white fires {kept[0]:.3g} times a step in one stream and {kept[-1]:.3g} times in another",
        )
    if bend < BENT:
        return (
            rate,
            f"the dark half of the pictures has {bend:.0%} of the spikes for its grey levels that the bright half has",
        )
    return rate, None


def recorded(path, split, names):
    """Name -> rate as simulate.py recorded it for each of the streams `names`; None if any of them is not on
    record."""
    try:
        sensors = read_json(path / META)["splits"][split]["sensors"]
        rates = {name: sensors[re.sub(r"_key_id\d+$|id21$", "", name)]["rate"] for name in names}
    except (OSError, ValueError, LookupError, TypeError):  # none is there, or it is of another program
        return None
    return rates if all(type(rate) in (int, float) and 0 < rate <= 2 for rate in rates.values()) else None


def choose(dataset, given, looks):
    """(name -> rate of each stream, a warning or None): `given` counts first, then meta.json, then what the
    pictures show.

    If no single rate explains the pictures, it is 0.6, as it is without pictures.
    """
    if given is not None:
        if not 0 < given <= 2:
            raise UserError(f"--rate {given:g}: spikes a step at white; take more than 0 and up to 2")
        return dict.fromkeys(dataset.names, given), None
    if rates := recorded(dataset.path, dataset.folder.name, dataset.names):
        return rates, None
    rate, doubt = measure(looks)
    if doubt:
        return dict.fromkeys(dataset.names, RATE), (
            f"{dataset.folder}: the pictures do not fit the streams by any one factor: {doubt}; they may be gamma-encoded, or "
            f"exposed one by one. White is taken to fire {RATE} times a step; --rate says it otherwise"
        )
    least, most = dataset.rates_known
    if rate is None or least <= rate <= most:
        return dict.fromkeys(dataset.names, rate or RATE), None
    return dict.fromkeys(dataset.names, rate), (
        f"{dataset.folder}: white fires {rate:.3g} times a step in these streams (measured over {len(looks)}; {RATE} is usual): "
        f"pictures are scaled by it; --rate {RATE} leaves them"
    )


def describe(rates):
    """Text on the rates of a dataset's streams for its description; empty if all have the usual one."""
    least, most = min(rates.values()), max(rates.values())
    if least == most == RATE:
        return ""
    return f", white fires {least:.3g}{f' to {most:.3g}' if most > least else ''} times a step"
