"""A recording that comes through a pipe."""

import numpy as np

from swinsf.datasets.dat import LOOK, check_size, likely_bit_order, unpack
from swinsf.datasets.size import describe_better, describe_bit_order
from swinsf.recordings.beginnings import GZIP, refuse_other_kinds
from swinsf.utils.cli import UserError


class PipedSpikes:
    """A `.dat` stream that comes through a pipe: steps are read in order, each once; how many there are shows
    at the end."""

    def __init__(self, file, camera, bitorder=None):
        self.file, self.camera, self.position, self.given = file, camera, 0, bitorder
        self.bitorder = bitorder or "little"
        self.step_bytes, rest = divmod(camera.height * camera.width, 8)
        check_size("standard input", camera.height, camera.width)
        if rest or not self.step_bytes:
            raise UserError(
                f"standard input: a step of {camera.height}x{camera.width} is no whole number of bytes; check both"
            )
        self.shape = None, camera.height, camera.columns
        self.left_over = 0
        self.ready = b""  # bytes that `peek` has read and no slice yet

    def __getitem__(self, steps):
        """Steps start..stop-1 as uint8 (t, H, W), or as many as come; start is no step that was read
        before."""
        if steps.start < self.position:
            raise ValueError(f"step {steps.start} of a pipe that is at step {self.position}")
        self.read((steps.start - self.position) * self.step_bytes, keep=False)
        packed = self.read((steps.stop - steps.start) * self.step_bytes)
        whole = len(packed) // self.step_bytes
        self.left_over += len(packed) % self.step_bytes
        self.position = steps.start + whole
        return self.unpack(packed)

    def unpack(self, packed):
        """The whole steps in bytes."""
        packed = np.frombuffer(packed, np.uint8, len(packed) // self.step_bytes * self.step_bytes)
        spikes = unpack(packed, self.camera.height, self.camera.width, self.camera.flip, self.bitorder)
        return spikes[..., : self.camera.columns]

    def peek(self, steps):
        """The next steps as uint8 (t, H, W), or as many as come; they are kept for the slices that are to
        come."""
        return self.unpack(self.peek_bytes(steps * self.step_bytes))

    def peek_bytes(self, count):
        """The next bytes, which are kept."""
        ready, self.ready = self.ready, b""
        self.ready = ready + self.read(count - len(ready))
        return self.ready[:count]

    def look(self):
        """Lines of text on what the first steps look like; finds out the bit order where it is not given."""
        packed = self.peek_bytes(LOOK * self.step_bytes)
        refuse_other_kinds("standard input", packed[:64])
        if packed.startswith(GZIP):
            raise UserError("standard input: is a gzip file, by its first bytes; name the file, or take zcat")
        whole = np.frombuffer(packed, np.uint8, len(packed) // self.step_bytes * self.step_bytes)
        if not self.given and len(whole):
            self.bitorder = likely_bit_order(whole, self.camera.height, self.camera.width)
        lines = describe_better("standard input", packed, self.camera) if len(whole) else []
        return lines + describe_bit_order("standard input", self.bitorder, self.given)

    def read(self, count, keep=True):
        """`count` bytes, or as many as come before the end."""
        parts = [self.ready[:count]] if keep else []
        first, self.ready = len(self.ready[:count]), self.ready[count:]
        count -= first
        while count > 0:
            part = self.file.read(min(count, 1 << 24))
            if not part:
                break
            count -= len(part)
            if keep:
                parts.append(part)
        return b"".join(parts)
