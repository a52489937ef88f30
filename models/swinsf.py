"""SwinSF (Swin Spikeformer): three pictures from 41 steps of a spike stream.

Jiang, Zhu, Chen: "SwinSpikeFormer: Learning Comprehensive Spatial-Temporal Representation to Reconstruct Dynamic Scenes from
Spike Streams", ICVRV 2024, arXiv 2407.15708. The file reads from the parts to the whole, as the paper's figure does: the block
(SAB), whose attention is in `models.attention`, the group of blocks (RSSB), the network.

The streams left, middle and right run stacked along the batch, in this order: 3B is "left of each sample, then middle, then
right". Module names such as `residual_group`, `attn_mul` and `conv_lm` are those of the released weight files.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from models.attention import Linear, TemporalSpatialAttention, WindowAttention, scramble
from models.collapse import conv_then_embed, unembed_then_conv
from models.motion import SEEN, SEGMENTS, along_motion
from models.windows import map_windows, recomputed
from utils.spikes import check_spikes
from utils.timing import KEY_FRAMES, RATE, SIDE_STEPS, STEPS

RATE_REACH = 13  # steps on either side of a key frame that all three key frames have


class Reconstruction(NamedTuple):
    """The pictures at the key frames, each (B, 1, H, W) in grey levels 0..255 (not clamped)."""

    middle: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


@dataclass(frozen=True)
class SwinSFConfig:
    """An architecture; a checkpoint carries it, so that loading needs no flags. The defaults are the released network's."""

    channels: int = 96
    depths: tuple = (6, 6)  # blocks in each RSSB
    heads: int = 2
    window: int = 5  # side of an attention window, in tokens
    patch: int = 1  # side of a token, in pixels
    mlp_ratio: float = 4.0
    drop_path: float = 0.1  # stochastic depth of the last block; grows linearly from 0 at the first
    tsa: str = "released"  # or "paper"
    skip: str = "none"  # or "rate", "motion", "aligned": what the last convolution adds to

    def __post_init__(self):
        depths = self.depths if isinstance(self.depths, list | tuple) else [self.depths]
        object.__setattr__(self, "depths", tuple(depths))  # a file or a flag may have a list or a single number


SKIP_CHOICES = ("none", "rate", "motion", "aligned")
ALONG_MOTION = ("motion", "aligned")  # "aligned" sees the steps along the motion too, "motion" as they lie


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them, on normalised features."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.recompute = True
        self.fc1 = Linear(channels, hidden)
        self.fc2 = Linear(hidden, channels)

    def forward(self, x, norm):
        """The MLP of norm(x). The norm is applied here, so that the backward pass keeps x alone and computes the rest again."""
        return recomputed(lambda x: self.fc2(F.gelu(self.fc1(norm(x)))), x, wanted=self.recompute)


class StochasticDepth(nn.Module):
    """In training, leaves a residual branch out of a sample now and then (Huang et al., ECCV 2016)."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def drawn(self, x):
        """A function for each branch, attention and MLP, and each stream; x (3B, ...) says how many samples there are.

        Each maps a branch (B, ...) to itself times a factor of each sample. They are drawn once for all bands of windows.
        """
        if not (self.training and self.drop_prob):
            return [[identity] * 3] * 2
        kept = 1 - self.drop_prob
        factors = x.new_empty(2, 3, len(x) // 3, 1, 1, 1).bernoulli_(kept) / kept  # of mean 1
        return [[partial(torch.mul, factor) for factor in branch] for branch in factors]


def identity(x):
    return x


class SAB(nn.Module):
    """Spatial-temporal attention block: W-MSA and TSA on the middle stream, then an MLP on all three."""

    def __init__(self, config, shift, drop_path):
        super().__init__()
        self.window, self.shift, self.tsa = config.window, shift, config.tsa
        self.norm1 = nn.LayerNorm(config.channels)
        self.attn = WindowAttention(config.channels, config.window, config.heads)
        self.attn_mul = TemporalSpatialAttention(config.channels, config.window, config.heads, config.tsa)
        self.drop_path = StochasticDepth(drop_path)
        self.norm2 = nn.LayerNorm(config.channels)
        self.mlp = Mlp(config.channels, int(config.mlp_ratio * config.channels))
        self.grad_checkpoint = False
        self.run = SAB.on_windows  # or the same compiled; a plain function, which a copy of the block can share

    def forward(self, x):
        """Tokens (3B, h, w, C) -> (3B, h, w, C), in place where no gradient is wanted."""
        drop = self.drop_path.drawn(x)
        return map_windows(lambda *band: self.run(self, *band, drop), x, self.window, self.shift, self.grad_checkpoint)

    def on_windows(self, left, middle, right, mask, drop):
        """The block on windows, three of (B, n, N, C), any n of them, since each window stands alone.

        mask: a `windows.Mask` or None. drop: see `StochasticDepth.drawn`.
        """
        (drop_left, drop_middle, drop_right), drop_mlp = drop
        n_l, n_m, n_r = self.norm1(left), self.norm1(middle), self.norm1(right)
        middle = middle + drop_middle(self.attn(n_m, mask) + 0.1 * self.attn_mul(n_l, n_m, n_r, mask))
        if self.tsa == "released":
            left, right = left + drop_left(scramble(n_l)), right + drop_right(scramble(n_r))
        return [x + drop(self.mlp(x, self.norm2)) for x, drop in zip((left, middle, right), drop_mlp)]


class PatchEmbed(nn.Module):
    """Weights of the way from a picture to tokens: `proj`, strided, where a token is more than a pixel, and a norm.

    It has no forward: `proj` never runs alone, but in one convolution with those before it (see `models.collapse`).
    """

    def __init__(self, channels, patch, norm):
        super().__init__()
        self.proj = nn.Conv2d(channels, channels, patch, stride=patch) if patch > 1 else None
        self.norm = nn.LayerNorm(channels) if norm else None


class PatchUnembed(nn.Module):
    """Weights of the way back from tokens to a picture, `unproj`. It has no forward, for the reason that PatchEmbed has none."""

    def __init__(self, channels, patch):
        super().__init__()
        self.unproj = nn.ConvTranspose2d(channels, channels, patch, stride=patch) if patch > 1 else None


class RSSB(nn.Module):
    """Residual Swin spikeformer block: SABs with and without shift in turn, a convolution, a residual connection."""

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
        """Tokens (3B, h, w, C) -> (3B, h, w, C), in place where no gradient is wanted."""
        y = self.residual_group.blocks(x.clone(memory_format=torch.contiguous_format))
        conv = self.convolution()  # tokens -> picture, 3x3 convolution, picture -> tokens
        if torch.is_grad_enabled():
            return x + conv(y)
        for stream, features in zip(x.split(1), y.split(1)):  # one at a time: a whole picture's sum would not fit the memory
            stream += conv(features)
        return x

    def convolution(self):
        """`unproj`, `conv` and `proj` in a row, as one function of tokens (B, h, w, C)."""
        conv = unembed_then_conv(self.patch_unembed.unproj, self.conv.weight, self.conv.bias, self.patch_embed.proj)
        return lambda tokens: conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class FiringRate(nn.Module):
    """A weighted mean of the steps round a key frame, as a picture: TFP whose weights over time are learned.

    One kernel over the steps relative to the key frame serves all three key frames; it starts as TFP over 21 steps.
    """

    def __init__(self):
        super().__init__()
        offset = torch.arange(-RATE_REACH, RATE_REACH + 1, device="cpu")  # see `relative_position_index`
        self.kernel = nn.Parameter((offset.abs() <= 10) / 21)

    def forward(self, x, key_frame):
        """Spikes (B, 41, H, W) -> (B, 1, H, W) in grey levels."""
        steps = x[:, key_frame - RATE_REACH : key_frame + RATE_REACH + 1]
        return F.conv2d(steps, self.kernel[None, :, None, None]) * (255 / RATE)


class SwinSF(nn.Module):
    """Spikes (B, 41, H, W) of 0 and 1, any H and W from 20 up -> `Reconstruction` of three (B, 1, H, W) in grey levels.

    Raises ValueError for another number of steps and for a smaller picture. In eval mode it looks at the spikes too: 0 and 255
    are taken for 0 and 1, any others raise ValueError (see `check_spikes`).

    calibration: (B or 1, 2, H, W) float32 of the pixels' dark charge, in thresholds a step, and response, relative to the mean;
    what a step then counts is (spike - dark) / response. None: the pixels are alike.
    """

    def __init__(self, config=None):
        super().__init__()
        self.config = config = config or SwinSFConfig()
        channels = config.channels
        seen = SEGMENTS if config.skip in ALONG_MOTION else 0  # pictures that a stream sees besides its steps
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
        # Sequential, so that the convolutions have the released files' names conv_last.0 and conv_lm.0.
        # The last convolution gives a picture; along the motion a residual, and a score for each segment.
        self.conv_last = nn.Sequential(nn.Conv2d(3 * channels, 1 + seen, 3, padding=1))
        self.conv_lm = nn.Sequential(nn.Conv2d(channels, 1 + seen, 3, padding=1))
        if config.skip == "rate":
            self.firing_rate = FiringRate()
        if config.skip in ALONG_MOTION:
            self.segment_scores = nn.Parameter(-0.2 * (torch.arange(SEGMENTS, device="cpu") - SEGMENTS // 2) ** 2)
        if config.skip != "none":
            for last in (self.conv_last[0], self.conv_lm[0]):  # training starts from firing rates alone
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    @property
    def blocks(self):
        return [block for layer in self.layers for block in layer.residual_group.blocks]

    def set_grad_checkpoint(self, wanted=True):
        """Whether a backward pass computes each block again from its input: a third more arithmetic, far less memory."""
        for block in self.blocks:
            block.grad_checkpoint = wanted
            # Within a block that is computed again as a whole, nothing else need be.
            block.attn.recompute = block.attn_mul.recompute = block.mlp.recompute = not wanted

    def compile_blocks(self):
        """Run the blocks through torch.compile, which compiles at the first call for each new size.

        One function serves all blocks, and is compiled anew for windows with and without masks, with and without stochastic
        depth and gradients, for one number of windows and then for any. PyTorch gives up beyond 8, and goes on uncompiled.
        """
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        compiled = torch.compile(SAB.on_windows)
        for block in self.blocks:
            block.run = compiled

    def set_precision(self, dtype):
        """Compute in float32, bfloat16 or float16 what lies between the spikes and the last norm; the rest stays as it is.

        The pictures stay float32: a bfloat16 near 200 is a whole grey level wide.
        """
        for part in (self.conv_first_ref, self.conv_first, self.patch_embed, self.layers):
            part.to(dtype)

    def forward(self, x, calibration=None):
        height, width = x.shape[-2:]
        if x.dim() != 4 or x.shape[1] != STEPS or min(height, width) < 20:
            raise ValueError(f"spikes of shape {tuple(x.shape)}: expected (B, {STEPS}, H, W) with H and W at least 20")
        if not self.training:  # training's spikes were bits on their way
            x = check_spikes(x)
        x = x.to(self.norm.weight.dtype)
        if calibration is not None:
            dark, response = calibration.to(x).split(1, dim=1)  # (B, 1, H, W) each
            x = (x - dark) / response
        multiple = self.config.patch * self.config.window
        if height % multiple or width % multiple:
            x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="reflect")

        # Spike feature extraction.
        seen, segments = {output: x[:, steps] for output, steps in SEEN.items()}, {}
        if self.config.skip in ALONG_MOTION:
            with torch.autocast(x.device.type, enabled=False):
                streams = along_motion(x, aligned=self.config.skip == "aligned")
            for output, (steps, segments[output]) in streams.items():
                seen[output] = torch.cat([steps, segments[output].light], 1)  # (B, 35 or 48, H, W)
        convs = {"left": self.conv_first_ref, "middle": self.conv_first, "right": self.conv_first_ref}
        tokens = torch.cat([self.embed(seen[stream], conv) for stream, conv in convs.items()])  # (3B, h, w, C)

        # Spatial-temporal feature extraction.
        for layer in self.layers:
            tokens = layer(tokens)

        # Final reconstruction.
        with torch.autocast(x.device.type, enabled=False):
            pictures = self.reconstruct(*tokens.to(x.dtype).chunk(3))  # three (B, 1 or 8, H, W)
            pictures = [
                self.add_skip(picture, output, x, segments.get(output))  # (B, 1, H, W)
                for output, picture in zip(Reconstruction._fields, pictures)
            ]
        return Reconstruction(*(picture[..., :height, :width] for picture in pictures))

    def embed(self, x, conv):
        """A stream's steps (B, 28 or 41, H, W) -> its tokens (B, h, w, C)."""
        norm = self.patch_embed.norm
        x = conv_then_embed(conv, self.patch_embed.proj)(x.to(conv.weight.dtype))
        return norm(x.permute(0, 2, 3, 1).to(norm.weight.dtype))  # under autocast the residual stream stays float32

    def reconstruct(self, *streams):
        """Tokens of left, middle and right, each (B, h, w, C) -> pictures middle, left, right, each (B, 1 or 8, H, W).

        A convolution of the concatenation left|middle|right is the sum of one on each, which takes a third of the memory.
        """
        last, side = self.conv_last[0], self.conv_lm[0]
        bias = torch.cat([last.bias / 3, side.bias])
        pictures = []
        for tokens, weight in zip(streams, last.weight.chunk(3, dim=1)):
            convolve = unembed_then_conv(self.patch_unembed.unproj, torch.cat([weight, side.weight]), bias)
            pictures.append(convolve(self.norm(tokens).permute(0, 3, 1, 2)).chunk(2, dim=1))
        (from_left, left), (from_middle, _), (from_right, right) = pictures
        return from_left + from_middle + from_right, left, right

    def add_skip(self, picture, output, x, segments):
        """What the last convolution gives for an output, (B, 1 or 8, H, W) -> its picture (B, 1, H, W)."""
        if self.config.skip == "rate":
            return picture + self.firing_rate(x, KEY_FRAMES[output])
        if segments is not None:
            residual, scores = picture.split([1, SEGMENTS], dim=1)
            return residual + segments.mean((scores + self.segment_scores.view(1, -1, 1, 1)).softmax(1))
        return picture.relu()
