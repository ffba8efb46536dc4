"""Computation of a run: build, fit, test, checkpoints, seeds, several devices."""
