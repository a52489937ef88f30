"""`models.fast` compared with the plain network: pictures, gradients, memory."""

import copy

import pytest
import torch

from swinsf.models import SKIP_CHOICES, VARIANTS, bands, build_model, fast
from swinsf.models.windows import MASKED
from tests.conftest import random_spikes
from tests.models.test_swinsf import spikes, tiny

OUTPUTS = ("middle", "left", "right")


def random_model(variant="small", **overrides):
    torch.manual_seed(0)
    model = build_model(variant, **{"channels": 8, "drop_path": 0.3, **overrides}).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.05, 0.2)
    return model


def gradients_of(model, run, x):
    torch.manual_seed(1)
    pictures = run(x)
    model.zero_grad()
    sum((picture - 100).square().mean() for picture in pictures).backward()
    return [*pictures, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("height, width", [(20, 20), (45, 63)])
@pytest.mark.parametrize("tsa", ["released", "paper"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_infer_equals_the_network_in_chunks_of_any_size(variant, tsa, height, width, monkeypatch):
    model, x = random_model(variant, tsa=tsa).eval(), spikes(2, height, width)
    with torch.inference_mode():
        plain = model(x)
        for size, band in ((2**13, 1), (2**15, 2**11), (2**40, 2**40)):
            monkeypatch.setitem(fast.CHUNK_BYTES, "cpu", size)
            monkeypatch.setattr(bands, "BAND_PIXELS", band)
            for one, other in zip(fast.infer(model, x), plain):
                assert (one - other).abs().max() <= 1e-12 * other.abs().max()


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("skip", SKIP_CHOICES)
def test_bands_of_rows_equal_the_whole_picture(skip, patch, monkeypatch):
    """Bands of one row of tokens, and bands of three rows with a remainder."""
    model, x = random_model(skip=skip, patch=patch, depths=(1,)).eval(), spikes(2, 40, 60)
    with torch.inference_mode():
        seen, segments = model.see(x)
        tokens = fast.embed(model, seen)
        for band in (1, 3 * patch * 2 * 60, 2**40):
            monkeypatch.setattr(bands, "BAND_PIXELS", band)
            found, looked_up = bands.see_and_embed(model, x)
            torch.testing.assert_close(found, tokens, rtol=1e-10, atol=1e-10)
            for stream in segments:
                if skip == "none":
                    assert looked_up[stream] is None
                else:
                    torch.testing.assert_close(
                        looked_up[stream].light, segments[stream].light, rtol=1e-10, atol=1e-10
                    )


def test_warped_steps_are_never_all_in_memory(monkeypatch):
    """No block of memory that a pass over a large picture allocates is larger than its spikes."""
    model, x = tiny(skip="aligned", patch=4, depths=(1,)).float(), spikes(1, 200, 200).float()
    monkeypatch.setattr(bands, "BAND_PIXELS", 2**12)
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as profile:
        fast.infer(model, x)
    pieces = [event.nbytes() for event in profile.profiler.kineto_results.events()]
    assert 0 < max(pieces) < x.nbytes


@pytest.mark.parametrize("chunk", [2**13, 2**40])
@pytest.mark.parametrize("tsa", ["released", "paper"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_has_the_networks_pictures_gradients_and_stochastic_depth(variant, tsa, chunk, monkeypatch):
    monkeypatch.setitem(fast.TRAINING_CHUNK_BYTES, "cpu", chunk)
    model, x = random_model(variant, tsa=tsa).train(), spikes(2, 25, 30)
    plain = gradients_of(model, model, x)
    quick = gradients_of(model, lambda x: fast.forward(model, x), x)
    largest = max(tensor.abs().max().item() for tensor in plain)
    assert len(plain) == len(quick) > 50
    for one, other in zip(plain, quick):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12 * largest)


@pytest.mark.parametrize("tsa", ["released", "paper"])
def test_a_calibration_has_the_same_effect(tsa):
    model, x = random_model(tsa=tsa).eval(), spikes(1, 20, 25)
    calibration = torch.rand(1, 2, 20, 25, dtype=torch.float64) * 0.1 + torch.tensor([0.0, 1.0]).view(
        1, 2, 1, 1
    )
    with torch.inference_mode():
        for one, other in zip(fast.infer(model, x, calibration), model(x, calibration)):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("recompute_from", [0, 2**40])
def test_grad_checkpoint_changes_nothing(recompute_from, monkeypatch):
    """Bit-identical pictures, gradients and stochastic depth, so that a resumed run may switch it."""
    monkeypatch.setattr(fast, "RECOMPUTE_FROM", recompute_from)
    model, x = random_model(drop_path=0.5).float().train(), spikes(2, 25, 30).float()
    results = []
    for wanted in (False, True):
        model.grad_checkpoint = wanted
        results.append([*gradients_of(model, lambda x: fast.forward(model, x), x), torch.rand(1)])
    assert all(torch.equal(one, other) for one, other in zip(*results))


def test_memory_kept_for_the_backward_pass(monkeypatch):
    """For many tokens, no N x N matrix, nothing as wide as the MLP; with grad_checkpoint, only blocks'
    inputs."""
    model = tiny(channels=16, depths=(6, 6)).float().train()
    x, token_bytes = spikes(2, 100, 100).float(), 3 * 2 * 100 * 100 * 16 * 4
    kept, matrices = {}, {}
    for recompute_from, grad_checkpoint in ((2**40, False), (0, False), (0, True)):
        monkeypatch.setattr(fast, "RECOMPUTE_FROM", recompute_from)
        model.grad_checkpoint = grad_checkpoint
        storages, case = {}, (recompute_from > 0, grad_checkpoint)
        matrices[case] = 0

        def keep(tensor, storages=storages, case=case):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            matrices[case] += tensor.ndim == 3 and tensor.shape[-2:] == (25, 25) and len(tensor) > 400
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            fast.forward(model, x)
        kept[case] = sum(storages.values()) / token_bytes
    assert matrices[False, False] == matrices[False, True] == 0 < matrices[True, False]
    assert kept[False, True] < 12 * 1.5 + 6 < kept[False, False] < 12 * 9 + 6 < kept[True, False]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_fused_attention_of_a_gpu_equals_the_one_of_a_cpu(dtype, masked, bfloat16):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 12, 25, 16).to(dtype)
    bias, kind = torch.randn(1, 2, 25, 25), None
    if masked:
        bias, kind = torch.randn(4, 2, 25, 25), torch.tensor([0, 1, 2, 3, 1, 0] * 2)
        bias[1:] += MASKED * (torch.rand(3, 1, 25, 25) < 0.3)
    bar = 1e-12 if dtype == torch.float64 else 0.03
    one, other = (
        attend(query, key, value, bias, kind) for attend in (fast.fused_attention, fast.Attend.apply)
    )
    torch.testing.assert_close(one, other, rtol=bar, atol=bar)


@pytest.mark.parametrize("kinds", [1, 4])
def test_the_gradients_of_attention_by_finite_differences(kinds):
    torch.manual_seed(0)
    inputs = [torch.randn(5, 6, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    inputs.append(torch.randn(kinds, 2, 6, 6, dtype=torch.float64, requires_grad=True))
    kind = None if kinds == 1 else torch.tensor([0, 1, 2, 3, 1])
    assert torch.autograd.gradcheck(lambda *tensors: fast.Attend.apply(*tensors, kind), inputs)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_collapsed_convolutions_equal_the_layers_at_the_edges_too(patch):
    """At the edges, the biases of the first convolution and of unproj end."""
    model, x = random_model("1000", patch=patch, depths=(1,), skip="none").eval(), spikes(1, 20, 40)
    seen, _ = model.see(x)
    tokens = fast.embed(model, seen)
    layer = model.layers[0]
    torch.testing.assert_close(
        fast.convolution(layer)(tokens), layer.patch_embed(layer.conv(layer.patch_unembed(tokens)))
    )


def test_geometry_is_made_once_per_size_and_works_in_training():
    device = torch.device("cpu")
    with torch.inference_mode():
        first = fast.window_geometry(3, 15, 10, 5, 2, device)
    assert fast.window_geometry(3, 15, 10, 5, 2, device) is first
    assert not any(tensor.is_inference() for tensor in first)
    assert torch.equal(first.order.flatten()[first.inverse], torch.arange(450))


def test_the_masks_of_a_large_picture_take_no_memory():
    """A mask for each window would take 100 MB."""
    geometry = fast.window_geometry(3, 1000, 1000, 5, 2, torch.device("cpu"))
    assert geometry.masks.shape == (4, 25, 25) and geometry.kind.shape == (40_000,)
    fast.window_geometry.cache_clear()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_chunk_has_no_more_windows_than_a_gpus_attention_allows(batch):
    # the meta device is treated like CUDA
    tokens = torch.empty(3 * batch, 1000, 1000, 8, dtype=torch.bfloat16, device="meta")
    slices = fast.chunks(tokens, 5, fast.CHUNK_BYTES)
    assert max(part.stop - part.start for part in slices) == fast.FUSED_MOST
    assert slices[0].start == 0 and slices[-1].stop >= batch * 40_000 > slices[-1].start


def test_under_autocast_training_keeps_tokens_in_bfloat16_and_pictures_in_float32(bfloat16):
    model, x = random_model(depths=(1, 1)).float().train(), spikes(1, 25, 30).float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = fast.forward(model, x).middle
    exact = fast.forward(model, x).middle
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05 * exact.abs().max()


def test_compiled_blocks(monkeypatch):
    """The compiled function is the block's. Only its first call needs a compiler, and there is none here."""
    model, seen = tiny(skip="motion"), []
    x = torch.from_numpy(random_spikes(41, 25, 30, 0))[None].double()

    def compiled(function):
        return lambda *arguments: (seen.append(arguments[0]), function(*arguments))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    with torch.inference_mode():
        plain = fast.infer(model, x).middle
        fast.compile_blocks(model)
        copied = copy.deepcopy(model)
        assert torch.equal(fast.infer(copied, x).middle, plain)
    # a copy, such as the moving average, runs its own blocks
    assert set(map(id, seen)) == set(map(id, copied.blocks))


@pytest.mark.slow
def test_every_size_is_compiled(monkeypatch):
    """Several sizes and chunks in training and testing need more than PyTorch's limit of 8 graphs."""
    from torch._dynamo.utils import counters  # loads a compiler

    model, compile_ = tiny(patch=2, drop_path=0.1).float(), torch.compile
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 8)
    # counting needs no compiler
    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend="eager"))
    for limit in (fast.CHUNK_BYTES, fast.TRAINING_CHUNK_BYTES):
        monkeypatch.setitem(limit, "cpu", 20 * 4 * 3 * 25 * 8 * 4)
    torch._dynamo.reset()
    counters.clear()
    fast.compile_blocks(model)
    for height, width, batch in ((60, 80, 2), (40, 40, 1), (90, 80, 2)):
        x = spikes(batch, height, width).float()
        sum(p.mean() for p in fast.forward(model.train(), x)).backward()
        fast.infer(model.eval(), x[:1])
    assert counters["stats"]["unique_graphs"] > 8
    assert counters["frames"]["total"] == counters["frames"]["ok"] == counters["stats"]["unique_graphs"]


def test_hooks_see_every_layer_of_the_network_itself():
    model, seen = tiny(patch=2), set()
    names = {module: name for name, module in model.named_modules()}
    for module in names:
        module.register_forward_hook(lambda module, *_: seen.add(names[module]))
    model(spikes(1, 20, 20))
    unseen = {name for name in names.values() if name not in seen}
    containers = {name for name in unseen if name.endswith(("layers", "residual_group"))}
    assert unseen == containers


def test_the_network_does_not_overwrite_its_argument():
    model = tiny()
    tokens = torch.randn(3, 10, 10, 8, dtype=torch.float64)
    before = tokens.clone()
    with torch.inference_mode():
        model.layers[0](tokens)
        model.layers[0].residual_group.blocks[1](tokens)
    assert torch.equal(tokens, before)
