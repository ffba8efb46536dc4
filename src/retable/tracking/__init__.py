"""Telling W&B of runs. Local records stay the truth; nothing here can hurt a run."""
