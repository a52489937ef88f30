"""SwinSF (Swin Spikeformer): three pictures from 41 steps of a spike stream.

Jiang, Zhu, Chen: "SwinSpikeFormer: Learning Comprehensive Spatial-Temporal Representation to Reconstruct
Dynamic Scenes from Spike Streams", ICVRV 2024, arXiv 2407.15708. The file follows the paper's figure from its
parts to the whole: the block (SAB), the group of blocks (RSSB), the network. The block's attention is in
`models.attention`. `models.fast` computes the same results faster.

The left, middle and right streams are stacked along the batch: 3B means all left samples, then all middle,
then all right. Names such as `residual_group`, `attn_mul` and `conv_lm` come from the released weight files.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from swinsf.models.attention import TemporalSpatialAttention, WindowAttention, scramble
from swinsf.models.motion import SEEN, SEGMENTS, along_motion
from swinsf.models.windows import attention_mask, partition, reverse
from swinsf.utils.spikes import validate_spikes
from swinsf.utils.timing import LEAST_SIDE, SIDE_STEPS, STEPS


class Reconstruction(NamedTuple):
    """The pictures at the key frames, each (B, 1, H, W) in grey levels 0..255 (not clamped)."""

    middle: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


@dataclass(frozen=True)
class SwinSFConfig:
    """An architecture. Checkpoints carry it, so loading needs no flags. Defaults: the released network."""

    channels: int = 96
    depths: tuple = (6, 6)  # blocks in each RSSB
    heads: int = 2
    window: int = 5  # side of an attention window, in tokens
    patch: int = 1  # side of a token, in pixels
    mlp_ratio: float = 4.0
    drop_path: float = 0.1  # stochastic depth of the last block; grows linearly from 0 at the first
    tsa: str = "released"  # or "paper"
    skip: str = "none"  # or "motion", "aligned": the estimate that the network's residual is added to

    def __post_init__(self):
        # files and flags may give a list or a single number
        depths = self.depths if isinstance(self.depths, list | tuple) else [self.depths]
        object.__setattr__(self, "depths", tuple(depths))


# "motion" adds a residual to a mean along the motion; with "aligned", the network's steps are warped, too.
SKIP_CHOICES = ("none", "motion", "aligned")


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth: drops samples' residual branches at random in training (Huang et al., ECCV 2016)."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def draw(self, like, samples):
        """Draw factors (3, B, 1, 1, 1) with mean 1 for each stream and sample; None if nothing is dropped."""
        if not (self.training and self.drop_prob):
            return None
        kept = 1 - self.drop_prob
        return like.new_empty(3, samples, 1, 1, 1).bernoulli_(kept) / kept

    def forward(self, branch):
        """The branch (3, B, n, N, C), set to zero for the dropped samples."""
        factors = self.draw(branch, branch.shape[1])
        return branch if factors is None else branch * factors


class SAB(nn.Module):
    """Spatial-temporal attention block: W-MSA and TSA on the middle stream, then an MLP on all three."""

    def __init__(self, config, shift, drop_path):
        super().__init__()
        self.window, self.shift, self.tsa = config.window, shift, config.tsa
        self.norm1 = nn.LayerNorm(config.channels)
        self.attn = WindowAttention(config.channels, config.window, config.heads)
        self.attn_mul = TemporalSpatialAttention(config.channels, config.window, config.heads, config.tsa)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(config.channels)
        self.mlp = Mlp(config.channels, int(config.mlp_ratio * config.channels))

    def forward(self, x):
        """Tokens (3B, h, w, C) -> (3B, h, w, C)."""
        height, width = x.shape[1:3]
        mask = attention_mask(height, width, self.window, self.shift, x)
        x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = partition(x, self.window).unflatten(0, (3, -1))  # (3, B, n, N, C)
        x = x + self.drop_path(self.attention(self.norm1(x), mask))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        x = reverse(x.flatten(0, 1), height, width)  # (3B, h, w, C)
        return torch.roll(x, (self.shift, self.shift), (1, 2))

    def attention(self, x, mask):
        """The residual that attention adds to each stream: (3, B, n, N, C) -> (3, B, n, N, C)."""
        left, middle, right = x
        attended = self.attn(middle, mask) + 0.1 * self.attn_mul(left, middle, right, mask)
        if self.tsa == "released":
            return torch.stack([scramble(left), attended, scramble(right)])
        return torch.stack([torch.zeros_like(left), attended, torch.zeros_like(right)])


class PatchEmbed(nn.Module):
    """Picture -> tokens: a strided convolution for tokens larger than a pixel, then an optional norm."""

    def __init__(self, channels, patch, norm):
        super().__init__()
        self.proj = nn.Conv2d(channels, channels, patch, stride=patch) if patch > 1 else None
        self.norm = nn.LayerNorm(channels) if norm else None

    def forward(self, x):
        """(B, C, H, W) -> tokens (B, h, w, C)."""
        if self.proj is not None:
            x = self.proj(x)  # (B, C, h, w)
        x = x.permute(0, 2, 3, 1)  # (B, h, w, C)
        return x if self.norm is None else self.norm(x)


class PatchUnembed(nn.Module):
    """Tokens -> picture: a transposed convolution for tokens larger than a pixel."""

    def __init__(self, channels, patch):
        super().__init__()
        self.unproj = nn.ConvTranspose2d(channels, channels, patch, stride=patch) if patch > 1 else None

    def forward(self, x):
        """Tokens (B, h, w, C) -> (B, C, H, W)."""
        x = x.permute(0, 3, 1, 2)  # (B, C, h, w)
        return x if self.unproj is None else self.unproj(x)


class RSSB(nn.Module):
    """Residual Swin spikeformer block: SABs with and without shift, a convolution, a residual connection."""

    def __init__(self, config, drop_paths):
        super().__init__()
        shifts = (0, config.window // 2)
        blocks = [SAB(config, shifts[i % 2], drop_path) for i, drop_path in enumerate(drop_paths)]
        self.residual_group = nn.Module()  # the released files' name
        self.residual_group.blocks = nn.Sequential(*blocks)
        self.patch_unembed = PatchUnembed(config.channels, config.patch)
        self.conv = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.patch_embed = PatchEmbed(config.channels, config.patch, norm=False)

    def forward(self, x):
        """Tokens (3B, h, w, C) -> (3B, h, w, C)."""
        y = self.residual_group.blocks(x)
        return x + self.patch_embed(self.conv(self.patch_unembed(y)))


class SwinSF(nn.Module):
    """Spikes (B, 41, H, W) of 0 and 1 -> `Reconstruction`, three pictures (B, 1, H, W) in grey levels.

    H and W must be at least 20. Raises ValueError for smaller pictures or another number of steps. In eval
    mode it also checks the values: 0 and 255 count as 0 and 1, others raise ValueError (`validate_spikes`).

    calibration: (B or 1, 2, H, W) float32, each pixel's dark charge in thresholds per step and its response
    relative to the mean. The input becomes (spike - dark) / response. None: all pixels are alike.
    """

    def __init__(self, config=None):
        super().__init__()
        self.config = config = config or SwinSFConfig()
        self.grad_checkpoint, self.compiled = False, None  # used by `models.fast`
        channels = config.channels
        seen = 0 if config.skip == "none" else SEGMENTS  # input channels besides the steps
        self.conv_first_ref = nn.Conv2d(SIDE_STEPS + seen, channels, 3, padding=1)
        self.conv_first = nn.Conv2d(STEPS + seen, channels, 3, padding=1)
        self.patch_embed = PatchEmbed(channels, config.patch, norm=True)
        blocks = sum(config.depths)
        drop_paths = [config.drop_path * i / max(1, blocks - 1) for i in range(blocks)]
        self.layers = nn.ModuleList()
        for depth in config.depths:
            self.layers.append(RSSB(config, drop_paths[:depth]))
            drop_paths = drop_paths[depth:]
        self.norm = nn.LayerNorm(channels)
        self.patch_unembed = PatchUnembed(channels, config.patch)
        # Sequential names the convolutions as released files do, conv_last.0 and conv_lm.0. Their output is a
        # picture or, with a skip, a residual and a score for each segment.
        self.conv_last = nn.Sequential(nn.Conv2d(3 * channels, 1 + seen, 3, padding=1))
        self.conv_lm = nn.Sequential(nn.Conv2d(channels, 1 + seen, 3, padding=1))
        if config.skip != "none":
            offsets = torch.arange(SEGMENTS, device="cpu") - SEGMENTS // 2
            self.segment_scores = nn.Parameter(-0.2 * offsets**2)
            for last in (self.conv_last[0], self.conv_lm[0]):  # start from the mean along the motion
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    @property
    def blocks(self):
        """All SABs, in order."""
        return [block for layer in self.layers for block in layer.residual_group.blocks]

    def set_precision(self, dtype):
        """Compute the layers between the spikes and the last norm in float32, bfloat16 or float16.

        The pictures stay float32: near 200, bfloat16 resolves only whole grey levels.
        """
        for part in (self.conv_first_ref, self.conv_first, self.patch_embed, self.layers):
            part.to(dtype)

    def forward(self, x, calibration=None):
        """Reconstruct a batch of windows.

        x: spikes (B, 41, H, W) of 0 and 1, any dtype; H and W at least 20. calibration: (B or 1, 2, H, W)
        float32, dark charge in thresholds per step and response, or None. Returns a `Reconstruction`: middle,
        left and right, each (B, 1, H, W) float32 in grey levels, at steps 20, 13 and 27 of the window. 255 is
        0.6 spikes per step; nothing is clamped. Raises ValueError for another shape, and in eval mode for
        other values. Keeps gradients; `models.fast.infer` computes the same faster, without them.
        """
        size = x.shape[-2:]
        x = self.prepare(x, calibration)  # (B, 41, H, W), padded to whole windows

        # Spike feature extraction.
        seen, segments = self.see(x)
        left = self.conv_first_ref(seen["left"])  # (B, C, H, W)
        middle = self.conv_first(seen["middle"])
        right = self.conv_first_ref(seen["right"])
        tokens = self.patch_embed(torch.cat([left, middle, right]))  # (3B, h, w, C)

        # Spatial-temporal feature extraction.
        for layer in self.layers:
            tokens = layer(tokens)

        # Final reconstruction.
        with torch.autocast(x.device.type, enabled=False):
            # (B, C, H, W) each
            left, middle, right = self.patch_unembed(self.norm(tokens.to(x.dtype))).chunk(3)
            middle = self.conv_last(torch.cat([left, middle, right], 1))  # (B, 1 or 8, H, W)
            return self.finish((middle, self.conv_lm(left), self.conv_lm(right)), segments, size)

    def prepare(self, x, calibration=None):
        """Check spikes (B, 41, H, W), convert to the network's dtype, calibrate and pad to whole windows."""
        height, width = x.shape[-2:]
        multiple = self.config.patch * self.config.window
        least = max(LEAST_SIDE, multiple // 2 + 1)  # mirrored padding is shorter than the side
        if x.dim() != 4 or x.shape[1] != STEPS or min(height, width) < least:
            raise ValueError(
                f"spikes of shape {tuple(x.shape)}: expected (B, {STEPS}, H, W), H and W at least {least}"
            )
        if not self.training:  # in training, spikes are unpacked from bits and therefore valid
            x = validate_spikes(x)
        x = x.to(self.norm.weight.dtype)
        if calibration is not None:
            dark, response = calibration.to(x).split(1, dim=1)  # (B, 1, H, W) each
            x = (x - dark) / response
        if height % multiple or width % multiple:
            x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="reflect")
        return x

    def see(self, x):
        """The input of each stream, from spikes (B, 41, H, W).

        Returns ({stream: (B, 28 to 48, H, W)}, {stream: its `Segments` or None}). The input is the stream's
        steps and, with a skip, also the light of its segments along the motion.
        """
        dtype = self.conv_first.weight.dtype
        if self.config.skip == "none":
            return {stream: x[:, steps].to(dtype) for stream, steps in SEEN.items()}, dict.fromkeys(SEEN)
        with torch.autocast(x.device.type, enabled=False):
            along = along_motion(x, aligned=self.config.skip == "aligned")
        seen = {
            stream: torch.cat([steps, segments.light], 1).to(dtype)
            for stream, (steps, segments) in along.items()
        }
        return seen, {stream: segments for stream, (_, segments) in along.items()}

    def finish(self, pictures, segments, size):
        """Outputs (B, 1 or 8, H, W) of the last convolutions for middle, left and right -> `Reconstruction`,
        cropped to size (height, width)."""
        height, width = size
        outputs = []
        for stream, picture in zip(Reconstruction._fields, pictures):
            if segments[stream] is None:
                outputs.append(picture.relu())  # (B, 1, H, W)
            else:
                residual, scores = picture.split([1, SEGMENTS], dim=1)
                weights = (scores + self.segment_scores.view(1, -1, 1, 1)).softmax(1)
                outputs.append(residual + segments[stream].mean(weights))  # (B, 1, H, W)
        return Reconstruction(*(output[..., :height, :width] for output in outputs))
