"""Improvable gap balancing for multi-task learning: data, methods, module."""
