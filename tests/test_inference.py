import numpy as np
import pytest
import torch

from models import Reconstruction, build_model
from tests.conftest import random_spikes
from utils.cli import UserError
from utils.inference import OVERLAP, tile_spans, tiled


@pytest.mark.parametrize(
    "size, tile, overlap, multiple", [(400, 200, 40, 5), (1000, 320, 160, 20), (251, 110, 80, 10), (90, 90, 40, 5)]
)
def test_tiles_cover_an_axis_once_and_keep_clear_of_their_cut_edges(size, tile, overlap, multiple):
    spans = tile_spans(size, tile, overlap, multiple)
    assert [spans[0][2], spans[-1][3]] == [0, size]
    assert [span[3] for span in spans[:-1]] == [span[2] for span in spans[1:]]
    for start, stop, first, last in spans:
        assert start % multiple == 0 and 20 <= stop - start <= tile and 0 <= start <= first < last <= stop <= size
        assert start == 0 or first - start >= overlap // 2
        assert stop == size or stop - last >= overlap // 2


@pytest.mark.parametrize("tile", [1, 20, 44])
def test_a_tile_that_is_all_overlap(tile):
    with pytest.raises(UserError, match=rf"--tile {tile}: .* take 45 or more"):
        tiled(None, torch.zeros(1, 41, 400, 400), tile, 5)


def test_a_function_of_each_pixel_is_the_same_in_tiles():
    spikes = torch.from_numpy(random_spikes(41, 130, 170))[None]
    shapes = []

    def pixelwise(x):
        shapes.append(tuple(x.shape[-2:]))
        mean = x.float().mean(1, keepdim=True)
        return Reconstruction(mean, 2 * mean, 3 * mean)

    pictures = tiled(pixelwise, spikes, 60, 5)
    assert max(max(shape) for shape in shapes) == 60 and len(shapes) > 9
    for picture, whole in zip(pictures, pixelwise(spikes)):
        assert torch.equal(picture, whole)
    assert isinstance(pictures, Reconstruction)
    shapes.clear()
    tiled(pixelwise, spikes, 0, 5)
    assert shapes == [(130, 170)]


@pytest.mark.parametrize("variant, tile, skip", [("250", 80, "rate"), ("small", 120, "rate"), ("small", 120, "motion")])
def test_tiles_of_a_network_show_no_seam(variant, tile, skip):
    torch.manual_seed(0)
    model = build_model(variant, tsa="paper", skip=skip, channels=8, drop_path=0.0).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.05, 0.2)
    multiple = model.config.window * model.config.patch
    spikes = torch.from_numpy(np.stack([random_spikes(41, 201, 260)]))
    with torch.inference_mode():
        whole = model(spikes)
        close, seamed = tiled(model, spikes, tile, multiple, OVERLAP), tiled(model, spikes, tile, multiple, 0)
    for part, seam, picture in zip(close, seamed, whole):
        assert (part - picture).abs().max() < 0.01 * (seam - picture).abs().max()
