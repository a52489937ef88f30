"""From light to spikes: the integrate-and-fire pixel of a spike camera."""

import numpy as np

from utils.protocol import RATE


def integrate_and_fire(light, rng, rate=RATE):
    """light (T, H, W) float in 0..1 (or any iterable of (H, W)) -> spikes uint8 (T, H, W) of 0 and 1.

    Each pixel starts with a charge drawn from 0..threshold, adds rate x light at each step, and fires where it reaches the
    threshold of 1, which is then subtracted: a reset to zero would lose the remainder and bias the rate.
    """
    charge, spikes = None, []
    for frame in light:
        if charge is None:
            charge = rng.random(frame.shape, np.float32)
        charge += rate * frame
        fired = charge >= 1
        charge -= fired
        spikes.append(fired)
    return np.stack(spikes).astype(np.uint8)
