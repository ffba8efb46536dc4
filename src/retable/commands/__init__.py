"""What the command line offers, in groups."""
