"""Rendering of tables as Markdown, CSV, JSON, and the files kept under results/."""
