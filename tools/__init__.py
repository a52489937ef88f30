"""Benchmarks, the table of results and other tools for developers. Run as python -m tools.NAME."""
