"""Firing rate of white in a dataset's streams: given by a flag, recorded by simulate.py, or measured."""

import re
from typing import NamedTuple

import cv2
import numpy as np

from swinsf.utils.cli import UserError
from swinsf.utils.guard import read_json
from swinsf.utils.timing import RATE

META = "meta.json"  # written by simulate.py
USUAL = (RATE, 0.5, 1.0, 0.2)  # spike-REDS, Spike-Zoo, USP-Gaussian, SpikeCV's videos
# A measured rate this close to a usual one counts as usual: noise and dark charge change it by up to 2 %.
TOLERANCE = 0.03
# The steps that are counted. If all pixels start empty, a stream lacks half a spike per pixel in 41 steps,
# and would measure 0.57 to 0.58 instead of 0.6. Without its first steps it measures 0.595 to 0.605.
COUNTED = slice(7, 34)
DARKEST = 16  # minimum mean grey level of a picture; in darker ones, dark charge outweighs light
BLOCK = 8  # side in pixels of the blocks compared, about as far as objects move within the steps
SPREAD = 1.15  # maximum ratio of two streams' rates
# Minimum ratio of the rates in the dark and bright halves of a picture. Linear pictures have 1.00 to 1.02,
# gamma-encoded ones mostly 0.6 to 0.8.
BENT = 0.85


class Look(NamedTuple):
    """The rate measured on one stream and its pictures."""

    rate: float  # spikes per step at white
    bend: float  # rate in the dark half of the picture, relative to the bright half


def compare(spikes, pictures):
    """A `Look` at spikes (41, H, W) and their pictures (H, W) in grey levels; None if pictures are too dark.

    The rate is a ratio of means. Unlike a regression over pixels, it holds for moving scenes too.
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
    """(rate, reason for doubt or None) from the `Look`s at several streams. Without any, the rate is None."""
    if not looks:
        return None, None
    rates = sorted(look.rate for look in looks)
    rate, bend = float(np.median(rates)), float(np.median([look.bend for look in looks]))
    usual = min(USUAL, key=lambda known: abs(rate / known - 1))
    rate = usual if abs(rate / usual - 1) <= TOLERANCE else round(rate, 3)
    kept = rates[1:-1] if len(rates) > 4 else rates  # a single outlier is no reason for doubt
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
            f"the dark half of the pictures has {bend:.0%} of the bright half's spikes per grey level",
        )
    return rate, None


def recorded(path, split, names):
    """{name: rate} recorded by simulate.py for the streams `names`, or None if any is not recorded."""
    try:
        sensors = read_json(path / META)["splits"][split]["sensors"]
        rates = {name: sensors[re.sub(r"_key_id\d+$|id21$", "", name)]["rate"] for name in names}
    except (OSError, ValueError, LookupError, TypeError):  # no such file, or from another program
        return None
    return rates if all(type(rate) in (int, float) and 0 < rate <= 2 for rate in rates.values()) else None


def choose(dataset, given, looks):
    """({name: rate} of the streams, a warning or None). The rate is `given`, or from meta.json, or measured.

    It is 0.6 if there are no pictures, or if no single rate explains them.
    """
    if given is not None:
        if not 0 < given <= 2:
            raise UserError(f"--rate {given:g}: spikes per step at white; choose more than 0 and up to 2")
        return dict.fromkeys(dataset.names, given), None
    if rates := recorded(dataset.path, dataset.folder.name, dataset.names):
        return rates, None
    rate, doubt = measure(looks)
    if doubt:
        return dict.fromkeys(dataset.names, RATE), (
            f"{dataset.folder}: no single factor fits the pictures to the streams: {doubt}; they may be "
            f"gamma-encoded or have different gains. Assuming {RATE} spikes per step at white; --rate sets it"
        )
    least, most = dataset.rates_known
    if rate is None or least <= rate <= most:
        return dict.fromkeys(dataset.names, rate or RATE), None
    return dict.fromkeys(dataset.names, rate), (
        f"{dataset.folder}: white fires {rate:.3g} times a step in these streams (measured over {len(looks)};"
        f" {RATE} is usual): pictures are scaled accordingly; --rate {RATE} leaves them unscaled"
    )


def describe(rates):
    """The rates of a dataset's streams as text for its description; empty if all have the usual one."""
    least, most = min(rates.values()), max(rates.values())
    if least == most == RATE:
        return ""
    return f", white fires {least:.3g}{f' to {most:.3g}' if most > least else ''} times a step"
