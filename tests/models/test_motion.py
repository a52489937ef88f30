import cv2
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from swinsf.datasets.simulation.camera import KINDS, draw_motion
from swinsf.datasets.simulation.scenes import Layer, PhotoScene
from swinsf.datasets.simulation.sensor import simulate
from swinsf.models.classical import tfp
from swinsf.models.motion import (
    FASTEST,
    along_motion,
    cut_segments,
    estimate_velocity,
    gaussian_blur,
    middles,
    warp,
)
from swinsf.utils.timing import KEY_FRAMES


def texture(height=200, width=240, seed=0):
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 20, 235, cv2.NORM_MINMAX)


def moving(speed, seed=0, height=96, width=128):
    """(spikes (1, 41, H, W), {output: true picture}, velocity (x, y) in pixels a step) of a moving
    texture."""
    rng = np.random.default_rng(seed)
    motion = draw_motion(height, width, speed, rng, KINDS["translation"])
    sample = simulate(PhotoScene([Layer(texture(seed=seed), motion)], height, width), rng)
    # the picture looks at its source ahead, so the scene moves backwards
    velocity = -(motion(1) - motion(0))[:2, 2]
    return torch.from_numpy(sample["spikes"])[None].float(), sample, velocity


def test_segments_of_a_constant_rate_have_its_light():
    x = torch.full((1, 41, 20, 20), 0.3)
    for key_frame in KEY_FRAMES.values():
        segments = cut_segments(x, key_frame)
        torch.testing.assert_close(segments.light, torch.full((1, 7, 20, 20), 0.5))
        torch.testing.assert_close(
            segments.mean(torch.rand(1, 7, 20, 20).softmax(1)), torch.full((1, 1, 20, 20), 127.5)
        )


def test_a_segment_sees_only_its_own_steps():
    x = torch.zeros(1, 41, 20, 20)
    x[:, 5] = 1  # 15 steps before the key frame: the middle of the first segment
    counts = cut_segments(x, 20).counts[0, :, 0, 0]
    assert counts[0] == 1 and 0.2 < counts[1] < 0.4 and counts[2:].max() < 1e-6
    assert middles(x).tolist() == [-15, -10, -5, 0, 5, 10, 15]


def test_hann_windows_are_far_cleaner_than_boxes_on_a_still_scene():
    x, sample, _ = moving(0.0)
    truth = torch.from_numpy(sample["middle"]).float()
    weights = (
        torch.softmax(-0.2 * torch.arange(-3.0, 4) ** 2, 0).view(1, -1, 1, 1).expand(1, -1, *truth.shape)
    )
    tapered = (cut_segments(x, 20).mean(weights)[0, 0] - truth).abs().mean()
    assert tapered < 0.35 * (tfp(x, 20, 41)[0] - truth).abs().mean()


@pytest.mark.parametrize("speed, seed", [(0.0, 0), (0.1, 1), (0.25, 2), (0.4, 3)])
def test_the_velocity_of_a_moving_texture(speed, seed):
    x, _, velocity = moving(speed, seed)
    found = estimate_velocity(255 * cut_segments(x, 20).light, middles(x))[0, :, 20:-20, 20:-20]
    error = (found - torch.tensor(velocity, dtype=torch.float32).view(2, 1, 1)).norm(dim=0)
    assert error.mean() < 0.01 + 0.1 * speed


def test_along_the_motion_a_long_mean_is_sharp_at_all_three_key_frames():
    x, sample, _ = moving(0.3, 4)
    weights = torch.softmax(-0.2 * torch.arange(-3.0, 4) ** 2, 0).view(1, -1, 1, 1).expand(1, -1, 96, 128)
    inside = (slice(16, -16), slice(16, -16))
    for output, (_, segments) in along_motion(x, aligned=False).items():
        truth = torch.from_numpy(sample[output]).float()
        aligned = (segments.mean(weights)[0, 0] - truth)[inside].abs().mean()
        lying = (cut_segments(x, KEY_FRAMES[output]).mean(weights)[0, 0] - truth)[inside].abs().mean()
        assert aligned < 3 and aligned < 0.4 * lying, output


def test_aligned_steps_match_the_key_frame():
    """The mean of a few aligned steps far from the key frame fits its picture; that of original steps does
    not."""
    x, sample, _ = moving(0.4, 5)
    inside = (slice(20, -20), slice(20, -20))
    lying, aligned = along_motion(x, aligned=False), along_motion(x, aligned=True)
    for output, count in (("left", 28), ("middle", 41), ("right", 28)):
        truth = torch.from_numpy(sample[output]).float()[inside]
        for steps in (slice(0, 8), slice(-8, None)):
            if (
                abs(
                    KEY_FRAMES[output] - (13 if output == "right" else 0) - (0 if steps.start == 0 else count)
                )
                < 14
            ):
                continue  # near the key frame nothing has moved
            errors = []
            for streams in (aligned, lying):
                seen = streams[output][0]
                assert seen.shape == (1, count, 96, 128)
                mean = seen[0, steps].mean(0)[inside] * (255 / 0.6)
                errors.append((gaussian_blur((mean - truth)[None, None], 2.0)).square().mean().sqrt())
            assert errors[0] < 0.5 * errors[1], output


def test_motion_compensation_reads_nothing_back_from_the_device():
    """No operation waits for a result or indexes by data: on a GPU each would stall the queue."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert function.overloadpacket.__name__ not in {
                "_local_scalar_dense",
                "nonzero",
                "index",
                "lift_fresh",
                "_to_copy",
            }
            return function(*args, **(kwargs or {}))

    with Watch():
        along_motion(torch.ones(1, 41, 30, 30), aligned=True)


def test_an_empty_scene_has_no_motion():
    assert estimate_velocity(torch.full((1, 7, 30, 30), 90.0), middles(torch.zeros(1))).abs().max() < 1e-6


def test_motion_never_exceeds_the_limit():
    """A slope of 5 grey levels a pixel that brightens by 20 a step would be a motion of 4 pixels a step."""
    x = torch.arange(40.0).view(1, 1, 1, -1).expand(1, 7, 30, 40)
    times = middles(torch.zeros(1))
    velocity = estimate_velocity(5 * x + 20 * times.view(1, -1, 1, 1), times)
    assert (velocity[:, 0, 10:-10, 10:-10] == -FASTEST).all() and velocity.abs().max() <= FASTEST


def test_warp_shifts_by_whole_pixels_exactly():
    pictures = torch.rand(2, 3, 20, 24)
    velocity = torch.stack([torch.full((2, 20, 24), 1.0), torch.full((2, 20, 24), -2.0)], 1)
    found = warp(pictures, velocity, torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(found[:, 0], pictures[:, 0])
    torch.testing.assert_close(found[:, 1, 4:, :20], pictures[:, 1, 2:-2, 1:21], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, 2, 4:, :20], pictures[:, 2, :-4, 2:22], rtol=0, atol=1e-5)


def test_warp_repeats_the_edge_pixel_beyond_the_edge():
    pictures = torch.rand(1, 1, 20, 24)
    velocity = torch.tensor([-7.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 20, 24)
    found = warp(pictures, velocity, torch.ones(1))
    torch.testing.assert_close(found[..., :6], pictures[..., :1].expand(1, 1, 20, 6), rtol=0, atol=1e-5)


def test_blur_keeps_constants_and_has_its_width():
    torch.testing.assert_close(
        gaussian_blur(torch.full((1, 2, 9, 12), 5.0), 2.0), torch.full((1, 2, 9, 12), 5.0)
    )
    point = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    point[..., 20, 20] = 1
    spread = gaussian_blur(point, 3.0)[0, 0].sum(0)
    variance = (spread * (torch.arange(41) - 20.0) ** 2).sum()
    assert variance.sqrt() == pytest.approx(3.0, rel=0.06)


def test_in_double_precision_all_stays_double():
    x, _, _ = moving(0.1)
    steps, segments = along_motion(x.double(), aligned=True)["left"]
    assert steps.dtype == segments.counts.dtype == segments.light.dtype == torch.float64
