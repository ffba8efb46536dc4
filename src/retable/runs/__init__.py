"""A run and what it leaves: identity, folder, attempts, records."""
