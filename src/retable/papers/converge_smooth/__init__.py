"""Zhao et al.: Fast Adversarial Training with Smooth Convergence (ICCV 2023)."""
