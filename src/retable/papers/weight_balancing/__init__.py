"""Hasegawa, Sato: Exploring Weight Balancing on Long-Tailed Recognition Problem (ICLR 2024)."""
