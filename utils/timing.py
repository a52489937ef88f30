"""Numbers that data, network and baselines share."""

STEPS = 41  # steps of the stream that a picture is made from
KEY_FRAMES = {"left": 13, "middle": 20, "right": 27}  # output -> index of the step that it shows
KEY_IDS = {step + 1: output for output, step in KEY_FRAMES.items()}  # ids in file names count steps from 1
SIDE_STEPS = 28  # of the 41, what the left (first) and the right (last) stream see
RATE = 0.6  # firing rate at grey level 255 in spikes per step, as measured on spike-REDS
STRIDE = 20  # steps from one picture of a recording to the next, by default
LEAST_SIDE = 20  # pixels that a picture has at least for the network to see it
