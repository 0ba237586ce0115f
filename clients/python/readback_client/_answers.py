"""Answers of the server as the values a caller gets; each raises `Malformed` where one cannot be read."""

from __future__ import annotations

from readback_client._values import Commanded, Here, Page, Roster, Sent
from readback_client._wire import Frame, Malformed, event_of, maybe_seq, seq_of, text_of, time_of


def sent_of(frame: Frame) -> Sent:
    """The answer to a send.

    >>> sent_of({"seq": 7, "at": "2026-11-21T09:30:00.000Z", "dup": False}).seq
    7
    """
    return Sent(seq_of(frame, "seq"), time_of(frame, "at"), frame.get("dup") is True)


def commanded_of(frame: Frame) -> Commanded:
    """The answer to a command.

    >>> commanded_of({"seqs": [8, 9], "at": "2026-11-21T09:30:00.000Z", "dup": False}).seqs
    (8, 9)
    """
    seqs = frame.get("seqs")
    if not isinstance(seqs, list) or not all(type(seq) is int and seq > 0 for seq in seqs):
        raise Malformed("an answer without its 'seqs'")
    return Commanded(tuple(seqs), time_of(frame, "at"), frame.get("dup") is True)


def page_of(frame: Frame, stream: str) -> Page:
    events = _objects(frame, "events")
    return Page(tuple(event_of(event, stream) for event in events), maybe_seq(frame, "first"))


def roster_of(frame: Frame) -> Roster:
    online = tuple(
        Here(text_of(one, "by"), text_of(one, "value"), _devices_of(one), _seen_of(one))
        for one in _objects(frame, "online")
    )
    count = maybe_seq(frame, "count")
    return Roster(online, count if count is not None else len(online))


def _devices_of(one: Frame) -> int:
    devices = maybe_seq(one, "devices")
    return 1 if devices is None else devices


def _seen_of(one: Frame) -> str | None:
    seen = one.get("seen")
    return seen if isinstance(seen, str) else None


def _objects(frame: Frame, name: str) -> list[Frame]:
    found = frame.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Malformed(f"a frame whose {name!r} is no list of objects")
    return found
