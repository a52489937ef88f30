"""What is taken for spikes, and what is not."""

import re

import numpy as np
import pytest
import torch

from swinsf.datasets.dat import write_dat
from swinsf.utils.spikes import describe_spikes, validate_spikes

SPIKES = torch.from_numpy((np.random.default_rng(0).random((2, 5, 6, 7)) < 0.3).astype(np.uint8))


@pytest.mark.parametrize(
    "kind", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64, torch.bfloat16]
)
def test_two_values_are_spikes(kind):
    assert validate_spikes(SPIKES.to(kind)).dtype == kind
    for spikes in (SPIKES, torch.zeros_like(SPIKES), torch.ones_like(SPIKES), SPIKES[:0]):
        assert torch.equal(validate_spikes(spikes.to(kind)), spikes.to(kind))
        if kind != torch.bool:
            bright = (255 * spikes.to(torch.int64)).to(kind)  # as pictures of spikes have them
            assert torch.equal(validate_spikes(bright), spikes.to(kind))


@pytest.mark.parametrize("values, words", [
    (2 * SPIKES.float() - 1, "values of -1 and 1; pass"),
    (torch.arange(210).reshape(1, 5, 6, 7).to(torch.uint8), "from 0 to 209; these look like grey pictures or packed bits"),
    (torch.tensor([0, 1, 255]), "from 0 to 255"),
    (torch.tensor([0.0, 0.5, 1.0]), "from 0 to 1"),
    (torch.tensor([0, 3]), "from 0 to 3"),
    (torch.tensor([1, 255]), "from 1 to 255"),
    (torch.tensor([-1, 0]), "from -1 to 0"),
    (torch.tensor([0.0, float("nan")]), "NaN"),
    (torch.tensor([0.0, float("inf")]), "from 0 to inf"),
])  # fmt: skip
def test_anything_else_is_refused_with_what_it_looks_like(values, words):
    with pytest.raises(ValueError, match=words):
        validate_spikes(values)
    assert re.search(words, describe_spikes(values.numpy()))
    with pytest.raises(ValueError, match=words):
        write_dat("none.dat", np.resize(values.numpy(), (7, 4, 8)))


def test_an_accelerator_is_looked_at_once_for_each_type_and_shape(monkeypatch):
    """Stood in for by a device that is no CPU by name: a look makes the host wait."""
    looks = []

    class Elsewhere(torch.Tensor):
        device = property(lambda self: torch.device("cuda"))

    real = torch.aminmax
    monkeypatch.setattr(torch, "aminmax", lambda x: looks.append(x.shape) or real(x))
    monkeypatch.setattr("swinsf.utils.spikes._seen", set())
    spikes = SPIKES.as_subclass(Elsewhere)
    for values in (spikes, spikes, 255 * spikes):
        assert torch.equal(validate_spikes(values).as_subclass(torch.Tensor), SPIKES)
    assert len(looks) == 1
    validate_spikes(spikes[:1])
    assert len(looks) == 2
