"""core.trip.showing: what says nothing new is not written."""

from __future__ import annotations

from core.trip.alerts import Estimate
from core.trip.showing import SHOW_AGAIN_S, SHOW_WIDTH_S, THEN_MAX, Showing
from tests.trips_way import T0


def made(at_s: float = 0.0, eta_s: float = 600.0, wide_s: float = 60.0, source: str = "route") -> Estimate:
    ms = [T0 + round(1000 * seconds) for seconds in (at_s, eta_s, eta_s - wide_s / 2, eta_s + wide_s / 2)]
    return Estimate(ms[0], ms[1], ms[2], ms[3], source)


def test_the_first_is_written_in_whole_seconds() -> None:
    """With its stop, its interval and its source, true since it was made."""
    show = Showing().worth([("home", made(eta_s=600.4, wide_s=61.0))])
    assert show is not None
    assert show.at_ms == T0
    assert show.value == {
        "stop": "home",
        "at": "2026-11-18T11:16:40.000Z",
        "low": "2026-11-18T11:16:10.000Z",
        "high": "2026-11-18T11:17:11.000Z",
        "source": "route",
    }


def test_what_says_the_same_is_not_written() -> None:
    """Until something is new: the second, the source, the stop, the width, one stop less; or half a minute is over."""
    for other in (
        [("home", made(1, 601.0))],
        [("home", made(1, source="learned"))],
        [("gate", made(1))],
        [("home", made(1, wide_s=60.0 + SHOW_WIDTH_S))],
        [("home", made(1)), ("then", made(1, 900.0))],
        [("home", made(SHOW_AGAIN_S))],
    ):
        showing = Showing()
        assert showing.worth([("home", made())]) is not None
        assert showing.worth([("home", made(1, 600.3, 60.0 + SHOW_WIDTH_S - 1))]) is None
        assert showing.worth(other) is not None
        assert showing.worth(other) is None


def test_stops_after_the_next_go_with_it() -> None:
    """As many as are looked at; how far they moved is no news by itself."""
    showing = Showing()
    ahead = [(f"s{nth}", made(0, 600.0 + 60 * nth)) for nth in range(15)]
    show = showing.worth(ahead)
    assert show is not None
    assert [later["stop"] for later in show.value["then"]] == [f"s{nth}" for nth in range(1, THEN_MAX + 1)]
    assert showing.worth([ahead[0], *((stop, made(0, 9_000.0)) for stop, _ in ahead[1:])]) is None
