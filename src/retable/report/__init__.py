"""What a table becomes: Markdown, CSV, JSON, and the files kept under results/."""
