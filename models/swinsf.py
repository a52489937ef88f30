"""SwinSF (Swin Spikeformer): three pictures from 41 steps of a spike stream.

Jiang, Zhu, Chen: "SwinSpikeFormer: Learning Comprehensive Spatial-Temporal Representation to Reconstruct Dynamic Scenes from
Spike Streams", ICVRV 2024, arXiv 2407.15708. The file reads from the parts to the whole, as the paper's figure does:
W-MSA and TSA, the block (SAB), the group of blocks (RSSB), the network.

The streams left, middle and right run stacked along the batch, in this order: 3B is "left of each sample, then middle, then
right". Module names such as `residual_group`, `attn_mul` and `conv_lm` are those of the released weight files.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from timm.layers import DropPath, Mlp, trunc_normal_
from torch import nn

from models.windows import cached_shift_mask, partition, relative_position_index, reverse
from utils.protocol import KEY_FRAMES, RATE, STEPS

SIDE_STEPS = 28  # of the 41, what the left (first) and the right (last) stream see
RATE_REACH = 13  # steps on either side of a key frame that all three key frames have


class Reconstruction(NamedTuple):
    """The pictures at the key frames, each (B, 1, H, W) in grey levels 0..255 (not clamped)."""

    middle: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


@dataclass(frozen=True)
class SwinSFConfig:
    """An architecture; a checkpoint carries it, so that loading needs no flags. The defaults are variant "250"."""

    channels: int = 96
    depths: tuple = (6, 6)  # blocks in each RSSB
    heads: int = 2
    window: int = 5  # side of an attention window, in tokens
    patch: int = 1  # side of a token, in pixels
    mlp_ratio: float = 4.0
    drop_path: float = 0.1  # stochastic depth of the last block; grows linearly from 0 at the first
    tsa: str = "released"  # or "paper"
    skip: str = "none"  # or "rate"

    def __post_init__(self):
        object.__setattr__(self, "depths", tuple(self.depths))
        for name, choices in (("tsa", TSA_CHOICES), ("skip", SKIP_CHOICES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose from {', '.join(choices)}")
        if self.channels % self.heads:
            raise ValueError(f"channels={self.channels} is not a multiple of heads={self.heads}")


TSA_CHOICES = ("released", "paper")
SKIP_CHOICES = ("none", "rate")


class BiasedAttention(nn.Module):
    """Attention inside windows, with a learned bias for each offset between two tokens and the shifted-window mask."""

    def __init__(self, channels, window, heads):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)
        self.proj = nn.Linear(channels, channels)

    def attend(self, query, key, value, mask):
        """query, key, value (B, n, N, C), mask (n, N, N) or None -> (B, n, N, C)."""
        batch = query.shape[0]
        query, key, value = (rearrange(t, "b n t (k d) -> (b n) k t d", k=self.heads) for t in (query, key, value))
        bias = self.relative_position_bias_table[self.relative_position_index]  # (N, N, heads)
        bias = rearrange(bias, "i j k -> 1 k i j")
        if mask is not None:
            bias = repeat(bias + mask[:, None], "n k i j -> (b n) k i j", b=batch)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)  # scale (C/heads)^-0.5, softmax
        return self.proj(rearrange(out, "(b n) k t d -> b n t (k d)", b=batch))


class WindowAttention(BiasedAttention):
    """W-MSA: the multi-head self-attention of the Swin Transformer, on one stream."""

    def __init__(self, channels, window, heads):
        super().__init__(channels, window, heads)
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, x, mask):
        """x (B, n, N, C) -> (B, n, N, C)."""
        return self.attend(*self.qkv(x).chunk(3, dim=-1), mask)


class TemporalSpatialAttention(BiasedAttention):
    """TSA: the query from the left stream, the key from the right, the value from the middle.

    tsa="paper" has a projection for each. tsa="released" does what the released weights were trained with: `to_q` projects
    all three, and `to_k` and `to_v` lie in the file unused (so they take no gradient here).
    """

    def __init__(self, channels, window, heads, tsa):
        super().__init__(channels, window, heads)
        self.tsa = tsa
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels).requires_grad_(tsa == "paper")
        self.to_v = nn.Linear(channels, channels).requires_grad_(tsa == "paper")

    def forward(self, left, middle, right, mask):
        """Three (B, n, N, C) -> (B, n, N, C)."""
        if self.tsa == "released":
            return self.attend(self.to_q(left), self.to_q(right), self.to_q(middle), mask)
        return self.attend(self.to_q(left), self.to_k(right), self.to_v(middle), mask)


def scramble(windows):
    """(..., N, C) -> (..., N, C): transposed to (C, N) and read back row by row.

    What the released network adds to its side streams in place of an attention result.
    """
    return windows.transpose(-2, -1).reshape(windows.shape)


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
        height, width, shift = x.shape[1], x.shape[2], self.shift
        mask = None
        if shift:
            x = torch.roll(x, (-shift, -shift), dims=(1, 2))
            mask = cached_shift_mask(height, width, self.window, shift, x.device, x.dtype)
        windows = partition(x, self.window)  # (3B, n, N, C)
        windows = self.on_windows(windows, mask)
        x = reverse(windows, self.window, height, width)  # (3B, h, w, C)
        return torch.roll(x, (shift, shift), dims=(1, 2)) if shift else x

    def on_windows(self, x, mask):
        """The block on windows (3B, n, N, C), mask (n, N, N) or None; any n of them, since each window stands alone."""
        x = x + self.drop_path(self.attention(self.norm1(x), mask))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x

    def attention(self, x, mask):
        """What the residual connection adds to the three streams, windows (3B, n, N, C) -> (3B, n, N, C)."""
        left, middle, right = x.chunk(3)
        attended = self.attn(middle, mask) + 0.1 * self.attn_mul(left, middle, right, mask)
        if self.tsa == "released":
            return torch.cat([scramble(left), attended, scramble(right)])
        nothing = torch.zeros_like(left)  # the side streams keep their own features
        return torch.cat([nothing, attended, nothing])


class PatchEmbed(nn.Module):
    """Picture (B, C, H, W) -> tokens (B, H/patch, W/patch, C): a strided convolution where a token is more than a pixel."""

    def __init__(self, channels, patch, norm):
        super().__init__()
        self.proj = nn.Conv2d(channels, channels, patch, stride=patch) if patch > 1 else nn.Identity()
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()

    def forward(self, x):
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class PatchUnembed(nn.Module):
    """Tokens (B, h, w, C) -> picture (B, C, h*patch, w*patch): the way back of `PatchEmbed`, with its own weights."""

    def __init__(self, channels, patch):
        super().__init__()
        self.unproj = nn.ConvTranspose2d(channels, channels, patch, stride=patch) if patch > 1 else nn.Identity()

    def forward(self, x):
        return self.unproj(x.permute(0, 3, 1, 2))


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
        """Tokens (3B, h, w, C) -> (3B, h, w, C)."""
        y = self.residual_group.blocks(x)
        y = self.conv(self.patch_unembed(y))  # (3B, C, H, W)
        return x + self.patch_embed(y)  # (3B, h, w, C)


class FiringRate(nn.Module):
    """A weighted mean of the steps round a key frame, as a picture: TFP whose weights over time are learned.

    One kernel over the steps relative to the key frame serves all three key frames; it starts as TFP over 21 steps.
    """

    def __init__(self):
        super().__init__()
        offset = torch.arange(-RATE_REACH, RATE_REACH + 1)
        self.kernel = nn.Parameter((offset.abs() <= 10) / 21)

    def forward(self, x, key_frame):
        """Spikes (B, 41, H, W) -> (B, 1, H, W) in grey levels."""
        steps = x[:, key_frame - RATE_REACH : key_frame + RATE_REACH + 1]
        return F.conv2d(steps, self.kernel[None, :, None, None]) * (255 / RATE)


class SwinSF(nn.Module):
    """Spikes (B, 41, H, W) of 0 and 1, any H and W from 20 up -> `Reconstruction` of three (B, 1, H, W) in grey levels.

    Raises ValueError for any other number of steps or a smaller picture.
    """

    def __init__(self, config=None):
        super().__init__()
        self.config = config = config or SwinSFConfig()
        channels = config.channels
        self.conv_first_ref = nn.Conv2d(SIDE_STEPS, channels, 3, padding=1)
        self.conv_first = nn.Conv2d(STEPS, channels, 3, padding=1)
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
        self.conv_last = nn.Sequential(nn.Conv2d(3 * channels, 1, 3, padding=1))
        self.conv_lm = nn.Sequential(nn.Conv2d(channels, 1, 3, padding=1))
        if config.skip == "rate":
            self.firing_rate = FiringRate()
            for last in (self.conv_last[0], self.conv_lm[0]):  # training starts from the firing rate alone
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        else:
            self.conv_last.append(nn.ReLU())
            self.conv_lm.append(nn.ReLU())

    def forward(self, x):
        height, width = x.shape[-2:]
        if x.dim() != 4 or x.shape[1] != STEPS or min(height, width) < 20:
            raise ValueError(f"spikes of shape {tuple(x.shape)}: expected (B, {STEPS}, H, W) with H and W at least 20")
        multiple = self.config.patch * self.config.window
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="reflect")

        # Spike feature extraction.
        left, right = self.conv_first_ref(torch.cat([x[:, :SIDE_STEPS], x[:, -SIDE_STEPS:]])).chunk(2)
        tokens = self.patch_embed(torch.cat([left, self.conv_first(x), right]))  # (3B, h, w, C)

        # Spatial-temporal feature extraction.
        for layer in self.layers:
            tokens = layer(tokens)

        # Final reconstruction.
        features = self.patch_unembed(self.norm(tokens))  # (3B, C, H, W)
        with torch.autocast(x.device.type, enabled=False):  # a bfloat16 near 200 is a whole grey level wide
            left, middle, right = features.to(x.dtype).chunk(3)
            middle = self.conv_last(torch.cat([left, middle, right], dim=1))  # (B, 1, H, W)
            left, right = self.conv_lm(torch.cat([left, right])).chunk(2)
            pictures = {"middle": middle, "left": left, "right": right}
            if self.config.skip == "rate":
                pictures = {name: picture + self.firing_rate(x, KEY_FRAMES[name]) for name, picture in pictures.items()}
        return Reconstruction(**{name: picture[..., :height, :width] for name, picture in pictures.items()})
