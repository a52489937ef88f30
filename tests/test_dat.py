import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.dat import count_steps, read_dat, write_dat
from utils.cli import UserError

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
    """Lowest bit first, rows in order, each step upside down where it is flipped."""
    path = tmp_path_factory.mktemp("dat") / "s.dat"
    write_dat(path, spikes, flip)
    data, bit = path.read_bytes(), 0
    for step in spikes:
        for row in reversed(step) if flip else step:
            for value in row:
                assert data[bit // 8] >> (bit % 8) & 1 == value
                bit += 1
    assert bit == 8 * len(data)


def test_only_the_asked_steps_are_read(tmp_path):
    """A sparse file of 12.5 GB: reading it whole would not fit."""
    path = tmp_path / "long.dat"
    with open(path, "wb") as file:
        file.truncate(12_500 * 1_000_000)
        file.seek(12_500 * 999_000)
        file.write(b"\x05")
    spikes = read_dat(path, 250, 400, 999_000, 999_041)
    assert spikes.shape == (41, 250, 400)
    assert spikes.sum() == 2 and spikes[0, 249, 0] == spikes[0, 249, 2] == 1


def test_a_size_that_does_not_fit_is_named_with_those_that_do(tmp_path):
    path = tmp_path / "s.dat"
    path.write_bytes(bytes(13_000 * 3))
    with pytest.raises(UserError, match=r"s\.dat: 39000 bytes .*250x400.*250x416 \(3 steps\)"):
        count_steps(path, 250, 400)
    path.write_bytes(bytes(12_345))
    with pytest.raises(UserError, match=r"12345 bytes.*no known sensor size"):
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
    """Another program cut it between the look at its length and the reading."""
    path = tmp_path / "a.dat"
    write_dat(path, np.ones((9, 8, 8)))
    monkeypatch.setattr("datasets.dat.count_steps", lambda *_: 20)
    with pytest.raises(UserError, match=r"a\.dat: became shorter"):
        read_dat(path, 8, 8, 5, 12)
