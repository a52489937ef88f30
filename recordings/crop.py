"""A part of each picture of a recording."""

from swinsf.utils.cli import UserError


def crop(spikes, rows, columns, name="the recording"):
    """The rows and columns, (start, stop) with None for the edge, of a recording (T, H, W), read as it is
    sliced.

    Raises UserError where they are none of the recording's.
    """
    height, width = spikes.shape[-2:]
    spans = [slice(*span).indices(size)[:2] for span, size in ((rows, height), (columns, width))]
    for span, (start, stop), size in zip((rows, columns), spans, (height, width)):
        asked = [size if edge is None else edge for edge in span[1:]]
        if stop - start < 1 or asked[0] > size:
            raise UserError(
                f"--crop: {start}:{asked[0]} of {size} pixels of {name}, {height}x{width}; take a part of them"
            )
    return (Cropped if hasattr(spikes, "__len__") else PipedCropped)(
        spikes, *(slice(*span) for span in spans)
    )


class PipedCropped:
    """The part, of a recording whose length is not known. What it has besides steps is the recording's."""

    def __init__(self, spikes, rows, columns):
        self.spikes, self.rows, self.columns = spikes, rows, columns
        self.shape = (spikes.shape[0], rows.stop - rows.start, columns.stop - columns.start)

    def __getitem__(self, steps):
        return self.spikes[steps][..., self.rows, self.columns]

    def __getattr__(self, name):
        if name == "peek":
            peek = self.spikes.peek  # AttributeError where it is no pipe
            return lambda steps: peek(steps)[..., self.rows, self.columns]
        return getattr(self.spikes, name)


class Cropped(PipedCropped):
    """The part of a recording whose length is known."""

    def __len__(self):
        return self.shape[0]
