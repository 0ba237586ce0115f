"""Arrival times at the edge: training, replay and score, for `gateway.cli_eta`. What is decided is in core/geo."""
