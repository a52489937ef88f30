"""The attention of SwinSF inside windows: W-MSA on one stream, TSA across three.

Each works on windows (B, n, N, C), any n of them: no window sees another.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from models.windows import recomputed, relative_position_index

TSA_CHOICES = ("released", "paper")


class Linear(nn.Linear):
    """nn.Linear; on a CPU, where no gradient is wanted, as the 1x1 convolution that it is: twice as fast on AMD, alike on Intel.

    The convolution's backward pass is slower than the product's.
    """

    def forward(self, x):
        if x.device.type != "cpu" or x.dtype == torch.float64 or torch.is_grad_enabled():
            return super().forward(x)
        picture = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, C, tokens, 1), channels last
        y = F.conv2d(picture, self.weight[:, :, None, None], self.bias)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class BiasedAttention(nn.Module):
    """Attention inside windows, with a learned bias for each offset between two tokens and the shifted-window mask."""

    def __init__(self, channels, window, heads):
        super().__init__()
        self.heads, self.recompute = heads, True
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)
        self.proj = Linear(channels, channels)

    def attend(self, query, key, value, mask):
        """softmax(q k^T / sqrt(C/heads) + bias + mask) v of each window, projected; mask: a `Mask` or None.

        query, key, value (B, n, N, C) -> (B, n, N, C). For the backward pass no N x N matrix is kept, but in a GPU's kernel none
        is made.
        """
        bias = self.relative_position_bias_table[self.relative_position_index]  # (N, N, heads)
        bias = rearrange(bias, "i j k -> 1 k i j")
        kind = None
        if mask is not None:
            bias, kind = bias + mask.kinds[:, None], mask.kind  # (4, heads, N, N)
        attention = fused_attention if query.is_cuda else stepwise_attention
        out = recomputed(attention, query, key, value, bias, kind, wanted=self.recompute and not query.is_cuda)
        return self.proj(out)


def fused_attention(query, key, value, bias, kind):
    """Attention of windows (B, n, N, C) in one kernel; bias, kind: see `bias_of_each`."""
    bias = bias_of_each(bias, kind, query)
    parts = (rearrange(t, "b n t (k d) -> (b n) k t d", k=bias.shape[1]) for t in (query, key, value))
    out = F.scaled_dot_product_attention(*parts, attn_mask=bias)
    return rearrange(out, "(b n) k t d -> b n t (k d)", b=len(query))


def stepwise_attention(query, key, value, bias, kind):
    """The same step by step, each head where it lies: nearly twice as fast on a CPU, where windows are this small."""
    bias, outs = bias_of_each(bias, kind, query), []
    for q, k, v, b in zip(*(t.flatten(0, 1).chunk(bias.shape[1], -1) for t in (query, key, value)), bias.unbind(1)):
        scores = torch.baddbmm(b, q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5)  # (B n, N, N)
        outs.append(scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v.dtype) @ v)
    return torch.cat(outs, -1).view(query.shape)


def bias_of_each(bias, kind, windows):
    """(B n, heads, N, N) in the type of windows (B, n, N, C): bias (4, heads, N, N) by their kind (n,), or one for all."""
    batch, count = windows.shape[:2]
    bias = bias.to(windows.dtype)
    if kind is None:
        return bias.expand(batch * count, -1, -1, -1)
    return bias.index_select(0, kind.repeat(batch))


class WindowAttention(BiasedAttention):
    """W-MSA: the multi-head self-attention of the Swin Transformer, on one stream."""

    def __init__(self, channels, window, heads):
        super().__init__(channels, window, heads)
        self.qkv = Linear(channels, 3 * channels)

    def forward(self, x, mask):
        """x (B, n, N, C), mask a `Mask` or None -> (B, n, N, C)."""
        return self.attend(*self.qkv(x).chunk(3, dim=-1), mask)


class TemporalSpatialAttention(BiasedAttention):
    """TSA: the query from the left stream, the key from the right, the value from the middle.

    tsa="paper" has a projection for each. tsa="released" does what the released weights were trained with: `to_q` projects
    all three, and `to_k` and `to_v` lie in the file unused (so they take no gradient here).
    """

    def __init__(self, channels, window, heads, tsa):
        super().__init__(channels, window, heads)
        self.tsa = tsa
        self.to_q = Linear(channels, channels)
        self.to_k = Linear(channels, channels).requires_grad_(tsa == "paper")
        self.to_v = Linear(channels, channels).requires_grad_(tsa == "paper")

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
