"""What one connection's messages mean as records: the same for who stands at the client's end and who stands at the node's.

Whoever sees both directions of a connection of readback.v1 builds a `Watched` and hands it every message, in the order in
which it was seen: `said` is the client, `told` the node, `ended` the end. It answers with the records of
`proof.history`, through ``emit``.

Promises: no body, no token and no value of a signal other than presence and typing goes into a record; they are told by
their `digest`. Does not: judge. What is no message of the protocol is passed over, for the other end has its own words
for that. Pure: no clock (``now`` is handed in), no sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from proof.history import (
    Answered,
    Asked,
    DrainTold,
    Ended,
    Follow,
    Open,
    Record,
    Rejected,
    Reset,
    Told,
    Took,
    Unfollow,
    Welcome,
    digest,
)

EVENT: Final = b'{"op":"event"'
UNSEEN: Final = "unseen"
"""Who ended a connection whose record stops, though it may go on."""
PLAIN_SIGNALS: Final = frozenset(("presence", "typing"))
"""Whose values are none of the tenant's words."""
UNASKED: Final = frozenset(("hello", "resume", "ping"))
"""Ops that are no `Asked`: two are openings, and of one a day's history would be full."""

Event = tuple[str, int, str, str, str]
"""stream, seq, key, by, what"""


def what_of(type: str, at: str, body: object) -> str:
    """How an event is known again wherever it is seen."""
    return digest(type, at, body)


def event_of(message: dict[str, Any]) -> Event:
    what = what_of(message["type"], message["at"], message["body"])
    return message["stream"], message["seq"], message["key"], message["by"], what


class Watched:
    """One connection. ``conn`` is unique in the history; ``who`` and ``tenant`` may be set as soon as they are known."""

    __slots__ = (
        "_asked",
        "_bye",
        "_carried",
        "_hellos",
        "client",
        "conn",
        "cursors",
        "emit",
        "epoch",
        "expires_t",
        "good",
        "node",
        "now",
        "opened",
        "over",
        "sent_t",
        "session",
        "tenant",
        "welcomed",
        "who",
        "within_s",
    )

    def __init__(
        self,
        conn: str,
        node: str,
        emit: Callable[[Record], None],
        now: Callable[[], float],
        *,
        client: str = "",
        tenant: str = "",
        who: str = "",
        within_s: float | None = None,
        good: bool = True,
    ) -> None:
        """``client`` is ``conn`` where nobody knows which connections are one client's. ``within_s``: for every request.
        ``good``: the client knows that what it opens with is good; else that is not claimed."""
        self.conn = conn
        self.node = node
        self.emit = emit
        self.now = now
        self.client = client or conn
        self.tenant = tenant
        self.who = who
        self.within_s = within_s
        self.good = good
        self.expires_t: float | None = None
        self.sent_t: float | None = None
        """When what is told next was put on the wire, where that is seen."""
        self.opened = self.welcomed = self.over = False
        self._hellos: list[int] = []
        """The ids of openings that are not answered yet."""
        self._asked: dict[int, list[tuple[str, str, str]]] = {}
        """Requests without an answer: op, stream and key, by id, oldest first."""
        self._carried: dict[int, list[tuple[str, str, str]]] = {}
        """Those of them whose `Asked` stands in an earlier file."""
        self._bye = ""
        self.session = self.epoch = ""
        self.cursors: dict[str, int] = {}
        """Where each stream that is followed stands."""

    # -- the client's words ---------------------------------------------------------------------------------------------

    def said(self, payload: bytes) -> bool:
        """Whether it is a message at all."""
        if self.over:
            return True
        try:
            message = orjson.loads(payload)
        except ValueError:
            return False
        if not isinstance(message, dict):
            return False
        op, ident = message.get("op"), message.get("id")
        if op in ("hello", "resume"):
            if not self.welcomed and type(ident) is int:
                self._open(op, ident, message)
        elif type(ident) is int and isinstance(op, str) and op not in UNASKED and self.opened:
            self._ask(op, ident, message)
        return True

    def _open(self, op: str, ident: int, message: dict[str, Any]) -> None:
        streams = message.get("streams")
        asked: dict[str, int | None] = {}
        for name, place in streams.items() if isinstance(streams, dict) else ():
            if op == "resume":
                place = {"after": place}
            # `last` is a place that only the node can tell: nothing is claimed of it.
            if isinstance(place, dict) and place.get("last") is None:
                after = place.get("after")
                if after is None or type(after) is int:
                    asked[name] = after
        credential = message.get("token" if op == "hello" else "resume")
        epoch = message.get("log")
        self.opened = True
        self._hellos.append(ident)
        self.emit(
            Open(
                self.now(),
                self.conn,
                self.client,
                self.tenant,
                self.who,
                self.node,
                how=op,
                asked=asked,
                credential=digest(credential) if isinstance(credential, str) else "",
                standing="good" if self.good else "spent",
                expires_t=self.expires_t,
                epoch=epoch if isinstance(epoch, str) else None,
            )
        )

    def _ask(self, op: str, ident: int, message: dict[str, Any]) -> None:
        stream, key, expect = message.get("stream"), message.get("key"), message.get("expect")
        stream = stream if isinstance(stream, str) else ""
        key = key.lower() if isinstance(key, str) and len(key) <= 64 else ""
        self._asked.setdefault(ident, []).append((op, stream, key))
        expect = expect if type(expect) is int else None
        self.emit(Asked(self.now(), self.conn, ident, op, self.within_s, stream, key, expect))

    # -- the node's words -----------------------------------------------------------------------------------------------

    def told(self, payload: bytes) -> None:
        if self.over or not self.opened:
            return
        try:
            message = orjson.loads(payload)
        except ValueError:
            return
        if isinstance(message, dict):
            self._told(message)

    def took(self, event: Event) -> None:
        """An event that was taken apart already (`event_of`)."""
        stream, seq, key, by, what = event
        if stream in self.cursors:
            self.cursors[stream] = seq
        self.emit(Took(self.now(), self.conn, stream, seq, key, by, what))

    def _told(self, message: dict[str, Any]) -> None:
        now, conn = self.now(), self.conn
        match message.get("op"):
            case "event":
                self.took(event_of(message))
            case "ok":
                self._answered(now, message)
            case "mark":
                at = [message["delivered"], message["read"]]
                self.emit(Told(now, conn, message["stream"], "mark", message["by"], at, sent_t=self.sent_t))
            case "signal":
                kind, value = message["kind"], message["value"]
                value = value if kind in PLAIN_SIGNALS else digest(value)
                by, age_s = message.get("by"), message["age"]
                self.emit(Told(now, conn, message["stream"], kind, by, value, age_s, sent_t=self.sent_t))
            case "welcome":
                self._welcome(now, message)
            case "error":
                self._refused(now, message)
            case "reset":
                self.cursors[message["stream"]] = message["first"] - 1
                self.emit(Reset(now, conn, message["stream"], message["reason"], message["first"], message["head"]))
            case "unsub":
                self.cursors.pop(message["stream"], None)
                self.emit(Unfollow(now, conn, message["stream"], message["reason"], message["seq"]))
            case "drain":
                self.emit(DrainTold(now, conn, message["after_ms"] / 1000))
            case "bye":
                self._bye = message["code"]

    def _welcome(self, now: float, message: dict[str, Any]) -> None:
        self.welcomed = True
        self._hellos.clear()
        self.session, self.epoch = message["session"], message["log"]
        places = message["streams"]
        refused = {name: place["error"] for name, place in places.items() if "error" in place}
        resumed, resume = bool(message.get("resumed")), message.get("resume")
        credential = digest(resume) if resume else ""
        self.emit(Welcome(now, self.conn, message["session"], resumed, message["log"], credential, refused))
        for name, place in places.items():
            if name not in refused:
                self._follow(now, name, place["after"], place["head"])

    def _follow(self, now: float, stream: str, after: int, head: int) -> None:
        self.cursors[stream] = after
        self.emit(Follow(now, self.conn, stream, after, head))

    def _answered(self, now: float, message: dict[str, Any]) -> None:
        ident = message["id"]
        carried = ident in self._carried
        op, stream, key = self._question(ident)
        if op == "sub":
            self._follow(now, message["stream"], message["after"], message["head"])
        elif op == "unsub":
            self.cursors.pop(message["stream"], None)
            self.emit(Unfollow(now, self.conn, message["stream"]))
        if carried:
            return
        seq, dup = (message["seq"], message["dup"]) if op == "send" else (0, False)
        self.emit(Answered(now, self.conn, ident, True, "", seq, dup, stream, key))

    def _refused(self, now: float, message: dict[str, Any]) -> None:
        ident, code = message.get("id"), message["code"]
        if ident in self._hellos:
            self._hellos.remove(ident)
            self.emit(Rejected(now, self.conn, code))
        elif ident in self._carried:
            self._question(ident)
        elif ident in self._asked:
            _, stream, key = self._question(ident)
            self.emit(Answered(now, self.conn, ident, False, code, 0, False, stream, key))

    def _question(self, ident: int) -> tuple[str, str, str]:
        for asked in (self._carried, self._asked):
            waiting = asked.get(ident)
            if waiting:
                question = waiting.pop(0)
                if not waiting:
                    del asked[ident]
                return question
        return "", "", ""

    # -- in another file ------------------------------------------------------------------------------------------------

    def carry(self, conn: str) -> tuple[Ended, list[Record]] | None:
        """The record of this connection goes on elsewhere, under another name: what ends it here and what begins it there.

        ``None`` where it was not opened yet, or is over. Requests that are not answered yet are in neither: they are
        asked in one file, and the other has only what follows from their answers.
        """
        if not self.welcomed or self.over:
            return None
        now = self.now()
        end = Ended(now, self.conn, UNSEEN, reason=f"goes on as {conn}")
        self.conn = conn
        for ident, questions in self._asked.items():
            self._carried.setdefault(ident, []).extend(questions)
        self._asked = {}
        asked: dict[str, int | None] = dict(self.cursors)
        begin: list[Record] = [
            Open(
                now,
                conn,
                self.client,
                self.tenant,
                self.who,
                self.node,
                asked=asked,
                standing="spent",
                expires_t=self.expires_t,
                epoch=self.epoch,
            ),
            Welcome(now, conn, self.session, False, self.epoch),
            *(Follow(now, conn, stream, after, after) for stream, after in self.cursors.items()),
        ]
        return end, begin

    # -- the end --------------------------------------------------------------------------------------------------------

    def ended(self, by: str, code: int = 0, reason: str = "") -> None:
        """Once; what is seen after it is nothing."""
        if self.opened and not self.over:
            self.emit(Ended(self.now(), self.conn, by, code, reason, self._bye))
        self.over = True
