"""How a run computes: build, fit, test, checkpoints, seeds, several devices."""
