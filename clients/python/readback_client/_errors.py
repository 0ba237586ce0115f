"""What can go wrong, whose fault it is, and what to do next.

Every exception this package raises on purpose is a `ReadbackError`. `WireError` and its subclasses are the server's
answers, one class for each code of the wire; `retryable` says whether repeating the same thing later can succeed (the
client itself repeats those until a deadline, so a caller sees them only inside `TimedOut.last`).

`connect()` itself raises what ends a client for good: `Unauthorized`, `Revoked`, `Forbidden`, `Superseded`,
`TooLarge`, `BadFrame`, `Refused`. It never raises for a connection that merely dropped.
"""

from __future__ import annotations


class ReadbackError(Exception):
    """Base of everything here.

    >>> issubclass(Forbidden, ReadbackError)
    True
    """


class Closed(ReadbackError):
    """The `connect()` block has been left; this client sends and receives nothing more."""


class TimedOut(ReadbackError):
    """No answer before the deadline. A send may or may not have landed: repeat it with the same ``key`` and it lands once.

    ``last`` is the server's last retryable refusal, or ``None`` where it said nothing (down, or unreachable).
    """

    def __init__(self, what: str, timeout_s: float, key: str | None = None, last: WireError | None = None) -> None:
        said = f"; the server last said: {last}" if last is not None else ""
        super().__init__(f"{what} got no final answer in {timeout_s:g} s{said}")
        self.key = key
        self.last = last


class StreamReset(ReadbackError):
    """What a cursor pointed at cannot be replayed; the iteration ends rather than jump silently.

    ``reason`` is ``trimmed`` (older events are no longer kept), ``epoch`` (the log was restored from a backup: seqs of
    before mean nothing now), or the server's own word. ``first`` and ``head`` are what is kept now, where known. To go
    on, decide what the hole means to you and subscribe again, with ``after=reset.first - 1`` or ``last=…``.
    """

    def __init__(self, stream: str, reason: str, first: int | None = None, head: int | None = None) -> None:
        kept = f"; kept now: {first} to {head}" if first is not None and head is not None else ""
        super().__init__(f"{stream} cannot continue from the cursor held ({reason}){kept}")
        self.stream = stream
        self.reason = reason
        self.first = first
        self.head = head


class Refused(ReadbackError):
    """The address does not speak readback.v1 to us: an HTTP refusal, a failed TLS check, a wrong path. Says which."""


class WireError(ReadbackError):
    """An answer of the server: ``code`` as on the wire, ``message`` in its words, ``retry_after_s`` where it gave one."""

    retryable = False

    def __init__(self, code: str, message: str, retry_after_s: float | None = None, head: int | None = None) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.head = head
        """The stream's head, where the code is ``conflict``."""


class BadRequest(WireError):
    """This request is malformed; repeating it cannot help."""


class BadFrame(WireError):
    """The server could not read what we sent and ended the connection: a bug in this client or a proxy between."""


class Unauthorized(WireError):
    """The token is missing, expired or not for this server. Get another."""


class Revoked(WireError):
    """This session's right to be here was withdrawn."""


class Forbidden(WireError):
    """This principal may not do that here."""


class Removed(Forbidden):
    """This principal was removed from the stream while following it; the last event given was the removal itself."""


class NotFound(WireError):
    """No such stream in this tenant (or an ``edit``/``delete`` points at nothing)."""


class Conflict(WireError):
    """``expect`` was not the stream's head; ``head`` is."""


class Rejected(WireError):
    """The stream's state machine said no. ``reason`` is its word for why, for programs; ``cite`` the paragraph of the rule that
    was broken, where it was one; ``dup``: it had said so before, under the same key."""

    reason = ""
    cite = ""
    dup = False


class TooLarge(WireError):
    """Larger than the server takes in one frame."""


class Superseded(WireError):
    """A newer connection of this same session took over, so this one must not come back."""


class RateLimited(WireError):
    """Too fast; retried after ``retry_after_s``."""

    retryable = True


class Overloaded(WireError):
    """The server is shedding load; retried after ``retry_after_s``."""

    retryable = True


class Unavailable(WireError):
    """The server cannot commit just now; retried. A token callable may raise it to say "ask me again later"."""

    retryable = True

    def __init__(
        self,
        code: str = "unavailable",
        message: str = "",
        retry_after_s: float | None = None,
        head: int | None = None,
    ) -> None:
        super().__init__(code, message, retry_after_s, head)


class Internal(WireError):
    """The server failed inside; nothing says that it will again, so it is retried."""

    retryable = True


BY_CODE: dict[str, type[WireError]] = {
    "bad_request": BadRequest,
    "unknown_op": BadRequest,
    "bad_frame": BadFrame,
    "unauthorized": Unauthorized,
    "revoked": Revoked,
    "forbidden": Forbidden,
    "not_found": NotFound,
    "conflict": Conflict,
    "rejected": Rejected,
    "too_large": TooLarge,
    "superseded": Superseded,
    "rate_limited": RateLimited,
    "overloaded": Overloaded,
    "unavailable": Unavailable,
    "draining": Unavailable,
    "internal": Internal,
}

CLOSE_CODES: dict[int, str] = {
    4000: "internal",
    4001: "draining",
    4002: "overloaded",
    4003: "hello_timeout",
    4004: "rate_limited",
    4005: "idle",
    4006: "unavailable",
    4500: "bad_frame",
    4501: "unauthorized",
    4502: "revoked",
    4503: "forbidden",
    4504: "superseded",
    4505: "too_large",
}
"""The wire's close codes by name. The range decides, not this table: 4000-4499 come back, 4500-4999 do not."""

BYE_CODES = {name: code for code, name in CLOSE_CODES.items()}


def wire_error(code: str, message: str, retry_after_s: float | None = None, head: int | None = None) -> WireError:
    """The exception for a wire code; one that this version does not know becomes a plain, final `WireError`.

    >>> wire_error("forbidden", "not a member").retryable
    False
    """
    return BY_CODE.get(code, WireError)(code, message, retry_after_s, head)


def ends_for_good(close_code: int) -> bool:
    """Whether a close code says not to come back (4500-4999).

    >>> ends_for_good(4501), ends_for_good(4001), ends_for_good(1006)
    (True, False, False)
    """
    return 4500 <= close_code <= 4999
