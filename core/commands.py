"""From a machine's decision to what the log keeps, and from what the log kept to what is answered. Pure.

A command's facts get keys made from its own, so that the same command always has the same: the first is under the command's
key, the others under digests of it, which nobody who chooses keys can meet by chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from core.flight.machine import Command, Decision, Recorded, Refusal
from core.model import Decided, Event, Judged

FOLDED_AT_ONCE: Final = 1_000
"""Events read at once to fold a state: some 10 ms of the store's time and 5 of ours."""


def derived_key(*parts: object) -> str:
    """A canonical UUID (version 8, RFC 9562: of one's own making) that is the same for the same parts, and for no others."""
    digest = bytearray(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def recorded(event: Event) -> Recorded:
    """As machines see it. A body that was trimmed is an empty one."""
    body = None if event.body is None else orjson.loads(event.body)
    return Recorded(event.seq, event.type, event.by, event.at_ms, body if isinstance(body, dict) else {})


def to_keep(
    decision: Decision,
    command: Command,
    *,
    tenant: str,
    sid: int,
    key: str,
    state: int,
    expect: int | None,
    privileged: bool,
) -> Decided:
    """What a machine that obeyed or refused has the log keep. Malformed and unallowed commands leave nothing there."""
    facts: list[tuple[str, str, bytes]] = []
    refusal = None
    if isinstance(decision, Refusal):
        refusal = orjson.dumps(decision._asdict())
    else:
        assert isinstance(decision, list), decision
        for n, fact in enumerate(decision):
            facts.append((derived_key(key, n) if n else key, fact.type, orjson.dumps(fact.body)))
    return Decided(
        tenant,
        sid,
        key,
        command.type,
        command.by,
        state,
        facts,
        refusal=refusal,
        expect=expect,
        privileged=privileged,
    )


def as_recorded(decided: Decided, judged: Judged) -> list[Recorded]:
    """The events that a kept command became, as everybody else will read them."""
    return [
        Recorded(judged.seq + n, type, decided.by, judged.at_ms, orjson.loads(body))
        for n, (_key, type, body) in enumerate(decided.facts)
    ]


@dataclass(frozen=True, slots=True)
class Answer:
    """What whoever gave a command is told. ``seqs`` are of its events; or it was refused. ``dup``: long ago already."""

    seqs: Sequence[int]
    at_ms: int
    dup: bool
    refusal: Refusal | None = None

    def facts(self) -> dict[str, Any]:
        """Of a refusal, what the wire says beside code and message."""
        assert self.refusal is not None
        told: dict[str, Any] = {"reason": self.refusal.reason}
        if self.refusal.cite:
            told["cite"] = self.refusal.cite
        if self.dup:
            told["dup"] = True
        return told


def answer(judged: Judged, *, dup: bool) -> Answer:
    """Of a command that the log kept, now or before."""
    refusal = None if judged.refusal is None else Refusal(**orjson.loads(judged.refusal))
    return Answer(range(judged.seq, judged.seq + judged.events), judged.at_ms, dup, refusal)
