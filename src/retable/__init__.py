"""Reproduce a paper's table, cell by cell."""

__version__ = "0.1.0"
