"""Where subjects are now, as a node shows it to who follows: the newest place of each, a short trail behind it, and when
silence becomes staleness.

For: `gateway.live.showing`. Promises: a place that is not newer than what is shown never is; a subject turns stale once, and is
fresh again with its next newer place; what is kept is bounded a stream. Does not: judge, send, or know a clock: times are Unix
milliseconds of the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from core.stream import Stream
from core.wire import at_bytes

TRAIL_POINTS_MAX: Final = 20
TRAIL_MS: Final = 600_000
"""A trail is for who has just come: where did it come from, not where has it been all day."""


class Place(NamedTuple):
    """Degrees, m, m/s, degrees from north; ``None``: not said."""

    at_ms: int
    lat: float
    lon: float
    acc: float | None = None
    speed: float | None = None
    heading: float | None = None
    alt: float | None = None


class Shown:
    """A subject in one stream."""

    __slots__ = ("_points", "due_s", "place", "stale", "stale_ms")

    def __init__(self, place: Place, stale_ms: int) -> None:
        self.place = place
        self.stale = False
        self.stale_ms = stale_ms
        """When it turns stale, unless something newer comes."""
        self.due_s = 0
        """Its place in the wheel; 0: none."""
        self._points: list[Place] = [place]

    def move(self, place: Place) -> None:
        self.place = place
        points = self._points
        points.append(place)
        if len(points) > 2 * TRAIL_POINTS_MAX:
            del points[:-TRAIL_POINTS_MAX]

    def before(self, places: Iterable[Place]) -> None:
        """What lies before all that is known of it, oldest first."""
        first_ms = self._points[0].at_ms
        self._points[:0] = [place for place in places if place.at_ms < first_ms]

    def value(self) -> dict[str, Any]:
        """Of the signal ``position``."""
        at_ms, lat, lon, acc, speed, heading, alt = self.place
        value = {
            "lat": lat,
            "lon": lon,
            "speed": speed,
            "heading": heading,
            "acc": acc,
            "alt": alt,
            "at": at_bytes(at_ms).decode(),
        }
        if self.stale:
            value["stale"] = True
        return value

    def trail(self) -> dict[str, Any]:
        """Of the signal ``trail``: its last places, oldest first."""
        after_ms = self.place.at_ms - TRAIL_MS
        points = self._points[-TRAIL_POINTS_MAX:]
        return {"points": [[at_ms, lat, lon] for at_ms, lat, lon, *_ in points if at_ms >= after_ms]}


class Live:
    """Of one node: the streams that it holds."""

    def __init__(self, subjects_max: int) -> None:
        self._subjects_max = subjects_max
        """Of a stream."""
        self._streams: dict[Stream, dict[str, Shown]] = {}
        self._due: dict[int, dict[tuple[Stream, str], None]] = {}
        """The wheel: by second, whom to look at then. Whoever is shown, and not stale, is in one place of it, at or before its
        time; nobody else is, for a place holds the stream, and with it all of its events that are in memory."""
        self._turned_s = 0

    def __len__(self) -> int:
        return sum(map(len, self._streams.values()))

    def get(self, stream: Stream, subject: str) -> Shown | None:
        subjects = self._streams.get(stream)
        return None if subjects is None else subjects.get(subject)

    def show(self, stream: Stream, subject: str, place: Place, stale_after_ms: int, now_ms: int) -> Shown | None:
        """``None``: something as new is shown already."""
        subjects = self._streams.get(stream)
        if subjects is None:
            subjects = self._streams[stream] = {}
        stale_ms = place.at_ms + stale_after_ms
        shown = subjects.get(subject)
        if shown is None:
            shown = subjects[subject] = Shown(place, stale_ms)
        elif place.at_ms <= shown.place.at_ms:
            return None
        else:
            shown.move(place)
            shown.stale_ms = stale_ms
        shown.stale = stale_ms <= now_ms
        if not shown.due_s and not shown.stale:
            self._put(stream, subject, shown)
        return shown

    def _put(self, stream: Stream, subject: str, shown: Shown) -> None:
        # Not into a second that was looked at: nobody comes by there any more.
        shown.due_s = max(shown.stale_ms // 1_000 + 1, self._turned_s + 1)
        self._due.setdefault(shown.due_s, {})[stream, subject] = None

    def _take_out(self, stream: Stream, subject: str, shown: Shown) -> None:
        if shown.due_s:
            there = self._due[shown.due_s]
            del there[stream, subject]
            if not there:
                del self._due[shown.due_s]

    def crowded(self, stream: Stream) -> str | None:
        """Who has to go from a stream that shows too many: the one not heard of for longest."""
        subjects = self._streams.get(stream, {})
        if len(subjects) <= self._subjects_max:
            return None
        subject = min(subjects, key=lambda each: subjects[each].place.at_ms)
        self._take_out(stream, subject, subjects.pop(subject))
        return subject

    def turn(self, now_ms: int) -> list[tuple[Stream, str]]:
        """Who has turned stale since it was called last."""
        turned = []
        second = now_ms // 1_000
        if second - self._turned_s > len(self._due):  # a first time, or a clock that jumped
            seconds = sorted(each for each in self._due if each <= second)
        else:
            seconds = [each for each in range(self._turned_s + 1, second + 1) if each in self._due]
        self._turned_s = second
        for each in seconds:
            for stream, subject in self._due.pop(each):
                shown = self._streams[stream][subject]
                shown.due_s = 0
                if shown.stale:
                    continue
                if shown.stale_ms > now_ms:
                    self._put(stream, subject, shown)
                else:
                    shown.stale = True
                    turned.append((stream, subject))
        return turned

    def drop(self, stream: Stream) -> None:
        """The stream is let go."""
        for subject, shown in self._streams.pop(stream, {}).items():
            self._take_out(stream, subject, shown)
