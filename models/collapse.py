"""Merges consecutive convolutions into one.

Around its blocks, SwinSF has linear layers in sequence: tokens -> picture (a transposed convolution of
stride p), a 3x3 convolution over all pixels, picture -> tokens (a convolution of stride p). The sequence is
itself a convolution, and a far smaller one: with p = 4, an RSSB's has a 16th of the pixels and a 19th of the
arithmetic, and features at full resolution, 256 MB per stream at 1000x1000, are never computed. The merged
kernel is computed from the layers' own weights at every call, so gradients reach them. Results are the same
up to rounding.
"""

import torch
import torch.nn.functional as F


def exact(*tensors):
    """The weights in at least float32, so that their products are not rounded twice.

    On CUDA, in float64: a process-wide setting may run float32 as TF32.
    """
    least = torch.float64 if tensors[0].is_cuda else torch.float32
    return [tensor.to(torch.promote_types(tensor.dtype, least)) for tensor in tensors]


def conv_then_embed(conv, proj, padding=(1, 1)):
    """The function x (B, I, H, W) -> proj(conv(x)) (B, C, H/p, W/p), as one convolution of stride p.

    conv: 3x3, padding 1. proj: p x p of stride p, or None. padding: zeros around x's rows and columns; (0, 1)
    if x has an extra row above and below.
    """
    weight, bias, stride = conv.weight, conv.bias, 1
    if proj is not None:
        stride = proj.stride[0]
        with torch.autocast(weight.device.type, enabled=False):
            weight, bias, proj_weight, proj_bias = exact(weight, bias, proj.weight, proj.bias)
            # Two cross-correlations equal one with the full convolution of their kernels, p+2 wide.
            weight = F.conv_transpose2d(proj_weight, weight)  # (C, I, p+2, p+2)
            bias = proj_weight.sum((2, 3)) @ bias + proj_bias
    return lambda x: F.conv2d(x, *like(x, weight, bias), stride=stride, padding=padding)


def unembed_then_conv(unproj, weight, bias, proj=None):
    """The function x (B, I, h, w) -> a 3x3 convolution, padding 1, of unproj(x); then proj, if given.

    unproj: transposed, p x p of stride p, or None. weight (O, I, 3, 3), bias (O,). proj: p x p of stride p,
    or None. Returns (B, O, ph, pw) pictures, or (B, O, h, w) tokens with proj.
    """
    if unproj is None:
        return lambda x: F.conv2d(x, *like(x, weight, bias), padding=1)
    stride = unproj.stride[0]
    with torch.autocast(weight.device.type, enabled=False):
        weight, bias, unproj_weight, unproj_bias = exact(weight, bias, unproj.weight, unproj.bias)
        # unproj's bias is the same at each pixel, and absent beyond the picture's edge, where the 3x3
        # convolution sees zeros. It acts like an extra feature that is 1 everywhere.
        ones = unproj_bias.view(1, -1, 1, 1).expand(1, -1, stride, stride)
        # The response to a single feature is p+2 pixels wide, from one pixel above and left of its patch.
        response = F.conv2d(torch.cat([unproj_weight, ones]), weight, padding=2)  # (I+1, O, p+2, p+2)
        if proj is not None:
            proj_weight, proj_bias = exact(proj.weight, proj.bias)
            response = F.conv2d(response, proj_weight, stride=stride, padding=stride - 1)  # (I+1, O, 3, 3)
            bias = proj_weight.sum((2, 3)) @ bias + proj_bias
    step = stride if proj is None else 1

    def convolve(x):
        kernel, edge, offset = like(x, response[:-1], response[-1:], bias)
        inside = torch.ones_like(x[:1, :1])
        # (1, O, ...), the same for all samples
        constant = F.conv_transpose2d(inside, edge, offset, stride=step, padding=1)
        return F.conv_transpose2d(x, kernel, stride=step, padding=1) + constant

    return convolve


def like(x, *weights):
    """Weights in x's dtype, kernels in channels-last order, for which oneDNN and cuDNN are fastest."""
    weights = [weight.to(x.dtype) for weight in weights]
    return [
        weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight
        for weight in weights
    ]
