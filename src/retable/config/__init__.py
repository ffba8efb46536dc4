"""How a run is described: the schema of its config, composing it, and every refusal."""
