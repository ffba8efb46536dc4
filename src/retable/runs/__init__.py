"""What a run is and what it leaves: identity, folder, attempts, records."""
