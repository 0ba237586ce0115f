"""What of an alert is pushed: read strictly, few words, ids that are the same for the same stop."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.push.alert import Alert, collapse_id, facts, minutes, read, text, title

BODY: dict[str, Any] = {
    "trip": "trip:9",
    "stop": "home",
    "threshold_s": 600,
    "eta": "2026-11-21T06:40:00Z",
    "low": "2026-11-21T06:38:00Z",
    "high": "2026-11-21T06:43:00Z",
    "name": "Home",
    "push": True,
}


def of(**changed: object) -> Alert:
    found = read({**BODY, **changed})
    assert isinstance(found, Alert), found
    return found


def test_what_is_read() -> None:
    """All of it, and of what may be left out nothing where it is no text or no time."""
    assert of() == Alert("trip:9", "home", 600, 1_795_243_200_000, "Home", BODY["low"], BODY["high"])
    bare = of(low=None, high="soon", name=7, stop=3)
    assert (bare.low, bare.high, bare.name, bare.stop) == ("", "", "", "3")
    assert of(name="x" * 200).name == "x" * 80


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"trip": None}, "trip"),
        ({"trip": ""}, "trip"),
        ({"trip": "t" * 161}, "trip"),
        ({"stop": True}, "stop"),
        ({"stop": {}}, "stop"),
        ({"stop": "s" * 161}, "stop"),
        ({"threshold_s": True}, "threshold_s"),
        ({"threshold_s": "600"}, "threshold_s"),
        ({"threshold_s": 0}, "threshold_s"),
        ({"threshold_s": 86_401}, "threshold_s"),
        ({"eta": "soon"}, "eta is no RFC 3339"),
        ({"eta": None}, "eta is no RFC 3339"),
    ],
)
def test_what_cannot_be_read(changed: dict[str, Any], says: str) -> None:
    """Said in words that name the field."""
    found = read({**BODY, **changed})
    assert isinstance(found, str)
    assert found.startswith(says)


def test_words() -> None:
    """Minutes as people count them, never none; and the best name that there is."""
    assert title(of()) == "Arriving in about 10 minutes"
    assert title(of(threshold_s=65)) == "Arriving in about 1 minute"
    assert minutes(of(threshold_s=5)) == 1
    assert text(of()) == "Home"
    assert text(of(name="")) == "home"
    assert text(of(name="", stop="")) == "9"
    assert text(of(name="", stop="", trip="nine")) == "nine"


def test_facts_are_text() -> None:
    """For the app: what is empty is left out, and times are RFC 3339."""
    assert facts(of(low=None)) == {
        "type": "trip.alert",
        "trip": "trip:9",
        "stop": "home",
        "threshold_s": "600",
        "eta": "2026-11-21T06:40:00.000Z",
        "high": "2026-11-21T06:43:00Z",
    }


@given(st.text(), st.text(max_size=160), st.text(min_size=1, max_size=160))
def test_an_id_is_a_stops_own(tenant: str, stop: str, trip: str) -> None:
    """Whatever the threshold and the time; short and printable; another stop, trip or tenant has another."""
    alert = of()._replace(trip=trip, stop=stop)
    found = collapse_id(tenant, alert)
    assert found == collapse_id(tenant, alert._replace(threshold_s=300, eta_ms=1, name="other"))
    assert found.isascii()
    assert len(found) == 36
    others = {
        collapse_id(tenant + "x", alert),
        collapse_id(tenant, alert._replace(stop=stop + "x")),
        collapse_id(tenant, alert._replace(trip=trip + "x")),
    }
    assert found not in others
