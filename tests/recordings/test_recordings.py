import gzip
import io

import numpy as np
import pytest

from swinsf.datasets.dat import CAMERAS, Camera, camera_of, write_dat
from swinsf.datasets.size import guess_camera
from swinsf.recordings import PipedSpikes, Recording, open_recording
from swinsf.utils.cli import UserError
from tests.conftest import moving_scene, random_spikes


@pytest.fixture(scope="module", params=CAMERAS, ids=str)
def recorded(request, tmp_path_factory):
    """(the camera, its recording's path, the spikes of its picture)."""
    camera = request.param
    spikes = moving_scene(camera.height, camera.columns, 27)
    trailer = random_spikes(27, camera.height, camera.width - camera.columns, rate=0.5)
    path = tmp_path_factory.mktemp("rec") / "rec.dat"
    write_dat(path, np.concatenate([spikes, trailer], 2), camera.flip)
    return camera, path, spikes


def test_the_size_is_detected(recorded):
    camera, path, spikes = recorded
    assert guess_camera(path)[0] == camera
    opened, lines = open_recording(path)
    assert opened.shape == spikes.shape
    np.testing.assert_array_equal(opened[5:9], spikes[5:9])
    assert (
        len(lines) == 1
        and f"27 steps of {camera.height}x{camera.width}" in lines[0]
        and "neighbour correlation" in lines[0]
    )


def test_the_size_of_a_truncated_file_is_detected(recorded, tmp_path):
    camera, path, spikes = recorded
    (tmp_path / "cut.dat").write_bytes(path.read_bytes()[:-321])
    opened, lines = open_recording(tmp_path / "cut.dat")
    assert opened.shape == (26, *spikes.shape[1:])
    assert guess_camera(tmp_path / "cut.dat")[0] == camera
    assert (
        lines[1].startswith("warning: ")
        and f"the last {camera.height * camera.width // 8 - 321} bytes" in lines[1]
    )


def test_given_values_override_detected_ones(recorded):
    camera, path, spikes = recorded
    turned, _ = open_recording(path, flip=not camera.flip)
    np.testing.assert_array_equal(turned[3], spikes[3, ::-1])
    given, lines = open_recording(path, camera.height * 2, camera.width // 2)
    assert given.shape[1:] == (camera.height * 2, camera.width // 2) and "as given" in lines[0]
    same, _ = open_recording(path, camera.height, camera.width)
    np.testing.assert_array_equal(same[3], spikes[3])


@pytest.mark.parametrize(
    "data, words",
    [
        (
            np.random.default_rng(0).bytes(12_500 * 20),
            "250x400 -?0.0.*1000x1000 -?0.0.*give --height and --width",
        ),
        (bytes(125_000 * 3), "its middle has no spike.*give --height"),
        (b"\xff" * (125_000 * 3), "every pixel in its middle fires at every step.*give --height"),
        (b"\1" * 100, "100 bytes, less than a step of any known sensor"),
        (b"", "0 bytes"),
        (None, "no such spike stream"),
    ],
    ids=("random", "zeros", "ones", "short", "empty", "missing"),
)
def test_an_unclear_size_lists_the_candidates(tmp_path, data, words):
    if data is not None:
        (tmp_path / "a.dat").write_bytes(data)
    with pytest.raises(UserError, match=rf"a\.dat: .*{words}"):
        open_recording(tmp_path / "a.dat")


@pytest.mark.parametrize("value", [0, 1])
def test_a_recording_that_shows_nothing_gives_a_warning(tmp_path, value):
    write_dat(tmp_path / "a.dat", np.full((50, 8, 8), value))
    _, lines = open_recording(tmp_path / "a.dat", 8, 8)
    assert lines[1].startswith("warning") and ("not one spike", "a spike of every pixel")[value] in lines[1]


def test_incomplete_and_impossible_sizes_are_refused(tmp_path):
    write_dat(tmp_path / "a.dat", random_spikes(50, 8, 8))
    with pytest.raises(UserError, match="--height 8 --width None: give both"):
        open_recording(tmp_path / "a.dat", height=8)
    with pytest.raises(UserError, match="3x5 is not a whole number of bytes"):
        open_recording(tmp_path / "a.dat", 3, 5)


@pytest.mark.parametrize("kind", ["npy", "npz", "bool"])
def test_arrays(tmp_path, kind):
    spikes = random_spikes(50, 7, 9)
    path = tmp_path / ("a.npz" if kind == "npz" else "a.npy")
    if kind == "npz":
        np.savez(path, spikes=spikes, rate=0.6)
    else:
        np.save(path, spikes.astype(bool) if kind == "bool" else spikes)
    opened, lines = open_recording(path)
    np.testing.assert_array_equal(opened[3:9], spikes[3:9])
    assert "50 steps of 7x9" in lines[0]
    np.testing.assert_array_equal(open_recording(path, flip=True)[0][3], spikes[3, ::-1])
    with pytest.raises(UserError, match="leave out --height"):
        open_recording(path, 7, 9)


def test_arrays_of_other_shapes_and_types_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    for contents, words in (
        (np.zeros((3, 4)), r"an array \(3, 4\) of float64"),
        (np.array([[[{}]]]), "an array .* of object"),
        (np.asfortranarray(random_spikes(3, 4, 5)), "an array .* in Fortran order; .* in C order"),
        (np.zeros((0, 4, 5)), r"an array \(0, 4, 5\)"),
    ):
        np.save(path, contents)
        with pytest.raises(UserError, match=rf"a\.npy: {words}"):
            open_recording(path)
    np.save(path, random_spikes(50, 7, 9))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a\.npy: cut short, it should have 50 steps"):
        open_recording(path)
    with pytest.raises(UserError, match="no such file"):
        open_recording(tmp_path / "b.npy")
    np.savez(tmp_path / "c.npz", a=random_spikes(5, 7, 9), b=random_spikes(5, 7, 9))
    with pytest.raises(UserError, match="2 arrays of spikes"):
        open_recording(tmp_path / "c.npz")


def test_a_pipe_is_read_in_order_to_its_end():
    spikes = random_spikes(30, 6, 16)
    data = np.packbits(spikes.reshape(30, -1), axis=1, bitorder="little").tobytes() + b"12345"

    class Dribble(io.BytesIO):
        """Returns fewer bytes than requested, as pipes do."""

        def read(self, count=-1):
            return super().read(min(count, 7))

    piped = PipedSpikes(Dribble(data), camera_of(6, 16))
    assert piped.shape == (None, 6, 16) and not hasattr(piped, "__len__")
    np.testing.assert_array_equal(piped[0:4], spikes[:4])
    np.testing.assert_array_equal(piped[10:20], spikes[10:20])  # the steps between are skipped
    np.testing.assert_array_equal(piped[20:99], spikes[20:])
    assert piped[99:120].shape == (0, 6, 16) and piped.left_over == 5
    assert piped.position == 30  # where it ended, whatever was asked for
    with pytest.raises(ValueError, match="step 5 of a pipe"):
        piped[5:9]
    with pytest.raises(UserError, match=r"standard input: .* give --height and --width"):
        open_recording("-")
    with pytest.raises(UserError, match="3x5"):
        PipedSpikes(io.BytesIO(), camera_of(3, 5))


def test_peeking_at_a_cropped_pipe_shows_the_crop():
    spikes = random_spikes(30, 6, 16)
    data = np.packbits(spikes.reshape(30, -1), axis=1, bitorder="little").tobytes()
    piped = Recording(PipedSpikes(io.BytesIO(data), camera_of(6, 16)))
    part = piped.crop(*piped.spans((1, 4), (5, None)))
    np.testing.assert_array_equal(part.peek(9), spikes[:9, 1:4, 5:])
    np.testing.assert_array_equal(part[2:30], spikes[2:, 1:4, 5:])
    assert part.shape == (None, 3, 11) and part.length is None and part.source.position == 30
    with pytest.raises(TypeError, match="comes through a pipe"):
        len(part)


def test_trailer_columns_are_left_out_of_a_pipe_too():
    camera = Camera(6, 16, 10, True)
    spikes = random_spikes(3, 6, 16)
    data = np.packbits(spikes[:, ::-1].reshape(3, -1), axis=1, bitorder="little").tobytes()
    np.testing.assert_array_equal(PipedSpikes(io.BytesIO(data), camera)[0:3], spikes[..., :10])


def test_an_array_that_becomes_shorter_while_it_is_read(tmp_path):
    np.save(tmp_path / "a.npy", random_spikes(50, 7, 9))
    opened, _ = open_recording(tmp_path / "a.npy")
    with open(tmp_path / "a.npy", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match=r"a\.npy: became shorter"):
        opened[30:40]


def test_standard_input_that_is_closed(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match="it is closed"):
        open_recording("-", 8, 8)


def test_a_folder_is_no_recording(tmp_path):
    with pytest.raises(UserError, match="not a regular file"):
        open_recording(tmp_path)


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("order", ["little", "big"])
def test_the_bit_order_is_detected_or_given(tmp_path, monkeypatch, piped, order):
    spikes = moving_scene(250, 400, 70)
    path = tmp_path / "a.dat"
    np.packbits(spikes[:, ::-1].reshape(70, -1), axis=1, bitorder=order).tofile(path)
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        opened, lines = open_recording("-" if piped else path, 250, 400)
        np.testing.assert_array_equal(opened[3:60], spikes[3:60])
    assert any("the highest bit of each byte first" in line for line in lines) == (order == "big")
    assert not any("looks like" in line for line in lines)
    wrong, lines = open_recording(path, 250, 400, bitorder={"little": "big", "big": "little"}[order])
    assert (wrong[3:60] != spikes[3:60]).any() and len(lines) == 1


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(
    "height, width, right",
    [(400, 250, "250x400"), (250, 416, "250x400"), (500, 200, "250x400"), (160, 120, "120x160")],
)
def test_a_given_size_that_looks_wrong_gives_a_warning(tmp_path, monkeypatch, piped, height, width, right):
    write_dat(tmp_path / "a.dat", moving_scene(*map(int, right.split("x")), 120))
    with (tmp_path / "a.dat").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        _, lines = open_recording("-" if piped else tmp_path / "a.dat", height, width)
    name = "standard input" if piped else "a.dat"
    found = [line for line in lines if f"looks like {right}, not like {height}x{width}" in line]
    assert (
        len(found) == 1
        and found[0].startswith("warning: ")
        and name in found[0]
        and "check height" in found[0]
    )


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("values", [(0, 1), (0, 255), (False, True)])
def test_arrays_of_two_values_are_spikes(tmp_path, suffix, values):
    spikes = random_spikes(50, 24, 32)
    stored = np.array(values)[spikes]
    (np.save if suffix == "npy" else np.savez)(tmp_path / f"a.{suffix}", stored)
    opened, _ = open_recording(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(opened[0:50], spikes)
    assert np.asarray(opened[0:50]).dtype == np.uint8


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_that_hold_something_else_are_refused(tmp_path, suffix):
    spikes = random_spikes(64, 24, 32)
    for stored, words in (
        (
            np.packbits(spikes, axis=0),
            r"values from \d+ to \d+; these look like grey pictures or packed bits",
        ),
        (moving_scene(24, 32, 64).cumsum(0), "values from"),
        (spikes.astype(np.int8) * 2 - 1, r"values of -1 and 1; pass \(spikes > 0\)"),
        (spikes * np.float32("nan"), "NaN"),
    ):
        (np.save if suffix == "npy" else np.savez)(tmp_path / f"a.{suffix}", stored)
        with pytest.raises(UserError, match=rf"a\.{suffix}: {words}"):
            open_recording(tmp_path / f"a.{suffix}")


def test_a_gzip_file_is_read_directly_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    spikes = moving_scene(250, 400, 90)
    write_dat(tmp_path / "a.dat", spikes)
    packed = gzip.compress((tmp_path / "a.dat").read_bytes(), 1)
    (tmp_path / "a.dat.gz").write_bytes(packed)
    opened, lines = open_recording(tmp_path / "a.dat.gz")
    np.testing.assert_array_equal(opened[30:71], spikes[30:71])
    assert "a.dat.gz: 90 steps of 250x400" in lines[0] and "temporary" not in lines[0]
    np.testing.assert_array_equal(
        open_recording(tmp_path / "a.dat.gz", flip=False)[0][30:71], spikes[30:71, ::-1]
    )
    del opened
    assert not [*(tmp_path / "temporary").iterdir()]
    (tmp_path / "a.dat.gz").write_bytes(packed[:-100])
    with pytest.raises(UserError, match=r"a\.dat\.gz: a damaged gzip file"):
        open_recording(tmp_path / "a.dat.gz")
    (tmp_path / "a.dat.gz").write_bytes(gzip.compress(bytes(100)))
    with pytest.raises(UserError, match=r"a\.dat\.gz: cannot determine its size"):
        open_recording(tmp_path / "a.dat.gz")
    assert not [*(tmp_path / "temporary").iterdir()]


@pytest.mark.parametrize("given", [{}, {"height": 250, "width": 400}])
def test_the_error_for_another_type_of_file_names_it(tmp_path, given):
    for head, words in (
        (b"PK\x03\x04", "a zip archive"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\0\0\0\x20ftypisom", "an MP4 video"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    ):
        (tmp_path / "a.dat").write_bytes(head + bytes(12_500 * 50))
        with pytest.raises(UserError, match=rf"a\.dat: is {words}, by its first bytes"):
            open_recording(tmp_path / "a.dat", **given)
    np.save(tmp_path / "b.npy", random_spikes(50, 24, 32))
    (tmp_path / "b.npy").rename(tmp_path / "b.dat")  # an array with another suffix
    assert open_recording(tmp_path / "b.dat")[0].shape == (50, 24, 32)
