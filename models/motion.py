"""Motion compensation of steps and firing rates, for skip="motion" and "aligned".

The network sees them, and adds its residual to their mean. A long mean of spikes is clean but blurred; a
short one is sharp but noisy. With known motion, a mean can be both long and sharp, because each step is
sampled where the scene's point is at that time. The motion is estimated from the stream itself by least
squares (Lucas and Kanade, "An Iterative Image Registration Technique", IJCAI 1981). Nothing here is learned.

The stream is cut into overlapping segments, each weighted by a Hann window. A pixel keeps its remainder when
it fires, so a count over N steps is off by up to one spike. Tapered ends reduce this error from 1/N to 1/N^2,
as in the filters of sigma-delta converters (Candy and Temes, "Oversampling Delta-Sigma Data Converters", IEEE
Press 1992).

A segment's spikes are counted before it is warped, so a pixel's remainder stays within one count. Motion
blurs the 16 steps of a segment. Steps that are warped one by one do not blur, but lose the remainder.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from swinsf.utils.timing import KEY_FRAMES, RATE, SIDE_STEPS, STEPS

SEGMENTS = 7
# steps between the middles of adjacent segments, and from a segment's middle to the end of its window
SPACING, HALF_WIDTH = 5, 8
# Steps from the key frame to the outermost segment, in each iteration of the estimate. Near ones moved least.
SPANS = (5, 10, 15)
# standard deviations in pixels of the least squares' neighbourhood, and of the blur before
NEIGHBOURHOOD, BLUR = 4.0, 1.0
STIFFNESS = 10.0  # squared grey levels per pixel; flatter areas show no motion, and get a velocity near 0
FASTEST = 1.5  # pixels per step
# the steps that each stream sees
SEEN = {"left": slice(0, SIDE_STEPS), "middle": slice(0, STEPS), "right": slice(STEPS - SIDE_STEPS, STEPS)}
# Positions sampled at a time: on a CPU, as many as stay in its caches; on a GPU, as many as fit its memory.
PLACES = {"cpu": 2**19, "cuda": 2**27}


class Segments(NamedTuple):
    """The segments of a stream around a key frame, warped along the motion."""

    counts: torch.Tensor  # (B, 7, H, W), weighted spike counts
    lengths: torch.Tensor  # (7,), sums of the weights over the stream's steps

    @property
    def light(self):
        """Each segment's light, (B, 7, H, W) in 0..1."""
        return self.counts / (RATE * self.lengths.view(1, -1, 1, 1))

    def mean(self, weights):
        """The mean under weights (B, 7, H, W) that sum to 1: (B, 1, H, W) in grey levels."""
        lengths = (weights * self.lengths.view(1, -1, 1, 1)).sum(1, keepdim=True)
        return (weights * self.counts).sum(1, keepdim=True) / lengths * (255 / RATE)


def middles(like):
    """(7,): steps from the key frame to the middle of each segment."""
    return SPACING * (torch.arange(SEGMENTS, device=like.device, dtype=like.dtype) - SEGMENTS // 2)


@torch.no_grad()
def along_motion(x, aligned):
    """The input of each stream, from spikes (B, 41, H, W), floats.

    Returns {output: (steps (B, 28 or 41, H, W), `Segments`)}. The segments are warped to the output's key
    frame; with `aligned`, the steps too. The three key frames share one velocity; warping it as well would
    gain 0.01 dB.
    """
    velocity = estimate_velocity(255 * cut_segments(x, KEY_FRAMES["middle"]).light, middles(x))
    time, streams = torch.arange(STEPS, device=x.device, dtype=x.dtype), {}
    for output, key_frame in KEY_FRAMES.items():
        counts, lengths = cut_segments(x, key_frame)
        steps, times = x[:, SEEN[output]], time[SEEN[output]] - key_frame
        if aligned:
            steps = warp(steps, velocity, times)
        streams[output] = steps, Segments(warp(counts, velocity, middles(x)), lengths)
    return streams


def cut_segments(x, key_frame):
    """The unwarped `Segments` of spikes (B, 41, H, W). Windows are cut at the ends of the stream."""
    windows = hann_windows(x, key_frame)
    return Segments(F.conv2d(x, windows[:, :, None, None]), windows.sum(1))


def hann_windows(like, key_frame):
    """(7, 41): the weight of each step in each segment around a key frame."""
    offset = torch.arange(STEPS, device=like.device, dtype=like.dtype) - key_frame
    distance = (offset - middles(like).view(-1, 1)).abs() / HALF_WIDTH
    return torch.cos(math.pi / 2 * distance.clamp(max=1)) ** 2


def estimate_velocity(pictures, times):
    """Velocity (B, 2, H, W) at the key frame, x and y in pixels per step.

    pictures: the segments, (B, 7, H, W) in grey levels. times: their `middles`. Along a pixel's velocity, its
    neighbourhood changes least, in the sense of least squares.
    """
    pictures = gaussian_blur(pictures, BLUR)
    velocity = pictures.new_zeros(len(pictures), 2, *pictures.shape[-2:])
    for span in SPANS:
        outer = (SEGMENTS - 1) // 2 - span // SPACING  # segments at either end beyond the span
        near = slice(outer, SEGMENTS - outer)
        seen, time = warp(pictures[:, near], velocity, times[near]), times[near].view(1, -1, 1, 1)
        change = (seen * time).sum(1, keepdim=True) / time.square().sum()  # slope over time
        slope_x, slope_y = slopes(seen.mean(1, keepdim=True))
        products = [
            slope_x * slope_x,
            slope_x * slope_y,
            slope_y * slope_y,
            slope_x * change,
            slope_y * change,
        ]
        xx, xy, yy, xt, yt = gaussian_blur(torch.cat(products, 1), NEIGHBOURHOOD).split(1, 1)
        xx, yy = xx + STIFFNESS, yy + STIFFNESS
        step = torch.cat([yy * xt - xy * yt, xx * yt - xy * xt], 1) / (xx * yy - xy * xy)
        velocity = (velocity - step).clamp(-FASTEST, FASTEST)
    return velocity


def warp(pictures, velocity, times):
    """Sample pictures (B, K, H, W) of K times bicubically, at position + velocity x time.

    velocity: (B, 2, H, W), x and y in pixels per step. times: (K,) in steps. Edge pixels are repeated.
    """
    rest, step = places(velocity)
    at_a_time = max(1, PLACES.get(pictures.device.type, PLACES["cuda"]) // step[..., 0].numel())
    sampled = []
    for part, time in zip(pictures.split(at_a_time, 1), times.view(1, -1, 1, 1, 1).split(at_a_time, 1)):
        grid = torch.addcmul(rest, step.unsqueeze(1), time)  # (B, k, H, W, 2)
        found = sample(part.flatten(0, 1).unsqueeze(1), grid.flatten(0, 1))  # (B k, 1, H, W)
        sampled.append(found.view(part.shape))
    return torch.cat(sampled, 1)


def places(velocity: torch.Tensor, rows: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (h, W, 2) of the pixels of some rows, and their displacement per step (B, h, W, 2).

    x and y are in the units of `F.grid_sample`, -1..1 from edge to edge. velocity: (B, 2, H, W).
    """
    height, width = velocity.shape[-2:]
    y, x = (torch.arange(n, device=velocity.device, dtype=velocity.dtype) for n in (height, width))
    x, y = (2 * x + 1) / width - 1, (2 * y[rows] + 1) / height - 1
    rest = torch.stack(torch.broadcast_tensors(x, y.view(-1, 1)), -1)
    step_x, step_y = velocity[:, :, rows].unbind(1)
    return rest, torch.stack([step_x * (2 / width), step_y * (2 / height)], -1)


def sample(pictures: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Sample pictures (B, K, H, W) bicubically at a grid of positions (B, h, w, 2) -> (B, K, h, w)."""
    return F.grid_sample(pictures, grid, mode="bicubic", padding_mode="border", align_corners=False)


def slopes(picture):
    """Central differences of pictures (B, 1, H, W) along x and along y."""
    padded = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    return (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2, (
        padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    ) / 2


def gaussian_blur(pictures, sigma):
    """Blur pictures (B, K, H, W), with edge pixels repeated."""
    reach = math.ceil(2.5 * sigma)
    kernel = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-reach, reach + 1)]
    for dim, pad in ((-1, (reach, reach, 0, 0)), (-2, (0, 0, reach, reach))):
        padded, length = F.pad(pictures, pad, mode="replicate"), pictures.shape[dim]
        # On a CPU, adding shifted pictures is five times as fast as a single-channel convolution.
        pictures = kernel[0] / sum(kernel) * padded.narrow(dim, 0, length)
        for shift, weight in enumerate(kernel[1:], 1):
            pictures.add_(padded.narrow(dim, shift, length), alpha=weight / sum(kernel))
    return pictures
