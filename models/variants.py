"""The architectures by name."""

from swinsf.models.swinsf import SwinSFConfig

VARIANTS = {
    # As the paper describes them. The released weights were trained with tsa="released".
    "250": SwinSFConfig(tsa="paper"),
    "1000": SwinSFConfig(channels=64, patch=4, tsa="paper"),
    # Our own, for CPUs: narrower and shallower, below 70 GFLOP at 250x400 with the layers as drawn. A network
    # this small gains nothing from stochastic depth.
    "small": SwinSFConfig(
        channels=48, depths=(4, 3), patch=2, mlp_ratio=3.0, drop_path=0.0, tsa="paper", skip="aligned"
    ),
}
