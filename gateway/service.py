"""What the HTTP API asks of a node: one small port, its values, and the errors that both transports speak.

For: keeping the HTTP API apart from the node, so that it is tested against a fake and holds no rule of its own.
Promises: every method authorises by itself (`who` is a verified identity, never a hint), and answers with the same
rules, lanes and limits as the socket does. Does not: know HTTP, except for the one table from wire code to status, kept
here so that no route picks a status by hand.

Failures are raised: `WireError` for a rule, `core.ports.Refused` where the log itself said no (it carries the same
codes), `core.ports.Unavailable` where the store cannot answer now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from core.commands import Answer
from core.model import Event, Member, MyStream, StreamFacts
from core.policy import FOLLOWS
from core.tokens import Identity, TokenError
from core.wire import is_key, is_seq

HTTP_STATUS: Mapping[str, int] = MappingProxyType(
    {
        "bad_request": 400,
        "unknown_op": 400,
        "unauthorized": 401,
        "resume_rejected": 401,
        "forbidden": 403,
        "not_found": 404,
        "conflict": 409,
        "too_large": 413,
        "rejected": 422,
        "rate_limited": 429,
        "internal": 500,
        "overloaded": 503,
        "unavailable": 503,
    }
)
"""Every error code of the wire contract, with the status that says the same over HTTP."""

WIRE_CODES = frozenset(HTTP_STATUS)


class WireError(Exception):
    """A refusal that a client is told about, over either transport.

    ``message`` is shown to the client: it names the client's own values and the rule, never internals.
    ``retry_after_s`` says when repeating may help; ``head`` goes with ``conflict``.
    """

    def __init__(
        self,
        code: str,
        message: str,
        retry_after_s: float | None = None,
        head: int | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        assert code in WIRE_CODES, code
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.head = head
        self.facts = facts
        """What a refused command is told beside: ``reason``, and perhaps ``cite`` and ``dup``."""


def no_right(role: str | None, stream: str) -> WireError:
    """What is told to who may follow the stream and no more, and to who has no part in it."""
    return WireError("forbidden", f"{'only a reader' if role in FOLLOWS else 'not a member'} of {stream}")


def checked_key(key: object, of: str) -> str:
    """The canonical key of a send or a command, whichever it is ``of``. Raises `WireError`."""
    if isinstance(key, str):
        key = key.lower()
    if not is_key(key):
        raise WireError("bad_request", f"key: a UUID such as 0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11, new for each {of}")
    assert isinstance(key, str)
    return key


def check_expect(expect: object) -> None:
    """Raises `WireError` where it can be no stream's head."""
    if expect is not None and not is_seq(expect):
        raise WireError("bad_request", "expect: the head you saw, an integer from 0")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an HTTP call brings to prove who it is from. ``scheme`` is ``bearer`` or ``dpop``; ``proof`` its DPoP header; the
    rest is the request's own, for the proof to be compared with. ``address`` is the caller's, as far as it is known."""

    scheme: str
    token: str = field(repr=False)
    proof: str | None = field(repr=False)
    method: str
    host: str
    path: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """A committed send. With ``dup`` the key was used before, and seq and time are the first event's."""

    seq: int
    at_ms: int
    dup: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Events of one stream, ascending and contiguous; ``first`` is the lowest seq still kept, ``head`` the last."""

    events: list[Event]
    head: int
    first: int


@dataclass(frozen=True, slots=True)
class Health:
    """``live``: the process should not be killed. ``ready``: it should get new clients. ``reasons`` say why not.

    ``facts`` are for people: connections, streams, database latency. They name no tenant.
    """

    live: bool
    ready: bool
    reasons: list[str] = field(default_factory=list)
    draining: bool = False
    facts: dict[str, int | float | str] = field(default_factory=dict)


class Service(Protocol):
    """A node, seen from its HTTP API. Names in arguments were checked for shape, not for rights."""

    async def prove(self, credentials: Credentials) -> Identity | TokenError:
        """Who calls. Raises `WireError` rate_limited for a principal or tenant that calls too often."""
        ...

    def denied(self, who: Identity, what: str) -> None:
        """It asked for what it may not have: for the tenant's audit stream."""
        ...

    async def create_stream(
        self, who: Identity, stream: str, *, open: bool, members: Sequence[Member]
    ) -> StreamFacts: ...

    async def put_member(self, who: Identity, stream: str, principal: str, role: str) -> Event | None:
        """The ``member.*`` event, or ``None`` where nothing changed. For owners of the stream and privileged tokens."""
        ...

    async def remove_member(self, who: Identity, stream: str, principal: str) -> Event: ...

    async def members(self, who: Identity, stream: str) -> list[Member]: ...

    async def send(self, who: Identity, stream: str, *, key: str, type: str, body: object, expect: int | None) -> Sent:
        """One append through the same lanes as a socket's. ``body`` is parsed JSON; returns after the commit."""
        ...

    async def command(
        self, who: Identity, stream: str, *, key: str, type: str, body: object, expect: int | None
    ) -> Answer:
        """One command through the same commander as a socket's; returns after the commit, refused or not."""
        ...

    async def read(self, who: Identity, stream: str, *, after: int, limit: int) -> Page: ...

    async def my_streams(self, who: Identity) -> list[MyStream]: ...

    async def trim(self, who: Identity, stream: str, before: int) -> int:
        """Forget bodies of events with seq < ``before``; returns the new ``first``."""
        ...

    def health(self) -> Health: ...

    def metrics_text(self) -> bytes:
        """Prometheus text exposition, format 0.0.4."""
        ...
