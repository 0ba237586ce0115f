"""Pushes to phones, as far as no network is needed: what is said, by which rules, and what an answer means."""
