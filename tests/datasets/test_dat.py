import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swinsf.datasets.dat import (
    Camera,
    DatFile,
    camera_of,
    count_steps,
    look_at,
    open_dat,
    read_dat,
    unpack,
    write_dat,
)
from swinsf.datasets.likeness import likely_bit_order, rate_picture
from swinsf.recordings import open_recording
from swinsf.utils.cli import UserError
from tests.conftest import REFERENCE, moving_scene, random_spikes

REAL = REFERENCE / "data" / "real" / "uhsr_helicopter.npz"  # few spikes, fast blades
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda size: size[0] * size[1] % 8 == 0)


@st.composite
def streams(draw):
    height, width = draw(SIZES)
    bits = st.lists(st.booleans(), min_size=height * width, max_size=height * width)
    steps = draw(st.lists(bits, min_size=1, max_size=5))
    return np.array(steps, np.uint8).reshape(-1, height, width)


@settings(deadline=None, max_examples=60)
@given(spikes=streams(), flip=st.booleans(), data=st.data())
def test_read_is_the_inverse_of_write(tmp_path_factory, spikes, flip, data):
    path = tmp_path_factory.mktemp("dat") / "s.dat"
    steps, height, width = spikes.shape
    write_dat(path, spikes, flip)
    assert count_steps(path, height, width) == steps
    back = read_dat(path, height, width, flip=flip)
    assert back.dtype == np.uint8 and np.array_equal(back, spikes)
    start = data.draw(st.integers(0, steps))
    stop = data.draw(st.integers(start, steps))
    assert np.array_equal(read_dat(path, height, width, start, stop, flip), spikes[start:stop])


@settings(deadline=None, max_examples=30)
@given(spikes=streams(), flip=st.booleans())
def test_bit_by_bit(tmp_path_factory, spikes, flip):
    """Lowest bit first, rows in order, each step upside down if flipped."""
    path = tmp_path_factory.mktemp("dat") / "s.dat"
    write_dat(path, spikes, flip)
    data, bit = path.read_bytes(), 0
    for step in spikes:
        for row in reversed(step) if flip else step:
            for value in row:
                assert data[bit // 8] >> (bit % 8) & 1 == value
                bit += 1
    assert bit == 8 * len(data)


def test_only_the_requested_steps_are_read(tmp_path):
    """A sparse file of 12.5 GB: reading it whole would not fit."""
    path = tmp_path / "long.dat"
    with open(path, "wb") as file:
        file.truncate(12_500 * 1_000_000)
        file.seek(12_500 * 999_000)
        file.write(b"\x05")
    spikes = read_dat(path, 250, 400, 999_000, 999_041)
    assert spikes.shape == (41, 250, 400)
    assert spikes.sum() == 2 and spikes[0, 249, 0] == spikes[0, 249, 2] == 1


def test_a_size_that_does_not_fit_is_refused_with_those_that_do(tmp_path):
    path = tmp_path / "s.dat"
    path.write_bytes(bytes(13_000 * 3))
    with pytest.raises(UserError, match=r"s\.dat: 39000 bytes .*250x400.*250x416 \(3 steps\)"):
        count_steps(path, 250, 400)
    path.write_bytes(bytes(12_345))
    with pytest.raises(UserError, match=r"12345 bytes.*no known size fits"):
        count_steps(path, 250, 400)


def test_other_bad_files(tmp_path):
    path = tmp_path / "s.dat"
    with pytest.raises(UserError, match="no such spike stream"):
        read_dat(path, 250, 400)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="0 bytes"):
        read_dat(path, 250, 400)
    path.write_bytes(bytes(12_500 * 3))
    with pytest.raises(UserError, match=r"steps 0 to 40 .* has 3"):
        read_dat(path, 250, 400, 0, 41)
    with pytest.raises(UserError, match="3x5"):
        read_dat(path, 3, 5)
    with pytest.raises(ValueError, match="multiple of 8"):
        write_dat(path, np.zeros((2, 3, 5)))


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path, monkeypatch):
    """Another program truncates it between the check of its length and the reading."""
    path = tmp_path / "a.dat"
    write_dat(path, np.ones((9, 8, 8)))
    monkeypatch.setattr("swinsf.datasets.dat.count_steps", lambda *_: 20)
    with pytest.raises(UserError, match=r"a\.dat: became shorter"):
        read_dat(path, 8, 8, 5, 12)


@pytest.mark.parametrize("function", ["fromfile", "unpackbits"])
def test_more_steps_than_memory_holds(function, tmp_path, monkeypatch):
    path = tmp_path / "a.dat"
    write_dat(path, np.ones((9, 8, 8)))
    monkeypatch.setattr(np, function, mock.Mock(side_effect=MemoryError))
    with pytest.raises(UserError, match=r"a\.dat: steps 2 to 6 are 320 pixels, more than memory holds"):
        read_dat(path, 8, 8, 2, 7, bitorder="little")


@pytest.mark.parametrize("flip", [True, False])
def test_an_opened_file_slices_like_an_array(tmp_path, flip):
    spikes = random_spikes(30, 6, 16)
    write_dat(tmp_path / "a.dat", spikes, flip)
    file = open_dat(tmp_path / "a.dat", 6, 16, flip)
    assert file.shape == (30, 6, 16) and len(file) == 30 and file.ndim == 3 and file.dtype == np.uint8
    indices = (
        3,
        -1,
        slice(4, 9),
        slice(None),
        slice(25, 99),
        slice(9, 4),
        slice(None, None, 7),
        slice(None, None, -1),
    )
    for index in (
        *indices,
        (slice(2, 5), 3),
        (4, slice(None), 5),
        (slice(20, 3, -4), slice(1, 3), slice(2, 9)),
    ):
        np.testing.assert_array_equal(file[index], spikes[index])
    np.testing.assert_array_equal(np.asarray(file), spikes)
    assert sum(step.sum() for step in file) == spikes.sum()
    with pytest.raises(IndexError):
        file[30]
    with pytest.raises(UserError, match="no such spike stream"):
        open_dat(tmp_path / "none.dat", 6, 16)


def test_an_incomplete_last_step_is_dropped_with_a_warning(tmp_path):
    spikes = random_spikes(5, 6, 16)
    write_dat(tmp_path / "a.dat", spikes, flip=True)
    with open(tmp_path / "a.dat", "ab") as file:
        file.write(b"12345")
    with pytest.warns(
        UserWarning, match=r"a\.dat: the last 5 bytes are not a whole step of 6x16 \(12 bytes\); the 5 steps"
    ):
        opened = open_dat(tmp_path / "a.dat", 6, 16, flip=True)
    assert opened.left_over == 5
    np.testing.assert_array_equal(opened[:], spikes)
    (tmp_path / "a.dat").write_bytes(b"12345")
    with pytest.raises(UserError, match="5 bytes, less than a step of 6x16"):
        open_dat(tmp_path / "a.dat", 6, 16)


def test_trailer_columns_are_left_out(tmp_path):
    spikes = random_spikes(5, 6, 16)
    write_dat(tmp_path / "a.dat", spikes, flip=True)
    file = DatFile(tmp_path / "a.dat", Camera(6, 16, 10, True))
    assert file.shape == (5, 6, 10)
    np.testing.assert_array_equal(file[1:3], spikes[1:3, :, :10])


def test_an_opened_file_keeps_its_length_and_reports_shrinking(tmp_path):
    spikes = random_spikes(5, 6, 16)
    write_dat(tmp_path / "a.dat", spikes)
    opened = DatFile(tmp_path / "a.dat", camera_of(6, 16, True))
    with open(tmp_path / "a.dat", "ab") as file:
        file.write(bytes(24))
    assert len(opened) == 5 and opened[:].shape == (5, 6, 16)
    (tmp_path / "a.dat").write_bytes(bytes(36))
    np.testing.assert_array_equal(opened[2], 0)
    with pytest.raises(UserError, match=r"a\.dat: became shorter"):
        opened[3]


@pytest.mark.parametrize("height, width", [(250, 400), (250, 416), (1000, 1000), (512, 512), (24, 32)])
def test_every_reader_returns_what_was_written(tmp_path, height, width):
    """Upright, however the sensor stores it, and without trailer columns; with the size given or detected."""
    path, spikes = tmp_path / "a.dat", moving_scene(height, width, 20)
    write_dat(path, spikes)
    picture = spikes[..., : camera_of(height, width).columns]
    np.testing.assert_array_equal(read_dat(path, height, width), picture)
    np.testing.assert_array_equal(open_dat(path, height, width)[:], picture)
    np.testing.assert_array_equal(open_recording(path, height, width)[0][:], picture)
    if (height, width) in [(250, 400), (1000, 1000)]:
        np.testing.assert_array_equal(open_recording(path)[0][:], picture)


@pytest.mark.parametrize("door", [read_dat, open_dat])
@pytest.mark.parametrize(
    "height, width, better", [(400, 250, "250x400"), (1000, 800, "250x400"), (32, 48, "48x32")]
)
def test_a_size_that_looks_wrong_gives_a_warning_with_a_better_one(tmp_path, door, height, width, better):
    path, right = tmp_path / "a.dat", tuple(map(int, better.split("x")))
    write_dat(path, moving_scene(*right, 8 * 60))
    with pytest.warns(UserWarning, match=rf"a\.dat: looks like {better}, not like {height}x{width}"):
        door(path, height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        door(path, *right)
        write_dat(path, random_spikes(8 * 60, *right))  # noise looks like no other size
        door(path, height, width)


@pytest.mark.parametrize("door", [read_dat, open_dat])
def test_the_highest_bit_first_is_detected_with_a_warning(tmp_path, door):
    path, spikes = tmp_path / "a.dat", moving_scene(100, 160, 64)
    np.packbits(spikes.reshape(64, -1), axis=1).tofile(path)
    with pytest.warns(UserWarning, match=r"a\.dat: reading the highest bit of each byte first"):
        np.testing.assert_array_equal(door(path, 100, 160)[:], spikes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(door(path, 100, 160, bitorder="big")[:], spikes)
        assert not np.array_equal(door(path, 100, 160, bitorder="little")[:], spikes)


@pytest.mark.parametrize(
    "height, width, columns, flip", [(250, 400, 400, True), (250, 416, 400, True), (1000, 1000, 1000, False)]
)
def test_a_known_size_is_opened_as_its_sensor_stores_it(tmp_path, height, width, columns, flip):
    spikes = random_spikes(2, height, width)
    write_dat(tmp_path / "a.dat", spikes, flip)
    np.testing.assert_array_equal(open_dat(tmp_path / "a.dat", height, width)[:], spikes[..., :columns])


@pytest.mark.parametrize(
    "height, width, speed, light",
    [(250, 400, 0.2, 1.0), (250, 400, 0.2, 0.3), (250, 400, 2.0, 1.0), (100, 172, 0.2, 1.0)],
)
def test_the_bit_order_shows_at_the_edges_of_bytes(tmp_path, height, width, speed, light):
    """At any size, with whole bytes per row or not, and if the scene is fast or dim."""
    spikes = moving_scene(height, width, 64, speed, seed=3)
    spikes = spikes * (np.random.default_rng(0).random(spikes.shape) < light).astype(np.uint8)
    for order in ("little", "big"):
        packed = np.packbits(spikes.reshape(64, -1), axis=1, bitorder=order)
        assert likely_bit_order(packed, height, width) == order
        packed.tofile(tmp_path / "a.dat")
        assert look_at(tmp_path / "a.dat", height, width)[0] == order
        np.testing.assert_array_equal(unpack(packed, height, width, False, order), spikes)


def test_the_bit_order_is_detected_in_the_middle_of_a_recording(tmp_path):
    """It may begin in the dark."""
    spikes = np.concatenate([np.zeros((100, 100, 160), np.uint8), moving_scene(100, 160, 100)])
    np.testing.assert_allclose(rate_picture(spikes), spikes[68:132].mean(0))
    spikes[:136] = 0
    spikes = np.concatenate([spikes, np.zeros((136, 100, 160), np.uint8)])
    np.packbits(spikes.reshape(len(spikes), -1), axis=1).tofile(tmp_path / "a.dat")
    assert look_at(tmp_path / "a.dat", 100, 160)[0] == "big"


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.5, 1.0])
def test_the_bit_order_is_the_usual_one_without_evidence(rate):
    for seed in range(5):
        spikes = random_spikes(64, 64, 80, seed, rate)
        assert likely_bit_order(np.packbits(spikes.reshape(64, -1), axis=1), 64, 80) == "little"
    assert likely_bit_order(np.packbits(random_spikes(2, 1, 8)), 1, 8) == "little"
    # alike inside bytes, unlike across them, in any order
    stripes = np.tile(np.arange(80) // 8 % 2, (64, 64, 1))
    assert likely_bit_order(np.packbits(stripes.reshape(64, -1), axis=1), 64, 80) == "little"


@pytest.mark.skipif(not REAL.is_file(), reason=f"no real recording at {REAL}")
def test_the_bit_order_of_a_dark_recording_of_a_real_camera():
    with np.load(REAL) as data:
        spikes = data["spk"][:64, :, :248] != 0
    for order in ("little", "big"):
        assert (
            likely_bit_order(np.packbits(spikes.reshape(64, -1), axis=1, bitorder=order), 250, 248) == order
        )
