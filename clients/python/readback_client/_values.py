"""The values a caller sees: events, answers, signals, the client's status, and the client's own bounds.

All are frozen. Times are aware UTC datetimes; ages and delays are seconds. Nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Body = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Event:
    """One committed event. ``seq`` counts from 1 within ``stream``, without holes; ``body`` is ``None`` once trimmed.

    >>> from datetime import UTC
    >>> e = Event("chat:ops", 7, "message", "", "user:amy", datetime(2026, 1, 2, tzinfo=UTC), {"text": "hi"})
    >>> e.seq, e.text
    (7, 'hi')
    """

    stream: str
    seq: int
    type: str
    key: str
    by: str
    at: datetime
    body: Body | None

    @property
    def text(self) -> str:
        """``body["text"]`` where it is a string, else the empty string: what most chat code wants."""
        found = self.body.get("text") if self.body is not None else None
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class Sent:
    """A send that is committed. ``dup`` means that the key had landed before: ``seq`` and ``at`` are the first one's."""

    seq: int
    at: datetime
    dup: bool


@dataclass(frozen=True, slots=True)
class Commanded:
    """A command that was obeyed: ``seqs`` are of the events that it became. ``dup``: its key had been used before, and this is
    what was answered then."""

    seqs: tuple[int, ...]
    at: datetime
    dup: bool


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of `history`: events ascending; ``first`` is the lowest seq the stream still keeps, where told."""

    events: tuple[Event, ...]
    first: int | None


@dataclass(frozen=True, slots=True)
class Here:
    """One principal, over all of its devices. ``value`` is ``online``, ``away``, or (where asked for by name) ``offline``;
    then ``seen`` is when it was last here, RFC 3339, or ``None`` where nobody knows."""

    by: str
    value: str
    devices: int
    seen: str | None = None


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is present in a stream. In a big room ``count`` exceeds ``len(online)``: names are then left out."""

    online: tuple[Here, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Typing:
    """Somebody began (or ceased) to type. It goes off by itself 6 s after the last ``on``, told or not."""

    stream: str
    by: str
    on: bool
    age_s: float


@dataclass(frozen=True, slots=True)
class Presence:
    """``value`` is ``online``, ``away`` or ``offline``."""

    stream: str
    by: str
    value: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a principal got: everything up to these seqs was delivered to, and read by, it. Never moves back."""

    stream: str
    by: str
    delivered: int
    read: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Any other latest-value signal (``position``, ``row``, …), its value as it came. ``key`` is what it is of, where it is of
    nobody: the flight of a board's row (whose ``by`` is empty, and whose value is ``None`` once it is gone)."""

    stream: str
    kind: str
    by: str
    value: object
    age_s: float
    key: str = ""


AnySignal = Typing | Presence | Mark | Signal


@dataclass(frozen=True, slots=True)
class Connecting:
    """Dialling ``url``; ``attempt`` counts from 1 since the last connection that held."""

    url: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Online:
    """Welcomed. ``missed`` is how many events happened in the followed streams since the last connection."""

    session: str
    principal: str
    resumed: bool
    missed: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not connected because of ``reason``; dials again ``retry_in_s`` after this was said."""

    retry_in_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more will come. ``error`` is why, ``None`` where the caller left."""

    error: Exception | None


Status = Connecting | Online | Waiting | Ended


@dataclass(slots=True)
class Stats:
    """What happened so far, in counts; read them at any time from ``rb.stats``."""

    dials: int = 0
    welcomes: int = 0
    resumes: int = 0
    resumes_rejected: int = 0
    refreshes: int = 0  # access tokens renewed on an open connection
    events: int = 0
    duplicates: int = 0  # events already taken, dropped
    gaps: int = 0  # a seq was skipped by the server; subscribed anew from the cursor
    parked: int = 0  # a reader was full, so its stream was left and taken up again later
    retries: int = 0  # calls repeated after a refusal or a lost connection
    marks_refused: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound and pace of a client; units are in the names."""

    buffer_events_max: int = 256  # events waiting for one reader; beyond it the stream is left, not the heap grown
    buffer_bytes_max: int = 1_048_576  # the same in bytes of frames, whichever is met first
    calls_in_flight_max: int = 512  # half of what a server allows a connection; the rest wait their turn here
    signals_max: int = 4_096  # distinct (kind, principal) values waiting for one reader; the oldest give way
    message_bytes_max: int = 33_554_432  # one frame from the server: 500 history events of the largest size fit
    hello_bytes_max: int = 61_440  # a hello or resume stays below the server's 64 KiB; what does not fit follows as sub
    backoff_base_s: float = 0.5  # full jitter: uniform in [0, min(cap, base * 2**attempt)]
    backoff_cap_s: float = 30.0
    proved_s: float = 5.0  # online this long and the next loss starts the backoff from its base
    dial_timeout_s: float = 10.0  # TCP, TLS and the WebSocket upgrade together
    opening_timeout_s: float = 10.0  # from hello to welcome
    refresh_margin_s: float = (
        60.0  # a fresh token this long before the end, or a fifth of the token's life if that is less
    )
    refresh_pause_s: float = 1.0  # at least between two refreshes, whatever the provider's tokens are
    answer_timeout_s: float = 30.0  # a request unanswered this long makes the whole connection suspect
    close_timeout_s: float = 1.0  # for a polite close; after it the socket is just closed
    heartbeat_s: float = 25.0  # until the server's welcome says otherwise
    mark_interval_s: float = 0.25  # marks of one stream are gathered this long
    typing_repeat_s: float = 3.0  # half of what keeps "typing" alive, however fast `typing()` is called
    typing_ttl_s: float = 6.0  # wire contract
    save_interval_s: float = 1.0  # cursors reach the store within this
    streams_max: int = 1_000  # until the server's welcome says otherwise
    gaps_max: int = 3  # resubscriptions without one event taken before the whole connection is suspected


@dataclass(frozen=True, slots=True)
class Cursors:
    """What a `CursorStore` keeps: the log's epoch and, by stream, the last seq that its reader was done with."""

    log: str = ""
    streams: Mapping[str, int] = field(default_factory=dict)
