"""Utilities that any other part may use, and that use no other part."""
