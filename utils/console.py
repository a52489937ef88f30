"""Entry points of installed commands: swinsf-train runs `python -m swinsf.train`, and so on."""

import runpy


def train() -> None:
    runpy.run_module("swinsf.train", run_name="__main__", alter_sys=True)


def test() -> None:
    runpy.run_module("swinsf.test", run_name="__main__", alter_sys=True)


def reconstruct() -> None:
    runpy.run_module("swinsf.reconstruct", run_name="__main__", alter_sys=True)


def simulate() -> None:
    runpy.run_module("swinsf.simulate", run_name="__main__", alter_sys=True)


def calibrate() -> None:
    runpy.run_module("swinsf.calibrate", run_name="__main__", alter_sys=True)
