"""Shared helpers: command line, files, processes. Imports no other package of swinsf."""
