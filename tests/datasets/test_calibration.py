import numpy as np
import pytest

from swinsf.recordings import choose_bin, load_calibration, look_at_pixels
from swinsf.recordings.calibration import check_camera, correct, make_calibration, pattern_in
from swinsf.recordings.survey import Survey
from swinsf.utils.cli import UserError
from swinsf.utils.timing import RATE
from tests.cameras import draw_camera, record, waves


def test_a_file_is_read_as_it_was_written(tmp_path):
    dark, response = draw_camera(hot=[(3, 4, 0.2)])
    made = make_calibration(dark, response, 0.1 * dark, 0.01 * response)
    made.save(tmp_path / "camera.npz")
    read = load_calibration(tmp_path / "camera.npz")
    for name in ("dark", "response", "bad", "dark_error", "response_error"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    assert read.shape == (40, 50) and np.argwhere(read.bad).tolist() == [[3, 4]] and read.bad[3, 4] == 1
    assert read.maps.shape == (2, 40, 50) and read.maps[0, 3, 4] < 0.02  # from the pixel that fills it


def test_published_arrays_are_solved_for_integrating_pixels(tmp_path):
    """Rates of an integrating pixel at 0, 153 and 335 lux -> arrays by RSIR's formulas -> the same pixel."""
    dark, response = draw_camera()
    light = 5e-4 * response  # rate per lux
    empty = {lux: 1 / (light * lux + dark) - 1 for lux in (0, 153, 335)}  # steps less one a spike
    ratio = empty[153] / empty[0]
    current = 153 * ratio / (1 - ratio)
    capacity = empty[335] * (335 + current)
    arrays = {"Nd": current, "Nl": capacity[0, 0] / capacity, "D_light": empty[335]}
    np.savez(tmp_path / "data.npz", **{name: array.astype(np.float32) for name, array in arrays.items()})
    found = load_calibration(tmp_path / "data.npz")
    np.testing.assert_allclose(found.dark, dark, rtol=1e-4)
    np.testing.assert_allclose(found.response, response / response.mean(), rtol=1e-4)
    assert not found.bad.any() and np.isnan(found.dark_error).all()


def test_bad_calibration_files_are_refused(tmp_path):
    good = {
        name: np.full((4, 5), 0.5, np.float32)
        for name in ("dark", "response", "bad", "dark_error", "response_error")
    }
    cases = {
        "no array dark": {"spikes": np.zeros((4, 5))},
        "not maps": {**good, "response": np.ones((5, 4))},
        "not maps .H, W. of one size": {name: np.ones((2, 4, 5)) for name in good},
        "a damaged calibration": {**good, "response": np.zeros((4, 5))},
        "damaged calibration, dark charge is 0 to 1": {**good, "dark": np.full((4, 5), np.nan)},
        "damaged .* make it again": {**good, "bad": np.full((4, 5), 9)},
        "Nd or D_light has negative or non-finite values": {
            name: -np.ones((4, 5)) for name in ("Nd", "Nl", "D_light")
        },
        "no calibration that can be read": {**good, "dark": np.array([[print]])},
    }
    for words, arrays in cases.items():
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(UserError, match=rf"x\.npz: .*{words}"):
            load_calibration(tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "large.npz", dark=np.zeros((4000, 40000), np.uint8))
    with pytest.raises(UserError, match="unpacks to more than"):
        load_calibration(tmp_path / "large.npz")
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("text.npz", "none.npz", "."):
        with pytest.raises(UserError, match="calibration"):
            load_calibration(tmp_path / name)


def test_corrected_rates_are_the_light():
    camera, light = draw_camera(), waves()(0)
    rate = camera[1] * light + camera[0]
    np.testing.assert_allclose(correct(rate * 255 / RATE, np.stack(camera)), light * 255 / RATE, rtol=1e-5)
    assert correct(rate, None) is rate


@pytest.mark.parametrize("level", [0.5, 0.1, 0.02, 0.0])
@pytest.mark.parametrize("steps", [41, 400])
def test_a_camera_is_recognised_by_its_pattern(level, steps):
    own, other = draw_camera(60, 80, 1), draw_camera(60, 80, 2)
    rate = record(waves(60, 80, level, 0.05), own, steps).mean(0, dtype=np.float32)
    check_camera(rate, np.stack(own), "own.npz", "rec.dat")
    slope, error = pattern_in(rate, np.stack(own))
    assert abs(slope - 1) < 5 * error
    slope, error = pattern_in(rate, np.stack(other))
    assert abs(slope) < 5 * error
    if steps == 400:
        with pytest.raises(
            UserError, match=r"other\.npz: another camera's, since its pattern is not in rec\.dat"
        ):
            check_camera(rate, np.stack(other), "other.npz", "rec.dat")
        with pytest.raises(UserError, match=r"own\.npz: .* upside down; take the other --flip"):
            check_camera(rate[::-1].copy(), np.stack(own), "own.npz", "rec.dat")


def test_look_at_pixels_uses_the_bad_pixels_of_a_calibration(tmp_path):
    camera = draw_camera(hot=[(5, 6, 0.3)])
    spikes = record(0.1, camera, 300)
    camera[1][20, 20:22] = 0.3  # dust, which the recording alone does not show
    make_calibration(*camera).save(tmp_path / "camera.npz")
    pixels = look_at_pixels(spikes, tmp_path / "camera.npz")
    assert np.argwhere(pixels.bad).tolist() == [[5, 6], [20, 20], [20, 21]]
    assert "dark charge 0.004" in pixels.lines[0] and "the 3 bad pixels of the calibration" in pixels.lines[1]
    part = pixels.crop(slice(10, 30), slice(5, 45))
    assert part.bad.shape == (20, 40) and part.maps.shape == (2, 20, 40)
    as_it_is = look_at_pixels(spikes, tmp_path / "camera.npz", "none")
    assert not as_it_is.bad.any() and as_it_is.maps is not None
    with pytest.raises(UserError, match=r"calibrates a camera of 40x50, but the recording is 30x50"):
        look_at_pixels(spikes[:, :30], tmp_path / "camera.npz")


def test_white_that_saturates_is_even():
    camera = draw_camera()
    rate = record(1.5, camera, 60).mean(0)
    assert (rate == 1).all()
    pixels = look_at_pixels(record(0.3, camera, 60), repair="none")._replace(
        maps=np.stack(camera), full=float(1 / np.quantile(camera[1], 0.95))
    )
    white = pixels.correct(255 / RATE * rate)
    assert np.mean(white == white.max()) > 0.9 and white.max() > 0.9 * 255 / RATE
    # with dark charge, at a lower light, most of all in large bins
    dark = pixels._replace(dark=0.01)
    assert dark.most(20) == pytest.approx(0.8 / 0.99 * dark.most(1) / 20) and dark.most(1) < pixels.most(1)
    # 4 steps a bin saturate at a quarter
    assert pixels.correct(255 / RATE * rate / 4, bin=4).max() < 0.26 * 255 / RATE


def test_calibrated_recordings_get_larger_bins_unless_they_move():
    seen = Survey(0.02, 0.035, 0.0, 1000)
    assert choose_bin(seen, 20)[0] == 2 and choose_bin(seen, 20, calibrated=True)[0] == 10
    assert choose_bin(seen._replace(motion=0.1), 20, calibrated=True)[0] == 2
    assert choose_bin(seen._replace(motion=None), 20, calibrated=True)[0] == 1
