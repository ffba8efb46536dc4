"""The command line; each command calls one function of another layer."""
