import numpy as np
import pytest
import torch

from swinsf.models.windows import (
    MASKED,
    attention_mask,
    partition,
    relative_position_index,
    reverse,
    shift_masks,
    window_kinds,
    window_order,
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
    """Two tokens of a window may attend to each other if their distance did not wrap in the roll."""
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


@pytest.mark.parametrize("height, width, window", SIZES)
def test_reverse_undoes_partition(height, width, window):
    x = torch.randn(2, height, width, 3)
    assert torch.equal(reverse(partition(x, window), height, width), x)


def test_attention_mask_has_a_mask_for_each_window():
    mask = attention_mask(10, 15, 5, 2, torch.zeros(1, dtype=torch.float64))
    assert mask.dtype == torch.float64
    assert torch.equal(mask, shift_masks(5, 2).double()[window_kinds(10, 15, 5)])
    assert attention_mask(10, 15, 5, 0, mask) is None
