"""Improved iterative methods for the risk parity portfolio (Choi and Chen 2022)."""
