import os

import cv2
import numpy as np
import pytest

from swinsf.datasets import open_dataset
from swinsf.datasets.simulation import dataset
from swinsf.datasets.simulation.camera import KINDS, draw_motion, project
from swinsf.datasets.simulation.dataset import PhotoScenes
from swinsf.datasets.simulation.photos import read_photo, split_photos
from swinsf.datasets.simulation.scenes import (
    STYLES,
    Layer,
    PhotoScene,
    cut,
    draw_layer,
    draw_object,
    draw_scene,
    draw_shadow,
)
from swinsf.datasets.simulation.sensor import Sensor, simulate
from swinsf.datasets.simulation.source_frames import SourceFrames
from swinsf.utils.cli import UserError
from swinsf.utils.timing import KEY_FRAMES
from tests.conftest import write_png


def photo(seed=0, height=300, width=420):
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)


def scene_of(*layers, **options):
    return PhotoScene(list(layers), 64, 64, **options)


def still_layer(picture, mask=None, speed=0.0, kind="translation", seed=0):
    return Layer(
        picture.astype(np.float32), draw_motion(64, 64, speed, np.random.default_rng(seed), KINDS[kind]), mask
    )


def test_light_follows_the_contrast_and_black_of_the_scene():
    scene = scene_of(still_layer(np.full((200, 200), 100)))
    light = scene.frame(7)
    assert light.shape == (64, 64) and light.dtype == np.float32
    np.testing.assert_allclose(light, 100 / 255, rtol=1e-5)
    darker = scene_of(still_layer(np.full((200, 200), 100)), contrast=0.5, black=0.1)
    np.testing.assert_allclose(darker.frame(0), 50 / 255 + 0.1, rtol=1e-5)


def test_a_still_scene_shows_the_middle_of_its_source():
    picture = photo(height=200, width=200)
    np.testing.assert_allclose(
        255 * scene_of(still_layer(picture)).frame(-20), picture[68:132, 68:132], atol=1e-3
    )


def test_a_moving_scene_is_a_shifted_one():
    """4 pixels in 20 steps, at the motion's random angle, compared with a shift by Fourier's theorem."""
    smooth = cv2.GaussianBlur(photo(height=256, width=256), (0, 0), 3)
    layer = still_layer(smooth, speed=0.2)
    x, y = (layer.motion(20) - layer.motion(0))[:2, 2]
    assert np.hypot(x, y) == pytest.approx(4)
    v, u = np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256), indexing="ij")
    shifted = np.fft.ifft2(np.fft.fft2(smooth) * np.exp(2j * np.pi * (v * y + u * x))).real
    np.testing.assert_allclose(255 * scene_of(layer).frame(20), shifted[96:160, 96:160], atol=1.5)


@pytest.mark.parametrize("foliage", [False, True])
def test_an_object_covers_a_part_and_moves_on_its_own(foliage):
    front = cv2.normalize(cv2.GaussianBlur(photo(), (0, 0), 3), None, 120, 255, cv2.NORM_MINMAX)
    rng = np.random.default_rng(1)
    layer = draw_object(front, 64, 64, STYLES["250"], rng, (-20, 20), foliage, speed=0.2, kind="translation")
    scene = scene_of(still_layer(np.zeros((200, 200))), layer)
    covered = np.stack([scene.frame(time) for time in (-20, 0, 20)]) > 0.3
    assert 0.02 < covered.mean() < 0.8
    assert (covered[0] != covered[-1]).any()


def test_the_speeds_of_scenes():
    """Measured at the pixels: most move by 0.05 to 0.4 pixels a step, some slower or faster, none above 1."""
    means, fastest = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        layer = draw_layer(photo(), 64, 64, STYLES["250"], rng, (-20, 20))
        y, x = np.mgrid[0:64, 0:64].astype(float)
        moved = np.hypot(*np.subtract(project(layer.motion(0.5), x, y), project(layer.motion(-0.5), x, y)))
        means.append(moved.mean())
        fastest.append(moved.max())
    means = np.array(means)
    assert 0.75 < ((means > 0.05) & (means < 0.4)).mean() < 0.95
    assert 0.1 < np.median(means) < 0.2
    assert (means < 0.01).mean() > 0.02 and (means > 0.4).mean() > 0.004
    assert 0.8 < max(fastest) < 1.02


def test_grey_levels_reach_from_the_floor_to_the_ceiling():
    squares = 255 * (np.add.outer(np.arange(300) // 40, np.arange(420) // 40) % 2).astype(np.uint8)
    pixels = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        pixels.append(draw_scene(lambda: squares, 64, 64, STYLES["250"], rng).frame(0))
    pixels = np.array(pixels)
    assert (pixels < 0.02).mean() > 0.1 and (pixels > 0.98).mean() > 0.1
    assert ((pixels > 0.02) & (pixels < 0.98)).mean() > 0.3


def test_pictures_belong_to_exactly_their_steps(photos):
    """An error of one step would show: the light of each step differs from its neighbours'."""

    class Ramp:
        def frame(self, time):
            return np.full((20, 20), (100 + 2 * time) / 255, np.float32)

    sample = simulate(Ramp(), np.random.default_rng(0))
    assert {output: picture[0, 0] for output, picture in sample.items() if output in KEY_FRAMES} == {
        "left": 100 - 14, "middle": 100, "right": 100 + 14,
    }  # fmt: skip
    long = simulate(Ramp(), np.random.default_rng(0), steps=61, shown_at={"key": 30, "other": 10})
    assert len(long["spikes"]) == 61 and long["key"][0, 0] == 100 and long["other"][0, 0] == 60
    # The spikes have the same steps: those up to the key frame contain its light, and the light before.
    charge = 0.6 * np.cumsum((100 + 2 * np.arange(-20, 21)) / 255)
    assert np.abs(np.cumsum(sample["spikes"].mean((1, 2))) - charge).max() < 0.1


def test_the_light_is_softer_than_the_picture_by_the_sensors_blur():
    """A still scene of 400 steps: TFP shows the light, which is the picture after OpenCV's Gaussian."""
    scene, rng = scene_of(still_layer(photo(height=200, width=200))), np.random.default_rng(0)
    for blur in (0.0, 0.52, 1.5):
        sample = simulate(scene, rng, 401, {"key": 200}, Sensor(blur=blur))
        np.testing.assert_allclose(sample["key"], photo(height=200, width=200)[68:132, 68:132], atol=1e-3)
        light = sample["spikes"].mean(0) * 255 / 0.6
        expected = cv2.GaussianBlur(sample["key"].astype(np.float32), None, blur) if blur else sample["key"]
        assert np.abs(light - expected).mean() < 0.5
        assert abs((light - sample["key"]).mean()) < 0.5  # unbiased


def test_pictures_are_the_clean_light_at_the_exposure():
    scene = scene_of(still_layer(photo(height=200, width=200)))
    full, dim = (
        simulate(scene, np.random.default_rng(0), sensor=Sensor(exposure=e, electrons=200))
        for e in (1.0, 0.1)
    )
    np.testing.assert_allclose(dim["middle"], 0.1 * full["middle"], rtol=1e-6)
    assert (full["white"], dim["white"]) == (1.0, 0.1)
    assert dim["spikes"].mean() == pytest.approx(0.1 * full["spikes"].mean(), rel=0.03)


def test_a_texture_is_carried_as_the_scene_moves():
    """The frame at one time, carried to another, equals the frame at the other time."""
    smooth = cv2.GaussianBlur(photo(height=256, width=256), (0, 0), 3)
    scene = scene_of(still_layer(smooth, speed=0.3))
    for start, time in ((-10, 10), (0, 20), (15, -5)):
        carried = scene.carry(scene.frame(start), start, time)
        inside = (slice(10, -10), slice(10, -10))
        assert (
            np.abs(carried - scene.frame(time))[inside].mean()
            < 0.05 * np.abs(scene.frame(start) - scene.frame(time)).mean()
        )


@pytest.mark.parametrize("seed", range(4))
def test_a_source_has_the_margins_of_its_motion(seed):
    """Rows and columns each have their own margin, with a few pixels more for the edges."""
    layer = draw_layer(
        photo(), 64, 80, STYLES["250"], np.random.default_rng(seed), (-20, 20), kind="translation", speed=0.9
    )
    x, y = np.ceil(2 * 20 * np.abs((layer.motion(1) - layer.motion(0))[:2, 2]))
    assert np.subtract(layer.source.shape, (64 + y + 4, 80 + x + 4)) == pytest.approx((0, 0), abs=2)


def test_the_light_between_source_frames_is_blurred_once():
    """A still scene over steps without a new frame: TFP shows the picture after one Gaussian blur."""
    scene = scene_of(still_layer(photo(height=200, width=200)))
    sample = simulate(scene, np.random.default_rng(0), 801, {"key": 400}, Sensor(frames_every=1000, blur=1.5))
    light = sample["spikes"][:400].mean(0) * 255 / 0.6
    assert np.abs(light - cv2.GaussianBlur(sample["key"].astype(np.float32), None, 1.5)).mean() < 0.5


class Plain:
    """A scene of one grey level, which grows by a hundredth a step."""

    def frame(self, time):
        return np.full((40, 60), 0.5 + time / 100, np.float32)

    def carry(self, texture, start, time):
        return np.roll(texture, round(time) - round(start), axis=1)


def test_source_frames_have_their_own_grain_that_moves_with_the_scene():
    video = SourceFrames(Plain(), Sensor(frames_every=15, grain=3.0), np.random.default_rng(0))
    video.late = 0.0
    grain = {time: video.light(time) - video.light(time).mean() for time in (-13, 0, 1, 2, 8, 15, 16)}
    assert grain[1].std() == pytest.approx(3 / 255, rel=0.1)
    # the steps after a frame have its grain
    np.testing.assert_allclose(np.roll(grain[1], 8, 1), grain[8], atol=1e-5)
    np.testing.assert_allclose(np.roll(grain[-13], 13, 1), grain[0], atol=1e-5)  # up to the next frame
    for before, after in ((0, 1), (15, 16)):
        assert abs((np.roll(grain[before], 1, 1) * grain[after]).mean()) < 0.1 * grain[1].var()


def test_a_source_frame_is_shown_sharp_one_step_late_and_is_the_picture():
    checks = np.indices((40, 60)).sum(0) % 2

    class Still(Plain):
        def frame(self, time):
            return checks.astype(np.float32) * 0.5 + 0.25

    video = SourceFrames(Still(), Sensor(frames_every=15, blur=0.6), np.random.default_rng(0))
    contrast = {time: video.light(time)[10:-10, 10:-10].std() * 4 for time in range(-15, 17)}
    assert [time for time, value in contrast.items() if value > 0.9999] == [-14, 1, 16]
    assert contrast[2] > contrast[5] > contrast[9] == pytest.approx(contrast[15])
    np.testing.assert_allclose(video.picture(0), checks * 0.5 + 0.25)
    # Its content is from at most one step earlier, not from the step that shows it.
    video = SourceFrames(Plain(), Sensor(frames_every=15), np.random.default_rng(0))
    assert 0.5 <= video.picture(0).mean() <= 0.509 and video.light(1).mean() == pytest.approx(
        video.picture(0).mean()
    )
    assert video.light(2).mean() == pytest.approx(0.52) and video.light(0).mean() == pytest.approx(0.5)


def test_frames_are_displaced_and_their_light_drifts():
    rng = np.random.default_rng(0)
    edges = np.tile((np.arange(60) // 10 % 2).astype(np.float32), (40, 1)) * 0.5 + 0.2

    class Edges(Plain):
        def frame(self, time):
            return edges

    shown = [
        SourceFrames(Edges(), Sensor(frames_every=15, displacement=0.1), rng).picture(0) for _ in range(30)
    ]
    assert 0.01 < np.std([one[:, 10].mean() for one in shown]) / 0.5 < 0.2
    light = [
        SourceFrames(Plain(), Sensor(frames_every=15, drift=0.02), rng).picture(0) / 0.5 for _ in range(60)
    ]
    assert (
        np.std([one.mean() for one in light]) > 0.004
        and 0.012 < np.std([one[20, 30] for one in light]) < 0.03
    )


def test_shadows_darken_and_soft_objects_have_soft_edges():
    rng, white = np.random.default_rng(3), np.full((300, 420), 250, np.uint8)
    shadow = draw_shadow(photo(), 64, 64, STYLES["250"], rng, (-20, 20))
    behind = np.full((64, 64), 200, np.float32)
    frame = shadow.frame(0, 64, 64, behind)
    assert frame.max() <= 200 and 0.25 * 200 < frame.min() < 0.85 * 200 and np.ptp(frame) > 20
    edges = []
    for softness in (0.0, 4.0):
        front = draw_object(
            white, 64, 64, STYLES["250"], np.random.default_rng(1), (-20, 20), softness=softness
        )
        edges.append(np.abs(np.diff(front.frame(0, 64, 64, behind * 0), axis=1)).max())
    assert edges[1] < 0.25 * edges[0]


def test_shadows_move_slowly():
    speeds = []
    for seed in range(40):
        shadow = draw_shadow(photo(), 64, 64, STYLES["250"], np.random.default_rng(seed), (-20, 20))
        ends = [project(shadow.motion(time), *np.mgrid[0:64:7.0, 0:64:7.0]) for time in (-0.5, 0.5)]
        speeds.append(np.hypot(*np.subtract(*ends)).mean())
    assert 0.02 < np.median(speeds) < 0.08  # 0.3 of a layer's 0.15


def test_objects_are_cut_where_the_photograph_has_texture():
    half = np.where(np.arange(420) < 210, 90, photo()).astype(np.uint8)
    cuts = [cut(half, 40, 60, 1.0, np.random.default_rng(seed)) for seed in range(60)]
    assert {one.shape for one in cuts} == {(40, 60)} and sum(one.std() == 0 for one in cuts) <= 3


def test_photographs_are_turned_only_in_training(photos, monkeypatch):
    monkeypatch.setattr(dataset, "draw_scene", lambda next_photo, *_: [next_photo().shape for _ in range(20)])
    for split, shapes in (("train", {(120, 160), (160, 120)}), ("val", {(120, 160)})):
        assert {*PhotoScenes(photos, split, 64, 64, 10).draw(np.random.default_rng(0), 20)} == shapes


def test_a_sample_has_the_pictures_that_its_key_id_asks_for(photos):
    whole = PhotoScenes(photos, "train", 64, 64, 10).read(4, epoch=3)
    assert set(whole) == {"name", "spikes", "white", "rate", "left", "middle", "right"}
    one = PhotoScenes(photos, "train", 64, 64, 10, key_id=14).read(4, epoch=3)
    assert set(one) == {"name", "spikes", "white", "rate", "left"} and np.array_equal(
        one["left"], whole["left"]
    )


def test_scenes_depend_only_on_seed_epoch_and_index(photos):
    def spikes(seed=0, epoch=0, index=0):
        return PhotoScenes(photos, "train", 40, 40, 10, seed).read(index, epoch)["spikes"]

    first = spikes()
    assert np.array_equal(first, spikes())
    for other in (spikes(seed=1), spikes(epoch=1), spikes(index=1)):
        assert not np.array_equal(first, other)


def test_validation_scenes_are_the_same_in_every_run(photos):
    first, second = (PhotoScenes(photos, "val", 40, 40, 3, seed).read(1)["spikes"] for seed in (0, 9))
    assert np.array_equal(first, second)


def test_no_photograph_is_in_two_splits(photos):
    parts, _ = split_photos(photos)
    names = [path.name for part in parts.values() for path in part]
    assert len(names) == len(set(names)) == 6
    assert all(parts.values())
    assert parts == split_photos(photos)[0]


def test_bad_folders_of_photographs(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_dataset(f"photos:{tmp_path / 'none'}")
    for i in range(2):
        write_png(tmp_path / f"{i}.png", photo(i))
    with pytest.raises(UserError, match="2 photographs; add some"):
        open_dataset(f"photos:{tmp_path}")
    for i in range(3):
        (tmp_path / f"bad{i}.jpg").write_bytes(b"no picture")
    parts, _ = split_photos(tmp_path)
    bad = {split: sum(path.suffix == ".jpg" for path in paths) for split, paths in parts.items()}
    for split, paths in parts.items():
        if bad[split] == len(paths):
            with pytest.raises(UserError, match=r"no readable photograph among bad\d\.jpg"):
                open_dataset(f"photos:{tmp_path}", split=split)
        else:
            dataset = open_dataset(f"photos:{tmp_path}", split=split)
            assert len(dataset.sources) == len(paths) - bad[split]
            assert (f"{bad[split]} unreadable skipped: bad" in dataset.description) == (bad[split] > 0)
    assert sum(bad.values()) == 3 and 0 < bad["train"] < len(parts["train"])


def test_a_truncated_photograph_is_unreadable_and_an_odd_name_is_fine(tmp_path):
    whole = cv2.imencode(".jpg", photo())[1].tobytes()
    for name, data, fine in (
        ("a.jpg", whole, True),
        ("b.jpg", whole[: len(whole) // 2], False),
        ("c.png", b"", False),
    ):
        (tmp_path / name).write_bytes(data)
        assert (read_photo(tmp_path / name) is not None) == fine
    odd = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    odd.write_bytes(whole)
    assert odd in [path for part in split_photos(tmp_path)[0].values() for path in part]


def test_the_demo():
    demo = open_dataset("demo")
    assert len(demo) == 5
    names = set()
    for index in range(len(demo)):
        item = demo[index]
        names.add(item["name"])
        assert item["spikes"].shape == (41, 250, 400) and item["middle"].shape == (1, 250, 400)
        assert item["spikes"].float().mean() / (item["middle"].mean() / 255) == pytest.approx(0.6, rel=0.02)
    assert len(names) == 5
    assert np.array_equal(demo.read(0)["spikes"], demo.read(0)["spikes"])
    with pytest.raises(UserError, match="only for testing"):
        open_dataset("demo", split="train")
