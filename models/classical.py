"""The two classical reconstructions, for comparison: TFP and TFI (Zhu et al., "A Retina-Inspired Sampling Method", ICME 2019)."""

import torch

from utils.protocol import RATE


def tfp(spikes, key_frame, window=41, rate=RATE):
    """Texture from playback: the mean of `window` steps centred on the key frame, as grey levels.

    spikes (..., T, H, W) tensor of 0 and 1 -> (..., H, W) float in 0..255/rate. A window that reaches over an end of the
    stream is cut there.
    """
    start = max(key_frame - window // 2, 0)
    steps = spikes[..., start : key_frame - window // 2 + window, :, :]
    return steps.float().mean(-3) * (255 / rate)


def tfi(spikes, key_frame, rate=RATE):
    """Texture from interspike interval: one over the distance between the spikes round the key frame, as grey levels.

    spikes (..., T, H, W) tensor of 0 and 1 -> (..., H, W) float in 0..255/rate. The interval goes from the last spike at or
    before the key frame to the first after it; without one before it starts at step -1, without one after it ends at T.
    """
    count = spikes.shape[-3]
    step = torch.arange(count, device=spikes.device).view(-1, 1, 1)
    fired = spikes > 0
    before = torch.where(fired & (step <= key_frame), step, -1).amax(-3)
    after = torch.where(fired & (step > key_frame), step, count).amin(-3)
    return 255 / rate / (after - before)
