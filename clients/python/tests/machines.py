"""A machine to test, told and asked in frames: no socket, no loop, and of each random choice the middle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from readback_client._machine import Dial, Machine

Frame = dict[str, Any]
HALF: float = 0.5


def machine(urls: Sequence[str] = ("ws://a",), **changes: Any) -> Machine:
    given: dict[str, Any] = {"now": 0.0, "uniform": lambda low, high: low + (high - low) * HALF}
    return Machine(urls, **{**given, **changes})


def said(m: Machine) -> list[Frame]:
    """What the machine wants written, taken."""
    frames = [json.loads(text) for text in m.writes]
    m.writes.clear()
    return frames


def tell(m: Machine, now: float, **frame: Any) -> None:
    m.receive(now, json.dumps(frame))


def welcome(m: Machine, now: float, streams: Frame | None = None, **changes: Any) -> None:
    given = {
        "op": "welcome", "id": 1, "session": "s", "principal": "user:amy", "log": "e1", "resume": "r1",
        "resume_ttl": 300, "heartbeat": 25, "limits": {"frame": 65536, "streams": 1000}, "streams": streams or {},
    }  # fmt: skip
    tell(m, now, **{**given, **changes})


def online(now: float = 0.0, **changes: Any) -> Machine:
    m = machine(now=now, **changes)
    assert m.next_dial(now) == Dial("ws://a", True)
    m.connected(now, "token")
    welcome(m, now)
    said(m)
    return m


def event(seq: int, stream: str = "chat:ops") -> Frame:
    return {
        "op": "event", "stream": stream, "seq": seq, "type": "message", "key": "k", "by": "user:bob",
        "at": "2026-11-21T09:30:00.000Z", "body": {},
    }  # fmt: skip


def seqs(m: Machine, reader: Any) -> list[int]:
    found = []
    while (taken := m.streams.take(reader)) is not None:
        found.append(taken.seq)
    return found
