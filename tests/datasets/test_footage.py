"""Videos and folders of frames, as users have them."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from swinsf.datasets import open_dataset
from swinsf.datasets.picture_files import to_eight_bits
from swinsf.datasets.series import group_of, natural, series_of
from swinsf.datasets.simulation.footage import find_frames, find_videos, frame_times
from swinsf.datasets.simulation.photos import split_photos
from swinsf.datasets.simulation.videos import FrameScenes, VideoScene, open_clips
from swinsf.utils.cli import UserError
from tests.conftest import write_png


def picture(left=0, height=64, width=96, seed=0):
    """A cut of a texture that moves by `left` pixels."""
    noise = np.random.default_rng(seed).random((height, width + 200)).astype(np.float32)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, None, 3), None, 0, 250, cv2.NORM_MINMAX)
    return smooth[:, left : left + width].astype(np.uint8)


def write(path, frames, times=None, codec="ffv1", pixels="gray"):
    """Write a video with PyAV. times: in thirtieths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 30)
        (stream.height, stream.width), stream.pix_fmt = frames[0].shape, pixels
        for time, frame in zip(times or range(len(frames)), frames):
            form = "gray" if frame.dtype == np.uint8 else "gray16le"
            shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=form)
            shown.pts, shown.time_base = time, Fraction(1, 30)
            container.mux(stream.encode(shown))
        container.mux(stream.encode())
    return path


def looked_at(path):
    (footage,) = find_videos(path)
    footage.look(2**30)
    return footage


@pytest.mark.parametrize("white", [1023, 4095, 65535])
def test_videos_of_more_bits_keep_their_depth(tmp_path, white):
    levels = np.tile(np.linspace(0, white, 96).round().astype(np.uint16), (64, 1))
    levels[0, 0] = white
    (footage,) = find_videos(write(tmp_path / "a.mkv", [levels] * 3, pixels="gray16le"))
    (clip,) = open_clips(footage, 1, None, 2**30)
    assert footage.white == white and len(np.unique(clip.frames)) == 96
    light = clip.scene(clip.frames, 1, 40, 64, 96).frame(0)
    np.testing.assert_allclose(light, levels / white, atol=2e-6)


def test_a_later_frame_may_be_brighter_than_the_first(tmp_path):
    for number, level in enumerate([900, 2000, 39000]):
        write_png(tmp_path / f"{number}.png", np.full((40, 60), level, np.uint16))
    (footage,) = find_frames(tmp_path)
    footage.look(0)
    assert footage.white == 65535
    np.testing.assert_array_equal(to_eight_bits(np.array([0, 1023, 1100], np.uint16), 1023), [0, 255, 255])


def test_a_video_of_one_frame_has_no_clips(tmp_path):
    footage = looked_at(write(tmp_path / "a.mkv", [picture(0)]))
    assert footage.count == 1 and footage.clips(1) == []


def test_time_stamps_are_used_and_duplicate_frames_dropped(tmp_path):
    frames = [picture(2 * i) for i in range(30)]
    uneven = looked_at(write(tmp_path / "a.mkv", frames, [*range(20), *range(20, 50, 3)]))
    np.testing.assert_allclose(uneven.times, [*range(20), *range(20, 50, 3)])
    assert uneven.notes == ("its frames are unevenly spaced; using their time stamps",)
    # as from a converter to a fixed rate: each frame twice, every fifth three times
    padded = [frame for i, frame in enumerate(frames) for frame in [frame] * (3 if i % 5 == 4 else 2)]
    even = looked_at(write(tmp_path / "b.mkv", padded))
    np.testing.assert_array_equal(even.times, np.arange(30))
    assert even.notes == ("36 duplicate frames are left out",)
    # a lost frame, replaced by the one before: the others keep their times
    lost = looked_at(write(tmp_path / "c.mkv", [*frames[:10], frames[9], *frames[11:]]))
    np.testing.assert_array_equal(lost.times, [*range(10), *range(11, 30)])


def test_frames_of_a_still_scene_are_no_duplicates():
    changes = np.array([np.inf, *[5.0] * 10, *[0.0] * 20, *[5.0] * 10])
    used, times, notes = frame_times(list(np.arange(41) / 30), changes)
    assert len(used) == 41 and not notes and times[-1] == 40


def test_a_frame_between_two_uneven_ones():
    frames = np.stack([np.full((40, 60), level, np.uint8) for level in (0, 60, 180)])
    scene = VideoScene(frames, 10, 24, 32, times=np.array([-1.0, 0, 2]))
    for time, level in ((-10, 0), (0, 60), (10, 120), (20, 180), (30, 180)):
        np.testing.assert_allclose(255 * scene.frame(time), level, atol=1e-3)


def test_a_damaged_frame_is_named_and_the_rest_used(tmp_path):
    path = write(tmp_path / "a.avi", [picture(i) for i in range(20)], codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    starts = [
        at
        for at in range(len(data))
        if data[at : at + 4] == b"00dc" and data[at + 8 : at + 10] == b"\xff\xd8"
    ]
    begin = starts[9] + 8
    size = int.from_bytes(data[begin - 4 : begin], "little")
    data[begin : begin + size] = bytes(size)
    path.write_bytes(data)
    footage = looked_at(path)
    assert footage.count == 19 and footage.notes == ("damaged: frame 10",)
    assert footage.clips(3) == [(0, 6), (9, 15)]
    np.testing.assert_array_equal(footage.indices[[8, 9]], [8, 10])


def test_a_video_that_changes_its_size_keeps_the_first(tmp_path):
    """Such as two recordings joined into one file. Frames of the other size would give clips too small."""
    for i, (height, width) in enumerate([(64, 96), (96, 160)]):
        frames = [picture(j, height, width) for j in range(20)]
        write(tmp_path / f"{i}.ts", frames, codec="mpeg2video", pixels="yuv420p")
    path = tmp_path / "joined.mpg"
    path.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    footage = looked_at(path)
    count = footage.count  # 20, or 19 if the decoder drops the frame before the change
    assert footage.shape == (64, 96) and count >= 19
    assert footage.notes[0] == f"not 64x96, left out: frames {count + 1} to {count + 20}"
    for first, last in footage.clips(3):
        (clip,) = footage.read([(first, last)])
        assert clip.shape[1:] == (64, 96) and last < count


def test_layouts_of_frames(tmp_path):
    def frames(folder, names):
        for i, name in enumerate(names):
            write_png(tmp_path / folder / name, picture(i))

    for scene in ("000", "001"):
        frames(f"reds/train_orig/{scene}", [f"{i:08d}.png" for i in range(3)])
    frames("xtest/Type1/TEST01_003_f0433", [f"{i:04d}.png" for i in range(3)])
    for part in ("sharp", "blur"):
        frames(f"gopro/train/GOPR0384_11_01/{part}", [f"{i:06d}.png" for i in range(47, 50)])
    frames("vimeo/sequences/00001/0001", [f"im{i}.png" for i in range(1, 12)])
    frames("flat", [f"{scene:03d}_{i:08d}.png" for scene in range(2) for i in range(3)])

    def found(folder):
        return {f.name: [path.name for path in f.pictures] for f in find_frames(tmp_path / folder)}

    assert list(found("reds")) == ["train_orig/000", "train_orig/001"]
    assert found("xtest") == {"Type1/TEST01_003_f0433": ["0000.png", "0001.png", "0002.png"]}
    assert found("gopro") == {"train/GOPR0384_11_01": ["000047.png", "000048.png", "000049.png"]}
    assert found("vimeo")["sequences/00001/0001"] == [f"im{i}.png" for i in range(1, 12)]
    assert {name: len(files) for name, files in found("flat").items()} == {"000": 3, "001": 3}
    write_png(tmp_path / "one" / "photo.png", picture())
    with pytest.raises(UserError, match="no numbered frames in it"):
        find_frames(tmp_path / "one")


def test_gaps_in_the_numbers_are_named_and_no_clip_spans_one(tmp_path):
    for i in [*range(5), *range(7, 12)]:
        write_png(tmp_path / "a" / f"{i:04d}.png", picture(i))
    (tmp_path / "a" / "0010.png").write_bytes((tmp_path / "a" / "0010.png").read_bytes()[:-20])
    (footage,) = find_frames(tmp_path / "a")
    footage.look(2**20)
    assert footage.notes == ("missing: frames 5 to 6", "unreadable: 0010.png")
    assert footage.clips(1) == [(0, 2), (5, 7)]


def test_scenes_over_frames(tmp_path):
    for scene in range(4):
        for i in range(9):
            write_png(tmp_path / f"{scene:03d}" / f"{i:04d}.png", picture(2 * i, seed=scene))
    dataset = open_dataset(f"frames:{tmp_path}", split="train", crop_size=64, length=3)
    assert len(dataset) == 3 and dataset[0]["spikes"].shape == (41, 64, 64)
    assert np.array_equal(dataset.read(1)["spikes"], dataset.read(1)["spikes"])
    sets = [{f.name for f in FrameScenes(tmp_path, s, 48, 64, 3).footages} for s in ("train", "val", "test")]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 4
    assert not dataset.warnings and set(dataset.names) == sets[0]


def test_names_of_one_video():
    assert series_of("002_00000075.png") == ("002_#.png", 75) and series_of("000") == ("000", None)
    assert series_of("a.mp4") == ("a.mp4", None) and series_of("d9.m4v") == ("d#.m4v", 9)
    assert group_of("train/GOPR0384_11_01") == group_of("train/GOPR0384_11_00")
    assert group_of("002/occ008.320_f2881.mp4") == "002" == group_of("002/occ001.100_f0001.mp4")
    assert group_of("train_orig/000") != group_of("train_orig/001")
    assert sorted(["im10", "im2", "b", "1"], key=natural) == ["1", "b", "im2", "im10"]


def test_frames_among_photographs_stay_together_and_numbered_photographs_do_not(tmp_path):
    for i in range(12):
        write_png(tmp_path / f"IMG_{i:04d}.png", picture(seed=100 + i))
        write_png(tmp_path / f"000_{i:04d}.png", picture(i, seed=1))
        write_png(tmp_path / f"001_{i:04d}.png", picture(i, seed=2))
    parts, warning = split_photos(tmp_path)
    splits = {path.name: split for split, part in parts.items() for path in part}
    assert len(splits) == 36 and warning is None
    for scene in ("000", "001"):
        assert len({splits[f"{scene}_{i:04d}.png"] for i in range(12)}) == 1
    assert len({splits[f"IMG_{i:04d}.png"] for i in range(12)}) > 1


def test_photographs_of_a_single_video_are_split_in_time(tmp_path):
    for i in range(20):
        write_png(tmp_path / f"000_{i:04d}.png", picture(i))
    parts, warning = split_photos(tmp_path)
    assert [path.name for path in parts["test"]] == ["000_0018.png", "000_0019.png"]
    assert [path.name for path in parts["val"]] == ["000_0016.png", "000_0017.png"]
    assert "fewer than three videos" in warning
