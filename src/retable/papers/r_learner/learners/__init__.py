"""Learners that estimate the nuisances and the effect."""
