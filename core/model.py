"""The values that every ring shares: names, events, entries of an append and their verdicts.

Everything here is data. Shapes and units are in the docstrings; who may construct what is said where it matters.
Hot-path values are NamedTuples rather than frozen dataclasses: measured on CPython 3.11, building one costs 0.35 us
against 1.4 us, and one is built for every committed event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

STREAM_RE = re.compile(r"(chat|flight|trip|user|audit):([A-Za-z0-9._~-]{1,128})\Z")
"""``audit`` is the gateway's own kind: nobody creates one or sends to it; who may read it, `core.policy` says."""
PRINCIPAL_RE = re.compile(r"(user|device|service):[A-Za-z0-9._~@+-]{1,128}\Z")
TENANT_RE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
TYPE_RE = re.compile(r"[a-z][a-z0-9_.-]{0,63}\Z")
KEY_RE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")

ROLES = ("owner", "member", "reader")
"""Roles in a stream, strongest first. ``reader`` may not send."""

AUDIT_STREAM = "audit:log"
"""Each tenant's record of who was let in, who was refused, and what was administered. Written by the gateway alone."""

AUDITOR = "service:readback"
"""By whom the gateway's own audit events are. No token may be of this principal."""

FACT_TYPES = ("flight.", "seat.", "crew.", "timer.", "rule.", "saga.", "trip.")
"""Beginnings of the types of events that commands become. In ``flight:`` and ``trip:`` streams nobody may send such."""

TENANT_ROLES = ("admin", "service", "auditor")
"""Roles in a tenant, from the token. ``admin`` and ``service`` act as owner of every stream of their tenant."""


class Event(NamedTuple):
    """One committed event, as the log keeps it.

    ``body`` is compact JSON (UTF-8 bytes), ``None`` once the event was trimmed; ``at_ms`` is Unix time in milliseconds,
    never falling within a partition; ``key`` is the canonical lower-case UUID the sender chose.
    """

    partition: int
    pos: int
    sid: int
    seq: int
    key: str
    type: str
    by: str
    at_ms: int
    body: bytes | None


class Outcome(IntEnum):
    """What became of one entry of an append. Only ``OK`` wrote anything."""

    OK = 0
    DUP = 1  # the key was used before in this stream: ``seq`` and ``at_ms`` are the first event's
    FORBIDDEN = 2
    NOT_FOUND = 3  # no such stream in this tenant, or ``ref`` names no kept event of it
    CONFLICT = 4  # ``expect`` was given and is not the head: ``seq`` is the head
    STALE = 5  # of commands only: decided on a state that is not the latest; ``seq`` is `Decided.state` as it is now


class Verdict(NamedTuple):
    """``seq`` as `Outcome` says, else 0; ``pos`` is the partition position of a new event, else 0."""

    outcome: Outcome
    partition: int
    pos: int
    seq: int
    at_ms: int


class Entry:
    """One send on its way into the log. ``body`` is compact JSON bytes. Mutable only because plain slots are fastest.

    ``privileged`` means that the tenant role (admin, service) stands in for membership. ``ref`` is the seq an ``edit``
    or ``delete`` points at: it must be a kept event of the same stream written by the same principal, except that an
    owner or a privileged principal may ``delete`` anybody's.
    """

    __slots__ = ("at_s", "body", "by", "expect", "key", "privileged", "ref", "sid", "tenant", "ticket", "type")

    def __init__(
        self,
        tenant: str,
        sid: int,
        key: str,
        type: str,
        by: str,
        body: bytes,
        *,
        expect: int | None = None,
        ref: int | None = None,
        privileged: bool = False,
        ticket: object = None,
    ) -> None:
        self.tenant = tenant
        self.sid = sid
        self.key = key
        self.type = type
        self.by = by
        self.body = body
        self.expect = expect
        self.ref = ref
        self.privileged = privileged
        self.ticket = ticket
        """Whatever the caller wants to find again beside the verdict; the log never looks at it."""
        self.at_s = 0.0
        """When the entry was taken, on the caller's clock; for latency metrics only."""


FACTS_MAX = 64
"""Events that one command may become."""


class Decided:
    """One command that was decided, on its way into the log, where it is kept as one piece or not at all.

    ``state`` is the seq of the last event made by a command when it was decided (0: none): the log takes it only where that
    is so still. ``facts`` are (key, type, body) of the events to write, the first under the command's own key; empty where
    the command was refused, and then ``refusal`` is what to keep instead: compact JSON. ``expect`` is the sender's.
    """

    __slots__ = (
        "at_s",
        "body",
        "by",
        "expect",
        "facts",
        "key",
        "privileged",
        "refusal",
        "sid",
        "state",
        "tenant",
        "ticket",
        "type",
    )

    def __init__(
        self,
        tenant: str,
        sid: int,
        key: str,
        type: str,
        by: str,
        state: int,
        facts: Sequence[tuple[str, str, bytes]],
        *,
        refusal: bytes | None = None,
        expect: int | None = None,
        privileged: bool = False,
        ticket: object = None,
    ) -> None:
        assert (not facts) == (refusal is not None)
        assert not facts or (facts[0][0] == key and len(facts) <= FACTS_MAX)
        self.tenant = tenant
        self.sid = sid
        self.key = key
        self.type = type
        self.by = by
        self.state = state
        self.facts = facts
        self.refusal = refusal
        self.expect = expect
        self.privileged = privileged
        self.ticket = ticket
        self.body = facts[0][2] if len(facts) == 1 else b"".join([fact[2] for fact in facts]) or refusal or b""
        """All that it brings, for whoever counts bytes."""
        self.at_s = 0.0


class Judged(NamedTuple):
    """What became of a command. ``OK``: kept; ``DUP``: its key was used before, and this is what was kept then.

    Of both: ``events`` of them from ``seq`` on, or a ``refusal`` and none. ``pos`` is the first new event's, else 0.
    """

    outcome: Outcome
    partition: int
    pos: int
    seq: int
    events: int
    at_ms: int
    refusal: bytes | None


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A stream as one snapshot of the log saw it.

    ``first`` is the lowest seq still kept (``head + 1`` where all is trimmed). ``role`` is what the principal asked
    about may do: its own membership, else ``member`` where the stream is open, else ``None``. The owner of a ``user:``
    inbox (principal ``user:amy``, stream ``user:amy``) is its ``reader``.
    """

    sid: int
    tenant: str
    stream: str
    partition: int
    head: int
    first: int
    open: bool
    role: str | None


@dataclass(frozen=True, slots=True)
class Mark:
    """Markers of one principal in one stream: monotonic, in seqs, 0 when never set."""

    sid: int
    principal: str
    delivered: int
    read: int


@dataclass(frozen=True, slots=True)
class MyStream:
    """One line of ``GET /v1/me/streams``."""

    stream: str
    role: str
    head: int
    first: int
    delivered: int
    read: int


@dataclass(frozen=True, slots=True)
class Member:
    principal: str
    role: str


@dataclass(frozen=True, slots=True)
class Epoch:
    """``log`` names this life of the log (a new UUID after a restore from backup); ``partitions`` is fixed at install."""

    log: str
    partitions: int
