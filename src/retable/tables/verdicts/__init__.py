"""What the numbers of a table say: intervals, verdicts, claims, and when to stop."""
