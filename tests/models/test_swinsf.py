import re

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from swinsf.models import SKIP_CHOICES, VARIANTS, SwinSF, SwinSFConfig, build_model
from swinsf.models.attention import TemporalSpatialAttention, scramble
from swinsf.models.classical import tfp
from swinsf.models.motion import along_motion
from swinsf.models.windows import attention_mask, partition, reverse
from tests.conftest import ROOT, golden_state, random_spikes
from tests.golden import formula, own
from tools.arithmetic import multiply_adds

GOLDEN = sorted((ROOT / "tests" / "golden").glob("released_*.npz"))
OUTPUTS = ("middle", "left", "right")


def tiny(**overrides):
    torch.manual_seed(0)
    config = {"channels": 8, "depths": (2, 1), "drop_path": 0.0, "tsa": "paper", **overrides}
    model = SwinSF(SwinSFConfig(**config)).double().eval()
    for parameter in model.parameters():  # no zeros, which would hide a path or stop at a ReLU
        torch.nn.init.normal_(parameter, 0.05, 0.2)
    return model


def spikes(batch=1, height=20, width=20, seed=0):
    return torch.from_numpy(
        np.stack([random_spikes(41, height, width, seed + i) for i in range(batch)])
    ).double()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_golden(path, dtype):
    variant, height, width, phase = re.match(r"released_(\d+)_(\d+)x(\d+)_phase(\d+)", path.stem).groups()
    bar = 1e-6 if dtype == torch.float64 else {"250": 1e-4, "1000": 1e-3}[variant]
    model = build_model(variant, tsa="released").eval()
    model.load_state_dict(golden_state(variant))
    model.to(dtype)
    with torch.inference_mode():
        pictures = model(
            torch.from_numpy(formula.spikes(int(height), int(width), phase=int(phase))).to(dtype)
        )
    golden = np.load(path)
    for output in OUTPUTS:
        picture = getattr(pictures, output).numpy()
        assert picture.dtype == (np.float64 if dtype == torch.float64 else np.float32)
        error = np.abs(picture - golden[output]).max() / np.abs(golden[output]).max()
        assert error <= bar, f"{output}: {error:.2e}"


def test_there_are_golden_arrays_of_both_variants():
    assert {path.stem.split("_")[1] for path in GOLDEN} == {"250", "1000"}


@pytest.mark.parametrize("case", own.CASES)
@pytest.mark.parametrize(
    "dtype, bar", [(torch.float64, 2e-5), (torch.float32, 5e-3)], ids=["float64", "float32"]
)
def test_own_golden_arrays(case, dtype, bar):
    """The shipped options give the same pictures as before. bar: tolerance in grey levels."""
    golden, pictures = np.load(ROOT / "tests" / "golden" / f"own_{case}.npz"), own.pictures(case, dtype)
    for output in OUTPUTS:
        assert np.abs(pictures[output] - golden[output]).max() <= bar, output


def test_own_golden_arrays_differ_from_each_other():
    arrays = {case: np.load(ROOT / "tests" / "golden" / f"own_{case}.npz")["middle"] for case in own.CASES}
    assert np.abs(arrays["motion"] - arrays["aligned"]).max() > 0.1 and arrays["paper"].std() > 0.1


@pytest.mark.parametrize("variant", ["250", "1000"])
def test_parameters_have_the_released_names_and_shapes(variant):
    ours = {name: list(p.shape) for name, p in build_model(variant).state_dict().items()}
    released = formula.manifest(variant)
    unused = {name for name in released if name.startswith("conv_after_body")}
    assert ours == {name: shape for name, shape in released.items() if name not in unused}


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_between_spikes_and_pictures(variant, bfloat16):
    torch.manual_seed(0)
    model = build_model(variant, channels=16, skip="motion").eval()
    torch.nn.init.normal_(model.conv_last[0].weight, 0, 0.3)
    x = spikes(1, 40, 60).float()
    with torch.inference_mode():
        exact = model(x).middle
        model.set_precision(torch.bfloat16)
        rounded = model(x).middle
    assert rounded.dtype == torch.float32
    assert (
        model.layers[0].conv.weight.dtype == torch.bfloat16
        and model.conv_last[0].weight.dtype == torch.float32
    )
    residual = exact - tfp(x, 20, 21)[:, None]
    assert 0 < (rounded - exact).abs().max() < 0.05 * residual.abs().max()


def test_spikes_of_any_type():
    model, x = tiny(skip="motion").float(), spikes(1, 25, 30)
    with torch.inference_mode():
        for kind in (torch.uint8, torch.bool, torch.int64):
            assert torch.equal(model(x.to(kind)).middle, model(x.float()).middle)


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("height, width", [(20, 20), (21, 34), (47, 23)])
@pytest.mark.parametrize("skip", ["none", "motion", "aligned"])
def test_any_size_from_20_up(patch, height, width, skip):
    with torch.inference_mode():
        pictures = tiny(patch=patch, skip=skip)(spikes(1, height, width))
    assert [p.shape for p in pictures] == [(1, 1, height, width)] * 3
    assert all(torch.isfinite(p).all() for p in pictures)


def test_padding_is_a_reflection_at_the_bottom_and_the_right():
    model, x = tiny(), spikes(1, 23, 31)
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (0, 2), (0, 4)), mode="reflect"))
    with torch.inference_mode():
        torch.testing.assert_close(model(x).middle, model(padded).middle[..., :23, :31], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 40, 20, 20), (1, 41, 19, 20), (1, 41, 20, 19), (41, 20, 20)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="expected"):
        tiny()(torch.zeros(shape, dtype=torch.float64))


def test_large_tokens_need_larger_pictures():
    model = tiny(patch=8)  # windows of 40 pixels
    with pytest.raises(ValueError, match="H and W at least 21"):
        model(spikes(1, 20, 24))
    assert model(spikes(1, 21, 24)).middle.shape == (1, 1, 21, 24)


def test_spikes_of_255_are_spikes_and_other_values_are_refused():
    model, x = tiny(), spikes(1, 20, 25)
    with torch.inference_mode():
        for other in (255 * x, (255 * x).to(torch.uint8), x.bool()):
            assert torch.equal(model(other).middle, model(x).middle)
    for other, words in (
        (2 * x - 1, "-1 and 1"),
        (x / 2, "from 0 to 0.5"),
        (3 * x.to(torch.uint8), "from 0 to 3"),
    ):
        with pytest.raises(ValueError, match=words):
            model(other)


@pytest.mark.parametrize("tsa, skip", [("released", "none"), ("paper", "motion")])
def test_batch_size_1_equals_a_batch_item(tsa, skip):
    model, x = tiny(tsa=tsa, skip=skip), spikes(3, 25, 30)
    with torch.inference_mode():
        batch = model(x)
        for i in range(3):
            single = model(x[i : i + 1])
            for output in OUTPUTS:
                torch.testing.assert_close(
                    getattr(single, output)[0], getattr(batch, output)[i], rtol=0, atol=1e-10
                )


@pytest.mark.parametrize("tsa", ["released", "paper"])
@pytest.mark.parametrize("masked", [False, True])
def test_tsa_against_a_plain_loop(tsa, masked):
    torch.manual_seed(1)
    channels, heads, window, batch, count = 6, 2, 3, 2, 4
    tokens, size = window**2, channels // heads
    module = TemporalSpatialAttention(channels, window, heads, tsa).double()
    left, middle, right = torch.randn(3, batch, count, tokens, channels, dtype=torch.float64)
    mask = attention_mask(6, 6, window, 1, left) if masked else None
    query, key, value = module.to_q(left), module.to_q(right), module.to_q(middle)
    if tsa == "paper":
        key, value = module.to_k(right), module.to_v(middle)
    expected = torch.zeros_like(middle)
    for b in range(batch):
        for n in range(count):
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                for i in range(tokens):
                    scores = torch.empty(tokens, dtype=torch.float64)
                    for j in range(tokens):
                        row = (i // 3 - j // 3 + 2) * 5 + i % 3 - j % 3 + 2
                        scores[j] = query[b, n, i, part] @ key[b, n, j, part] / size**0.5
                        scores[j] += module.relative_position_bias_table[row, h]
                        if masked:
                            scores[j] += mask[n, i, j]
                    expected[b, n, i, part] = scores.softmax(0) @ value[b, n, :, part]
    expected = module.proj(expected)
    torch.testing.assert_close(module(left, middle, right, mask), expected, rtol=0, atol=1e-10)


def test_side_streams_of_a_block():
    """released adds the scrambled window, paper adds nothing. Tested with an MLP that adds nothing."""
    for tsa in ("released", "paper"):
        block = tiny(tsa=tsa).layers[0].residual_group.blocks[0]
        torch.nn.init.zeros_(block.mlp.fc2.weight)
        torch.nn.init.zeros_(block.mlp.fc2.bias)
        windows = torch.randn(3, 2, 25, 8, dtype=torch.float64)
        out = partition(block(reverse(windows, 5, 10)), 5)
        normal = block.norm1(windows).detach()
        for stream in (0, 2):
            added = torch.zeros_like(windows[stream])
            if tsa == "released":
                for n in range(2):
                    added[n] = torch.tensor([normal[stream, n, k % 25, k // 25] for k in range(200)]).reshape(
                        25, 8
                    )
            torch.testing.assert_close(out[stream], windows[stream] + added)


def test_scramble_is_a_permutation():
    x = torch.arange(50.0).reshape(1, 10, 5)
    assert not torch.equal(scramble(x), x)
    assert sorted(scramble(x).flatten().tolist()) == x.flatten().tolist()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tsa", ["released", "paper"])
@pytest.mark.parametrize("skip", SKIP_CHOICES)
def test_every_trainable_parameter_is_used(variant, tsa, skip):
    model = build_model(variant, tsa=tsa, skip=skip, depths=(1, 1), channels=8, drop_path=0.0)
    pictures = model(spikes(1, 20, 20).float())
    sum((p - 100).square().mean() for p in pictures).backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    unused = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert all(".to_k." in name or ".to_v." in name for name in unused)
    assert bool(unused) == (tsa == "released")


@pytest.mark.parametrize("skip", ["motion", "aligned"])
def test_a_fresh_network_with_a_skip_along_the_motion_is_a_mean_along_it(skip):
    x = spikes(2, 30, 40).float()
    model = build_model("small", skip=skip).eval()
    with torch.inference_mode():
        pictures = model(x)
    weights = model.segment_scores.detach().softmax(0).view(1, -1, 1, 1).expand(2, -1, 30, 40)
    for output, (_, segments) in along_motion(x, aligned=False).items():
        torch.testing.assert_close(getattr(pictures, output), segments.mean(weights), rtol=1e-5, atol=1e-3)
    # The network has an effect: its scores choose among the segments, in each pixel and for each output.
    torch.nn.init.constant_(model.conv_lm[0].bias[5:6], 100.0)
    with torch.inference_mode():
        chosen = model(x).left
    torch.testing.assert_close(
        chosen, 255 * along_motion(x, aligned=False)["left"][1].light[:, 4:5], rtol=1e-4, atol=1e-2
    )


def test_the_network_sees_the_segments():
    """No two streams differ only in their segments, so the test replaces the network's segments."""
    model, x = tiny(skip="motion"), spikes(1, 25, 30)
    with torch.inference_mode():
        before = model(x).middle
        model.conv_first.weight[:, 41:] = 0
        assert (model(x).middle - before).abs().max() > 1e-3


def test_an_aligned_network_sees_its_steps_along_the_motion(monkeypatch):
    """With steps aligned beforehand, the network for original steps gives the pictures of the aligned one."""
    x = spikes(1, 25, 30)
    model, plain = tiny(skip="aligned"), tiny(skip="motion")
    plain.load_state_dict(model.state_dict())
    with torch.inference_mode():
        aligned, lying = model(x).middle, plain(x).middle
        assert (aligned - lying).abs().max() > 1e-3
        monkeypatch.setattr(
            "swinsf.models.swinsf.along_motion", lambda x, aligned: along_motion(x, aligned=True)
        )
        torch.testing.assert_close(plain(x).middle, aligned)


def test_a_skip_adds_to_pictures_that_may_be_negative():
    """No ReLU before the sum: the network must be able to darken."""
    model = tiny(skip="motion")
    torch.nn.init.constant_(model.conv_last[0].bias, -500.0)
    with torch.inference_mode():
        assert model(spikes()).middle.max() < 0


def test_stochastic_depth_is_drawn_for_each_sample_and_stream():
    torch.manual_seed(0)
    block = SwinSF(SwinSFConfig(channels=8, depths=(1, 1), drop_path=0.5)).blocks[1].train()
    # ten equal samples of three streams
    tokens = torch.randn(1, 10, 10, 8).expand(30, -1, -1, -1).contiguous()
    for first in (0, 10, 20):
        added = (block(tokens) - tokens)[first : first + 10].flatten(1)
        assert len({round(item.sum().item(), 3) for item in added}) > 1
        # Drawn outside the bands: a branch is present in all windows of a sample or in none.
        assert all((item == 0).all() or (item != 0).float().mean() > 0.9 for item in added)


@pytest.mark.parametrize("variant", VARIANTS)
def test_multiply_adds_against_torchs_flop_counter(variant):
    model, x = build_model(variant, skip="none").eval(), torch.zeros(1, 41, 40, 60)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(x)
    assert multiply_adds(model, 40, 60) == counter.get_total_flops() // 2
    # padded to 40x60
    assert multiply_adds(model, 31, 57) == multiply_adds(model, 40, 60) or model.config.patch == 1


def test_multiply_adds_of_the_paper():
    assert multiply_adds(build_model("250"), 250, 400) == pytest.approx(424.0e9, rel=1e-4)
    assert multiply_adds(build_model("1000"), 1000, 1000) == pytest.approx(456.8e9, rel=1e-4)


def test_small_stays_below_70_gflop():
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        build_model("small")(torch.zeros(1, 41, 250, 400))
    assert 30e9 < counter.get_total_flops() <= 70e9


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="250, 1000, small"):
        build_model("medium")
    with pytest.raises(ValueError, match="released, paper"):
        build_model("250", tsa="other")
    with pytest.raises(TypeError):
        build_model("250", colour=True)


@pytest.mark.parametrize("skip", ["none", "aligned"])
def test_a_calibration_undoes_dark_charge_and_response(skip):
    model, x = tiny(skip=skip), spikes()
    alike = torch.stack([torch.zeros(20, 20), torch.ones(20, 20)])[None].double()
    halved, darker = alike * 2, alike + torch.tensor([0.1, 0.0]).view(1, 2, 1, 1)
    with torch.inference_mode():
        plain = model(x).middle
        assert torch.equal(model(x, alike).middle, plain)
        for calibration in (halved, darker):
            dark, response = calibration.unbind(1)
            corrected = (x - dark) / response
            found = model(x, calibration).middle
            assert not torch.allclose(found, plain)
            # training does not check the values
            torch.testing.assert_close(found, model.train()(corrected).middle)
            model.eval()
