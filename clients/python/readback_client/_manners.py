"""What a client tells others about itself: how far it has read, whether it types, whether it is away.

None of it is worth a call's patience. Marks are monotonic, so the latest says all: they are gathered for
``mark_interval_s`` and repeated on the next connection until answered. Typing is worth saying only now: at most every
``typing_repeat_s`` while on, once when off, never later. "away" is repeated after each welcome, for a new connection
counts as online.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from readback_client._calls import Call, silent
from readback_client._values import Limits, Stats


class Messenger(Protocol):
    """The part of the machine used here."""

    @property
    def online(self) -> bool: ...
    def call(self, op: str, fields: Mapping[str, object], wake: Callable[[], None] = silent) -> Call: ...
    def ask(self, op: str, fields: Mapping[str, object], feed: None) -> int: ...
    def at(self, when: float, act: Callable[[float], None]) -> None: ...


class _Marks:
    """One stream's markers: wanted, and the call that carries them, if any."""

    __slots__ = ("call", "delivered", "due", "read")

    def __init__(self) -> None:
        self.delivered = 0
        self.read = 0
        self.call: Call | None = None
        self.due = False


class Manners:
    def __init__(self, messenger: Messenger, limits: Limits, stats: Stats) -> None:
        self._messenger = messenger
        self._limits = limits
        self._stats = stats
        self._marks: dict[str, _Marks] = {}
        self._sent: dict[str, float] = {}
        """When typing was last said to be on, by stream; absent when off."""
        self._away: set[str] = set()
        self.on_said: Callable[[], None] = silent

    @property
    def unsaid(self) -> bool:
        """Whether marks wait to be written or answered."""
        return any(marks.due or marks.call is not None for marks in self._marks.values())

    def mark(self, now: float, stream: str, delivered: int, read: int) -> None:
        """Raise this principal's markers; 0 leaves one as it is."""
        marks = self._marks.setdefault(stream, _Marks())
        if delivered <= marks.delivered and read <= marks.read:
            return
        marks.delivered = max(marks.delivered, delivered)
        marks.read = max(marks.read, read)
        if not marks.due:
            marks.due = True
            self._messenger.at(now + self._limits.mark_interval_s, lambda _now: self._say(stream, marks))

    def flush(self) -> None:
        """Say all marks now rather than after the interval."""
        for stream, marks in self._marks.items():
            self._say(stream, marks)

    def typing(self, now: float, stream: str, on: bool) -> None:
        last = self._sent.get(stream)
        if not self._messenger.online:
            return
        if on and (last is None or now - last >= self._limits.typing_repeat_s):
            self._sent[stream] = now
            self._signal(stream, "typing", True)
        elif not on and last is not None:
            del self._sent[stream]
            self._signal(stream, "typing", False)

    def presence(self, stream: str, value: str) -> None:
        if value == "away":
            self._away.add(stream)
        else:
            self._away.discard(stream)
        if self._messenger.online:
            self._signal(stream, "presence", value)

    def welcomed(self, now: float) -> None:
        for stream in self._away:
            self._signal(stream, "presence", "away")

    def lost(self) -> None:
        self._sent.clear()

    def _signal(self, stream: str, kind: str, value: object) -> None:
        self._messenger.ask("signal", {"stream": stream, "kind": kind, "value": value}, None)

    def _say(self, stream: str, marks: _Marks) -> None:
        if not marks.due or marks.call is not None:
            return  # the answer under way will say the rest
        marks.due = False
        fields = {name: seq for name, seq in (("delivered", marks.delivered), ("read", marks.read)) if seq}
        call = self._messenger.call("mark", {"stream": stream, **fields}, lambda: self._answered(stream, marks))
        if not call.done:
            marks.call = call

    def _answered(self, stream: str, marks: _Marks) -> None:
        call, marks.call = marks.call, None
        self.on_said()
        if call is not None and call.error is not None:
            self._stats.marks_refused += 1
            return  # refused for good: repeating on each mark would only be refused again
        if marks.due:
            self._say(stream, marks)
