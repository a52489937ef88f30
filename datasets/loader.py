"""The DataLoader for training and evaluation."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from swinsf.datasets import start_worker


def make_loader(dataset: Dataset, workers: int, device: torch.device, **options) -> "Loader":
    """A `Loader` that leaves torch's global random state unchanged, with any number of workers.

    dataset: its items are dicts, see `augment.to_item`. options: for DataLoader; batch_size=None gives single
    samples.
    """
    return Loader(
        dataset,
        device,
        num_workers=workers,
        generator=torch.Generator(),
        worker_init_fn=start_worker,
        collate_fn=to_arrays,
        **options,
    )


class Loader(DataLoader):
    """A DataLoader whose workers send samples through pipes, as numpy arrays.

    PyTorch sends tensors through shared memory and sockets. That hangs silently if the path of TMPDIR is
    long, and breaks if /dev/shm is small, as in containers.
    """

    def __init__(self, dataset: Dataset, device: torch.device, **options):
        super().__init__(dataset, **options)
        self.pinned = device.type == "cuda"

    def __iter__(self):
        return map(self.finish, super().__iter__())

    def finish(self, samples):
        """Turn the output of `to_arrays` into a sample or a batch of tensors, pinned for CUDA."""
        batch = to_tensors(samples)
        if self.batch_sampler is not None:
            batch = default_collate(batch)
        if self.pinned:
            batch = {k: v.pin_memory() if torch.is_tensor(v) else v for k, v in batch.items()}
        return batch


def to_arrays(samples):
    """A sample, or a list of samples, with numpy arrays in place of tensors."""
    if isinstance(samples, list):
        return [to_arrays(sample) for sample in samples]
    return {k: v.numpy() if torch.is_tensor(v) else v for k, v in samples.items()}


def to_tensors(samples):
    """The reverse of `to_arrays`."""
    if isinstance(samples, list):
        return [to_tensors(sample) for sample in samples]
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in samples.items()}
