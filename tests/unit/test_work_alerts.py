"""Trips' alerts become notices: one job each, under keys that are the same when taken again."""

from __future__ import annotations

from core.flight.machine import BY_GATEWAY, Recorded
from gateway.work.alerts import WISHED_MS, Alerts
from gateway.work.ports import Place, Seen

PLACE = Place("acme", 7, "trip:9", 3)
BODY = {"recipient": "user:amy", "stop": "home", "threshold_s": 600, "eta": "2026-11-28T10:00:00.000Z", "push": True}


def seen(seq: int, type: str, **body: object) -> Seen:
    return Seen(100 + seq, Recorded(seq, type, BY_GATEWAY, 1_795_000_000_000 + seq, body))


def test_an_alert_is_one_job_that_notifies_its_recipient() -> None:
    """In their inbox, with the trip's name and all that the alert says; what else happens to a trip is nobody's notice."""
    effects = Alerts().take(
        PLACE, [seen(1, "trip.started"), seen(2, "trip.alert", **BODY), seen(3, "message", text="hi")]
    )
    [task] = effects.tasks
    assert (task.kind, task.tenant, task.due_ms) == ("job", "acme", 1_795_000_000_002)
    assert task.body["do"] == "notify"
    assert task.body["to"] == "user:amy"
    assert task.body["type"] == "trip.alert"
    assert task.body["body"] == {"trip": "trip:9", **BODY}


def test_taken_again_it_is_the_same_job() -> None:
    """A lease that was lost makes nobody be told twice: keys follow from the event."""
    first, again = (Alerts().take(PLACE, [seen(2, "trip.alert", **BODY)]).tasks for _ in range(2))
    assert first == again
    [other] = Alerts().take(PLACE, [seen(4, "trip.alert", **BODY)]).tasks
    assert other.key != first[0].key
    assert other.body["key"] != first[0].body["key"]


def test_recipients_have_lanes_of_their_own() -> None:
    """An inbox that cannot be written to holds up nobody else's."""
    amy, bob = (
        Alerts()
        .take(PLACE, [seen(2, "trip.alert", **BODY), seen(3, "trip.alert", **{**BODY, "recipient": "user:bob"})])
        .tasks
    )
    assert amy.lane != bob.lane


def test_who_asks_to_be_told_makes_one_look() -> None:
    """The device may be silent, and its node gone: a worker looks, once for all that asked in a moment, and not before them."""
    asked = [seen(nth, "trip.recipient", recipient=f"user:u{nth}", stop="home") for nth in (4, 5, 6)]
    [look] = Alerts().take(PLACE, asked).tasks
    assert look.body == {"do": "look", "stream": "trip:9"}
    assert look.due_ms == asked[-1].event.at_ms + WISHED_MS
    [again] = Alerts().take(PLACE, [seen(9, "trip.recipient", recipient="user:z", stop="home")]).tasks
    assert (look.replace, again.replace, again.key) == (True, True, look.key)


def test_trips_alone_are_looked_at() -> None:
    """Flights have no such alerts."""
    assert Alerts().concerns("trip:9")
    assert not Alerts().concerns("flight:QX1")
