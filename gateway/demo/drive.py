"""Drives trips into a gateway: makes and plans them, sends their positions when they were, and hears when each will arrive.

Theory of operation. Each trip is joined somewhere on its way: what its vehicle saw until then is sent at once, as a device
does that was offline, and the rest as it happens, one second a second (`speed` times that, where somebody is in a hurry: a
vehicle is then that much faster, and a gateway believes only so much). So at any speed some arrive soon, some later, and each
that arrives makes room for the next. A vehicle has a connection of its own, stands where its trip ended, and says so until it
is seen to have arrived; whoever waits at the end is told ten and five minutes before, in an inbox.

Promises: what each vehicle was answered is counted, word for word. Does not: read a clock but Trio's and the one it is given,
print, or decide when anything arrives.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Final
from uuid import UUID

import trio

from core.flight.times import write
from core.geo.estimate import Fixed
from core.geo.polyline import encode
from gateway.cli_errors import CliError
from gateway.demo.link import Frame, Link, linked
from gateway.demo.play import MakeStream, MakeToken
from gateway.eta.trips import Trip

DISPATCH: Final = "user:dispatch"
POINTS_MAX: Final = 5_000
BATCH: Final = 200
"""Positions in one message, of those that come late."""
JOIN_LEFT_S: Final = (90.0, 900.0)
"""How far from its end a trip is joined."""
THRESHOLDS_S: Final = (600, 300)
STAND_S: Final = 5.0
"""Between two positions of a vehicle that stands where its trip ended."""
NEWS_MAX: Final = 64
GIVE_UP_S: Final = 120.0
"""Having stood so long, a trip that the gateway has not seen arrive is let go."""

MakeId = Callable[[], UUID]
Sleep = Callable[[float], Awaitable[None]]
"""For so many seconds of the wall clock that it is given."""


@dataclass(slots=True)
class Ride:
    """A trip being driven. Times are Unix seconds; ``shown`` is what the gateway says last of the arrival."""

    trip: Trip
    stream: str
    rider: str
    began_s: float
    """When it would have begun, so that it is now where it is joined."""
    joined_s: float
    speed: float
    status: str = "joining"
    sent: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    next_in_s: float = 0.0
    shown: dict[str, Any] = field(default_factory=dict)
    alerts: dict[int, float] = field(default_factory=dict)
    """By threshold, how many seconds before the arrival it was told; known once it is there."""
    told: dict[int, float] = field(default_factory=dict)
    merged: set[int] = field(default_factory=set)
    """Thresholds that a nearer one was told for: both were passed at once."""
    doubled: int = 0
    """Alerts that came twice."""

    @property
    def arrives_s(self) -> float:
        return self.began_s + self.trip.arrive_s / self.speed

    @property
    def due_s(self) -> list[int]:
        """Thresholds that lay ahead where it was joined: of one passed by then it is told at once, whenever that is."""
        return [threshold_s for threshold_s in THRESHOLDS_S if self.arrives_s - self.joined_s > threshold_s + 60]

    def eta_s(self, name: str = "at") -> float | None:
        said = self.shown.get(name)
        return None if said is None else datetime.fromisoformat(said).timestamp()


@dataclass(slots=True)
class Tally:
    """Of all rides so far."""

    rides: list[Ride] = field(default_factory=list)
    done: list[Ride] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    news: deque[str] = field(default_factory=lambda: deque(maxlen=NEWS_MAX))
    heard: int = 0
    """News in all."""


class Driver:
    """`run` drives ``count`` trips at a time until all were driven (or for ever, with ``loop``)."""

    def __init__(
        self,
        trips: list[Trip],
        *,
        count: int,
        speed: float,
        url: str,
        token: MakeToken,
        make: MakeStream,
        rng: Random,
        wall: Callable[[], float],
        new_id: MakeId,
        loop: bool = False,
        sleep: Sleep = trio.sleep,
    ) -> None:
        self.trips = trips
        self.tally = Tally()
        self.wall = wall
        self._count = count
        self._speed = speed
        self._url = url
        self._token = token
        self._make = make
        self._rng = rng
        self._new_id = new_id
        self._loop = loop
        self._sleep = sleep
        self._run = f"{new_id().hex[:6]}"
        self._order = rng.sample(range(count), count)
        self._by_stream: dict[str, Ride] = {}
        self._links: dict[str, Link] = {}

    async def run(self) -> None:
        """Raises `CliError`."""
        async with trio.open_nursery() as nursery:
            room = trio.CapacityLimiter(self._count)
            self._links["dispatch"] = await linked(nursery, self._url, self._token(DISPATCH), DISPATCH, self._heard_of)
            try:
                async with trio.open_nursery() as rides:
                    turn = 0
                    while turn < len(self.trips) or self._loop:
                        token = object()
                        await room.acquire_on_behalf_of(token)
                        rides.start_soon(self._ride, nursery, turn, room, token)
                        turn += 1
            finally:
                for link in self._links.values():
                    await link.close()
            nursery.cancel_scope.cancel()

    async def _ride(self, links: trio.Nursery, turn: int, room: trio.CapacityLimiter, token: object) -> None:
        try:
            await self._drive(links, turn)
        finally:
            room.release_on_behalf_of(token)

    async def _drive(self, links: trio.Nursery, turn: int) -> None:
        trip = self.trips[turn % len(self.trips)]
        now_s, left_s = self.wall(), min(trip.arrive_s, self._left_s(turn))
        began_s = now_s - (trip.arrive_s - left_s) / self._speed
        vehicle, name = f"device:{trip.vehicle}-{self._run}-{turn}", f"{trip.name}-{self._run}-{turn}"
        ride = Ride(trip, f"trip:{name}", f"user:rider-{self._run}-{turn}", began_s, now_s, self._speed)
        self.tally.rides.append(ride)
        self._by_stream[ride.stream] = ride
        await self._make(ride.stream, {DISPATCH: "owner", vehicle: "member", ride.rider: "member"})
        await self._plan(ride, vehicle)
        await self._links["dispatch"].ask("sub", stream=ride.stream)
        link = await linked(links, self._url, self._token(vehicle), vehicle, lambda frame: None)
        inbox = await linked(
            links, self._url, self._token(ride.rider), ride.rider, lambda frame: self._told(ride, frame)
        )
        try:
            await inbox.ask("sub", stream=ride.rider, after=0)
            await self._send_all(ride, link)
            self._over(ride)
        finally:
            await link.close()
            await inbox.close()

    def _left_s(self, turn: int) -> float:
        """The first ones are spread evenly, so that something happens soon and goes on happening; the others begin far away."""
        least_s, most_s = JOIN_LEFT_S
        if turn >= self._count:
            return most_s
        return least_s + (most_s - least_s) * (self._order[turn] + self._rng.random()) / self._count

    async def _plan(self, ride: Ride, vehicle: str) -> None:
        points = ride.trip.route.points
        step = -(-len(points) // POINTS_MAX)
        thinned = [*points[:-1:step], points[-1]]
        lat, lon = points[-1]
        route = {"polyline": encode(thinned, 6), "source": ride.trip.route.source}
        stop = {"stop": "end", "name": "where they wait", "lat": round(lat, 6), "lon": round(lon, 6)}
        await self._give(ride, "plan", mode="car", subject=vehicle, stops=[stop], route=route)
        await self._give(ride, "start", at=write(int(1000 * ride.began_s)))
        await self._give(ride, "notify", recipient=ride.rider, stop="end", thresholds_s=THRESHOLDS_S)

    async def _give(self, ride: Ride, verb: str, **body: Any) -> None:
        key = str(self._new_id())
        answer = await self._links["dispatch"].insist("command", stream=ride.stream, type=verb, key=key, body=body)
        if answer["op"] != "ok":
            raise CliError(f"{verb} of {ride.stream} was refused: {answer.get('message')}")

    async def _send_all(self, ride: Ride, link: Link) -> None:
        fixes = ride.trip.fixes
        ride.status = "under way"
        nth = 0
        while nth < len(fixes) and ride.status == "under way":
            now_s = self.wall()
            batch: list[dict[str, Any]] = []
            while nth < len(fixes) and len(batch) < BATCH and self._at_s(ride, nth) <= now_s:
                batch.append(self._fix(ride, nth))
                nth += 1
            if batch:
                answer = await self._position(ride, link, batch)
                ride.next_in_s = answer.get("next_in", 0.0)
            else:
                await self._sleep(max(0.05, self._at_s(ride, nth) - now_s))
        ended_s = self.wall()
        while ride.status == "under way" and self.wall() < ended_s + GIVE_UP_S:
            await self._sleep(STAND_S)
            nth += 1
            await self._position(ride, link, [self._stands(ride, nth)])

    def _at_s(self, ride: Ride, nth: int) -> float:
        return ride.began_s + ride.trip.fixes[nth].at_s / ride.speed

    def _fix(self, ride: Ride, nth: int) -> dict[str, Any]:
        seen = ride.trip.fixes[nth]
        fix = self._said(nth + 1, self._at_s(ride, nth), seen)
        if seen.speed_mps is not None:
            fix["speed"] = round(seen.speed_mps * ride.speed, 1)
        return fix

    def _stands(self, ride: Ride, seq: int) -> dict[str, Any]:
        """Where its trip ended, now."""
        return self._said(seq, self.wall(), ride.trip.fixes[-1]) | {"speed": 0.0}

    def _said(self, seq: int, at_s: float, seen: Fixed) -> dict[str, Any]:
        fix: dict[str, Any] = {"seq": seq, "at": write(int(1000 * at_s))}
        fix |= {"lat": round(seen.lat, 6), "lon": round(seen.lon, 6)}
        if seen.acc_m is not None:
            fix["acc"] = round(seen.acc_m, 1)
        return fix

    async def _position(self, ride: Ride, link: Link, batch: list[dict[str, Any]]) -> Frame:
        answer = await link.insist("position", stream=ride.stream, fixes=batch)
        if answer["op"] != "ok":
            raise CliError(f"positions of {ride.stream} were refused: {answer.get('message')}")
        ride.sent += len(batch)
        for verdict in answer["verdicts"]:
            ride.verdicts[verdict["verdict"]] += 1
            if verdict.get("reason") and verdict["verdict"] != "accepted":
                self.tally.refused[f"{verdict['verdict']} {verdict['reason']}"] += 1
        return answer

    # -- being told -------------------------------------------------------------------------------------------------------

    def _heard_of(self, frame: Frame) -> None:
        ride = self._by_stream.get(frame.get("stream", ""))
        if ride is None:
            return
        if frame["op"] == "signal" and frame["kind"] == "eta":
            ride.shown = frame["value"]
        elif frame["op"] == "event" and frame["type"] == "trip.arrived":
            ride.status = "arrived"
            self._say(ride, "is there")

    def _told(self, ride: Ride, frame: Frame) -> None:
        if frame["op"] != "event" or frame["type"] != "trip.alert" or frame["body"].get("trip") != ride.stream:
            return
        threshold_s = frame["body"]["threshold_s"]
        ride.doubled += threshold_s in ride.told
        ride.told.setdefault(threshold_s, self.wall())
        ride.merged |= set(frame["body"].get("merged", ()))
        self._say(ride, f"is {threshold_s // 60} minutes away: {ride.rider} was told")

    def _say(self, ride: Ride, what: str) -> None:
        self.tally.news.append(f"{ride.trip.vehicle} {what}")
        self.tally.heard += 1

    def _over(self, ride: Ride) -> None:
        if ride.status == "under way":
            ride.status = "lost"
            self._say(ride, "was not seen to arrive")
        ride.alerts = {threshold_s: ride.arrives_s - at_s for threshold_s, at_s in ride.told.items()}
        self.tally.done.append(ride)
        self.tally.rides.remove(ride)
        self._by_stream.pop(ride.stream, None)
