"""Training: settings, recipes, one epoch, and a run's state and folder."""
