"""The attention of SwinSF inside windows: W-MSA on one stream, TSA across three.

Both take windows (B, n, N, C). Windows are independent, so any subset of them can be computed alone.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from swinsf.models.windows import relative_position_index

TSA_CHOICES = ("released", "paper")


class BiasedAttention(nn.Module):
    """Window attention with a learned bias for each relative position, and a mask for shifted windows."""

    def __init__(self, channels, window, heads):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)
        self.proj = nn.Linear(channels, channels)

    @property
    def bias(self):
        """(heads, N, N): the bias added to each pair of tokens' score."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def attend(self, query, key, value, mask):
        """softmax(q k^T / sqrt(C/heads) + bias + mask) v in each window, then the output projection.

        query, key, value (B, n, N, C), mask (n, N, N) or None -> (B, n, N, C).
        """
        bias = self.bias if mask is None else self.bias + mask.unsqueeze(1)  # ([n,] heads, N, N)
        parts = (rearrange(t, "b n t (k d) -> b n k t d", k=self.heads) for t in (query, key, value))
        out = F.scaled_dot_product_attention(*parts, attn_mask=bias.to(query.dtype))
        return self.proj(rearrange(out, "b n k t d -> b n t (k d)"))


class WindowAttention(BiasedAttention):
    """W-MSA: the window self-attention of the Swin Transformer, on one stream."""

    def __init__(self, channels, window, heads):
        super().__init__(channels, window, heads)
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, x, mask=None):
        """x (B, n, N, C), mask (n, N, N) or None -> (B, n, N, C)."""
        return self.attend(*self.qkv(x).chunk(3, dim=-1), mask)


class TemporalSpatialAttention(BiasedAttention):
    """TSA: the query from the left stream, the key from the right, the value from the middle.

    tsa="paper" has a projection for each. tsa="released" is as the released weights were trained: `to_q`
    projects all three; `to_k` and `to_v` are in the file but unused, so they get no gradient.
    """

    def __init__(self, channels, window, heads, tsa):
        super().__init__(channels, window, heads)
        self.tsa = tsa
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels).requires_grad_(tsa == "paper")
        self.to_v = nn.Linear(channels, channels).requires_grad_(tsa == "paper")

    @property
    def projections(self):
        """The projections of query, key and value."""
        return (self.to_q, self.to_k, self.to_v) if self.tsa == "paper" else (self.to_q, self.to_q, self.to_q)

    def forward(self, left, middle, right, mask=None):
        """Three (B, n, N, C), mask (n, N, N) or None -> (B, n, N, C)."""
        to_query, to_key, to_value = self.projections
        return self.attend(to_query(left), to_key(right), to_value(middle), mask)


def scramble(windows):
    """(..., N, C) -> (..., N, C): transpose to (C, N) and reshape without transposing back.

    The released network adds this to its side streams instead of an attention result.
    """
    return windows.transpose(-2, -1).reshape(windows.shape)
