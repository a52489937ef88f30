import numpy as np
import pytest
import torch

from swinsf.datasets.augment import Augmented, EpochBatches, crop_and_flip, pack, to_item, unpack
from swinsf.utils.cli import UserError


class Positions:
    """A dataset whose spikes and pictures encode the pixel's position, so that wrong crops and flips show."""

    def read(self, index, epoch=0):
        place = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)
        return {"name": str(index), "spikes": np.stack([place, place + 1]), "middle": place, "left": place}


def test_crop_and_flips_are_the_same_for_spikes_and_pictures():
    seen = set()
    for seed in range(30):
        sample = crop_and_flip(Positions().read(0), 12, np.random.default_rng(seed))
        assert sample["spikes"].shape == (2, 12, 12) and sample["middle"].shape == (12, 12)
        assert np.array_equal(sample["spikes"][0], sample["middle"])
        assert np.array_equal(sample["spikes"][1], sample["left"] + 1)
        rows, columns = (
            np.diff(sample["middle"].astype(int), axis=0),
            np.diff(sample["middle"].astype(int), axis=1),
        )
        assert abs(rows[0, 0]) == 40 and abs(columns[0, 0]) == 1
        seen.add((rows[0, 0], columns[0, 0]))
    assert len(seen) == 4  # every combination of flips occurred


def test_crops_come_from_all_over_the_frame():
    places = [
        crop_and_flip(Positions().read(0), 12, np.random.default_rng(seed))["middle"].min()
        for seed in range(400)
    ]
    assert {place // 40 for place in places} == {*range(19)} and {place % 40 for place in places} == {
        *range(29)
    }


def test_crop_size_0_is_the_whole_frame():
    sample = crop_and_flip(Positions().read(0), 0, np.random.default_rng(0))
    assert sorted(sample["middle"].ravel()) == list(range(1200))


def test_a_crop_larger_than_the_frame():
    with pytest.raises(UserError, match="--crop_size 31"):
        crop_and_flip(Positions().read(0), 31, np.random.default_rng(0))


def test_a_key_always_gives_the_same_sample():
    first, again, other_seed = (Augmented(Positions(), 12, seed) for seed in (1, 1, 2))
    sample = first[0, 5, 0.25]
    assert np.array_equal(sample["middle"], again[0, 5, 1.0]["middle"]) and sample["weight"] == 0.25
    different = [first[1, 5, 1.0], first[0, 6, 1.0], other_seed[0, 5, 1.0]]
    assert all(not np.array_equal(sample["middle"], item["middle"]) for item in different)


def test_to_item():
    item = to_item(
        {
            "name": "a",
            "spikes": np.ones((41, 4, 5), np.uint8)[:, ::-1],
            "left": np.full((4, 5), 200, np.uint8),
        }
    )
    assert item["spikes"].shape == (41, 4, 5) and item["left"].shape == (1, 4, 5)
    assert (str(item["spikes"].dtype), str(item["left"].dtype)) == ("torch.uint8", "torch.float32")
    assert item["left"].max() == 200 and item["name"] == "a"


def test_spikes_travel_as_bits():
    spikes = np.random.default_rng(0).random((41, 5, 7)) < 0.3
    flipped = spikes[:, ::-1, ::-1].astype(np.uint8)
    packed = torch.from_numpy(np.stack([pack(spikes.astype(np.uint8)), pack(flipped)]))
    assert packed.shape == (2, 6, 5, 7) and packed.dtype == torch.uint8
    assert np.array_equal(unpack(packed).numpy(), np.stack([spikes, flipped]))


def test_different_kinds_of_draws_use_different_random_numbers(monkeypatch):
    """Without a tag they would share them: default_rng([s, e]) equals default_rng([s, e, 0])."""
    seeds, default_rng = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: seeds.append(seed) or default_rng(seed))
    for seed in range(3):
        for epoch in range(3):
            EpochBatches(3, 2, epoch, seed)
            for index in range(3):
                Augmented(Positions(), 12, seed)[epoch, index, 1.0]
    first = [tuple(default_rng(seed).random(4)) for seed in seeds]
    assert len(set(first)) == len(first) == 9 + 27


def test_a_batch_sampler_advances_to_the_next_epoch():
    batches = EpochBatches(10, 4, epoch=0, seed=7)
    batches.set_epoch(3, start=1)
    assert list(batches) == list(EpochBatches(10, 4, epoch=3, seed=7, start=1)) and len(batches) == 2


def test_epoch_batches():
    whole = list(EpochBatches(10, 4, epoch=3, seed=7))
    assert [len(batch) for batch in whole] == [4, 4, 2] and len(EpochBatches(10, 4, epoch=3, seed=7)) == 3
    assert sorted(index for batch in whole for _, index, _ in batch) == list(range(10))
    assert {epoch for batch in whole for epoch, _, _ in batch} == {3}
    assert [weight for batch in whole for _, _, weight in batch] == [0.25] * 8 + [0.5] * 2
    later = EpochBatches(10, 4, epoch=3, seed=7, start=1)
    assert list(later) == whole[1:] and len(later) == 2
    assert list(EpochBatches(10, 4, epoch=4, seed=7)) != whole


@pytest.mark.parametrize("processes, pieces", [(2, 1), (1, 2), (3, 1), (2, 2), (3, 2)])
def test_processes_and_pieces_split_the_batches_of_one_process(processes, pieces):
    """Each sample comes once, in its batch, for any numbers; an empty piece has a sample of weight 0."""
    whole = list(EpochBatches(20, 7, epoch=1, seed=5))  # batches of 7, 7, 6
    whole.append(list(EpochBatches(15, 7, epoch=1, seed=5))[2])  # and one of a single sample
    shares = []
    for rank in range(processes):
        own = EpochBatches(20, 7, 1, 5, 0, rank, processes, pieces)
        last = EpochBatches(15, 7, 1, 5, 2, rank, processes, pieces)
        assert len(own) == 3 * pieces and len(last) == pieces
        shares.append([*own, *last])
    for number, batch in enumerate(whole):
        parts = [piece for share in shares for piece in share[number * pieces : (number + 1) * pieces]]
        assert all(parts) and [key for part in parts for key in part if key[2]] == batch
        assert {key for part in parts for key in part if not key[2]} <= {(*batch[0][:2], 0.0)}
        sizes = [sum(key[2] > 0 for key in part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
