import numpy as np
import pytest
import torch

from models.windows import MASKED, cached_shift_mask, partition, relative_position_index, reverse, shift_mask

SIZES = [(5, 5, 5), (10, 15, 5), (20, 5, 5), (8, 12, 4), (6, 9, 3)]


@pytest.mark.parametrize("height, width, window", SIZES)
def test_partition_then_reverse_is_the_identity(height, width, window):
    x = torch.randn(3, height, width, 2)
    assert torch.equal(reverse(partition(x, window), window, height, width), x)


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
    mask = shift_mask(height, width, window, shift)
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


def test_shift_mask_is_made_once_for_a_size():
    device = torch.device("cpu")
    first = cached_shift_mask(10, 15, 5, 2, device, torch.float32)
    assert cached_shift_mask(10, 15, 5, 2, device, torch.float32) is first
    with torch.inference_mode():
        made_while_testing = cached_shift_mask(15, 10, 5, 2, device, torch.float32)
    assert not made_while_testing.is_inference()
