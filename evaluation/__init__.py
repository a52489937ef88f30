"""Evaluation: reconstruct and score a dataset, metrics, tables, the report page."""
