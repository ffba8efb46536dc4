"""Weight decay in over-trained vision networks and in language models (D'Angelo et al. 2024)."""
