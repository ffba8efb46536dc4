"""Networks that papers share, a file per family.

Nothing is imported here, so that a network that is added makes no paper's records stale.
"""
