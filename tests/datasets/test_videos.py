import cv2
import numpy as np
import pytest

from swinsf.datasets import open_dataset
from swinsf.datasets.simulation.footage import find_videos
from swinsf.datasets.simulation.videos import (
    VideoScene,
    VideoScenes,
    in_between,
    open_clips,
    optical_flows,
    part_in_time,
)
from swinsf.utils.cli import UserError
from tests.conftest import write_video


def texture(height=160, width=200):
    noise = np.random.default_rng(0).random((height, width)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 30, 220, cv2.NORM_MINMAX)


def shifted(pixels):
    """The middle of the texture, moved to the right by a number of pixels."""
    matrix = np.array([[1, 0, pixels - 20.0], [0, 1, -20.0]])
    return cv2.warpAffine(texture(), matrix, (160, 120), flags=cv2.INTER_CUBIC)


def test_an_interpolated_frame_lies_in_between():
    first, second = (np.round(shifted(pixels)).astype(np.uint8) for pixels in (0, 4))
    flows = optical_flows(first, second)
    for part in (0.0, 0.25, 0.5, 1.0):
        inside = (slice(16, -16), slice(16, -16))
        error = np.abs(in_between(first, second, *flows, part) - shifted(4 * part))[inside].mean()
        blend = np.abs((1 - part) * shifted(0) + part * shifted(4) - shifted(4 * part))[inside].mean()
        assert error < 0.6, part
        assert error < 0.2 * blend or part in (0.0, 1.0), part


def test_a_scene_shows_each_frame_at_its_step():
    frames = np.stack([np.full((40, 60), 20 * i, np.uint8) for i in range(5)])
    scene = VideoScene(frames, 10, 24, 32)
    for time, grey in ((-20, 0), (-10, 20), (0, 40), (5, 50), (10, 60), (20, 80)):
        light = scene.frame(time)
        assert light.shape == (24, 32) and light.dtype == np.float32
        np.testing.assert_allclose(255 * light, grey, atol=1e-3)


def test_the_first_frame_is_still_before_a_clip_begins():
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 48)).astype(np.uint8)
    scene = VideoScene(frames, 20, 24, 32)
    first = scene.frame(-20)
    np.testing.assert_array_equal(scene.frame(-60), first)
    np.testing.assert_allclose(255 * first, frames[0, 8:32, 8:40], atol=1e-3)
    assert not np.array_equal(scene.frame(-19), first)


def test_clips_leave_out_scene_cuts_and_fit_the_memory(tmp_path):
    greys = [10, 20, 30, 40, 200, 210, 220, 230]
    path = write_video(tmp_path / "a.avi", [np.full((48, 64), grey, np.uint8) for grey in greys])
    (footage,) = find_videos(path)
    clips = open_clips(footage, 0.5, None, 2**20)
    assert footage.count == 8 and [clip.first for clip in clips] == [0, 4]
    np.testing.assert_allclose(
        [clip.frames[:, 20, 20] for clip in clips], [[10, 20, 30], [200, 210, 220]], atol=3
    )
    # No clip spans the cut between 40 and 200. With little memory, half of the frames are read again.
    (small,) = open_clips(footage, 0.5, None, 3 * 48 * 64)
    np.testing.assert_array_equal(small.frames, clips[0].frames)


@pytest.mark.parametrize("count", [20, 48, 60, 78, 190])
def test_the_parts_of_a_video_share_no_frame_and_hold_the_longest_stream(count):
    parts = [part_in_time(split, count, 9) for split in ("train", "val", "test")]
    assert parts[0][0] == 0 and parts[0][1] == parts[1][0] and parts[1][1] == parts[2][0]
    sizes = [stop - first for first, stop in parts]
    assert sum(sizes) == count and sizes[1] == sizes[2] == max(-(-count // 10), 9 * (count >= 27))


def test_two_clips_of_sixty_frames_have_all_splits(tmp_path):
    """A stream of 301 steps needs 9 frames in a row; a tenth of 60 has 6."""
    for name in "ab":
        write_video(tmp_path / f"{name}.avi", [np.round(shifted(i % 20)).astype(np.uint8) for i in range(60)])
    seen = {}
    for split, steps in (("train", 41), ("val", 41), ("test", 301)):
        dataset = VideoScenes(tmp_path, split, 64, 64, 5, steps=steps)
        seen[split] = {i for c in dataset.clips for i in range(c.first, c.last + 1)}
        assert len(dataset.sources) == 2
    assert (
        seen["test"] == set(range(51, 60)) and max(seen["val"]) < 51 and max(seen["train"]) < min(seen["val"])
    )


def test_endless_scenes_over_videos(tmp_path):
    for name in "abc":
        write_video(tmp_path / f"{name}.avi", [np.round(shifted(i)).astype(np.uint8) for i in range(9)])
    write_video(tmp_path / "d.avi", [np.round(shifted(i)).astype(np.uint8) for i in range(9)])
    dataset = open_dataset(f"videos:{tmp_path}", split="train", crop_size=64, length=7)
    assert len(dataset) == 7
    item = dataset[3]
    assert item["spikes"].shape == (41, 64, 64) and set(item) == {
        "name",
        "spikes",
        "white",
        "rate",
        "left",
        "middle",
        "right",
    }
    assert item["spikes"].float().mean() / (item["middle"].mean() / 255) == pytest.approx(0.6, rel=0.03)
    assert np.array_equal(dataset.read(3, 5)["spikes"], dataset.read(3, 5)["spikes"])
    assert not np.array_equal(dataset.read(3, 5)["spikes"], dataset.read(3, 6)["spikes"])
    parts = {
        split: {source.name for source in VideoScenes(tmp_path, split, 64, 64, 5).sources}
        for split in ("train", "val", "test")
    }
    assert (
        not parts["train"] & parts["val"]
        and not parts["val"] & parts["test"]
        and not parts["train"] & parts["test"]
    )
    assert len(set.union(*parts.values())) == 4


def test_bad_videos(tmp_path):
    with pytest.raises(UserError, match="no such video or folder"):
        open_dataset(f"videos:{tmp_path / 'none'}", split="train", crop_size=64)
    with pytest.raises(UserError, match="no video in it"):
        open_dataset(f"videos:{tmp_path}", split="train", crop_size=64)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"no video to use for train: bad\.mp4 \(unreadable, or too large\)"):
        open_dataset(f"videos:{tmp_path}", split="train", crop_size=64)
    write_video(tmp_path / "good.avi", [np.round(shifted(i)).astype(np.uint8) for i in range(9)])
    dataset = open_dataset(f"videos:{tmp_path}", split="train", crop_size=64)
    assert "1 skipped: bad.mp4 (unreadable, or too large)" in dataset.description
    with pytest.raises(UserError, match=r"good\.avi \(smaller than 250x400\)"):
        open_dataset(f"videos:{tmp_path}", split="train")
    with pytest.raises(
        UserError, match=r"good\.avi \(9 frames, too few for 3 in a row.*val has 1 of them; use 27"
    ):
        open_dataset(f"videos:{tmp_path}", split="val", crop_size=64)
