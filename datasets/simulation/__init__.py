"""Scenes and sensors: photographs or videos -> moving light -> spikes."""
