import errno
import json
import os

import av
import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from swinsf.recordings import workplace, writers
from swinsf.recordings.formats import encode_video
from swinsf.recordings.output import open_output
from swinsf.recordings.tone import ToneCurve, stamp
from swinsf.utils.cli import UserError

KEYS = range(20, 120, 10)
ABOUT = {"recording": "a.dat", "stride": 10}


def picture(key, height=6, width=10):
    return np.random.default_rng(key).integers(0, 256, (height, width)).astype(np.uint8)


def fill(out, keys=KEYS):
    for key in keys:
        out.write(key, picture(key))


def make(path, about=ABOUT, keys=KEYS):
    return open_output(path, about, (6, 10), keys)


def test_the_tone_curve():
    levels = np.float32([[-3, 0, 51, 102, 255, 400]])
    np.testing.assert_array_equal(ToneCurve()(levels), [[0, 0, 51, 102, 255, 255]])
    np.testing.assert_array_equal(ToneCurve(exposure=2)(levels), [[0, 0, 102, 204, 255, 255]])
    # 255 sqrt(0.2), 255 sqrt(0.4)
    np.testing.assert_array_equal(ToneCurve(gamma=2)(levels), [[0, 0, 114, 161, 255, 255]])
    np.testing.assert_array_equal(ToneCurve(2, 2)(levels), [[0, 0, 161, 228, 255, 255]])
    assert ToneCurve(2, 2)(levels).dtype == np.uint8
    wide = ToneCurve(gamma=2, bits=16)(levels)  # 65535 sqrt(0.2), 65535 sqrt(0.4)
    np.testing.assert_array_equal(wide, [[0, 0, 29308, 41448, 65535, 65535]])
    np.testing.assert_array_equal(ToneCurve(2, 2, 16)(levels)[0, 2:4], [41448, 58616])
    assert wide.dtype == np.uint16
    np.testing.assert_array_equal(ToneCurve(exposure=2, bits=32)(levels), 2 * levels)


@pytest.mark.parametrize("name", ["x.npy", "x.avi", "x.mp4", "x"])
def test_an_output_appears_once_it_is_complete(tmp_path, name):
    out = make(tmp_path / name)
    out.claim()
    fill(out, KEYS[:4])
    out.close()
    final = tmp_path / name / "reconstruct.json" if name == "x" else tmp_path / name
    assert not final.exists() or not json.loads(final.read_text())["whole"]
    # Another process with the same settings resumes; finished pictures are kept, in whatever order they came.
    again = make(tmp_path / name)
    again.claim()
    assert sorted(again.done()) == list(KEYS[:4])
    assert "4 of 10 pictures are kept" in again.kept()
    fill(again, reversed(KEYS[4:]))
    for key in KEYS:
        np.testing.assert_array_equal(again.read(key), picture(key))
    again.finish(len(KEYS))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == ({name} if name == "x" else {name, f".{name}.json"})
    if name == "x":
        assert {path.name for path in (tmp_path / "x").iterdir()} == {f"{key:08d}.png" for key in KEYS} | {
            "reconstruct.json"
        }
        shown = cv2.imread(str(tmp_path / "x/00000050.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(shown, picture(50))
    elif name == "x.npy":
        np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), [picture(key) for key in KEYS])


@pytest.mark.parametrize("name", ["x.npy", "x"])
def test_a_16_bit_picture_as_bytes_is_its_upper_byte(tmp_path, name):
    """However dark the picture is."""
    out = open_output(tmp_path / name, ABOUT, (6, 10), KEYS, bits=16)
    out.claim()
    for key, upper in ((KEYS[1], picture(3)), (KEYS[2], picture(3) // 20)):
        wide = upper.astype(np.uint16) * 256 + picture(4)
        out.write(key, wide)
        np.testing.assert_array_equal(out.read(key), wide)
        np.testing.assert_array_equal(out.read_bytes(key), upper)
        assert out.read_bytes(key).dtype == np.uint8


@pytest.mark.parametrize("name", ["x.npy", "x"])
def test_existing_files_are_replaced_only_with_overwrite(tmp_path, name):
    out = make(tmp_path / name)
    out.claim()
    fill(out)
    out.finish(len(KEYS))
    out.close()
    with pytest.raises(UserError, match=rf"--output .*{name}: already exists; add --overwrite"):
        make(tmp_path / name).claim()
    out = make(tmp_path / name)
    out.claim(overwrite=True)
    assert not out.done()
    assert name == "x" or (tmp_path / name).exists()  # the old file stays until the new one is complete


@pytest.mark.parametrize("name", ["x.mp4", "x"])
def test_other_settings_do_not_resume_an_unfinished_output(tmp_path, name):
    out = make(tmp_path / name)
    out.claim()
    fill(out, KEYS[:3])
    out.close()
    other = make(tmp_path / name, {**ABOUT, "stride": 5})
    with pytest.raises(
        UserError, match=r"has an unfinished run with stride 10, not 5; .* --overwrite to start again"
    ):
        other.claim()
    assert len(out.done()) == 3
    other.claim(overwrite=True)
    assert not other.done()


def test_an_unfinished_output_of_a_pipe_starts_again(tmp_path):
    out = open_output(tmp_path / "x.npy", ABOUT, (6, 10), KEYS, piped=True)
    out.claim()
    fill(out, KEYS[:3])
    assert "starts again" in out.kept()
    out.close()
    out = open_output(tmp_path / "x.npy", ABOUT, (6, 10), KEYS, piped=True)
    out.claim()
    assert not out.done()
    fill(out, KEYS[:2])
    out.finish(2)
    assert np.load(tmp_path / "x.npy").shape == (2, 6, 10)


@pytest.mark.parametrize("name", ["x.npy", "x"])
def test_one_run_at_a_time(tmp_path, name):
    out = make(tmp_path / name)
    out.claim()
    fill(out, KEYS[:3])
    for overwrite in (False, True):
        with pytest.raises(UserError, match="another run is writing it"):
            make(tmp_path / name, {**ABOUT, "stride": 5}).claim(overwrite)
    assert len(out.done()) == 3


def test_a_recording_that_has_grown_gets_advice_on_resuming(tmp_path):
    about = {"first": 20, "stride": 10, "pictures": 10, "exposure": 1.5, "bin": 2}
    out = make(tmp_path / "x.npy", about)
    out.claim()
    out.close()
    with pytest.raises(
        UserError,
        match=r"with pictures 10, not 15; add --stop 111 --exposure 1.5 --bin 2 to resume, or --overwrite",
    ):
        make(tmp_path / "x.npy", {**about, "pictures": 15}, range(20, 170, 10)).claim()
    assert len(range(20, 111, 10)) == 10


def test_a_removed_picture_is_made_again(tmp_path):
    out = make(tmp_path / "x")
    out.claim()
    fill(out)
    out.finish(len(KEYS))
    out.close()
    (tmp_path / "x/00000050.png").unlink()
    again = make(tmp_path / "x")
    assert not again.is_finished()
    again.claim()
    assert again.done() == {*KEYS} - {50}
    again.write(50, picture(50))
    again.finish(len(KEYS))
    assert again.is_finished()


def test_a_disk_error_at_the_end_can_be_resumed(tmp_path, monkeypatch):
    out = make(tmp_path / "x.npy")
    out.claim()
    fill(out)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(out, "save_record", full)
    with pytest.raises(OSError, match="No space left"):
        out.finish(len(KEYS))
    out.close()
    again = make(tmp_path / "x.npy")
    again.claim()
    assert again.done() == {*KEYS}
    again.finish(len(KEYS))
    assert again.is_finished() and len(np.load(tmp_path / "x.npy")) == len(KEYS)


def test_foreign_files_and_folders_are_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/holiday.png").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.npy").mkdir()
    for name, words in (
        ("photos", "has files but no reconstruct.json"),
        ("file", "is a file; take a folder"),
        ("folder.npy", "is a folder"),
        ("x.mkv", r"\.mkv is not written; take \.mp4, \.avi, .*, or a folder"),
    ):
        with pytest.raises(UserError, match=words):
            make(tmp_path / name).claim(overwrite=True)
    assert (tmp_path / "photos/holiday.png").exists()


def test_a_full_disk_is_reported_before_the_work(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 599, "total": 10**6})()
    monkeypatch.setattr(workplace.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"x\.npy: 10 pictures need .* raise --stride"):
        make(tmp_path / "x.npy").claim()
    assert list(tmp_path.iterdir()) == []
    usage.free = 600
    make(tmp_path / "x.npy").claim()
    for bits, need in ((16, 1200), (32, 2400)):
        usage.free = need - 1
        with pytest.raises(UserError, match=r"y\.npy: 10 pictures need"):
            open_output(tmp_path / "y.npy", ABOUT, (6, 10), KEYS, bits=bits).claim()
    usage.free = usage.total = 0  # as on a network file system that does not report it
    make(tmp_path / "z.npy").claim()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_stamp_is_white_with_a_black_outline_in_any_depth(kind):
    white = np.iinfo(kind).max
    for level in (white, 0, white // 2):
        plain = np.full((250, 400), level, kind)
        stamped = stamp(plain, "step 151, 7.55 ms")
        assert stamped.dtype == kind and (plain == level).all()
        rows, columns = np.nonzero(stamped != level)
        assert rows.min() > 220 and columns.max() < 200 and len(rows) > 150, (level, len(rows))
        if level:
            assert stamped.min() == 0  # the outline, which shows on white
        if level < white:
            assert stamped.max() == white
    small = stamp(np.zeros((20, 20), kind), "step 151, 7.55 ms")  # cropped, not refused
    assert small.shape == (20, 20) and small.max() > 0.9 * white


def test_a_stamp_in_16_bits_equals_that_in_8_bits():
    picture = np.random.default_rng(0).integers(0, 256, (60, 90)).astype(np.uint8)
    eight = stamp(picture, "step 7")
    wide = stamp(257 * picture.astype(np.uint16), "step 7")
    assert np.abs(wide / 257 - eight).max() < 1 and (eight != picture).any()


def test_a_disk_that_fills_up_costs_one_picture(tmp_path, monkeypatch):
    out = make(tmp_path / "x.npy")
    out.claim()
    fill(out, KEYS[:3])
    pwrite = os.pwrite

    def full(file, data, offset):
        if len(data) <= 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(file, data[:20], offset)  # as on a disk with room for a part

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=r"No space left .*x\.npy"):
        out.write(KEYS[3], picture(KEYS[3]))
    monkeypatch.undo()
    assert out.done() == set(KEYS[:3])
    fill(out, KEYS[3:])
    out.finish(10)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), [picture(key) for key in KEYS])


def test_a_picture_torn_by_a_kill_is_made_again(tmp_path, monkeypatch):
    """The mark of a picture is written after it; otherwise a resumed run would show a torn picture."""
    out = make(tmp_path / "x.npy")
    out.claim()
    write_at, writes = writers.write_at, []

    def killed_after_one(*arguments):
        if writes:
            raise KeyboardInterrupt
        writes.append(arguments)
        return write_at(*arguments)

    monkeypatch.setattr(writers, "write_at", killed_after_one)
    with pytest.raises(KeyboardInterrupt):
        out.write(KEYS[0], picture(KEYS[0]))
    monkeypatch.undo()
    out.close()
    again = make(tmp_path / "x.npy")
    again.claim()
    assert len(writes) == 1 and again.done() == set()
    fill(again)
    again.finish(len(KEYS))
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), [picture(key) for key in KEYS])


@pytest.mark.parametrize("shape", [(61, 81), (40, 81), (61, 80)])
def test_h264_keeps_the_grey_levels_of_odd_sizes(tmp_path, shape):
    """Flat pictures come back exactly, even outside 16..235, up to the last row and column."""
    levels = (0, 1, 16, 128, 235, 254, 255)
    path = tmp_path / "x.mp4"
    encode_video(path, [np.full(shape, level, np.uint8) for level in levels], 25)
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    for level, frame in zip(levels, shown, strict=True):
        assert (frame[: shape[0], : shape[1]] == level).all(), level


def test_motion_jpeg_has_the_highest_quality(tmp_path):
    pictures = [np.random.default_rng(i).integers(0, 256, (64, 96), dtype=np.uint8) for i in range(3)]
    encode_video(tmp_path / "x.avi", pictures, 25)
    with av.open(str(tmp_path / "x.avi")) as container:
        shown = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(shown, pictures, strict=True)) <= 8


@pytest.mark.parametrize("count", [1, 4])
def test_all_pictures_of_a_gif_last_equally_long(tmp_path, count):
    encode_video(tmp_path / "x.gif", [np.full((20, 30), 60 * i, np.uint8) for i in range(count)], 12.5)
    with Image.open(tmp_path / "x.gif") as gif:
        durations = [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)]
    assert durations == [80] * count


@pytest.mark.parametrize("suffix, codec, tolerance", [("mp4", "h264", 2.5), ("avi", "mjpeg", 1.5)])
def test_a_video_plays_and_shows_the_pictures(tmp_path, suffix, codec, tolerance):
    """With odd height and width; the grey levels keep their range."""
    noise = [np.random.default_rng(i).random((61, 81), np.float32) for i in range(12)]
    pictures = [
        cv2.normalize(cv2.GaussianBlur(n, None, 3), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        for n in noise
    ]
    path = tmp_path / f"x.{suffix}"
    encode_video(path, pictures, 12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == codec and float(stream.average_rate) == 12.5
        assert (stream.height, stream.width) == (62, 82)
        if suffix == "mp4":  # the format that browsers play
            assert stream.codec_context.pix_fmt == "yuv420p" and path.read_bytes().index(
                b"moov"
            ) < path.read_bytes().index(b"mdat")
        shown = [frame.to_ndarray(format="gray") for frame in container.decode(stream)]
    assert len(shown) == 12
    for frame, picture in zip(shown, pictures):
        difference = frame[:61, :81].astype(float) - picture
        assert np.sqrt((difference**2).mean()) < tolerance and abs(difference.mean()) < 1


def test_a_fast_video_has_all_its_pictures(tmp_path):
    """Its edit list must be finer than milliseconds, or players skip the last pictures."""
    for fps in (20_000, 20_000 / 7):
        path = tmp_path / f"{fps:.0f}.mp4"
        encode_video(path, [np.full((32, 48), 7 * i, np.uint8) for i in range(33)], fps)
        with av.open(str(path)) as container:
            shown = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert len(shown) == 33 and abs(shown[-1].mean() - 7 * 32) < 2


def test_a_motion_jpeg_that_is_too_fast_is_refused_before_the_work(tmp_path):
    with pytest.raises(
        UserError, match=r"x\.avi: .* 1000 pictures a second at most, not 1500; lower --fps, or take \.mp4"
    ):
        open_output(tmp_path / "x.avi", ABOUT, (6, 10), KEYS, fps=1500.0)
    path = tmp_path / "x.avi"
    encode_video(path, [np.full((32, 48), i, np.uint8) for i in range(12)], 1000.0)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 1000
        assert len([*container.decode(video=0)]) == 12


@pytest.mark.parametrize("bits, kind", [(8, np.uint8), (16, np.uint16), (32, np.float32)])
def test_a_tiff_has_a_page_for_each_picture(tmp_path, bits, kind):
    out = open_output(tmp_path / "x.tif", ABOUT, (6, 10), KEYS, bits=bits)
    out.claim()
    wide = [picture(key).astype(kind) * kind(200 if bits > 8 else 1) for key in KEYS]
    for key, one in zip(KEYS, wide):
        out.write(key, one)
    out.finish(len(KEYS))
    again = tifffile.imread(tmp_path / "x.tif")
    assert again.dtype == kind and [*tmp_path.glob("*")] != []
    np.testing.assert_array_equal(again, wide)
    read = open_output(tmp_path / "x.tif", ABOUT, (6, 10), KEYS, bits=bits)
    assert read.is_finished()
    np.testing.assert_array_equal(read.read(KEYS[3]), wide[3])
    with pytest.raises(UserError, match=r"x\.mp4 with --bits 32: these are for \.tif and \.npy files"):
        open_output(tmp_path / "x.mp4", ABOUT, (6, 10), KEYS, bits=32)


def test_a_png_shows_one_moment(tmp_path):
    out = open_output(tmp_path / "moment.png", ABOUT, (6, 10), KEYS[:1])
    out.claim()
    out.write(20, picture(20))
    out.finish(1)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "moment.png"), cv2.IMREAD_UNCHANGED), picture(20))
    with pytest.raises(UserError, match="one picture, but 10 are to be shown; leave out --stop"):
        make(tmp_path / "b.png")
