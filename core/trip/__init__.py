"""Trips: what is planned, what has happened, who is told when; decided from a stream's own events, beside the flights.

`trips` is the machine, `alerts` says when somebody is to be told, `export` writes a track for other programs.
"""
