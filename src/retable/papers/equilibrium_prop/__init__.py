"""Laborieux, Zenke: Improving equilibrium propagation without weight symmetry (ICLR 2024)."""
