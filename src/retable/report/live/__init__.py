"""A table's runs as they go on, on a terminal."""
