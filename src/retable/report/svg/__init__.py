"""Figures drawn as SVG, the same bytes each time."""
