"""A table's dashboard in W&B: a workspace and a report."""
