"""Recordings of spike cameras: of any kind, their size found out, what they are like."""

from datasets.recordings.arrays import open_array
from datasets.recordings.calibration import Calibration, Pixels, correct, load_calibration, look_at_pixels
from datasets.recordings.crop import crop
from datasets.recordings.listing import list_recordings, output_paths
from datasets.recordings.opening import open_recording
from datasets.recordings.pipes import PipedSpikes
from datasets.recordings.plan import Plan, make_plan
from datasets.recordings.repair import repair
from datasets.recordings.size import guess_camera
from datasets.recordings.survey import choose_bin, choose_exposure, survey

__all__ = [
    "Calibration",
    "PipedSpikes",
    "Pixels",
    "Plan",
    "choose_bin",
    "choose_exposure",
    "correct",
    "crop",
    "guess_camera",
    "list_recordings",
    "load_calibration",
    "look_at_pixels",
    "make_plan",
    "open_array",
    "open_recording",
    "output_paths",
    "repair",
    "survey",
]
