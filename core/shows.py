"""Latest values that many may follow and that change all the time: positions, trails, arrival times.

For: the middle of `core.signals.Signals`, between who is present and everything else. They are kept with the stream's other
signals, so that who begins to follow, or was too slow, gets them as those; but they are sent apart (`flush_live`), in slices:
however many move, events go between.

Promises: of a key the latest value goes out, once a flush; a room told as a count is sent them once a second. Does not: know
what a value says, or when it is too old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from core.presence import Presence
from core.stream import Latest, Port, SignalKey, Stream, latest_of

if TYPE_CHECKING:
    from core.hub import Hub

ROW: Final = "row"
TALK: Final = frozenset(("typing", "presence"))
"""What a principal's own other devices are not told of."""
FRESH_S: Final = 0.05
"""What was encoded longer ago is encoded again, for its age: half of what ages are rounded to."""
GATHERED: Final = 500
"""Deliveries that are sorted by who gets them before the first is sent: a tenth of a millisecond."""

Said = tuple[str | None, bytes, str | SignalKey]
"""A marker or signal to tell: who needs not be told, the frame, and whose marker or which signal it is."""


class Telling:
    """What is to be told of a stream, encoded at ``at_s``, once for all who follow."""

    __slots__ = ("at_s", "everything", "keys", "owners", "said", "stream")

    def __init__(self, stream: Stream, said: list[Said], at_s: float) -> None:
        self.stream = stream
        self.said = said
        self.at_s = at_s
        self.owners = {by for by, _, _ in said}
        self.keys: list[tuple[Stream, str | SignalKey]] = [(stream, key) for _, _, key in said]
        self.everything = joined(stream, said)


class Shows(Presence):
    """The middle of `core.signals.Signals`, which encodes and notes."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._shown: dict[Stream, dict[SignalKey, None]] = {}
        """What `show` changed since the last `flush_live`, the longest ago first."""
        self._now_s = 0.0
        """The latest time told, for the ages of what goes out between two flushes."""

    def note_again(self, port: Port, keys: Iterable[tuple[Stream, str | SignalKey]]) -> None:
        raise NotImplementedError

    def _encode(self, stream: Stream, key: SignalKey, now_s: float) -> bytes:
        raise NotImplementedError

    def show(self, stream: Stream, key: SignalKey, value: object, at_s: float, *, tell: bool = True) -> None:
        """The latest value under the key, true since ``at_s`` on the caller's clock. A callable is asked for its value when
        that is told. Without ``tell`` only who begins to follow is told."""
        stream.signals[key] = (value, at_s)
        if tell:
            self._shown.setdefault(stream, {})[key] = None

    @staticmethod
    def latest(stream: Stream, key: SignalKey) -> tuple[object, float]:
        """What is shown under the key, and since when it is true."""
        return stream.signals[key]

    @property
    def shown_waiting(self) -> bool:
        """Whether something shown is not told yet."""
        return bool(self._shown)

    @property
    def shown_deliveries(self) -> int:
        """How many deliveries the next `flush_live` has, about."""
        return sum(len(stream.live) for stream in self._shown)

    def unshow(self, stream: Stream, key: SignalKey) -> None:
        """Not shown any more: told as ``null``."""
        if stream.signals.pop(key, None) is not None:
            self._shown.setdefault(stream, {})[key] = None

    def flush_live(self, now: Callable[[], float], slice_max: int, *, large_rooms: bool) -> Iterator[None]:
        """Send what is shown and was not yet told. Who follows several streams gets what changed in them in one send, as far
        as they were gathered together. Stops after each ``slice_max`` deliveries, so that others have a turn: what became of a
        port meanwhile is respected, and ages are of about the moment ``now`` says then."""
        shown, self._shown = self._shown, {}
        left = slice_max
        self._now_s = now()
        for together in self._gathered(shown, large_rooms=large_rooms):
            told: dict[Stream, Telling] = {}
            for port, streams in together.items():
                for stream in streams:
                    telling = told.get(stream)
                    if telling is None or self._now_s - telling.at_s > FRESH_S:
                        telling = told[stream] = self._telling(stream, shown[stream])
                    self._tell(port, telling)
                left -= len(streams)
                if left <= 0:
                    left = slice_max
                    self._hub.flush()
                    yield
                    self._now_s = now()
        self._hub.flush()

    def _gathered(
        self, shown: dict[Stream, dict[SignalKey, None]], *, large_rooms: bool
    ) -> Iterator[dict[Port, list[Stream]]]:
        """Who is to be told of which of these streams, some at a time; large rooms wait unless it is their time."""
        ports: dict[Port, list[Stream]] = {}
        count = 0
        for stream, changed in shown.items():
            if not large_rooms and self.is_large(stream):
                self._shown[stream] = {**changed, **self._shown.get(stream, {})}
                continue
            followers = [*stream.live, *stream.behind]
            if count and count + len(followers) > GATHERED:
                yield ports
                ports, count = {}, 0
            count += len(followers)
            for port in followers:
                ports.setdefault(port, []).append(stream)
        yield ports

    def _telling(self, stream: Stream, changed: Iterable[SignalKey]) -> Telling:
        said: list[Said] = [(self._owner(stream, key), self._encode(stream, key, self._now_s), key) for key in changed]
        return Telling(stream, said, self._now_s)

    def _deliver(self, stream: Stream, said: list[Said]) -> None:
        """Hand it to who follows."""
        if said:
            telling = Telling(stream, said, self._now_s)
            for port in [*stream.live, *stream.behind]:
                self._tell(port, telling)

    def _tell(self, port: Port, telling: Telling) -> None:
        """For who cannot take it now the keys are noted."""
        stream = telling.stream
        if port.blocked or port not in stream.live:
            if stream in port.subs:
                self.note_again(port, telling.keys)
            return
        data: Latest | None = telling.everything
        if port.principal in telling.owners:
            data = joined(stream, [one for one in telling.said if one[0] != port.principal])
        if data is not None:
            self._hub.reply(port, data)

    def _owner(self, stream: Stream, key: SignalKey) -> str | None:
        """Who needs not be told of this, since it said so itself: with one device. Rows are nobody's."""
        kind, by = key
        if kind == ROW or by is None or (kind not in TALK and self._devices(stream, by) > 1):
            return None
        return by


def joined(stream: Stream, said: list[Said]) -> Latest | None:
    """For one ``send``; ``None`` where there is nothing to say."""
    return latest_of([frame for _, frame, _ in said], [(stream, key) for _, _, key in said]) if said else None
