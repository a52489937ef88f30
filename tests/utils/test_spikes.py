"""Which arrays are accepted as spikes."""

import numpy as np
import pytest
import torch

from swinsf import load_model, pictures, reconstruct, tfi_pictures, tfp_pictures
from swinsf.datasets.dat import write_dat
from swinsf.utils.cli import UserError
from swinsf.utils.spikes import validate_spikes
from tests.conftest import uniform

SPIKES = torch.from_numpy((np.random.default_rng(0).random((2, 5, 6, 7)) < 0.3).astype(np.uint8))


@pytest.mark.parametrize(
    "kind", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64, torch.bfloat16]
)
def test_two_values_are_spikes(kind):
    assert validate_spikes(SPIKES.to(kind)).dtype == kind
    for spikes in (SPIKES, torch.zeros_like(SPIKES), torch.ones_like(SPIKES), SPIKES[:0]):
        assert torch.equal(validate_spikes(spikes.to(kind)), spikes.to(kind))
        if kind != torch.bool:
            bright = (255 * spikes.to(torch.int64)).to(kind)  # as in pictures of spikes
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
def test_other_values_are_refused_with_what_they_look_like(values, words):
    with pytest.raises(ValueError, match=words):
        validate_spikes(values)
    with pytest.raises(ValueError, match=rf"an array .*{words}"):
        validate_spikes(values.numpy())
    with pytest.raises(UserError, match=rf"a\.npy: .*{words}"):
        validate_spikes(values.numpy(), "a.npy")
    with pytest.raises(ValueError, match=words):
        write_dat("none.dat", np.resize(values.numpy(), (7, 4, 8)))


def test_tensors_on_an_accelerator_are_checked_once_per_type_and_shape(monkeypatch):
    """Tested with a fake device, since a check makes the host wait for the accelerator."""
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


STREAM = uniform(0.3, 120)  # (120, 24, 32)
RATE = np.stack([STREAM[max(0, t - 10) : t + 11].mean(0) for t in range(120)])


@pytest.mark.parametrize("array, words", [
    (2 * STREAM.astype(np.int8) - 1, "-1 and 1; pass"),
    ((255 * RATE).astype(np.uint8), "grey pictures or packed bits"),
    (RATE.astype(np.float32), "values from 0"),
    (np.packbits(STREAM, axis=2), "grey pictures or packed bits"),
    (np.where(STREAM, 1.0, np.nan), "NaN"),
    (STREAM.astype(complex), "complex128; spikes are numbers"),
    (np.concatenate([7 * STREAM[:30], STREAM[30:]]), "from 0 to 7"),  # not in the middle, which is checked first
])  # fmt: skip
def test_every_function_refuses_arrays_that_are_no_spikes(array, words, tiny_weights):
    model = load_model(tiny_weights)
    for door in (
        lambda: pictures(array, model=model, bin=1, repair="none"),
        lambda: reconstruct(array, model),
        lambda: tfp_pictures(array, range(20, 100, 20)),
        lambda: tfi_pictures(array, range(20, 100, 20)),
        lambda: [validate_spikes(torch.from_numpy(array))],
    ):
        if array.dtype == complex and door.__code__.co_names[-1] == "from_numpy":
            continue
        with pytest.raises(ValueError, match=words):
            list(door())


@pytest.mark.parametrize("kind", [bool, np.int64, np.float32])
def test_every_function_accepts_spikes_of_any_type(kind, tiny_weights):
    model = load_model(tiny_weights)
    for door in (
        lambda array: [p for _, p in pictures(array, model=model)],
        lambda array: reconstruct(array, model),
        lambda array: tfp_pictures(array, range(20, 100, 20)),
        lambda array: tfi_pictures(array, range(20, 100, 20)),
    ):
        right = list(door(STREAM))
        np.testing.assert_array_equal(list(door(STREAM.astype(kind))), right)
        if kind is not bool:
            np.testing.assert_array_equal(list(door(255 * STREAM.astype(kind))), right)


def test_every_function_transposes_an_array_with_time_last(tiny_weights):
    model = load_model(tiny_weights)
    turned = np.moveaxis(STREAM, 0, -1)
    for door in (
        lambda array: reconstruct(array, model),
        lambda array: tfp_pictures(array, range(20, 100, 20)),
        lambda array: tfi_pictures(array, range(20, 100, 20)),
    ):
        with pytest.warns(UserWarning, match=r"read as \(H, W, T\)"):
            np.testing.assert_array_equal(list(door(turned)), list(door(STREAM)))
