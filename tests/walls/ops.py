"""Every op of the socket, with what it asks `core.policy` for. One that is not here fails `test_matrix.py`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from core.policy import StreamAction
from tests.walls.stage import OTHER, Action, Everybody, Place, Whose, World, at_trip, in_flight

Fields = Callable[[World, Whose, Place], dict[str, Any]]


class Ask(NamedTuple):
    """One way to say an op, and whose it is. ``denied``: the code of an answer that is not `forbidden` all the same."""

    op: str
    action: Action
    fields: Fields
    what: str = ""
    denied: str = "forbidden"
    streamless: bool = False
    at: Callable[[Place], Place] = lambda place: place
    """The place whose stream is asked for, where that is another than the place's own."""


def _nothing(world: World, whose: Whose, place: Place) -> dict[str, Any]:
    return {}


def _stream(**fields: Any) -> Fields:
    return lambda world, whose, place: {"stream": place.stream, **fields}


def _send(type: str, ref: str = "", **body: Any) -> Fields:
    """A send; ``ref``: of one's own planted event, or the other's."""

    def fields(world: World, whose: Whose, place: Place) -> dict[str, Any]:
        content: dict[str, Any] = {"text": "said", **body}
        if ref:
            content["ref"] = world.seq(whose, place.stream, place.principal if ref == "own" else OTHER)
        return {"stream": place.stream, "key": str(uuid.uuid4()), "type": type, "body": content}

    return fields


def _command(world: World, whose: Whose, place: Place) -> dict[str, Any]:
    return {
        "stream": in_flight(place).stream,
        "type": "gate",
        "key": str(uuid.uuid4()),
        "body": {"arrival": {"gate": "4"}},
    }


def _trip_command(world: World, whose: Whose, place: Place) -> dict[str, Any]:
    return {"stream": at_trip(place).stream, "type": "start", "key": str(uuid.uuid4()), "body": {}}


FIX: Final = {"seq": 1, "at": "2026-11-21T09:30:00.000Z", "lat": -33.9, "lon": 151.2, "acc": 5}

A = StreamAction
ASKS: Final = (
    Ask("hello", A.FOLLOW, _nothing),
    Ask("resume", A.FOLLOW, _nothing),
    Ask("ping", Everybody.PUBLIC, _nothing, streamless=True),
    Ask("refresh", Everybody.KNOWN, _nothing, streamless=True),
    Ask("sub", A.FOLLOW, _stream(after=0)),
    Ask("history", A.FOLLOW, _stream(limit=3)),
    Ask("presence", A.PRESENCE, _stream()),
    Ask("presence", A.PRESENCE, _stream(of=[OTHER]), "of somebody"),
    Ask("mark", A.MARK, _stream(delivered=1, read=1)),
    Ask("signal", A.TYPE, _stream(kind="typing", value=True), "typing"),
    Ask("signal", Everybody.KNOWN, _stream(kind="presence", value="away"), "presence", streamless=True),
    Ask("send", A.SEND, _send("message"), "a message"),
    Ask("send", A.SEND, _send("react", "others", emoji="+", on=True), "a reaction"),
    Ask("send", A.SEND, _send("edit", "own"), "an edit of one's own"),
    Ask("send", Everybody.NOBODY, _send("edit", "others"), "an edit of another's"),
    Ask("send", A.DELETE, _send("delete", "others"), "a deletion of another's"),
    Ask("send", A.SEND, _send("delete", "own"), "a deletion of one's own"),
    Ask("send", Everybody.NOBODY, _send("member.joined", principal=OTHER, role="owner"), "a forged member.joined"),
    Ask("position", A.POSITION, _stream(fixes=[FIX])),
    Ask("command", A.COMMAND, _command, "to the flight of the stream's own name", at=in_flight),
    Ask("command", A.COMMAND, _trip_command, "to the trip", at=at_trip),
    Ask("unsub", A.FOLLOW, _stream(), denied="not_found"),
)
"""In this order on one connection. An op's action is what its answer may not go beyond."""
