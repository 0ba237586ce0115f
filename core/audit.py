"""Notes for the tenants' audit streams: what may be in one, and how many become few events without any lost silently.

Theory of operation. A note is packed at once, since what it tells of changes a moment later: cleaned facts with their own
time, as compact JSON. Notes of a tenant and type wait together; `Gathered.take` makes events of them, tenants in turn: a
single note is a body as it stands, several are ``{"many": [...]}``, as many as a body holds. What was taken counts until
it is `settled`, so that a log that is away fills the bound rather than the heap.

Two bounds, in bytes. A tenant's own: what is beyond it is not kept, and counted. All tenants' together: room is made by
cutting whoever has most waiting, its newest first, so that the flood of one never displaces a note of another. What was
not kept is told in the next ``suppressed`` event of its tenant: how many of which type, and since when.

What a note may hold is a table of names (`FACTS`) with no place for a token or a body; besides, a text that looks like a
token is not shown. Does not: know who may be told (the tenant is the caller's word), nor write anything.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from math import isfinite
from typing import Final

import orjson

from core.limits import Limits
from core.model import TENANT_RE, TYPE_RE
from core.wire import at_bytes

TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "admitted": ("principal", "session", "resumed", "address", "node", "roles", "token"),
    "issued": ("principal", "token", "roles", "address"),
    "left": ("principal", "session", "why", "seconds", "address", "node"),
    "refused": ("code", "reason", "principal", "address", "node"),
    "denied": ("principal", "what", "stream", "code", "reason", "address", "node"),
    "member.put": ("stream", "principal", "role", "by"),
    "member.removed": ("stream", "principal", "by"),
    "stream.created": ("stream", "open", "members", "by"),
    "stream.trimmed": ("stream", "before", "first", "by"),
    "app.made": ("device", "stream", "by"),
    "app.bound": ("device", "stream", "by"),
    "app.removed": ("device", "by"),
    "fence.put": ("value", "by"),
    "fence.removed": ("value", "by"),
    "limits.changed": ("names", "by"),
    "suppressed": ("counts", "since"),
}
"""What is noted, with the facts it usually has. ``token`` is a token's id (``jti``), never the token."""

FACTS: Final = frozenset(name for names in TYPES.values() for name in names) | {"count", "scope", "value", "device"}
"""Every name that a note of any type may use."""

SUPPRESSED: Final = "suppressed"
OTHERS: Final = "others"
"""In the counts of a ``suppressed`` event, where there are too many types to name each."""
TEXT_MAX: Final = 256
LIST_MAX: Final = 64
NOTE_BYTES_MAX: Final = 4_096
NOTE_OVERHEAD: Final = 64
"""What keeping a note costs beside its bytes."""
TENANT_OVERHEAD: Final = 1_024
MANY_MAX: Final = 1_000
TYPES_MAX: Final = 64
"""Different types of one tenant that wait at once; all come from our own code."""

_TOKEN_RE: Final = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.|\br1\.[A-Za-z0-9_-]{1,32}\.[A-Za-z0-9_-]{16,}\."
)
_MANY: Final = len(b'{"many":[]}')


def stored_as(type: str) -> str:
    """The event's type in the log, where ``member.*`` is what changes a membership and nothing else may be called so.

    >>> stored_as("member.put")
    'membership.put'
    """
    return f"membership.{type[7:]}" if type.startswith("member.") else type


def clean(value: object) -> object:
    """A fact as it may be written: short, finite, without what looks like a token. ``None`` for what has no such form."""
    if isinstance(value, str):
        if len(value) > 20 and _TOKEN_RE.search(value):
            return "(a token, not shown)"
        # Surrogates are no text, and cannot be encoded.
        return value[:TEXT_MAX] if value.isascii() else value[:TEXT_MAX].encode("utf-8", "replace").decode()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else str(value)[:TEXT_MAX]
    if isinstance(value, float):
        return round(value, 3) if isfinite(value) else None
    if isinstance(value, Mapping):
        items = sorted((str(name), clean(one)) for name, one in value.items() if isinstance(one, int))
        return {clean(name): one for name, one in items[:LIST_MAX]}
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, list | tuple):
        return [clean(one) for one in value[:LIST_MAX] if isinstance(one, str | int)]
    return None


def pack(facts: Mapping[str, object], at_ms: int) -> bytes:
    """One note as compact JSON: ``at``, then the facts that `FACTS` names. At most `NOTE_BYTES_MAX`: facts beyond that are
    left out, and ``"cut": true`` says so."""
    note: dict[str, object] = {"at": at_bytes(at_ms).decode()}
    for name, value in facts.items():
        if name in FACTS and value is not None and (cleaned := clean(value)) is not None:
            note[name] = cleaned
    packed = orjson.dumps(note)
    if len(packed) <= NOTE_BYTES_MAX:
        return packed
    short: dict[str, object] = {"at": note.pop("at"), "cut": True}
    size = len(orjson.dumps(short))
    for name, value in note.items():
        size_of = len(orjson.dumps({name: value}))
        if size + size_of <= NOTE_BYTES_MAX:
            size += size_of
            short[name] = value
    return orjson.dumps(short)


class Draft:
    """An event to be written. ``count`` notes are in it; ``size`` is what it holds of the bounds until it is settled."""

    __slots__ = ("body", "count", "size", "tenant", "type")

    def __init__(self, tenant: str, type: str, body: bytes, count: int, size: int) -> None:
        self.tenant = tenant
        self.type = type
        self.body = body
        self.count = count
        self.size = size


class _Waiting:
    """What waits of one tenant."""

    __slots__ = ("in_turn", "notes", "since_ms", "size", "suppressed", "taken", "tenant")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.notes: dict[str, deque[bytes]] = {}
        self.size = 0
        """Of its notes, those taken too."""
        self.taken = 0
        """Drafts that are not settled."""
        self.suppressed: dict[str, int] = {}
        self.since_ms = 0
        self.in_turn = False

    def suppress(self, type: str, count: int, at_ms: int) -> None:
        if not self.suppressed:
            self.since_ms = at_ms
        if len(self.suppressed) >= TYPES_MAX and type not in self.suppressed:
            type = OTHERS
        self.suppressed[type] = self.suppressed.get(type, 0) + count

    def next(self, now_ms: int, body_bytes_max: int) -> Draft:
        if self.suppressed:
            counts = dict(sorted(self.suppressed.items()))
            self.suppressed = {}
            since, at = (at_bytes(ms).decode() for ms in (self.since_ms, now_ms))
            body = orjson.dumps({"at": at, "since": since, "counts": counts})
            return Draft(self.tenant, SUPPRESSED, body, 0, 0)
        type, notes = next(iter(self.notes.items()))
        many: list[bytes] = []
        length, size = _MANY, 0
        while notes and len(many) < MANY_MAX and (not many or length + len(notes[0]) + 1 <= body_bytes_max):
            note = notes.popleft()
            many.append(note)
            length += len(note) + 1
            size += len(note) + NOTE_OVERHEAD
        del self.notes[type]
        if notes:
            self.notes[type] = notes  # behind the others
        body = many[0] if len(many) == 1 else b'{"many":[%b]}' % b",".join(many)
        return Draft(self.tenant, stored_as(type), body, len(many), size)


class Gathered:
    """Notes of all tenants on their way to becoming events, within ``audit_bytes_max`` and ``audit_tenant_bytes_max``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tenants: dict[str, _Waiting] = {}
        self._turns: deque[_Waiting] = deque()
        self._largest: _Waiting | None = None
        """Whoever had most when that was last looked at; ``None`` once it may be another."""
        self.size = 0
        self.waiting = 0
        """Notes that are not taken yet."""
        self.suppressed = 0
        self.nameless = 0
        """Of those suppressed, for which not even a tenant's count could be kept."""

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, tenant: str, type: str, note: bytes, at_ms: int) -> bool:
        """Keep a packed note; False: there was no room for it, and it is counted. `ValueError` for a name that is none."""
        waiting = self._tenants.get(tenant)
        if waiting is None:
            if not TENANT_RE.match(tenant):
                raise ValueError("no tenant's name")
            waiting = _Waiting(tenant)
            if not self._room(waiting, TENANT_OVERHEAD, at_ms):
                self.suppressed += 1
                self.nameless += 1
                return False
            self._tenants[tenant] = waiting
            self.size += TENANT_OVERHEAD
        notes = waiting.notes.get(type)
        if notes is None and (not TYPE_RE.match(type) or len(waiting.notes) >= TYPES_MAX):
            self._let_go(waiting)
            raise ValueError("no event's type, or one too many")
        size = len(note) + NOTE_OVERHEAD
        kept = waiting.size + size <= self._limits.audit_tenant_bytes_max and self._room(waiting, size, at_ms)
        if not kept:
            waiting.suppress(type, 1, at_ms)
            self.suppressed += 1
        elif notes is None:
            waiting.notes[type] = deque((note,))
        else:
            notes.append(note)
        if kept:
            waiting.size += size
            self.size += size
            self.waiting += 1
        if not waiting.in_turn:
            waiting.in_turn = True
            self._turns.append(waiting)
        return kept

    def _room(self, of: _Waiting, size: int, at_ms: int) -> bool:
        """Whether so much more fits, perhaps after whoever has most was cut."""
        over = self.size + size - self._limits.audit_bytes_max
        if over <= 0:
            return True
        if of is self._largest or not self._tenants:
            return False
        largest = max(self._tenants.values(), key=lambda waiting: waiting.size)
        if of.size >= largest.size:
            self._largest = of
            return False
        self._largest = None
        self._cut(largest, max(over, largest.size // 2), at_ms)
        return self.size + size <= self._limits.audit_bytes_max

    def _cut(self, waiting: _Waiting, size: int, at_ms: int) -> None:
        """Let go of the newest notes of its largest types, until so much is free or nothing is left."""
        while size > 0 and waiting.notes:
            type, notes = max(waiting.notes.items(), key=lambda item: len(item[1]))
            count = 0
            while notes and size > 0:
                freed = len(notes.pop()) + NOTE_OVERHEAD
                size -= freed
                waiting.size -= freed
                self.size -= freed
                count += 1
            if not notes:
                del waiting.notes[type]
            self.waiting -= count
            self.suppressed += count
            waiting.suppress(type, count, at_ms)

    def take(self, room: int, now_ms: int) -> list[Draft]:
        """The next events, at most ``room``: one of each tenant in turn. Each must be `settle`\\ d, once."""
        self._largest = None
        drafts: list[Draft] = []
        while self._turns and len(drafts) < room:
            waiting = self._turns.popleft()
            draft = waiting.next(now_ms, self._limits.body_bytes_max)
            self.waiting -= draft.count
            waiting.taken += 1
            drafts.append(draft)
            waiting.in_turn = bool(waiting.notes or waiting.suppressed)
            if waiting.in_turn:
                self._turns.append(waiting)
        return drafts

    def settle(self, draft: Draft) -> None:
        """It was written, or never will be."""
        waiting = self._tenants[draft.tenant]
        waiting.taken -= 1
        waiting.size -= draft.size
        self.size -= draft.size
        self._let_go(waiting)

    def _let_go(self, waiting: _Waiting) -> None:
        if not waiting.taken and not waiting.in_turn:
            del self._tenants[waiting.tenant]
            self.size -= TENANT_OVERHEAD
