"""Computes tokens from spikes in bands of rows, for inference on a CPU.

The warped steps of a whole picture are never in memory. A band, in the network's precision, stays in the
caches.
"""

import torch

from swinsf.models.collapse import conv_then_embed
from swinsf.models.motion import (
    SEEN,
    SEGMENTS,
    SPACING,
    Segments,
    estimate_velocity,
    hann_windows,
    middles,
    places,
    sample,
)
from swinsf.utils.timing import KEY_FRAMES, STEPS

BAND_PIXELS = 2**16  # pixels in a band, over all pictures of a batch


def see_and_embed(model, x: torch.Tensor):
    """Spikes (B, 41, H, W), floats -> (tokens (3B, h, w, C) of left, middle and right, {stream: its `Segments`
    or None}).

    Equals `model.see` and `fast.embed`, up to rounding.
    """
    config, norm = model.config, model.patch_embed.norm
    batch, _, height, width = x.shape
    streams = Unwarped(x) if config.skip == "none" else Warped(x, aligned=config.skip == "aligned")
    convolutions = {
        stream: conv_then_embed(conv, model.patch_embed.proj, padding=(0, 1))
        for stream, conv in zip(SEEN, (model.conv_first_ref, model.conv_first, model.conv_first_ref))
    }
    patch, shape = config.patch, (3, batch, height // config.patch, width // config.patch, config.channels)
    tokens = norm.weight.new_empty(shape)
    rows = max(1, BAND_PIXELS // (batch * width * patch))  # rows of tokens in a band
    for top in range(0, shape[2], rows):
        bottom = min(top + rows, shape[2])
        # The convolution needs one more row above and below, which is zero beyond the picture.
        above, below = int(top == 0), int(bottom == shape[2])
        inside = slice(patch * top - 1 + above, patch * bottom + 1 - below)
        for part, stream in zip(tokens, SEEN):
            channels = model.conv_first.in_channels - STEPS + SEEN[stream].stop - SEEN[stream].start
            seen = norm.weight.new_empty(batch, channels, patch * (bottom - top) + 2, width)
            seen[:, :, :above] = 0
            seen[:, :, seen.shape[2] - below :] = 0
            streams.fill(seen[:, :, above : seen.shape[2] - below], stream, inside)
            part[:, top:bottom] = norm(convolutions[stream](seen).permute(0, 2, 3, 1))
    return tokens.flatten(0, 1), streams.segments


class Unwarped:
    """The streams' steps of spikes (B, 41, H, W), unchanged."""

    def __init__(self, x):
        self.x, self.segments = x, dict.fromkeys(SEEN)

    def fill(self, seen, stream, rows):
        """Write some rows of a stream's input into `seen` (B, K, h, W), of any dtype."""
        seen.copy_(self.x[:, SEEN[stream], rows])


class Warped:
    """`motion.along_motion` of spikes (B, 41, H, W), warped band by band."""

    def __init__(self, x, aligned):
        windows = torch.stack([hann_windows(x, key_frame) for key_frame in KEY_FRAMES.values()])  # (3, 7, 41)
        counts = (windows.flatten(0, 1) @ x.flatten(2)).view(len(x), 3, SEGMENTS, *x.shape[-2:])
        self.x, self.aligned, self.counts = x, aligned, dict(zip(KEY_FRAMES, counts.unbind(1)))
        lengths = dict(zip(KEY_FRAMES, windows.sum(2)))
        whole = Segments(self.counts["middle"], lengths["middle"])
        self.velocity = estimate_velocity(255 * whole.light, middles(x))
        # filled band by band
        self.segments = {
            stream: Segments(torch.empty_like(self.counts[stream]), lengths[stream]) for stream in KEY_FRAMES
        }

    def fill(self, seen, stream, rows):
        """Write some rows of a stream's input into `seen` (B, K, h, W), of any dtype."""
        rest, step = places(self.velocity, rows)
        key_frame, first, stop = KEY_FRAMES[stream], SEEN[stream].start, SEEN[stream].stop

        def warp(pictures, time):  # (B, 1, H, W) -> (B, h, W)
            if time == 0:
                return pictures[:, 0, rows]
            return sample(pictures, torch.add(rest, step, alpha=time))[:, 0]

        if self.aligned:
            for time in range(first, stop):
                seen[:, time - first] = warp(self.x[:, time : time + 1], time - key_frame)
        else:
            seen[:, : stop - first] = self.x[:, first:stop, rows]
        counts, lengths = self.segments[stream]
        for i in range(SEGMENTS):
            time = SPACING * (i - SEGMENTS // 2)
            counts[:, i, rows] = warp(self.counts[stream][:, i : i + 1], time)
        seen[:, stop - first :] = Segments(counts[:, :, rows], lengths).light
