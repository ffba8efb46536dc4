"""Statistics of a table: intervals, verdicts, claims, and when to stop."""
