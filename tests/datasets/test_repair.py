import io

import cv2
import numpy as np
import pytest

from swinsf.datasets.bad_pixels import nearest_good
from swinsf.datasets.dat import Camera, write_dat
from swinsf.recordings import PipedSpikes, look_at_pixels, repair
from swinsf.recordings.repair import find_bad_pixels
from tests.cameras import draw_camera, record, waves
from tests.conftest import REFERENCE, random_spikes

BARRIER = REFERENCE / "data" / "real" / "barrier.npz"  # (H, W, T)

HOT = [(5, 7, 0.1), (20, 30, 0.06), (30, 12, 0.3), (0, 25, 0.2), (39, 49, 0.2)]


def places(pixels):
    return {tuple(place) for place in pixels.tolist()}


@pytest.mark.parametrize("speed", [0.0, 0.1])
@pytest.mark.parametrize("steps", [300, 1500])
def test_hot_and_dead_pixels_are_found_and_no_others(steps, speed):
    dark, response = draw_camera(hot=HOT)
    dark[10, 10] = response[10, 10] = 0
    found = find_bad_pixels(record(waves(speed=speed), (dark, response), steps))
    assert places(found.hot) == {(row, column) for row, column, _ in HOT}
    assert places(found.dead) == {(10, 10)}


def test_a_moving_or_flickering_speck_is_no_hot_pixel():
    def light(step):
        frame = np.full((40, 50), 0.05)
        frame[20, (step // 20) % 50] = 0.8  # one pixel wide, 20 steps on each
        if step // 100 % 2:
            frame[5, 5] = 0.8
        return frame

    still = record(light, draw_camera(hot=[(30, 30, 0.3)]), 600)
    for part in (still, still[:150], still[:41]):
        assert places(find_bad_pixels(part).hot) <= {(30, 30)}
    assert places(find_bad_pixels(still).hot) == {(30, 30)}


def test_points_and_fine_texture_in_a_still_scene_survive():
    light = np.full((40, 50), 0.04, np.float32)
    light[8:28:8, 6::10] = 2.0
    light = cv2.GaussianBlur(light, None, 0.6)  # as the best lenses blur a star
    light[30:38, 5:45:2] = 0.3
    light[33:38:2, 5:45] = 0.05
    found = find_bad_pixels(record(light, draw_camera(), 800))
    assert len(found.hot) == len(found.dead) == 0


@pytest.mark.parametrize("steps, found", [(100, False), (400, True)])
def test_a_pixel_without_a_spike_is_dead_if_its_neighbours_had_many(steps, found):
    """Beside pixels with a spike in 20 steps, 100 steps without one may just be little light."""
    spikes = np.zeros((steps, 30, 40), np.uint8)
    spikes[np.add.outer(np.arange(steps), np.random.default_rng(0).integers(0, 20, (30, 40))) % 20 == 0] = 1
    spikes[:, 5, 7] = 0
    assert find_bad_pixels(spikes).dead.tolist() == ([[5, 7]] if found else [])


def cuts_of(spikes):
    """The hot pixels of a recording of 500 steps, and of three overlapping cuts of 300 steps."""
    parts = spikes, spikes[:300], spikes[100:400], spikes[200:]
    return [places(find_bad_pixels(part).hot) for part in parts]


def test_overlapping_cuts_of_a_noisy_recording_have_the_same_bad_pixels():
    rng = np.random.default_rng(0)
    charges = np.exp(rng.uniform(*np.log([0.02, 0.4]), 40))
    hot = list(zip(rng.integers(0, 100, 40), rng.integers(0, 120, 40), charges))
    camera = draw_camera(100, 120, hot=hot)
    found = cuts_of(record(waves(100, 120, level=0.25), camera, 500, electrons=60))
    strong = {(row, column) for row, column, charge in hot if charge > 0.2}
    assert set.union(*found) <= {(row, column) for row, column, _ in hot}
    assert len(strong & set.intersection(*found)) >= 0.9 * len(strong)
    assert len(set.intersection(*found)) >= 0.8 * len(set.union(*found))


@pytest.mark.skipif(not BARRIER.is_file(), reason="needs the recording barrier.npz")
def test_overlapping_cuts_of_a_real_recording_have_the_same_bad_pixels():
    """With 0.2 above the neighbours, the counts were 13, 11, 10 and 11, and 8 of 15 pixels were in all."""
    found = cuts_of(np.moveaxis(np.load(BARRIER)["arr_0"], 2, 0))
    counts = [len(pixels) for pixels in found]
    assert max(counts) - min(counts) <= 1
    assert len(set.intersection(*found)) >= 8 and len(set.union(*found)) <= 10


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("steps", [41, 100, 700])
def test_noise_alone_has_no_bad_pixels(steps, rate):
    found = find_bad_pixels(random_spikes(steps, 100, 100, rate=rate))
    assert len(found.hot) == len(found.dead) == 0


def test_the_work_does_not_grow_with_the_recording():
    class Counted:
        shape, read = (10**7, 40, 50), 0

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, steps):
            self.read += steps.stop - steps.start
            return np.zeros((steps.stop - steps.start, 40, 50), np.uint8)

    spikes = Counted()
    find_bad_pixels(spikes)
    assert spikes.read == 1024


def test_bad_pixels_have_the_spikes_of_the_nearest_good_one():
    spikes, bad = random_spikes(30, 6, 8), np.zeros((6, 8), bool)
    bad[2, 3] = bad[0, 0] = bad[0, 1] = True
    before = spikes.copy()
    filled = repair(spikes, bad)
    assert filled.shape == spikes.shape and len(filled) == 30
    rows, columns = nearest_good(bad)
    assert abs(rows[2] - 2) + abs(columns[2] - 3) == 1
    np.testing.assert_array_equal(filled[4:9][:, 2, 3], spikes[4:9, rows[2], columns[2]])
    np.testing.assert_array_equal(filled[:][:, ~bad], spikes[:, ~bad])
    np.testing.assert_array_equal(spikes, before)
    assert repair(spikes, np.zeros((6, 8), bool)) is spikes


def test_a_pipe_is_repaired_from_its_first_steps(tmp_path):
    spikes = record(waves(), draw_camera(hot=HOT), 400)
    write_dat(tmp_path / "rec.dat", spikes, flip=False)
    data = (tmp_path / "rec.dat").read_bytes()
    piped = PipedSpikes(io.BytesIO(data), Camera(40, 50, 50, False), "little")
    pixels = look_at_pixels(piped)
    strong = {(row, column) for row, column, charge in HOT if charge > 0.15}
    assert strong <= places(np.argwhere(pixels.bad)) <= {(row, column) for row, column, _ in HOT}
    assert f"{np.count_nonzero(pixels.bad)} hot and 0 dead pixels" in pixels.lines[0] and piped.position == 0
    filled = repair(piped, pixels.bad)
    assert filled.peek(10).shape == (10, 40, 50)
    np.testing.assert_array_equal(filled[0:400], repair(spikes, pixels.bad)[:])
    none = look_at_pixels(spikes, repair="none")
    assert not none.bad.any() and not none.lines
