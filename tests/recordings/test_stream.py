import threading

import numpy as np
import pytest
import torch

from swinsf.models import Reconstruction, SwinSF, SwinSFConfig, build_model, fast
from swinsf.models.tiling import tile_spans, tiled
from swinsf.recordings.plan import ENDLESS, key_frames
from swinsf.recordings.stream import prefetch, reconstruct, reconstruct_at
from swinsf.utils.cli import UserError
from tests.conftest import random_spikes
from tests.models.test_classical import Recording


@pytest.mark.parametrize(
    "size, tile, overlap, multiple",
    [(400, 200, 40, 5), (1000, 320, 160, 20), (251, 110, 80, 10), (90, 90, 40, 5)],
)
def test_tiles_cover_an_axis_once_and_keep_clear_of_their_cut_edges(size, tile, overlap, multiple):
    spans = tile_spans(size, tile, overlap, multiple)
    assert [spans[0][2], spans[-1][3]] == [0, size]
    assert [span[3] for span in spans[:-1]] == [span[2] for span in spans[1:]]
    for start, stop, first, last in spans:
        assert (
            start % multiple == 0
            and 20 <= stop - start <= tile
            and 0 <= start <= first < last <= stop <= size
        )
        assert start == 0 or first - start >= overlap // 2
        assert stop == size or stop - last >= overlap // 2


@pytest.mark.parametrize("tile", [1, 20, 44])
def test_a_tile_that_is_all_overlap(tile):
    with pytest.raises(UserError, match=rf"--tile {tile}: .* use 45 or more"):
        tiled(None, torch.zeros(1, 41, 400, 400), tile, 5)


def test_tiles_do_not_change_a_pixelwise_function():
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


@pytest.mark.parametrize(
    "variant, tile, skip", [("250", 80, "motion"), ("small", 120, "aligned"), ("small", 120, "motion")]
)
def test_tiles_of_a_network_show_no_seam(variant, tile, skip, monkeypatch):
    torch.manual_seed(0)
    model = build_model(variant, tsa="paper", skip=skip, channels=8, drop_path=0.0).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.05, 0.2)
    multiple = model.config.window * model.config.patch
    spikes = torch.from_numpy(np.stack([random_spikes(41, 141, 180)]))
    with torch.inference_mode():
        whole = model(spikes)
        close = tiled(model, spikes, tile, multiple)
        monkeypatch.setattr("swinsf.models.tiling.OVERLAP", 0)
        seamed = tiled(model, spikes, tile, multiple)
        monkeypatch.undo()
    for part, seam, picture in zip(close, seamed, whole):
        assert (part - picture).abs().max() < 0.01 * (seam - picture).abs().max()


@pytest.mark.parametrize(
    "asked, expected",
    [
        ((301, None, None, 20), range(20, 281, 20)),
        ((301, 0, 1000, 20), range(20, 281, 20)),
        ((301, 7, 60, 20), range(27, 60, 20)),  # counted from `start`
        ((41, None, None, 1), range(20, 21)),
        ((40, None, None, 1), range(20, 20)),
        ((301, 290, None, 1), range(290, 290)),
        ((None, 100, None, 5), range(100, ENDLESS, 5)),
        ((None, None, 60, 5), range(20, 60, 5)),
    ],
)
def test_key_frames_have_a_whole_window(asked, expected):
    keys = key_frames(*asked)
    assert keys == expected and keys.step == asked[3]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_model("small", channels=4, heads=2, depths=(1,)).eval()


def pictures_of(model, spikes, centre):
    with torch.inference_mode():
        return [p[0, 0].numpy() for p in model(torch.from_numpy(spikes[centre - 20 : centre + 21])[None])]


@pytest.mark.parametrize("stride, batch_size", [(20, 1), (9, 3), (60, 2)])
def test_each_picture_of_a_recording_equals_that_of_its_window(network, stride, batch_size):
    spikes = random_spikes(200, 24, 32)
    pictures = list(reconstruct(Recording(spikes), network, stride, stop=181, batch_size=batch_size))
    assert len(pictures) == len(range(20, 180, stride))
    for key, picture in zip(range(20, 180, stride), pictures):
        assert picture.shape == (24, 32) and picture.dtype == np.float32
        np.testing.assert_allclose(picture, pictures_of(network, spikes, key)[0], atol=1e-3)


@pytest.mark.parametrize("stride", [1, 7])
def test_all_outputs_of_a_pass_come_in_order(network, stride, monkeypatch):
    """Key frames k, k + 7 and k + 14 come from the pass at k + 7; those left at the end have a pass each."""
    spikes, count = random_spikes(120, 24, 32), 0
    passes, infer = [], fast.infer
    monkeypatch.setattr(fast, "infer", lambda *arguments: (passes.append(1), infer(*arguments))[1])
    pictures = list(reconstruct(spikes, network, stride, outputs="all"))
    keys = range(20, 100, stride)
    group = 21 // stride
    whole = len(keys) // group * group
    assert len(pictures) == len(keys) and len(passes) == whole // 3 + len(keys) - whole
    for i, (key, picture) in enumerate(zip(keys, pictures)):
        place = i % group // (group // 3) if i < whole else 1  # left, middle, right
        centre = key + (7, 0, -7)[place]
        np.testing.assert_allclose(picture, pictures_of(network, spikes, centre)[(1, 0, 2)[place]], atol=1e-3)
        count += 1
    assert count == len(keys)


@pytest.mark.parametrize("steps", [62, 66, 70, 76, 81, 90])
def test_all_outputs_of_a_recording_that_ends_within_a_group(network, steps):
    """Its length is unknown: each key frame with a whole window has a picture, under its own name."""
    spikes = random_spikes(steps, 24, 32)
    for stride in (1, 7):
        keys = range(20, ENDLESS, stride)
        found = dict(reconstruct_at(Recording(spikes), network, keys, stride, outputs="all"))
        assert list(found) == list(range(20, steps - 20, stride))
        group = 21 // stride
        for key in list(found)[len(found) // group * group :]:
            np.testing.assert_allclose(found[key], pictures_of(network, spikes, key)[0], atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_only_the_steps_of_windows_are_read(network, batch_size):
    read = []

    class Counting(Recording):
        def __getitem__(self, steps):
            read.extend(range(steps.start, steps.stop))
            return super().__getitem__(steps)

    list(
        reconstruct(Counting(random_spikes(400, 24, 32)), network, stride=90, stop=300, batch_size=batch_size)
    )
    assert read == [step for key in (20, 110, 200, 290) for step in range(key - 20, key + 21)]


def test_unsuitable_strides_and_tiles_are_refused(network):
    with pytest.raises(UserError, match=r"--outputs all with --stride 5: .* take --stride 7 or 1"):
        reconstruct(random_spikes(50, 24, 32), network, 5, outputs="all")
    with pytest.raises(UserError, match="--tile 10"):
        reconstruct(random_spikes(50, 24, 32), network, tile=10)


def test_items_come_in_order_and_few_wait():
    drawn = []

    def items():
        for i in range(100):
            drawn.append(i)
            yield i

    for i, item in enumerate(prefetch(items())):
        assert item == i and len(drawn) <= i + 3  # this one, one ready, one waiting for the queue
    assert i == 99


def test_an_error_in_the_thread_is_raised_for_the_consumer():
    def items():
        yield 1
        raise UserError("a.dat: became shorter")

    taken = prefetch(items())
    assert next(taken) == 1
    with pytest.raises(UserError, match="became shorter"):
        next(taken)


def test_leaving_early_ends_the_threads():
    closed = []

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.append(True)

    before = threading.active_count()
    taken = prefetch(i for i in prefetch(items()))
    assert next(taken) == 0
    assert threading.active_count() == before + 2
    taken.close()
    assert threading.active_count() == before and closed == [True]
    assert list(prefetch(items(), should_stop=lambda: True)) == []


def test_a_request_without_pictures_is_an_error(tmp_path):
    model = SwinSF(SwinSFConfig(channels=4, depths=(1,), patch=4))
    spikes = random_spikes(60, 24, 32)
    for too_short, options in (
        (spikes[:20], {}),
        (spikes[:40], {}),
        (spikes, {"start": 50}),
        (spikes, {"stop": 10}),
    ):
        with pytest.raises(ValueError, match=r"no key frame: .* a picture needs 41 steps"):
            reconstruct(too_short, model, **options)
    with pytest.raises(ValueError, match="expected"):
        reconstruct(spikes[0], model)
    for path in (tmp_path / "rec.dat", "rec.dat"):
        with pytest.raises(TypeError, match=r"rec\.dat: a .*open_dat"):
            reconstruct(path, model)
