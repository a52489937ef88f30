"""The ground floor: metrics, checkpoints, devices, runs and results. Imports neither models nor datasets."""
