"""Crop and flips, the same for spikes and pictures, and the step from uint8 arrays to an item."""

import numpy as np
import torch
from torch.utils.data import Dataset

from utils.cli import UserError


def to_item(sample):
    """A sample of uint8 arrays -> the item dict of tensors.

    `spikes` (41, H, W) uint8 of 0 and 1, a quarter of the way from worker to GPU that floats would take; the pictures
    `middle`, `left`, `right`, as far as the sample has them, (1, H, W) float32 in 0..255; `name` as it is.
    """
    item = dict(sample)
    for key, array in sample.items():
        if isinstance(array, np.ndarray):
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            item[key] = tensor if key == "spikes" else tensor[None].float()
    return item


def crop_and_flip(sample, crop_size, rng):
    """Cut the same random square of crop_size (0: the whole frame) out of spikes and pictures, mirrored at random."""
    height, width = sample["spikes"].shape[-2:]
    rows, columns = slice(None), slice(None)
    if crop_size:
        if crop_size > min(height, width):
            raise UserError(f"--crop_size {crop_size} is larger than {sample['name']}, {height}x{width}; take a smaller one")
        top, left = rng.integers(0, height - crop_size + 1), rng.integers(0, width - crop_size + 1)
        rows, columns = slice(top, top + crop_size), slice(left, left + crop_size)
    axes = [axis for axis in (-2, -1) if rng.random() < 0.5]
    return {
        key: np.flip(value[..., rows, columns], axes) if isinstance(value, np.ndarray) else value for key, value in sample.items()
    }


class Augmented(Dataset):
    """Training's view of a dataset: keys are (epoch, index), and a crop and flips are drawn from (seed, epoch, index).

    Nothing depends on workers or on what was read before, so that a resumed run sees the very samples of an unbroken one.
    """

    def __init__(self, dataset, crop_size, seed):
        self.dataset, self.crop_size, self.seed = dataset, crop_size, seed

    def __getitem__(self, key):
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        return to_item(crop_and_flip(self.dataset.read(index, epoch), self.crop_size, rng))


class EpochBatches:
    """Batch sampler for `Augmented`: the keys (epoch, index) of one epoch, shuffled by (seed, epoch), from a batch on."""

    def __init__(self, length, batch_size, epoch, seed, start=0):
        self.epoch, self.batch_size = epoch, batch_size
        self.order = np.random.default_rng([seed, epoch]).permutation(length)[start * batch_size :]

    def __len__(self):
        return -(-len(self.order) // self.batch_size)

    def __iter__(self):
        for first in range(0, len(self.order), self.batch_size):
            yield [(self.epoch, int(index)) for index in self.order[first : first + self.batch_size]]
