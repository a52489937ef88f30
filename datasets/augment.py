"""Crops and flips, the same for spikes and pictures; samples as tensors; batches by epoch and index."""

import numpy as np
import torch
from torch.utils.data import Dataset

from swinsf.utils.cli import UserError
from swinsf.utils.timing import STEPS

# A tag before the run's seed keeps the random numbers of order, crops and scenes (SCENE_DRAWS) independent.
TAG_ORDER, TAG_CROP = 1, 2
DRAWS = 8  # version of the samples that a seed gives; a run resumes only under the version it began with


def to_item(sample):
    """Convert a sample's arrays to tensors.

    `spikes` become (41, H, W) uint8 of 0 and 1; the sample's pictures (`middle`, `left`, `right`) (1, H, W)
    float32 in 0..255; a camera's `dark` and `response` (see `SwinSF`) (1, H, W) float32. `name`, `rate`, and
    for simulated scenes `white` and `kind`, are unchanged.
    """
    item = dict(sample)
    for key, array in sample.items():
        if isinstance(array, np.ndarray):
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            item[key] = tensor if key == "spikes" else tensor[None].float()
    return item


def crop_and_flip(sample, crop_size, rng):
    """Crop spikes and pictures to the same random square, and flip both at random.

    crop_size: side of the square, or 0 for the whole frame.
    """
    height, width = sample["spikes"].shape[-2:]
    rows, columns = slice(None), slice(None)
    if crop_size:
        if crop_size > min(height, width):
            raise UserError(
                f"--crop_size {crop_size}: larger than {sample['name']}, {height}x{width}; use a smaller one"
            )
        top, left = rng.integers(0, height - crop_size + 1), rng.integers(0, width - crop_size + 1)
        rows, columns = slice(top, top + crop_size), slice(left, left + crop_size)
    axes = [axis for axis in (-2, -1) if rng.random() < 0.5]
    return {
        key: np.flip(value[..., rows, columns], axes) if isinstance(value, np.ndarray) else value
        for key, value in sample.items()
    }


def pack(spikes):
    """Spikes (41, H, W) -> bits (6, H, W) uint8, eight steps per byte: a seventh of the data to transfer."""
    return np.packbits(spikes, axis=0)


def unpack(packed):
    """The inverse of `pack`, on any device: (B, 6, H, W) -> spikes (B, 41, H, W) uint8 of 0 and 1."""
    shifts = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8).view(8, 1, 1)
    bits = packed.unsqueeze(2) >> shifts & 1  # (B, 6, 8, H, W)
    return bits.flatten(1, 2)[:, :STEPS]


class Augmented(Dataset):
    """A dataset with random crops and flips, indexed by the keys of `EpochBatches`.

    Crop and flips depend only on (seed, epoch, index), not on workers, processes or earlier reads, so a
    resumed run sees the same samples as an uninterrupted one. Items have packed spikes (see `pack`) and
    `weight`, the sample's share of its batch.
    """

    def __init__(self, dataset, crop_size, seed):
        self.dataset, self.crop_size, self.seed = dataset, crop_size, seed

    def __getitem__(self, key):
        epoch, index, weight = key
        rng = np.random.default_rng([TAG_CROP, self.seed, epoch, index])
        sample = crop_and_flip(self.dataset.read(index, epoch), self.crop_size, rng)
        return {**to_item({**sample, "spikes": pack(sample["spikes"])}), "weight": weight}


class EpochBatches:
    """Batch sampler for `Augmented`: one epoch, shuffled by (seed, epoch), from batch `start` on.

    Each batch is split among `processes` processes; this one is number `rank`. Each share is split again into
    consecutive `pieces`, which `len` counts. A key is (epoch, index, weight), with weight 1 / size of the
    whole batch. If the last batch is too small for all pieces, an empty piece gets the batch's first sample
    with weight 0, because every process must take part.
    """

    def __init__(self, length, batch_size, epoch, seed, start=0, rank=0, processes=1, pieces=1):
        self.length, self.batch_size, self.seed = length, batch_size, seed
        # indices of this process's pieces of a batch
        self.shares = range(rank * pieces, (rank + 1) * pieces)
        self.pieces = processes * pieces
        self.set_epoch(epoch, start)

    def set_epoch(self, epoch, start=0):
        """Switch to an epoch, from batch `start` on. Persistent workers follow at the next `iter`."""
        self.epoch, self.start = epoch, start
        self.order = np.random.default_rng([TAG_ORDER, self.seed, epoch]).permutation(self.length)

    def __len__(self):
        return (-(-len(self.order) // self.batch_size) - self.start) * len(self.shares)

    def __iter__(self):
        for first in range(self.start * self.batch_size, len(self.order), self.batch_size):
            batch = self.order[first : first + self.batch_size].tolist()
            for share in self.shares:
                own = batch[len(batch) * share // self.pieces : len(batch) * (share + 1) // self.pieces]
                keys = [(self.epoch, index, 1 / len(batch)) for index in own]
                yield keys or [(self.epoch, batch[0], 0.0)]
