"""core.trip.along: where stops lie on their way."""

from __future__ import annotations

import pytest

from core.geo.route import Route, make_route
from core.trip.along import stops_along
from tests.trips_way import place


def test_stops_lie_where_the_way_passes_them_in_their_order() -> None:
    """A way out and back passes a place twice: the first stop is there on the way out, the second on the way back."""
    there = [place(nth * 100.0) for nth in range(11)]
    way = make_route([*there, *reversed(there[:-1])])
    assert isinstance(way, Route)
    found = stops_along(
        way, [("out", *place(450, 10)), ("turn", *place(1_000)), ("back", *place(450, 10)), ("end", *there[0])]
    )
    assert [stop.at_m for stop in found] == pytest.approx([450, 1_000, 1_550, 2_000], abs=1)
