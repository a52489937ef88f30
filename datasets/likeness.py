"""Whether spikes form a picture. They do not if their size, order of axes or bit order is wrong."""

import numpy as np

LOOK = 64  # steps in the middle of a recording that show its size and bit order
# Minimum correlation of neighbouring pixels. Right sizes have 0.92 or more, wrong ones 0.55 or less.
LIKE_A_PICTURE = 0.6


def likely_bit_order(packed, height, width):
    """The likely bit order, "little" or "big", of packed whole steps of one scene (`LOOK` steps are plenty).

    Within a byte, neighbours are alike in either order. The two pixels at the border of two bytes are
    neighbours in the right order, and 15 pixels apart in the other. Scenes too dark or too flat to show it
    count as "little", the usual order.
    """
    counts = np.zeros((height * width // 8, 8), np.uint32)
    for step in np.asarray(packed, np.uint8).reshape(-1, height * width // 8):
        counts += np.unpackbits(step, bitorder="little").reshape(-1, 8)
    rate = counts.astype(np.float32)
    inside = np.abs(np.diff(rate, axis=1)).mean()
    little, big = np.abs(rate[1:, 0] - rate[:-1, 7]), np.abs(rate[1:, 7] - rate[:-1, 0])
    # each of the 31 parts samples the whole picture
    parts = [(little - big)[i::31].mean() for i in range(31) if i + 31 < len(little)]
    if len(parts) < 31 or not np.mean(parts) > 4 * np.std(parts, ddof=1) / np.sqrt(len(parts)):
        return "little"
    return "big" if big.mean() - inside < 0.5 * (little.mean() - inside) else "little"


def rate_picture(spikes):
    """Mean (H, W) of the `LOOK` steps in the middle of a recording."""
    start = max(0, (len(spikes) - LOOK) // 2)
    stop = min(len(spikes), start + LOOK)
    fired = sum(
        np.count_nonzero(spikes[step : min(step + 8, stop)], axis=0) for step in range(start, stop, 8)
    )
    return fired / (stop - start)


def correlation(a, b):
    """Pearson correlation of two pictures; 0 if one is flat or has no pixels."""
    if not a.size:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size > 1e-9 else 0.0


def neighbour_correlations(picture):
    """The `correlation` of a picture's pixels with their neighbours (below, to the right)."""
    return correlation(picture[1:], picture[:-1]), correlation(picture[:, 1:], picture[:, :-1])
