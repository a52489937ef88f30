"""Constants shared by data, network and baselines."""

STEPS = 41  # steps in a window, from which pictures are made
KEY_FRAMES = {"left": 13, "middle": 20, "right": 27}  # output -> index of the step that it shows
KEY_IDS = {step + 1: output for output, step in KEY_FRAMES.items()}  # ids in file names count steps from 1
SIDE_STEPS = 28  # steps of the window that the left stream (the first ones) and the right (the last ones) see
RATE = 0.6  # firing rate at grey level 255 in spikes per step, as measured on spike-REDS
STRIDE = 20  # default number of steps between pictures of a recording
MOST_BIN = 1000  # largest number of steps that are summed to a bin
LEAST_SIDE = 20  # smallest height and width, in pixels, that the network accepts
