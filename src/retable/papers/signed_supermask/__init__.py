"""Koster, Grothe, Rettinger: Signing the Supermask: Keep, Hide, Invert (ICLR 2022)."""
