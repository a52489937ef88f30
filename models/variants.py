"""The architectures by name."""

from swinsf.models.swinsf import SwinSFConfig

VARIANTS = {
    # As the paper describes them; what the released weights were trained with is tsa="released".
    "250": SwinSFConfig(tsa="paper"),
    "1000": SwinSFConfig(channels=64, patch=4, tsa="paper"),
    # Ours, for CPUs. Narrower and shallower than the paper's, to stay below 70 GFLOP at 250x400 as drawn,
    # and so small a network has nothing to gain from stochastic depth.
    "small": SwinSFConfig(
        channels=48, depths=(4, 3), patch=2, mlp_ratio=3.0, drop_path=0.0, tsa="paper", skip="aligned"
    ),
}
