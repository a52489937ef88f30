"""Recordings of spike cameras: of any kind, their size found out, what they are like."""

from datasets.recordings.arrays import open_array
from datasets.recordings.opening import open_recording
from datasets.recordings.pipes import PipedSpikes
from datasets.recordings.size import guess_camera

__all__ = ["PipedSpikes", "guess_camera", "open_array", "open_recording"]
