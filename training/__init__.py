"""Training: settings, recipes, one epoch, the state and the folder of a run."""
