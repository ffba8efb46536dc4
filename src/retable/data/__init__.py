"""Data that papers share: the base DataModule, ordering, mirror and cache."""
