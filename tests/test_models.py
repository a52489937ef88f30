"""Loading weights: both kinds of file, and every way in which a file can be wrong."""

import dataclasses
import os
import pickle

import pytest
import torch

from models import SwinSF, SwinSFConfig, build_model, load_model
from tests.conftest import golden_state
from tests.golden import formula
from utils import checkpoint
from utils.cli import UserError


def released_file(path, variant, change=lambda net: net):
    """A file as the paper's code writes it: DataParallel's prefix, derived buffers, the unused convolution."""
    net = {f"module.{name}": torch.from_numpy(value) for name, value in formula.weights(variant).items()}
    block = "module.layers.0.residual_group.blocks.1."
    net[f"{block}attn_mask"] = torch.zeros(1000, 25, 25)
    net[f"{block}attn.relative_position_index"] = torch.zeros(25, 25, dtype=torch.int64)
    torch.save({"net": change(net), "optimizer": {"state": {}, "param_groups": []}, "epoch": 7}, path)
    return path


@pytest.mark.parametrize("variant, channels", [("250", 96), ("1000", 64)])
def test_a_released_file(tmp_path, variant, channels):
    model = load_model(released_file(tmp_path / "w.pth", variant))
    assert (model.config.channels, model.config.tsa, model.config.skip) == (channels, "released", "none")
    assert not model.training
    for name, value in golden_state(variant).items():
        assert torch.equal(model.state_dict()[name], value)


def test_the_projects_own_checkpoint_brings_its_architecture(tmp_path):
    model = SwinSF(SwinSFConfig(channels=8, depths=(1, 2, 1), patch=2, skip="rate"))
    checkpoint.save({"config": dataclasses.asdict(model.config), "model": model.state_dict()}, tmp_path / "w.pth")
    loaded = load_model(tmp_path / "w.pth")
    assert loaded.config == model.config
    assert not loaded.training
    x = (torch.rand(1, 41, 20, 20) < 0.3).float()
    assert torch.equal(loaded(x).middle, model.eval()(x).middle)


def test_missing_and_unexpected_keys_are_named(tmp_path):
    def change(net):
        del net["module.layers.1.conv.weight"]
        return {**net, "module.extra.bias": torch.zeros(3), "module.norm.weight": torch.zeros(5)}

    with pytest.raises(UserError) as error:
        load_model(released_file(tmp_path / "w.pth", "250", change))
    for word in ("w.pth", "1 missing: layers.1.conv.weight", "1 unexpected: extra.bias", "norm.weight (5,) for (96,)"):
        assert word in str(error.value)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    torch.save({"net": {}, "harm": Harm()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"net": Harm()}))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(UserError, match="could run code"):
            load_model(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "missing", "folder"])
def test_damaged_files_are_named(tmp_path, damage):
    path = released_file(tmp_path / "w.pth", "1000")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("these are no weights\n" * 5)
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    with pytest.raises(UserError) as error:
        load_model(path)
    assert "w.pth" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "contents",
    [
        {},
        {"state": 1},
        [1, 2],
        torch.zeros(2),
        {"net": {}},
        {"config": {"colour": 1}, "model": {}},
        {"net": 5},
        {"config": {}, "model": 5},
    ],
)
def test_files_that_hold_something_else(tmp_path, contents):
    torch.save(contents, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth"):
        load_model(tmp_path / "w.pth")


def test_an_interrupted_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "w.pth"
    checkpoint.save({"a": 1}, path)
    with pytest.raises(ZeroDivisionError), checkpoint.replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert checkpoint.load(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["w.pth"]


def test_random_state_round_trip(tmp_path):
    import random

    import numpy as np

    checkpoint.save(checkpoint.random_state(), tmp_path / "r.pth")
    first = random.random(), np.random.rand(3).tolist(), np.random.randn(), torch.rand(3).tolist()
    checkpoint.restore_random_state(checkpoint.load(tmp_path / "r.pth"))
    assert first == (random.random(), np.random.rand(3).tolist(), np.random.randn(), torch.rand(3).tolist())


def test_float64_throughout():
    model = build_model("small", channels=8, depths=(1, 1)).double()
    assert all(p.dtype == torch.float64 for p in model(torch.rand(1, 41, 20, 20, dtype=torch.float64)))


def test_shipped_weights_are_halves_that_load_as_floats(tmp_path):
    model = SwinSF(SwinSFConfig(channels=8, depths=(1,), patch=2, skip="motion"))
    about = {"config": dataclasses.asdict(model.config), "settings": {"lr": 0.1}, "step": 7, "training": {"big": torch.zeros(9)}}
    checkpoint.save({**about, "model": model.state_dict()}, tmp_path / "best.pth")
    checkpoint.ship(tmp_path / "best.pth", tmp_path / "w.pth")
    contents = checkpoint.load(tmp_path / "w.pth")
    assert {value.dtype for value in contents["model"].values()} == {torch.float16}
    assert contents["step"] == 7 and "training" not in contents
    loaded = load_model(tmp_path / "w.pth")
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float(), rtol=0, atol=0)
    with pytest.raises(UserError, match=r"w\.pth: is there already"):
        checkpoint.ship(tmp_path / "best.pth", tmp_path / "w.pth")
    checkpoint.save({"net": {}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"not a run's best\.pth"):
        checkpoint.ship(tmp_path / "other.pth", tmp_path / "new.pth")
