"""Recordings of spike cameras: open, survey, repair and correct them, and plan their pictures."""

from swinsf.datasets.size import guess_camera
from swinsf.recordings.calibration import Calibration, Pixels, correct, load_calibration, look_at_pixels
from swinsf.recordings.opening import PipedSpikes, open_recording
from swinsf.recordings.plan import Plan, choose_bin, choose_gain, make_plan
from swinsf.recordings.recording import Recording
from swinsf.recordings.repair import repair
from swinsf.recordings.survey import survey

__all__ = [
    "Calibration",
    "PipedSpikes",
    "Pixels",
    "Plan",
    "Recording",
    "choose_bin",
    "choose_gain",
    "correct",
    "guess_camera",
    "load_calibration",
    "look_at_pixels",
    "make_plan",
    "open_recording",
    "repair",
    "survey",
]
