"""A tiny real training: the harness's own test paper."""
