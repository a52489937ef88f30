"""The ground floor: metrics, checkpoints, devices, inference, results. Imports neither models nor datasets."""
