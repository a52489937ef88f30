"""Benchmarks, the table of results, arithmetic: what a user of the network never needs. Run as python -m
tools.NAME."""
