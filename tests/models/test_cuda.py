"""The network on CUDA: with fake CUDA tensors on any machine, and with real ones if there is a GPU."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from swinsf.models import PRECISIONS, SKIP_CHOICES, build_model, fast
from swinsf.models.collapse import conv_then_embed
from swinsf.training.epoch import Forward

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class Watch(TorchDispatchMode):
    """Collects the operations on tensors that are not on the GPU."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if any(
            isinstance(leaf, torch.Tensor) and leaf.device.type != "cuda"
            for leaf in tree_leaves((args, kwargs, out))
        ):
            self.waits.append(str(function))
        return out


@pytest.fixture
def fake_cuda():
    """A context in which tensors have a device, a shape and a type, but no values."""
    fast.window_geometry.cache_clear()
    yield FakeTensorMode
    fast.window_geometry.cache_clear()


def move(model):
    """A model from the meta device with fake CUDA tensors; `.to` cannot make them."""
    for module in model.modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                setattr(
                    module,
                    name,
                    torch.nn.Parameter(empty, tensor.requires_grad) if name in module._parameters else empty,
                )
    return model


def fake_spikes(monkeypatch, batch=2, height=41, width=63):
    """uint8 spikes of a size that was checked before, like all but the first of each size."""
    spikes = torch.empty(batch, 41, height, width, dtype=torch.uint8, device="cuda")
    monkeypatch.setattr("swinsf.utils.spikes._seen", {(spikes.device, spikes.dtype, spikes.shape)})
    return spikes


@pytest.mark.parametrize(
    "variant, precision, tsa",
    [
        ("250", "fp32", "paper"),
        ("250", "bf16", "released"),
        ("1000", "fp16", "paper"),
        ("1000", "fp32", "released"),
        ("small", "bf16", "paper"),
        ("small", "fp16", "released"),
    ],
)
@pytest.mark.parametrize("skip", SKIP_CHOICES)
def test_each_variant_runs_on_cuda(variant, skip, tsa, precision, monkeypatch, fake_cuda):
    with torch.device("meta"):
        model = build_model(variant, skip=skip, tsa=tsa, depths=(1, 2)).eval()
    model.set_precision(PRECISIONS[precision])
    with fake_cuda(), torch.no_grad():
        for picture in fast.infer(move(model), fake_spikes(monkeypatch)):
            assert (picture.device.type, picture.dtype, picture.shape) == (
                "cuda",
                torch.float32,
                (2, 1, 41, 63),
            )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("skip", SKIP_CHOICES)
def test_the_host_never_waits_for_a_forward_pass(skip, training, monkeypatch, fake_cuda):
    """From the second picture of a size on, nothing is made on the host. Reading back a value, or indexing
    with a mask, raises here."""
    with torch.device("meta"):
        model = build_model("small", channels=8, skip=skip, depths=(2, 1), drop_path=0.1).train(training)
    run = fast.forward if training else fast.infer
    with fake_cuda():
        move(model)
        spikes = fake_spikes(monkeypatch)
        with Watch() as first:
            run(model, spikes)
        with Watch() as second:
            run(model, spikes)
    assert "aten._to_copy.default" in first.waits  # the geometry of a size is made once, on the host
    assert second.waits == []


def test_the_watch_detects_waits(fake_cuda):
    with fake_cuda(), Watch() as watch:
        x = torch.empty(3, device="cuda")
        x * torch.arange(3, device="cpu").to(x.device)
        assert "aten._to_copy.default" in watch.waits
        with pytest.raises(Exception, match="_local_scalar_dense"):
            x.sum().item()
        with pytest.raises(Exception, match="nonzero"):
            x[x > 0]


@pytest.mark.parametrize("variant", ["1000", "small"])
def test_collapsed_kernels_are_computed_in_double_precision(variant, fake_cuda):
    """float32 may be TF32, in which a kernel loses 13 of its 24 bits."""
    seen = []

    class Kinds(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket.__name__ in {"convolution", "mv", "mm"}:
                seen.extend({arg.dtype for arg in args if isinstance(arg, torch.Tensor)})
            return function(*args, **(kwargs or {}))

    with torch.device("meta"):
        model = build_model(variant, depths=(1,))
    with fake_cuda(), Kinds():
        move(model)
        first = conv_then_embed(model.conv_first, model.patch_embed.proj)
        between = fast.convolution(model.layers[0])
        assert len(seen) >= 5 and set(seen) == {torch.float64}
        tokens = between(torch.empty(1, 10, 15, model.config.channels, device="cuda"))
        picture = torch.empty(1, model.conv_first.in_channels, 40, 60, device="cuda")
        assert tokens.dtype == first(picture).dtype == torch.float32


@needs_cuda
@pytest.mark.parametrize("skip", SKIP_CHOICES)
def test_on_a_gpu_the_host_never_waits(skip):
    model = Forward(build_model("small", skip=skip, depths=(2, 1)).cuda())
    packed = torch.randint(0, 255, (2, 6, 40, 60), dtype=torch.uint8, device="cuda")
    for training in (False, True):
        model.train(training)
        with torch.set_grad_enabled(training):
            model(packed)  # makes the geometry, and checks spikes of this size
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            try:
                sum(picture.sum() for picture in model(packed))
            finally:
                torch.cuda.set_sync_debug_mode("default")
