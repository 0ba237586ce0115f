"""Whole clusters and dozens of clients in one process, lived from a seed: `readback sim` and tests/simulation."""
