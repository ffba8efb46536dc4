"""R-learning as inverse-variance weighting of pseudo-outcomes (Fisher 2024)."""
