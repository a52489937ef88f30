"""Export of the network: torch.export, and ONNX if its packages are installed."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from swinsf.models import SwinSF, SwinSFConfig
from tests.conftest import assert_one_line_error, run_script
from tools import export


def tiny(skip):
    torch.manual_seed(0)
    released = skip == "none"
    config = SwinSFConfig(
        channels=4,
        depths=(2,),
        patch=1 if released else 4,
        tsa="released" if released else "paper",
        skip=skip,
    )
    model = SwinSF(config).eval()
    for last in (model.conv_last[0], model.conv_lm[0]):
        torch.nn.init.normal_(last.weight, std=0.5)
    return model


def assert_same(model, call, height, width, within):
    spikes = torch.from_numpy(export.draw_spikes(height, width))
    with torch.no_grad():
        for ours, theirs in zip(model(spikes), call(spikes), strict=True):
            np.testing.assert_allclose(np.asarray(theirs), ours.numpy(), atol=within, rtol=0)


@pytest.mark.parametrize("skip", ["none", "motion"])
def test_a_fixed_size_that_is_not_whole_windows(tmp_path, skip):
    model = tiny(skip)
    torch.export.save(export.export_program(model, 33, 47), tmp_path / "x.pt2")
    assert_same(model, torch.export.load(tmp_path / "x.pt2").module(), 33, 47, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("skip", ["none", "motion"])
def test_any_size_of_whole_windows(tmp_path, skip):
    model = tiny(skip)
    torch.export.save(export.export_program(model, 60, 80, dynamic=True), tmp_path / "x.pt2")
    call = torch.export.load(tmp_path / "x.pt2").module()
    for height, width in ((60, 80), (40, 100), (120, 60)):
        assert_same(model, call, height, width, 1e-3)


def test_any_size_is_of_whole_windows():
    model = tiny("motion")
    with pytest.raises(ValueError, match=r"60x81.*multiples of 20"):
        export.export_program(model, 60, 81, dynamic=True)


def test_onnx(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    model, path = tiny("motion"), tmp_path / "x.onnx"
    export.write_onnx(export.export_program(model, 33, 47), path)
    run = export.run_onnx(path, 1)
    assert_same(model, lambda spikes: run(spikes.numpy()), 33, 47, 0.01)


def test_attention_in_plain_products():
    query, key, value = torch.randn(3, 2, 5, 2, 7, 4)
    mask = torch.randn(2, 7, 7)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(export.attend(query, key, value, mask), expected)


def test_spikes_of_the_comparison_fire_as_light_does():
    spikes = export.draw_spikes(40, 60)
    assert spikes.shape == (1, 41, 40, 60) and set(np.unique(spikes)) == {0, 1}
    assert spikes.mean() == pytest.approx(0.3, abs=0.02)


def test_bad_flags(tmp_path):
    result = run_script("-m", "tools.export", "--output", tmp_path / "x.pb")
    assert_one_line_error(result, "x.pb", ".onnx or .pt2")
