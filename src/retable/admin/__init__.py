"""Occasional administration: check the machine, free disk space, take a network out."""
