"""Recordings of spike cameras: of any kind, their size found out, what they are like."""

from datasets.recordings.arrays import open_array
from datasets.recordings.opening import open_recording
from datasets.recordings.pipes import PipedSpikes
from datasets.recordings.size import guess_camera
from datasets.recordings.survey import choose_bin, choose_exposure, survey

__all__ = [
    "PipedSpikes",
    "choose_bin",
    "choose_exposure",
    "guess_camera",
    "open_array",
    "open_recording",
    "survey",
]
