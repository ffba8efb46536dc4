"""How runs are doing: their states, progress and the time left."""
