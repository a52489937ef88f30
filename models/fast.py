"""Fast versions of SwinSF. `infer` and `forward` return the same as the network, up to rounding.

- `infer` computes no gradients. It works in place, on chunks of windows that stay in the processor's caches.
- `forward` is for training. Tokens stay in windows between blocks, and attention has its own backward pass.
- Consecutive convolutions are merged into one (`models.collapse`).

Windows of the three streams are (3, n, N, C), where n counts the windows of all samples of a stream.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from swinsf.models.attention import scramble
from swinsf.models.bands import see_and_embed
from swinsf.models.collapse import conv_then_embed, unembed_then_conv
from swinsf.models.windows import shift_masks, window_kinds, window_order

# Bytes in a chunk of windows; a block needs six times as much memory. On a CPU, smaller chunks are slower and
# larger ones take memory. A GPU needs many windows at once.
CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**28}
TRAINING_CHUNK_BYTES = {"cpu": 2**23, "cuda": 2**28}
# maximum number of windows that fused attention on a GPU accepts: the limit of blocks along a launch's axis
FUSED_MOST = 65_535
# From this many bytes of tokens (3B, h, w, C) on, training recomputes attention matrices and hidden layers in
# the backward pass. Keeping them would take about 20 times as many bytes per block.
RECOMPUTE_FROM = 2**24
# dtypes that oneDNN's linear layers support, called as torch.compile does
ONEDNN = (torch.float32, torch.bfloat16) if torch.backends.mkldnn.is_available() else ()


class Geometry(NamedTuple):
    """How tokens (3B, h, w, C) are arranged in shifted windows."""

    order: torch.Tensor  # (3, n, N) int64: see `window_geometry`
    inverse: torch.Tensor  # (3B h w,) int64: index of each token in the windows
    masks: torch.Tensor | None  # (4, N, N) of 0 and MASKED, see `shift_masks`; None without a shift
    kind: torch.Tensor | None  # (n,) int64: index of each window's mask


@lru_cache(maxsize=8)  # 48 MB each for tokens of a pixel at 1000x1000
def window_geometry(streams, height, width, window, shift, device):
    """The `Geometry` for tokens of 3B pictures. order: index of each window's tokens in (3B h w, C)."""
    with torch.inference_mode(False):  # training may use tensors that were cached during a test
        order = window_order(height, width, window, shift)
        order = order + height * width * torch.arange(streams).view(-1, 1, 1)  # (3B, n, N)
        order = order.view(3, -1, window**2)
        inverse = torch.argsort(order.flatten())
        if not shift:
            return Geometry(order.to(device), inverse.to(device), None, None)
        kind = window_kinds(height, width, window).repeat(streams // 3)
        return Geometry(
            order.to(device), inverse.to(device), shift_masks(window, shift).to(device), kind.to(device)
        )


def infer(model, x, calibration=None):
    """model(x, calibration) without gradients: a `Reconstruction`."""
    with torch.no_grad():
        size = x.shape[-2:]
        x = model.prepare(x, calibration)
        if x.device.type == "cpu":
            tokens, segments = see_and_embed(model, x)
        else:
            seen, segments = model.see(x)
            tokens = embed(model, seen)
            del seen
        dtype, device = x.dtype, x.device.type
        del x  # a third of the memory in use here
        for layer in model.layers:
            rssb_in_place(layer, tokens, model.compiled or sab_in_place)
        with torch.autocast(device, enabled=False):
            return model.finish(head(model, tokens.to(dtype)), segments, size)


def forward(model, x, calibration=None):
    """model(x, calibration) with gradients: a `Reconstruction`. Under autocast, tokens have its precision."""
    size = x.shape[-2:]
    x = model.prepare(x, calibration)
    seen, segments = model.see(x)
    tokens = embed(model, seen)
    if torch.is_autocast_enabled(x.device.type):
        tokens = tokens.to(torch.get_autocast_dtype(x.device.type))
    for layer in model.layers:
        tokens = rssb(layer, tokens, model.compiled or sab, model.grad_checkpoint)
    with torch.autocast(x.device.type, enabled=False):
        return model.finish(head(model, tokens.to(x.dtype)), segments, size)


def compile_blocks(model):
    """Run the model's blocks through torch.compile, which compiles at the first call for each new size.

    One function serves all blocks. It is compiled with and without masks, stochastic depth and gradients, for
    one number of windows, then for any. By default, PyTorch stops compiling after 8 versions.
    """
    limits = torch._dynamo.config
    name = "recompile_limit" if hasattr(limits, "recompile_limit") else "cache_size_limit"  # before 2.6
    setattr(limits, name, max(64, getattr(limits, name)))
    model.compiled = torch.compile(sab)


def bfloat16_is_fast(device):
    """Whether a torch.device has bfloat16 instructions: CUDA from Ampere on, CPUs with avx512_bf16 or AMX (on
    Linux)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpus = Path("/proc/cpuinfo")
    return (
        device.type == "cpu"
        and cpus.exists()
        and not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpus.read_text("utf-8", "replace").split())
    )


# ---- the layers around the blocks ----


def embed(model, seen):
    """{stream: (B, K, H, W)} -> tokens (3B, h, w, C) of left, middle and right: first convolution,
    projection, norm."""
    convs, norm = (model.conv_first_ref, model.conv_first, model.conv_first_ref), model.patch_embed.norm
    tokens = []
    for conv, stream in zip(convs, ("left", "middle", "right")):
        picture = conv_then_embed(conv, model.patch_embed.proj)(seen[stream])
        tokens.append(norm(picture.permute(0, 2, 3, 1).to(norm.weight.dtype)))
    return torch.cat(tokens)


def head(model, tokens):
    """Tokens (3B, h, w, C) -> (B, 1 or 8, H, W) for middle, left and right: norm, last convolutions.

    Convolves left, middle and right separately and adds the results, which takes a third of the memory of
    convolving their concatenation.
    """
    last, side = model.conv_last[0], model.conv_lm[0]
    pictures = []
    for stream, weight, sides in zip(tokens.chunk(3), last.weight.chunk(3, dim=1), (True, False, True)):
        weight, bias = [weight, side.weight][: 1 + sides], [last.bias / 3, side.bias][: 1 + sides]
        convolve = unembed_then_conv(model.patch_unembed.unproj, torch.cat(weight), torch.cat(bias))
        pictures.append(convolve(model.norm(stream).permute(0, 3, 1, 2)))
    (from_left, left), from_middle, (from_right, right) = (
        pictures[0].chunk(2, dim=1),
        pictures[1],
        pictures[2].chunk(2, dim=1),
    )
    return from_left + from_middle + from_right, left, right


def convolution(layer):
    """An RSSB's `unproj`, `conv` and `proj` as one function of tokens (B, h, w, C)."""
    conv = unembed_then_conv(
        layer.patch_unembed.unproj, layer.conv.weight, layer.conv.bias, layer.patch_embed.proj
    )
    return lambda tokens: conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


# ---- RSSB and SAB ----


def rssb_in_place(layer, x, block):
    """An RSSB that overwrites its contiguous tokens (3B, h, w, C). For inference only."""
    y = x.clone()
    for part in layer.residual_group.blocks:
        geometry = window_geometry(*y.shape[:3], part.window, part.shift, y.device)
        flat = y.view(-1, y.shape[-1])  # (3B h w, C)
        for chunk in chunks(y, part.window, CHUNK_BYTES):
            place = geometry.order[:, chunk]
            windows = flat.index_select(0, place.flatten()).view(*place.shape, -1)  # (3, n, N, C)
            kind = None if geometry.kind is None else geometry.kind[chunk]
            flat.index_copy_(0, place.flatten(), block(part, windows, geometry.masks, kind).flatten(0, 2))
    convolve = convolution(layer)
    # one stream at a time, because all three would not fit the caches
    for stream, features in zip(x.split(1), y.split(1)):
        stream += convolve(features)


def rssb(layer, x, block, grad_checkpoint=False):
    """An RSSB with gradients: tokens (3B, h, w, C) -> (3B, h, w, C)."""
    streams, height, width, channels = x.shape
    recompute = not grad_checkpoint and x.numel() * x.element_size() >= RECOMPUTE_FROM
    y, layout = x.reshape(-1, channels), None  # order of y's rows: None for that of x, then a block's windows
    for part in layer.residual_group.blocks:
        geometry = window_geometry(streams, height, width, part.window, part.shift, x.device)
        order = geometry.order.flatten()
        if layout is None:
            y = Permute.apply(y, order, geometry.inverse)
        else:
            y = Permute.apply(y, layout.inverse[order], geometry.inverse[layout.order.flatten()])
        layout = geometry
        windows, outputs = y.view(*geometry.order.shape, channels), []
        drops = draw_drops(part, windows, streams // 3)
        for chunk in chunks(x, part.window, TRAINING_CHUNK_BYTES):
            kind = None if geometry.kind is None else geometry.kind[chunk]
            drop = None if drops is None else [factors[:, chunk] for factors in drops]
            arguments = part, windows[:, chunk], geometry.masks, kind, drop, recompute
            outputs.append(recomputed(block, *arguments) if grad_checkpoint else block(*arguments))
        y = (torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]).reshape(-1, channels)
    y = Permute.apply(y, layout.inverse, layout.order.flatten()).view_as(x)
    return x + convolution(layer)(y)


def draw_drops(part, windows, samples):
    """Draw stochastic depth for a block's attention and MLP: two tensors (3, n, 1, 1) of factors per window;
    None if nothing is dropped."""
    drops = [part.drop_path.draw(windows, samples) for _ in range(2)]
    if drops[0] is None:
        return None
    return [
        factors.flatten(2).unsqueeze(-1).repeat_interleave(windows.shape[1] // samples, 1)
        for factors in drops
    ]


def sab(part, x, masks, kind, drop=None, recompute=False):
    """An SAB on windows x (3, n, N, C) -> a new tensor. Windows are independent, so x may be any subset.

    masks, kind: see `Geometry`. drop: see `draw_drops`. recompute: whether the backward pass recomputes
    attention matrices and hidden layers, to save memory.
    """
    run = recomputed if recompute else call
    left, attended, right = attend_middle(part, x, masks, kind, run)
    if part.tsa == "released":
        branch = torch.stack([scramble(left), attended, scramble(right)])
        x = x + (branch if drop is None else branch * drop[0])
    else:
        x = torch.stack([x[0], x[1] + (attended if drop is None else attended * drop[0][1]), x[2]])
    branch = run(mlp, part, x)
    return x + (branch if drop is None else branch * drop[1])


def sab_in_place(part, x, masks, kind):
    """`sab` without gradients. Overwrites x and returns it."""
    left, attended, right = attend_middle(part, x, masks, kind, call)
    x[1] += attended
    if part.tsa == "released":
        x[0] += scramble(left)
        x[2] += scramble(right)
    hidden = linear(part.mlp.fc1, part.norm2(x))
    x += linear(part.mlp.fc2, torch.ops.aten.gelu_(hidden))
    return x


def attend_middle(part, x, masks, kind, run):
    """(normed left stream, W-MSA + 0.1 TSA for the middle one, normed right stream), each (n, N, C).

    run: `call` or `recomputed`.
    """
    left, middle, right = part.norm1(x).unbind()
    msa, tsa = part.attn, part.attn_mul
    to_query, to_key, to_value = tsa.projections
    query, key, value = linear(to_query, left), linear(to_key, right), linear(to_value, middle)
    attended = linear(tsa.proj, run(attend, query, key, value, bias_of_kinds(tsa, masks), kind)).mul_(0.1)
    query, key, value = linear(msa.qkv, middle).chunk(3, -1)
    attended += linear(msa.proj, run(attend, query, key, value, bias_of_kinds(msa, masks), kind))
    return left, attended, right


def mlp(part, x):
    """A block's norm and MLP."""
    return linear(part.mlp.fc2, F.gelu(linear(part.mlp.fc1, part.norm2(x))))


def linear(layer, x):
    """layer(x). On a CPU without gradients, uses oneDNN: faster on some processors, never slower."""
    if x.device.type != "cpu" or x.dtype not in ONEDNN or torch.is_grad_enabled():
        return layer(x)
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")


# ---- attention ----


def bias_of_kinds(attention, masks):
    """(1 or 4, heads, N, N): the position bias of a `BiasedAttention`, plus each kind of window's mask."""
    return attention.bias[None] if masks is None else attention.bias + masks[:, None]


def attend(query, key, value, bias, kind):
    """softmax(q k^T / sqrt(C/heads) + bias) v of windows (n, N, C); bias (1 or 4, heads, N, N), kind (n,) or
    None."""
    return (
        fused_attention(query, key, value, bias, kind)
        if query.is_cuda
        else Attend.apply(query, key, value, bias, kind)
    )


def fused_attention(query, key, value, bias, kind):
    """`attend` in one kernel, which never forms the attention matrices in memory."""
    bias = bias.to(query.dtype)
    bias = bias.expand(len(query), -1, -1, -1) if kind is None else bias.index_select(0, kind)
    # (n, heads, N, C/heads)
    parts = (t.unflatten(-1, (bias.shape[1], -1)).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(*parts, attn_mask=bias).transpose(1, 2).flatten(2)


class Attend(torch.autograd.Function):
    """`attend` step by step: twice as fast on a CPU, because the windows are small."""

    @staticmethod
    def forward(ctx, query, key, value, bias, kind):
        ctx.shape, ctx.dtype, heads = bias.shape, bias.dtype, bias.shape[1]
        query, key, value = (apart(part, heads) for part in (query, key, value))  # (n heads, N, C/heads)
        bias = bias.to(query.dtype)
        bias = bias.expand(len(query) // heads, -1, -1, -1) if kind is None else bias.index_select(0, kind)
        scores = torch.baddbmm(bias.flatten(0, 1), query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5)
        attention = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
        ctx.save_for_backward(query, key, value, attention, kind)
        return together(torch.bmm(attention, value), heads)

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, attention, kind = ctx.saved_tensors
        kinds, heads, exact = *ctx.shape[:2], torch.promote_types(query.dtype, torch.float32)
        gradient = apart(gradient, heads)
        to_value = torch.bmm(attention.transpose(1, 2), gradient)
        to_scores = torch.bmm(gradient, value.transpose(1, 2)).to(exact)
        to_scores = torch._softmax_backward_data(to_scores, attention.to(exact), -1, exact)
        to_bias = sum_of_kinds(to_scores.unflatten(0, (-1, heads)), kind, kinds).to(ctx.dtype)
        to_scores = (to_scores * query.shape[-1] ** -0.5).to(query.dtype)
        to_query, to_key = torch.bmm(to_scores, key), torch.bmm(to_scores.transpose(1, 2), query)
        return *(together(part, heads) for part in (to_query, to_key, to_value)), to_bias, None


def apart(x, heads):
    """(n, N, C) -> (n heads, N, C/heads)"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)


def together(x, heads):
    """(n heads, N, C/heads) -> (n, N, C)"""
    return x.unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)


def sum_of_kinds(values, kind, kinds):
    """(kinds, ...): sums of values (n, ...) over the windows of each kind."""
    if kind is None:
        return values.sum(0, keepdim=True)
    chosen = (torch.arange(kinds, device=kind.device)[:, None] == kind).to(values.dtype)  # (kinds, n)
    return (chosen @ values.flatten(1)).unflatten(-1, values.shape[1:])


# ---- windows ----


class Permute(torch.autograd.Function):
    """Permute the rows of x (R, C). PyTorch's own backward pass would add, because it cannot know that no row
    occurs twice."""

    @staticmethod
    def forward(ctx, x, order, inverse):
        ctx.inverse = inverse
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.index_select(0, ctx.inverse), None, None


def chunks(tokens, window, limit):
    """Slices of a stream's windows, for tokens (3B, h, w, C). All three streams' slices have at most `limit`
    bytes together."""
    streams, height, width, channels = tokens.shape
    count = streams // 3 * (height // window) * (width // window)
    most = limit.get(tokens.device.type, limit["cuda"]) // (3 * window**2 * channels * tokens.element_size())
    most = max(1, min(most, FUSED_MOST))
    return [slice(start, start + most) for start in range(0, count, most)]


def call(function, *arguments):
    return function(*arguments)


def recomputed(function, *arguments):
    """function(*arguments), computed again in the backward pass. It must not draw random numbers."""
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
