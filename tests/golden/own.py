"""Our own golden arrays, for options that no released network has: tsa="paper", skip="motion", "aligned".

    python -m tests.golden.own      # makes them again; only after a change that should change pictures

Weights and moving spikes are in closed form, as in `formula`; no random generator is involved.
"""

import numpy as np
import torch

from swinsf.models import SwinSF, SwinSFConfig
from tests.golden.formula import HERE

CASES = {
    "paper": SwinSFConfig(channels=8, depths=(2, 1), patch=2, tsa="paper"),
    "motion": SwinSFConfig(channels=8, depths=(2, 1), patch=2, tsa="paper", skip="motion"),
    "aligned": SwinSFConfig(channels=8, depths=(2, 1), patch=2, tsa="paper", skip="aligned"),
}
SIZE = 24, 33  # padding on both sides


def moving_spikes(height, width, steps=41):
    """(1, 41, H, W) of 0 and 1: pixels collect thousandths of light and fire at whole numbers; waves move
    right and up."""
    t, y, x = np.meshgrid(np.arange(steps), np.arange(height), np.arange(width), indexing="ij")
    light = 320 + 200 * np.sin(0.5 * (x - 0.3 * t)) * np.cos(0.4 * (y + 0.2 * t))
    collected = np.cumsum(np.rint(light).astype(np.int64), 0) + 37 * (7 * y[:1] + 11 * x[:1])
    return np.diff(collected // 1000, axis=0, prepend=37 * (7 * y[:1] + 11 * x[:1]) // 1000)[None].astype(
        np.uint8
    )


def wave(name, shape, number):
    """The weights of one name: a sine, with an amplitude for this kind of weights."""
    values = np.sin(0.9 * np.arange(int(np.prod(shape)), dtype=np.float64) + 0.37 * number).reshape(shape)
    if name.endswith("relative_position_bias_table"):
        return 0.5 * values
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.1 * values
    if name == "segment_scores":
        return -0.2 * (np.arange(shape[0]) - shape[0] // 2) ** 2 + 0.1 * values
    return 0.05 * values if len(shape) == 1 else values * np.sqrt(2.0 / np.prod(shape[1:]))


def pictures(case, dtype):
    """name -> array (1, 1, H, W): the pictures of the spikes by the network of a case."""
    model = SwinSF(CASES[case])
    names = sorted(model.state_dict())
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(
        {name: torch.from_numpy(wave(name, shapes[name], k)) for k, name in enumerate(names)}
    )
    with torch.inference_mode():
        out = model.to(dtype).eval()(torch.from_numpy(moving_spikes(*SIZE)))
    return {name: picture.numpy() for name, picture in out._asdict().items()}


if __name__ == "__main__":
    for case in CASES:
        arrays = {name: picture.astype(np.float32) for name, picture in pictures(case, torch.float64).items()}
        np.savez_compressed(HERE / f"own_{case}.npz", **arrays)
        print(case, {name: (float(a.min()), float(a.max()), float(a.std())) for name, a in arrays.items()})
