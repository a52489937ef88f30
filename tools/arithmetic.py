"""Counts the network's multiply-adds."""

import math

from swinsf.models import motion
from swinsf.utils.timing import STEPS


def multiply_adds(model, height, width):
    """Multiply-adds of a SwinSF for one picture of height x width, with the layers drawn in the paper.

    The actual number is smaller, since `models.collapse` merges several layers into one small convolution.
    Norms, softmax, GELU and warping are not counted.
    """
    config = model.config
    multiple = config.patch * config.window
    pixels = (height + -height % multiple) * (width + -width % multiple)
    tokens = pixels // config.patch**2

    def weights(*layers):
        return sum(layer.weight.numel() for layer in layers if layer is not None)

    total = pixels * (weights(model.conv_first) + 2 * weights(model.conv_first_ref))
    total += 3 * tokens * weights(model.patch_embed.proj, model.patch_unembed.unproj)
    for layer in model.layers:
        total += 3 * pixels * weights(layer.conv) + 3 * tokens * weights(
            layer.patch_unembed.unproj, layer.patch_embed.proj
        )
    for block in model.blocks:
        msa, tsa = block.attn, block.attn_mul
        total += tokens * weights(msa.qkv, msa.proj, tsa.to_q, tsa.to_k, tsa.to_v, tsa.proj)
        # q k^T and its product with v, in W-MSA and in TSA
        total += tokens * 2 * 2 * config.window**2 * config.channels
        total += 3 * tokens * weights(block.mlp.fc1, block.mlp.fc2)
    total += pixels * (weights(*model.conv_last) + 2 * weights(*model.conv_lm))
    if config.skip != "none":
        taps = {sigma: 2 * (2 * math.ceil(2.5 * sigma) + 1) for sigma in (motion.BLUR, motion.NEIGHBOURHOOD)}
        total += pixels * 3 * motion.SEGMENTS * STEPS
        total += pixels * (
            motion.SEGMENTS * taps[motion.BLUR] + 5 * len(motion.SPANS) * taps[motion.NEIGHBOURHOOD]
        )
    return total
