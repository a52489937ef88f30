"""Train for 2,000 steps, and check that memory and open files stay as they were after 200.

    python -m tests.robustness.soak

Epochs have 200 steps, with workers, saves within, and validation after each. The training process is measured
at the end of each epoch. Linux only. The exit status is 1 if either grew by more than 2 %.
"""

import gc
import os
import sys
import tempfile
from pathlib import Path

import train
from tests.conftest import write_photos, write_tiny_weights

EPOCHS, STEPS = 10, 200  # number of epochs, and steps in each
MARGIN = 0.02


def look():
    """(resident memory of this process in MB, number of its open files)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd")) - 1  # less the listing


def main():
    seen, finish_epoch = [], train.finish_epoch

    def finish_and_look(*arguments):
        finished = finish_epoch(*arguments)
        seen.append(look())
        return finished

    train.finish_epoch = finish_and_look
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        arguments = [
            "--dataset_path",
            f"photos:{write_photos(folder / 'photos')}",
            "--recipe",
            "modern",
            "--device",
            "cpu",
        ]
        arguments += [
            "--load_model",
            write_tiny_weights(folder / "tiny.pth"),
            "--crop_size",
            20,
            "--batch_size",
            2,
        ]
        arguments += [
            "--epoch_length",
            2 * STEPS,
            "--epochs",
            EPOCHS,
            "--workers",
            2,
            "--val_every",
            1,
            "--keep_last",
            2,
        ]
        train.main(
            [*map(str, arguments), "--save_minutes", "0.01", "--save_path", place, "--run_name", "run"]
        )
    for number, (memory, files) in enumerate(seen, 1):
        print(f"after {number * STEPS:5d} steps: {memory:7.1f} MB resident, {files} open files")
    grown = False
    for name, early, late in zip(("resident memory", "open files"), seen[0], seen[-1]):
        print(f"{name}: {late / early - 1:+.2%} from step {STEPS} to step {len(seen) * STEPS}")
        grown = grown or late > (1 + MARGIN) * early
    return int(grown or len(seen) < EPOCHS)


if __name__ == "__main__":
    sys.exit(main())
