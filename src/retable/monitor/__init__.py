"""Monitoring of runs: their states, progress and the time left."""
