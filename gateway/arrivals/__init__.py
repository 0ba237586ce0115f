"""Arrival times of a node's trips: what `core.trip.arriving` decides, done."""
