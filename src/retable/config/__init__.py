"""Description of a run: the schema of its config, its composition, and every refusal."""
