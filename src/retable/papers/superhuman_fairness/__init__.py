"""Superhuman fairness: decisions that dominate reference decisions (Memarrast et al. 2023)."""
