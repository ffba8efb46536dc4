"""Improvable gap balancing for multi-task learning (Dai, Fei and Lu, UAI 2023)."""
