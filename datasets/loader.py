"""The DataLoader of training and evaluation."""

import torch
from torch.utils.data import DataLoader

from swinsf.datasets import start_worker


def make_loader(dataset, workers, device, **options):
    """A DataLoader that leaves torch's global random state alone, whatever the number of workers."""
    return DataLoader(
        dataset,
        num_workers=workers,
        generator=torch.Generator(),
        worker_init_fn=start_worker,
        pin_memory=device.type == "cuda",
        **options,
    )
