"""When an open connection's access token is renewed, so that the connection need not end with it.

The server says in its welcome until when it keeps the connection (``expires``), and what time it is (``time``): the
difference is all that is used, so our own clock may be wrong. A fresh token is asked for a margin before that, a little
earlier by chance, for many clients have tokens of one second. What is refused then, or brought nothing new (a provider that
keeps its tokens until they end), is tried once more near the end, with a token fetched anew. After that the server ends
the connection and the next one says hello: that costs a moment, and no event.

    asked nothing ----due----> WANTED (a token is being fetched) ----`flown`----> IN FLIGHT
         ^                        |  no token now                                   |
         +------------------------+---- accepted / refused / connection lost -------+

Decides and keeps; `Machine` writes the frame and `Client` fetches the token.
"""

from __future__ import annotations

from datetime import UTC, datetime

from readback_client._backoff import Uniform
from readback_client._errors import Unauthorized, WireError
from readback_client._values import Limits
from readback_client._wire import Frame

NEVER = float("inf")
TRIES_MAX = 2  # for one end: at the margin, and near it


class Renewal:
    """``fresh``: access tokens are fetched; a fixed one can only end.

    >>> renewal = Renewal(Limits(), uniform=lambda low, high: low, fresh=True)
    >>> renewal.told(100.0, {"time": "2026-11-21T09:30:00Z", "expires": "2026-11-21T09:40:00Z"})
    >>> renewal.ends_at, renewal.due
    (700.0, 640.0)
    """

    __slots__ = (
        "_due_s",
        "_ends_s",
        "_fresh",
        "_life_s",
        "_limits",
        "_rests",
        "_skew_s",
        "_tries",
        "_uniform",
        "flight",
        "wanted",
    )

    def __init__(self, limits: Limits, uniform: Uniform, *, fresh: bool) -> None:
        self.wanted = False
        """A fresh token should be fetched now."""
        self.flight: tuple[int, float] | None = None
        """The id of the refresh that waits for its answer, and since when."""
        self._fresh = fresh
        self._limits = limits
        self._uniform = uniform
        self._skew_s = 0.0  # the server's clock less ours
        self._ends_s = NEVER  # by the server's clock, as `_due_s`
        self._life_s = 0.0
        self._due_s = NEVER
        self._tries = 0  # of the end that is near
        self._rests = 0  # in a row, for what may heal

    @property
    def ends_at(self) -> float:
        """When the server ends the connection; never, where it did not say."""
        return self._ends_s - self._skew_s

    @property
    def due(self) -> float:
        return NEVER if self.wanted or self.flight is not None else self._due_s - self._skew_s

    def told(self, now: float, frame: Frame) -> None:
        """A welcome. An older server's says nothing of an end."""
        time_s, ends_s = _seconds(frame.get("time")), _seconds(frame.get("expires"))
        if time_s is None or ends_s is None:
            self._ends_s = self._due_s = NEVER
            return
        self._skew_s = time_s - now
        self._end(now, ends_s)

    def tick(self, now: float) -> None:
        if now >= self.due:
            self.wanted = True

    def flown(self, id: int, now: float) -> None:
        self.wanted = False
        self.flight = (id, now)

    def accepted(self, now: float, frame: Frame) -> None:
        """The token was taken; ``expires`` is its end."""
        self.flight = None
        self._rests = 0
        self._tries += 1
        ends_s = _seconds(frame.get("expires"))
        self._end(now, self._ends_s if ends_s is None else ends_s)

    def refused(self, now: float, error: WireError) -> None:
        self.flight = None
        if error.retryable:
            self.rest(now, error.retry_after_s)
            return
        self._tries = self._tries + 1 if isinstance(error, Unauthorized) else TRIES_MAX
        self._plan(now)

    def rest(self, now: float, retry_after_s: float | None) -> None:
        """Not now, said the server, or the provider of tokens: again after a while, as long as there is time."""
        self.wanted = False
        self._rests += 1
        ceiling = min(self._limits.backoff_cap_s, self._limits.backoff_base_s * 2.0 ** min(self._rests - 1, 32))
        again = now + max(retry_after_s or 0.0, self._limits.refresh_pause_s) + self._uniform(0.0, ceiling)
        self._due_s = again + self._skew_s if again < self.ends_at else NEVER

    def lost(self) -> None:
        """The connection is gone; what a refresh under way came to, nobody will say."""
        if self.flight is not None:
            self._tries += 1
        self.wanted, self.flight, self._due_s = False, None, NEVER

    # -- inside -------------------------------------------------------------------------------------------------------

    def _end(self, now: float, ends_s: float) -> None:
        if ends_s != self._ends_s:
            self._ends_s, self._life_s, self._tries, self._rests = ends_s, ends_s - self._skew_s - now, 0, 0
        self._plan(now)

    def _plan(self, now: float) -> None:
        self._due_s = NEVER
        if not self._fresh or self._tries >= TRIES_MAX:
            return
        margin_s = min(self._limits.refresh_margin_s, self._life_s / 5.0)
        if self._tries:
            margin_s /= 4.0
        due_s = self._ends_s - margin_s - self._uniform(0.0, margin_s / 2.0)
        due_s = max(due_s, now + self._limits.refresh_pause_s + self._skew_s)
        if due_s < self._ends_s:
            self._due_s = due_s


def _seconds(value: object) -> float | None:
    """An RFC 3339 time as Unix time; ``None`` for what is none."""
    try:
        then = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if then is None else (then if then.tzinfo is not None else then.replace(tzinfo=UTC)).timestamp()
