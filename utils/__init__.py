"""The ground: command line, files, processes. Imports no other room."""
