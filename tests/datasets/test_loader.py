"""How samples travel from the processes that read them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from swinsf.datasets.loader import make_loader, to_arrays
from tests.conftest import ROOT, assert_equal

CPU = torch.device("cpu")


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        spikes = torch.full((41, 20, 30), index, dtype=torch.uint8)
        return {"name": f"s{index}", "rate": np.float64(0.6), "spikes": spikes, "middle": spikes[:1].float()}


@pytest.mark.parametrize(
    "options", [{"batch_size": None}, {"batch_size": 2}, {"batch_sampler": [[4, 1], [0]]}]
)
def test_samples_are_the_same_with_and_without_workers(options):
    here, there = (list(make_loader(Samples(), workers, CPU, **options)) for workers in (0, 1))
    assert len(here) == len(make_loader(Samples(), 0, CPU, **options))
    assert_equal(there, here)
    assert torch.is_tensor(here[0]["spikes"]) and here[0]["middle"].dtype == torch.float32
    if "batch_sampler" in options:
        assert here[0]["spikes"].shape == (2, 41, 20, 30) and here[0]["name"] == ["s4", "s1"]


def test_no_shared_memory_is_used():
    """Tensors would use it; Docker provides 64 MB, and a batch of 1000x1000 may be larger."""
    sent = to_arrays([Samples()[0], Samples()[1]])
    assert not any(torch.is_tensor(value) for sample in sent for value in sample.values())
    assert sent[1]["spikes"].dtype == np.uint8 and sent[1]["rate"] == 0.6


def test_a_long_temporary_path_does_no_harm(tmp_path):
    """A socket's path has at most 107 characters. PyTorch's sockets for tensors are in TMPDIR."""
    place = tmp_path / ("x" * 100)
    place.mkdir()
    code = "from tests.datasets.test_loader import *; print(sum(len(s['spikes']) for s in make_loader(Samples(), 1, CPU, batch_size=None)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout == f"{5 * 41}\n" and result.returncode == 0, result.stderr
