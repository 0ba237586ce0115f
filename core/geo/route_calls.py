"""When a trip asks for a route: seldom, for a reason, and never of a provider that failed it.

A trip asks when it

    start      has no route yet;
    off_route  has left the one it has, as confirmed by whoever matches its fixes;
    breach     will come outside the interval that was foretold when the route came, seen twice in a row, with long enough
    left; age        has one older than `age_s`, with more than `age_left_s` left.

Between two asks lies a spacing. How many calls a trip may make grows with the time it takes: `first_calls`, one more each
`call_every_s`, `calls_max` at most; with the defaults six in 30 minutes. Nothing about the trip has to be foretold for that.

A trip whose call failed asks nobody again until that provider, or another, has answered somebody else: 0 calls after it
fails, and no trip waits for what is dead. It goes on with what it has, and its source says so (`marked`).

For: trips. Does not: call, judge whether a trip is off its route, or keep anything: what was foretold from durations that must
not be kept ends with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from core.geo.routing import Snapshot

Why = Literal["start", "off_route", "breach", "age"]
OFFLINE: Final = "offline"
STALE: Final = "/stale-route"


@dataclass(frozen=True, slots=True)
class CallPolicy:
    first_calls: int = 2  # at once: a start, and an early turn off the way
    call_every_s: float = 450.0  # one more: 2 + 4 in 30 minutes
    calls_max: int = 48  # of a trip, however long: six hours' worth
    spacing_s: float = 150.0  # between two asks
    off_route_spacing_s: float = 45.0  # where the way it has is wrong
    age_s: float = 600.0  # traffic changes in so long
    age_left_s: float = 900.0  # what is nearer than that was looked at lately enough
    breach_left_s: float = 240.0  # less, and an answer changes nothing any more
    breach_looks: int = 2  # one look may be a fix that lies


class Look(NamedTuple):
    """At a trip: ``left_s`` until it arrives as best known, ``None`` where nothing is. ``off_route`` is confirmed."""

    now_ms: int
    left_s: float | None
    off_route: bool


class RouteCalls:
    """Of one trip. `why`, then `asked`, then `answered`, then `expect` with what the new route foretells."""

    __slots__ = (
        "_beyond",
        "asking",
        "began_ms",
        "calls",
        "failed_ms",
        "high_ms",
        "last_ms",
        "low_ms",
        "made_ms",
        "policy",
    )

    def __init__(self, began_ms: int, policy: CallPolicy | None = None) -> None:
        self.policy = policy or CallPolicy()
        self.began_ms = began_ms
        self.calls = 0
        self.last_ms: int | None = None
        """When it last asked, whatever came of it."""
        self.failed_ms: int | None = None
        self.made_ms: int | None = None
        """Of the route it has, where a provider made it."""
        self.low_ms: int | None = None
        self.high_ms: int | None = None
        self.asking = False
        self._beyond = 0

    @classmethod
    def resumed(cls, began_ms: int, now_ms: int, policy: CallPolicy | None = None) -> RouteCalls:
        """Of a trip that was on its way before, and whose state nobody has: one call is left to it, for the route that it has
        lost; it is taken to have made the others."""
        calls = cls(began_ms, policy)
        calls.calls = max(0, calls._grown(now_ms) - 1)
        return calls

    def left(self, now_ms: int) -> int:
        """How many calls it may make now: what `gateway.routes` is given as ``calls_max``, taken before `asked`."""
        return max(0, self._grown(now_ms) - self.calls)

    def _grown(self, now_ms: int) -> int:
        policy = self.policy
        grown = policy.first_calls + int(max(0, now_ms - self.began_ms) / 1000 / policy.call_every_s)
        return min(grown, policy.calls_max)

    def why(self, look: Look, well_ms: int) -> Why | None:
        """Why to ask now, ``None``: do not. ``well_ms`` is when any provider last answered anybody."""
        reason = self._reason(look)
        if reason is None or self.asking or self.left(look.now_ms) == 0:
            return None
        if self.failed_ms is not None and well_ms <= self.failed_ms:
            return None
        if self.last_ms is not None:
            spacing_s = self.policy.off_route_spacing_s if reason == "off_route" else self.policy.spacing_s
            if look.now_ms - self.last_ms < 1000 * spacing_s:
                return None
        return reason

    def _reason(self, look: Look) -> Why | None:
        policy, now_ms, left_s = self.policy, look.now_ms, look.left_s
        if self._breached(now_ms, left_s):
            self._beyond = min(self._beyond + 1, policy.breach_looks)
        else:
            self._beyond = 0
        if self.last_ms is None:
            return "start"
        if look.off_route:
            return "off_route"
        if self._beyond >= policy.breach_looks and left_s is not None and left_s > policy.breach_left_s:
            return "breach"
        since_ms = self.last_ms if self.made_ms is None else self.made_ms
        if now_ms - since_ms > 1000 * policy.age_s and (left_s is None or left_s > policy.age_left_s):
            return "age"
        return None

    def _breached(self, now_ms: int, left_s: float | None) -> bool:
        if left_s is None or self.low_ms is None or self.high_ms is None:
            return False
        return not self.low_ms <= now_ms + 1000 * left_s <= self.high_ms

    def asked(self, now_ms: int) -> None:
        """One call is counted at once: a node that dies while it waits has made it."""
        assert not self.asking
        self.asking = True
        self.last_ms = now_ms
        self.calls += 1

    def answered(self, now_ms: int, calls: int, failed: bool, snapshot: Snapshot | None) -> None:
        """What came of it: how many calls it cost in the end, whether a provider failed, and the route taken, if any."""
        assert self.asking
        self.asking = False
        self.calls += calls - 1
        self.failed_ms = now_ms if failed else None
        if snapshot is not None:
            self.made_ms = None if snapshot.source == OFFLINE else snapshot.made_ms
            self.low_ms = self.high_ms = None
            self._beyond = 0

    def gave_up(self) -> None:
        """The ask was cancelled. It may have cost a call."""
        self.asking = False

    def expect(self, low_ms: int, high_ms: int) -> None:
        """When the trip will arrive, as foretold with the route it has now."""
        self.low_ms, self.high_ms = low_ms, high_ms

    def marked(self, source: str) -> str:
        """An arrival time's source, where the route behind it could not be renewed."""
        return source + STALE if self.failed_ms is not None and self.made_ms is not None else source
