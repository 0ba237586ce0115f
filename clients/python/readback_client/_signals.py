"""Latest-value signals of one stream on their way to one reader: typing, presence, markers, anything else.

Conflated: a reader that is slow finds the newest value under each kind and principal (or key), not a history. Bounded by
``signals_max`` keys; past it the key that has waited longest gives way. Typing goes off by itself ``typing_ttl_s``
after the last "on", because the "off" may be lost with a connection.
"""

from __future__ import annotations

from collections.abc import Callable

from readback_client._calls import silent
from readback_client._values import AnySignal, Mark, Presence, Signal, Typing
from readback_client._wire import Frame, maybe_seconds, maybe_seq, text_of


def signal_of(frame: Frame) -> AnySignal:
    """A `signal` frame as its value; an unknown kind, or a value of an unknown form, stays a plain `Signal`."""
    stream, kind = text_of(frame, "stream"), text_of(frame, "kind")
    by = frame.get("by")
    by = by if isinstance(by, str) else ""
    key = frame.get("key")
    key = key if isinstance(key, str) else ""
    value, age_s = frame.get("value"), maybe_seconds(frame, "age") or 0.0
    if kind == "typing" and isinstance(value, bool):
        return Typing(stream, by, value, age_s)
    if kind == "presence" and isinstance(value, str):
        return Presence(stream, by, value, age_s)
    return Signal(stream, kind, by, value, age_s, key)


def mark_of(frame: Frame) -> Mark:
    return Mark(
        text_of(frame, "stream"),
        text_of(frame, "by"),
        maybe_seq(frame, "delivered") or 0,
        maybe_seq(frame, "read") or 0,
    )


class SignalSet:
    """What waits for one `signals()` reader. ``error`` ends the iteration once the set is empty."""

    __slots__ = ("_max", "_typing_until", "_waiting", "closed", "error", "wake")

    def __init__(self, signals_max: int, wake: Callable[[], None] = silent) -> None:
        self._max = signals_max
        self._waiting: dict[tuple[str, str], AnySignal] = {}
        self._typing_until: dict[str, float] = {}
        self.wake = wake
        self.error: Exception | None = None
        self.closed = False

    def put(self, signal: AnySignal, now: float, typing_ttl_s: float) -> float | None:
        """Keep it as the latest under its key. Returns when `expire` has work because of it, if ever."""
        until = None
        if isinstance(signal, Typing):
            if signal.on:
                until = now + max(typing_ttl_s - signal.age_s, 0.0)
                self._typing_until[signal.by] = until
            else:
                self._typing_until.pop(signal.by, None)
        self._keep(signal)
        return until

    def expire(self, stream: str, now: float) -> None:
        """Typing that was not repeated in time is off."""
        for by in [by for by, until in self._typing_until.items() if until <= now]:
            del self._typing_until[by]
            self._keep(Typing(stream, by, False, 0.0))

    def take(self) -> AnySignal | None:
        if not self._waiting:
            return None
        return self._waiting.pop(next(iter(self._waiting)))

    def fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self.wake()

    def _keep(self, signal: AnySignal) -> None:
        key = (type(signal).__name__, signal.by)
        if isinstance(signal, Signal):
            key = (signal.kind, signal.key or signal.by)
        if key not in self._waiting and len(self._waiting) >= self._max:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[key] = signal
        self.wake()
