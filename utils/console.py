"""The commands of an installed SwinSF, as swinsf-train: each runs a script as `python -m swinsf.train` does."""

import runpy


def train():
    runpy.run_module("swinsf.train", run_name="__main__", alter_sys=True)


def test():
    runpy.run_module("swinsf.test", run_name="__main__", alter_sys=True)


def reconstruct():
    runpy.run_module("swinsf.reconstruct", run_name="__main__", alter_sys=True)


def simulate():
    runpy.run_module("swinsf.simulate", run_name="__main__", alter_sys=True)


def calibrate():
    runpy.run_module("swinsf.calibrate", run_name="__main__", alter_sys=True)
