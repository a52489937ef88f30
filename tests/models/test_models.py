"""Loading weights: both kinds of files, and every way in which a file can be wrong."""

import dataclasses
import io
import os
import pickle

import pytest
import safetensors.torch
import torch

from swinsf.models import (
    SwinSF,
    SwinSFConfig,
    build_model,
    checkpoint,
    choose_precision,
    load_model,
    shipped_weights,
    weights_file,
)
from swinsf.training.ship import ship
from swinsf.training.state import random_state, restore_random_state
from swinsf.utils import files
from swinsf.utils.cli import UserError
from tests.conftest import assert_equal, golden_state
from tests.golden import formula


def released_file(path, variant, change=lambda net: net):
    """A file as from the paper's code: DataParallel's prefix, derived buffers, the unused convolution."""
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


def test_the_projects_own_checkpoint_carries_its_architecture(tmp_path):
    model = SwinSF(SwinSFConfig(channels=8, depths=(1, 2, 1), patch=2, skip="motion"))
    checkpoint.save(
        {"config": dataclasses.asdict(model.config), "model": model.state_dict()}, tmp_path / "w.pth"
    )
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
    for word in (
        "w.pth",
        "1 missing: layers.1.conv.weight",
        "1 unexpected: extra.bias",
        "norm.weight (5,), expected (96,)",
    ):
        assert word in str(error.value)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    torch.save({"net": {}, "harm": Harm()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"net": Harm()}))
    zipped = io.BytesIO()
    torch.save({"net": {}}, zipped)  # torch looks at the first bytes of a file, zipfile at the last
    (tmp_path / "both.pth").write_bytes((tmp_path / "plain.pth").read_bytes() + zipped.getvalue())
    for name in ("zip.pth", "plain.pth", "both.pth"):
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
def test_files_with_other_contents_are_refused(tmp_path, contents):
    torch.save(contents, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth"):
        load_model(tmp_path / "w.pth")


def test_an_interrupted_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "w.pth"
    checkpoint.save({"a": 1}, path)
    with pytest.raises(ZeroDivisionError), files.atomic_write(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert checkpoint.load(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["w.pth"]


def test_random_state_round_trip(tmp_path):
    import random

    import numpy as np

    checkpoint.save(random_state(), tmp_path / "r.pth")
    first = random.random(), np.random.rand(3).tolist(), np.random.randn(), torch.rand(3).tolist()
    restore_random_state(checkpoint.load(tmp_path / "r.pth"))
    assert first == (random.random(), np.random.rand(3).tolist(), np.random.randn(), torch.rand(3).tolist())


def test_float64_throughout():
    model = build_model("small", channels=8, depths=(1, 1)).double()
    assert all(p.dtype == torch.float64 for p in model((torch.rand(1, 41, 20, 20) < 0.3).double()))


def test_shipped_weights_are_half_precision_and_load_as_float32(tmp_path):
    model = SwinSF(SwinSFConfig(channels=8, depths=(1,), patch=2, skip="motion"))
    about = {
        "config": dataclasses.asdict(model.config),
        "settings": {"lr": 0.1},
        "step": 7,
        "training": {"big": torch.zeros(9)},
    }
    checkpoint.save({**about, "model": model.state_dict()}, tmp_path / "best.pth")
    ship(tmp_path / "best.pth", tmp_path / "w.pth")
    contents = checkpoint.load(tmp_path / "w.pth")
    assert {value.dtype for value in contents["model"].values()} == {torch.float16}
    assert contents["step"] == 7 and "training" not in contents
    loaded = load_model(tmp_path / "w.pth")
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float(), rtol=0, atol=0)
    with pytest.raises(UserError, match=r"w\.pth: already exists"):
        ship(tmp_path / "best.pth", tmp_path / "w.pth")
    checkpoint.save({"net": {}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"not a run's best\.pth"):
        ship(tmp_path / "other.pth", tmp_path / "new.pth")


def wrapped(state, how):
    """A state_dict in the forms that other people's files have."""
    prefix = {
        "module": "module.",
        "compiled": "_orig_mod.",
        "both": "_orig_mod.module.",
        "other": "module._orig_mod.",
    }.get(how, "")
    state = {prefix + name: value for name, value in state.items()}
    return {how: state} if how in ("params", "params_ema", "state_dict", "model", "net") else state


HOW = ["plain", "params", "params_ema", "state_dict", "model", "net", "module", "compiled", "both", "other"]


@pytest.mark.parametrize("how", HOW)
def test_a_state_dict_of_a_shipped_architecture_loads_in_all_common_forms(tmp_path, how):
    own = load_model(shipped_weights("small"))
    torch.save(wrapped(own.state_dict(), how), tmp_path / "w.pth")
    model = load_model(tmp_path / "w.pth")
    assert model.config == own.config
    assert_equal(model.state_dict(), own.state_dict())


@pytest.mark.parametrize("variant", ["250", "1000"])
def test_a_plain_state_dict_shows_whether_it_is_released_or_shipped(tmp_path, variant):
    own = load_model(shipped_weights(variant))
    torch.save(own.state_dict(), tmp_path / "own.pth")
    assert load_model(tmp_path / "own.pth").config == own.config
    torch.save(golden_state(variant), tmp_path / "released.pth")
    config = load_model(tmp_path / "released.pth").config
    assert (config.tsa, config.skip, config.channels) == ("released", "none", own.config.channels)


def test_safetensors_and_a_runs_folder(tmp_path):
    own = load_model(shipped_weights("small"))
    safetensors.torch.save_file(own.state_dict(), tmp_path / "w.safetensors")
    assert_equal(load_model(tmp_path / "w.safetensors").state_dict(), own.state_dict())
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:5000])
    for name in ("broken", "none"):
        with pytest.raises(UserError, match=rf"{name}\.safetensors: no"):
            load_model(tmp_path / f"{name}.safetensors")
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(UserError, match=r"run: a folder without best\.pth"):
        load_model(run)
    for name in ("last.pth", "best.pth"):  # best.pth if there is one
        (run / name).write_bytes(shipped_weights("small").read_bytes())
        assert weights_file(run) == run / name
    assert_equal(load_model(run).state_dict(), own.state_dict())


def test_refusals_name_what_was_found_and_how_to_save_it_again(tmp_path):
    path, again = tmp_path / "w.pth", r"torch\.save\(model\.state_dict\(\), PATH\)"
    torch.save(build_model("small"), path)
    with pytest.raises(UserError, match=rf"models\.swinsf\.SwinSF.*{again}"):
        load_model(path)
    for contents, words in (
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
        ({"a": 1}, "it holds a;"),
    ):
        torch.save(contents, path)
        with pytest.raises(UserError, match=rf"{words}.*{again}"):
            load_model(path)
    state = build_model("small").state_dict()
    name = next(name for name in state if name != "conv_first.weight")
    del state[name]
    torch.save({"params": state}, path)
    with pytest.raises(UserError, match=f"1 missing: {name}"):
        load_model(path)


def test_auto_is_bfloat16_for_shipped_weights_if_that_is_fast(tmp_path, monkeypatch):
    monkeypatch.setattr("swinsf.models.weights.bfloat16_is_fast", lambda device: device.type == "cuda")
    small = shipped_weights()
    assert choose_precision("auto", small, "cuda") == "bf16"
    assert choose_precision("auto", "small", "cuda") == "bf16"
    assert choose_precision("auto", small, "cpu") == "fp32"
    assert choose_precision("auto", tmp_path / small.name, "cuda") == "fp32"  # unknown weights
    assert choose_precision("fp16", small, "cuda") == "fp16"
    with pytest.raises(UserError, match=r"--precision fp16 on a CPU: .* use bf16 or fp32"):
        load_model(small, "cpu", "fp16")
