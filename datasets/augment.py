"""Crop and flips, the same for spikes and pictures, and the step from uint8 arrays to an item."""

import numpy as np
import torch
from torch.utils.data import Dataset

from swinsf.utils.cli import UserError
from swinsf.utils.timing import STEPS

# What is drawn from a run's seed has a tag in front, so that no two kinds of draws share a stream of numbers;
# scenes have 3.
TAG_ORDER, TAG_CROP = 1, 2
DRAWS = 6  # version of what follows from a seed; a run is resumed only under the version that it began with


def to_item(sample):
    """A sample of arrays -> the item dict of tensors.

    `spikes` (41, H, W) uint8 of 0 and 1; the pictures `middle`, `left`, `right`, as far as the sample has
    them, (1, H, W) float32 in 0..255; `dark` and `response` of cameras, see `SwinSF`, in the same shape;
    `name`, `rate`, and `white` and `kind` of simulated scenes, as they are.
    """
    item = dict(sample)
    for key, array in sample.items():
        if isinstance(array, np.ndarray):
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            item[key] = tensor if key == "spikes" else tensor[None].float()
    return item


def crop_and_flip(sample, crop_size, rng):
    """Cut the same random square of crop_size (0: the whole frame) out of spikes and pictures, mirrored at
    random."""
    height, width = sample["spikes"].shape[-2:]
    rows, columns = slice(None), slice(None)
    if crop_size:
        if crop_size > min(height, width):
            raise UserError(
                f"--crop_size {crop_size} is larger than {sample['name']}, {height}x{width}; take a smaller one"
            )
        top, left = rng.integers(0, height - crop_size + 1), rng.integers(0, width - crop_size + 1)
        rows, columns = slice(top, top + crop_size), slice(left, left + crop_size)
    axes = [axis for axis in (-2, -1) if rng.random() < 0.5]
    return {
        key: np.flip(value[..., rows, columns], axes) if isinstance(value, np.ndarray) else value
        for key, value in sample.items()
    }


def pack(spikes):
    """Spikes (41, H, W) as bits, eight steps a byte: (6, H, W) uint8, a seventh of the way from worker to
    GPU."""
    return np.packbits(spikes, axis=0)


def unpack(packed):
    """What `pack` made, as a tensor (B, 6, H, W) on any device -> spikes (B, 41, H, W) uint8 of 0 and 1."""
    shifts = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8).view(8, 1, 1)
    bits = packed.unsqueeze(2) >> shifts & 1  # (B, 6, 8, H, W)
    return bits.flatten(1, 2)[:, :STEPS]


class Augmented(Dataset):
    """Training's view of a dataset: keys are those of `EpochBatches`; a crop and flips are drawn from (seed,
    epoch, index).

    Nothing depends on workers, on processes or on what was read before, so that a resumed run sees the very
    samples of an unbroken one. Items have their spikes as `pack` leaves them, and `weight` too, the sample's
    part of its batch.
    """

    def __init__(self, dataset, crop_size, seed):
        self.dataset, self.crop_size, self.seed = dataset, crop_size, seed

    def __getitem__(self, key):
        epoch, index, weight = key
        rng = np.random.default_rng([TAG_CROP, self.seed, epoch, index])
        sample = crop_and_flip(self.dataset.read(index, epoch), self.crop_size, rng)
        return {**to_item({**sample, "spikes": pack(sample["spikes"])}), "weight": weight}


class EpochBatches:
    """Batch sampler for `Augmented`: the samples of one epoch, shuffled by (seed, epoch), from batch `start`
    on.

    Each batch is shared by `processes` processes, of which this is number `rank`, and each share is cut into
    `pieces`, one after the other: `len` counts pieces. A key is (epoch, index, weight), weight 1 / the
    samples of the whole batch. Where the last batch has too few samples for all, an empty piece has the
    batch's first sample at weight 0, since all must take part.
    """

    def __init__(self, length, batch_size, epoch, seed, start=0, rank=0, processes=1, pieces=1):
        self.length, self.batch_size, self.seed = length, batch_size, seed
        # of all the pieces of a batch, those of this process
        self.shares = range(rank * pieces, (rank + 1) * pieces)
        self.pieces = processes * pieces
        self.set_epoch(epoch, start)

    def set_epoch(self, epoch, start=0):
        """Give the batches of an epoch from `start` on; a loader whose workers live on takes them at its next
        `iter`."""
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
