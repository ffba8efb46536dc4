"""Runs on a SLURM cluster: submit, do, follow."""
