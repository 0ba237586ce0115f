"""Flights: what happens to one is a command that becomes events of its stream, or is refused with a reason.

Pure. `core.flight.machine` has the nouns, `core.flight.registry` says which machine decides in a stream.
"""
