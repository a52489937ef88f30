import numpy as np
import pytest

from swinsf.recordings.flat_field import calibrate, joined, rates, read_halves
from swinsf.utils.cli import UserError
from tests.cameras import draw_camera, record, waves

HOT = [(5, 7, 0.1), (20, 30, 0.06), (30, 12, 0.3)]
CAMERA = draw_camera(hot=HOT)


def measured(steps, flats=(0.17,), electrons=10_000, **options):
    dark = ("dark", record(0, CAMERA, steps, 1, electrons))
    return calibrate(
        dark,
        [(f"flat {i}", record(level, CAMERA, steps, 2 + i, electrons)) for i, level in enumerate(flats)],
        **options,
    )


@pytest.mark.parametrize("electrons", [300, 10_000])
@pytest.mark.parametrize(
    ("steps", "dark_error", "response_error"),
    [(500, 4e-4, 0.008), (5000, 8e-5, 0.0025)],
    ids=["few steps", "many"],
)
def test_maps_match_the_camera_within_their_errors(steps, dark_error, response_error, electrons):
    found, facts = measured(steps, electrons=electrons)
    good, (dark, response) = found.bad == 0, CAMERA
    assert {tuple(place) for place in np.argwhere(~good).tolist()} == {
        (row, column) for row, column, _ in HOT
    }
    assert found.response[good].mean() == pytest.approx(1, abs=1e-5)
    off = {
        "dark": (found.dark - dark)[good],
        "response": (found.response - response / response[good].mean())[good],
    }
    fine = 4 if electrons == 10_000 and steps == 5000 else 1
    assert off["dark"].std() < dark_error / fine and off["response"].std() < response_error / fine
    for name, values in off.items():
        assert 1 / 1.5 < np.sqrt(np.mean((values / getattr(found, f"{name}_error")[good]) ** 2)) < 1.5, name
    assert facts["noise"] == pytest.approx(electrons**-0.5, rel=0.1) and facts["levels"][0] == pytest.approx(
        0.17, rel=0.02
    )


def test_intervals_beat_counts_and_shrinking_beats_intervals():
    spikes = record(0, CAMERA, 500, 1)
    good = CAMERA[0] < 0.02
    counted = (spikes.mean(0) - CAMERA[0])[good].std()
    timed = (rates(joined(read_halves("dark", spikes))).rate - CAMERA[0])[good].std()
    shrunk = (measured(500)[0].dark - CAMERA[0])[good].std()
    assert timed < 0.5 * counted and shrunk < 0.9 * timed


def test_several_flats_are_better_than_one():
    good, response = CAMERA[0] < 0.02, CAMERA[1]
    errors = [
        (measured(500, flats)[0].response - response / response[good].mean())[good].std()
        for flats in ((0.05,), (0.05, 0.3))
    ]
    assert errors[1] < 0.8 * errors[0]


def test_shading_is_corrected_or_kept():
    found, facts = measured(2000)
    kept, _ = measured(2000, keep_shading=True)
    corner, other = np.s_[-10:, -10:], np.s_[:10, 1:11]
    assert found.response[corner].mean() < 0.95 * found.response[other].mean()
    assert kept.response[corner].mean() == pytest.approx(kept.response[other].mean(), abs=0.012)
    assert kept.response[:, 0].mean() > 1.15  # the first column is a pattern, not shading
    assert facts["shading"][0] < 0.95


def test_dust_and_dead_pixels_are_distinguished():
    dark, response = CAMERA[0].copy(), CAMERA[1].copy()
    response[10:12, 20:23] *= 0.4
    dark[25, 25] = response[25, 25] = 0
    camera = dark, response
    found, _ = calibrate(("dark", record(0, camera, 1000)), [("flat", record(0.2, camera, 1000, 1))])
    assert (found.bad[10:12, 20:23] == 3).all() and found.bad[25, 25] == 2 and found.bad[5, 7] == 1
    assert np.count_nonzero(found.bad) == 6 + 1 + len(HOT)


def bad_inputs():
    dark, flat = record(0, CAMERA, 500), record(0.2, CAMERA, 500)
    return {
        r"dark: 400 steps, too few .* record 500 or more": (dark[:400], flat),
        r"flat: 499 steps, too few": (dark, flat[:499]),
        r"dark: not dark, half the pixels fire more than 0\.2\d* times": (flat, flat),
        r"flat: hardly brighter than the dark .* swapped": (dark, dark),
        r"flat: saturates, \d+% of its pixels .* dim the lamp": (dark, record(1.1, CAMERA, 500)),
        r"flat: moves, its second half differs by .* still": (dark, record(waves(speed=0.02), CAMERA, 500)),
    }


@pytest.mark.parametrize("words", bad_inputs())
def test_unsuitable_recordings_are_refused(words):
    dark, flat = bad_inputs()[words]
    with pytest.raises(UserError, match=words):
        calibrate(("dark", dark), [("flat", flat)])


def test_the_lamp_may_change_its_brightness():
    flicker = record(lambda step: 0.15 * (1 + 0.2 * np.sin(step / 32)), CAMERA, 1000, 3)
    found, _ = calibrate(("dark", record(0, CAMERA, 1000, 1)), [("flat", flicker)])
    good = found.bad == 0
    assert (found.response - CAMERA[1] / CAMERA[1][good].mean())[good].std() < 0.004
