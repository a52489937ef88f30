import numpy as np
import pytest
import torch

from models import windows
from models.windows import (
    FUSED_MOST,
    MASKED,
    Mask,
    cached_geometry,
    map_windows,
    partition,
    relative_position_index,
    shift_masks,
    window_kinds,
    window_order,
    windows_in_band,
)

SIZES = [(5, 5, 5), (10, 15, 5), (20, 5, 5), (8, 12, 4), (6, 9, 3)]


@pytest.mark.parametrize("height, width, window", SIZES)
def test_partition_puts_each_token_where_a_loop_puts_it(height, width, window):
    x = torch.randn(2, height, width, 3)
    windows = partition(x, window)
    for y in range(height):
        for column in range(width):
            n = (y // window) * (width // window) + column // window
            token = (y % window) * window + column % window
            assert torch.equal(windows[:, n, token], x[:, y, column])


@pytest.mark.parametrize("window", [2, 3, 5])
def test_relative_position_index_by_brute_force(window):
    index = relative_position_index(window)
    span = 2 * window - 1
    for i in range(window**2):
        for j in range(window**2):
            dy, dx = i // window - j // window, i % window - j % window
            assert index[i, j] == (dy + window - 1) * span + dx + window - 1
    assert sorted(index.unique().tolist()) == list(range(span**2))


@pytest.mark.parametrize("height, width, window", SIZES)
def test_shift_mask_by_brute_force(height, width, window):
    """Two tokens of a window may attend to each other if they were neighbours before the roll: their distance did not wrap."""
    shift = window // 2
    mask = shift_masks(window, shift)[window_kinds(height, width, window)]
    position = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1)
    rolled = torch.roll(position, (-shift, -shift), dims=(0, 1))  # where each token comes from
    windows = partition(rolled[None], window)[0].numpy()
    for n, tokens in enumerate(windows):
        offset = np.arange(window**2)
        inside = np.stack([offset // window, offset % window], -1)
        moved = tokens - inside  # equal for tokens that kept their relative positions
        same = (moved[:, None] == moved[None, :]).all(-1)
        assert np.array_equal(mask[n].numpy() == 0, same)
        assert set(mask[n].unique().tolist()) <= {0.0, MASKED}


@pytest.mark.parametrize("height, width, window", SIZES)
def test_window_order_is_the_partition_of_the_rolled_picture(height, width, window):
    x = torch.randn(2, height, width, 3)
    for shift in (0, window // 2):
        order = window_order(height, width, window, shift)
        rolled = partition(torch.roll(x, (-shift, -shift), dims=(1, 2)), window)
        assert torch.equal(x.flatten(1, 2)[:, order], rolled)
        assert sorted(order.flatten().tolist()) == list(range(height * width))


def test_geometry_is_made_once_for_a_size():
    device = torch.device("cpu")
    first = cached_geometry(10, 15, 5, 2, device)
    assert cached_geometry(10, 15, 5, 2, device) is first
    with torch.inference_mode():
        order, mask = cached_geometry(15, 10, 5, 2, device)
    assert not any(tensor.is_inference() for tensor in (order, *mask))


def test_the_masks_of_a_large_picture_take_no_memory():
    """A mask of each window would have 100 MB."""
    _, mask = cached_geometry(1000, 1000, 5, 2, torch.device("cpu"))
    assert mask.kinds.shape == (4, 25, 25) and mask.kind.shape == (40_000,)
    cached_geometry.cache_clear()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_band_has_no_more_windows_than_a_gpus_attention_takes(batch):
    tokens = torch.empty(3 * batch, 1000, 1000, 8, dtype=torch.bfloat16, device="meta")  # a device of neither kind: as on CUDA
    count = windows_in_band(tokens, 5)
    assert FUSED_MOST - batch < batch * count <= FUSED_MOST


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("shift", [0, 2])
def test_map_windows_in_bands_of_any_size(shift, recompute, monkeypatch):
    """Values and gradients do not depend on the bands; without a gradient the tokens themselves are written to."""
    weight = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)

    def function(left, middle, right, mask):
        scores = left @ right.transpose(-2, -1) + (0 if mask is None else mask.kinds[mask.kind])
        return left + right, scores.softmax(-1) @ middle @ weight, right

    tokens = torch.randn(6, 10, 15, 3, dtype=torch.float64)
    results = []
    for size in (1, 2 * 6 * 25 * 3 * 8, 4 * 6 * 25 * 3 * 8, 2**30):  # bands of 1, 2, 4 and all 6 windows
        monkeypatch.setitem(windows.BAND_BYTES, "cpu", size)
        x = tokens.clone().requires_grad_()
        out = map_windows(function, x, 5, shift, recompute)
        gradients = torch.autograd.grad(out.square().sum(), (x, weight))
        with torch.no_grad():
            written = tokens.clone()
            assert map_windows(function, written, 5, shift) is written
        torch.testing.assert_close(written, out)
        results.append((out, *gradients))
    mask = Mask(shift_masks(5, shift).double(), window_kinds(10, 15, 5)) if shift else None
    cut = partition(torch.roll(tokens, (-shift, -shift), (1, 2)), 5).chunk(3)
    whole = torch.empty(6, 150, 3, dtype=torch.float64)
    whole[:, window_order(10, 15, 5, 0)] = torch.cat(function(*cut, mask))
    whole = torch.roll(whole.view_as(tokens), (shift, shift), (1, 2))
    for result in results:
        torch.testing.assert_close(result[0], whole)
        for one, other in zip(result, results[0]):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
