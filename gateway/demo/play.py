"""Plays a day into a gateway: makes its streams, gives its commands when they are due, and keeps the board.

Theory of operation. Everything before `OPENS` is given as fast as the gateway takes it; then the day's clock runs ``speed``
times as fast as the real one. A command is given when its moment has come and the one before it in its stream was answered;
those of different streams go together, at most `IN_FLIGHT` at once. Each of those who give them has a connection.

The node decides by its own clock, and an actual time that has not been is refused. So the day that is played is the last one
of which every command comes, at this speed, after what it tells of (`playable`): most often yesterday's.

Promises: commands are given with the keys that the day has, so that one given twice happens once; whatever the gateway refuses
is counted by its reason. Does not: read a clock but Trio's, print, or come back after a lost connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime, time, timedelta
from random import Random
from typing import Final

import trio

from gateway.cli_errors import CliError
from gateway.demo.board import Board
from gateway.demo.day import Day, make_day
from gateway.demo.link import Frame, Link, linked
from gateway.demo.network import HOME, local_ms, zone
from gateway.demo.script import MEMBERS, Given, referred

OPENS: Final = time(5)
"""When the day's clock starts, at home: before that little happens."""
CLOSES: Final = time(10)
"""By then, the morning after, the last aircraft is in."""
IN_FLIGHT: Final = 64
RUNS_MAX: Final = 99
WATCHER: Final = "user:ops"
BOARD: Final = "flight:board"
SEEN_S: Final = 5.0
"""How long to wait for an event that was answered to be seen, where a command names it."""

MakeStream = Callable[[str, Mapping[str, str]], Awaitable[bool]]
"""Make a stream with these members; whether it is new."""
MakeToken = Callable[[str], str]


def playable(now_s: float, speed: float) -> date:
    """The last day that can be played from now on at this speed, so that nothing is told before it was."""
    day = datetime.fromtimestamp(now_s, zone(HOME)).date()
    while True:
        opens_ms, closes_ms = bounds(day)
        if closes_ms <= 1000 * now_s + (closes_ms - opens_ms) / speed:
            return day
        day -= timedelta(days=1)


def bounds(day: date) -> tuple[int, int]:
    """When its clock starts, and when it is over."""
    return local_ms(day, OPENS, HOME), local_ms(day + timedelta(days=1), CLOSES, HOME)


async def make_streams(make: MakeStream, date: date, seed: int) -> Day:
    """A day whose streams are all new: the first run of it that nobody has played. Raises `CliError`."""
    for run in range(1, RUNS_MAX + 1):
        day = make_day(Random(seed), date, run)
        if await make(day.streams[0], MEMBERS):
            break
    else:
        raise CliError(f"{date} was played {RUNS_MAX} times into this gateway; --data of a new `readback dev` has room")
    await make(BOARD, MEMBERS)
    limit = trio.CapacityLimiter(8)

    async def one(stream: str) -> None:
        async with limit:
            await make(stream, MEMBERS)

    async with trio.open_nursery() as nursery:
        for stream in day.streams[1:]:
            nursery.start_soon(one, stream)
    return day


class Player:
    """One playing of one day."""

    def __init__(self, day: Day, *, speed: float, url: str, token: MakeToken) -> None:
        self.day = day
        self.board = Board(day.flights)
        self.speed = speed
        self.opens_ms, self.closes_ms = bounds(day.date)
        self._url = url
        self._token = token
        self._links: dict[str, Link] = {}
        self._opened_s: float | None = None
        self._last: dict[str, trio.Event] = {}
        self._limit = trio.CapacityLimiter(IN_FLIGHT)
        self._seen = trio.Event()
        self._expected: dict[str, int] = {}
        """By stream, the last seq that was answered."""

    @property
    def total(self) -> int:
        return len(self.day.given)

    def now_ms(self) -> int:
        """The time of the day that is played."""
        if self._opened_s is None:
            return self.opens_ms
        return self.opens_ms + round(1000 * self.speed * (trio.current_time() - self._opened_s))

    async def run(self) -> None:
        """Until all is given and answered. Raises `CliError` where the gateway does not let us."""
        async with trio.open_nursery() as nursery:
            try:
                for who in MEMBERS:
                    self._links[who] = await linked(nursery, self._url, self._token(who), who, self._heard)
                await self._follow()
                await self._give_all()
            finally:
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as closing:
                        for link in self._links.values():
                            closing.start_soon(link.close)
            nursery.cancel_scope.cancel()

    async def _give_all(self) -> None:
        async with trio.open_nursery() as nursery:
            for given in self.day.given:
                await self._due(given.at_ms)
                before, done = self._last.get(given.stream), trio.Event()
                await self._limit.acquire_on_behalf_of(done)
                self._last[given.stream] = done
                nursery.start_soon(self._give, given, before, done)

    async def _follow(self) -> None:
        watcher = self._links[WATCHER]
        async with trio.open_nursery() as nursery:
            for flight in self.day.flights:
                nursery.start_soon(self._sub, watcher, flight.stream)
            nursery.start_soon(self._sub, watcher, BOARD)

    async def _sub(self, link: Link, stream: str) -> None:
        answer = await link.ask("sub", stream=stream, after=0)
        if answer["op"] != "ok":
            raise CliError(f"{stream} cannot be followed: {answer['message']}")

    def _heard(self, frame: Frame) -> None:
        self.board.heard(frame)
        self._seen.set()
        self._seen = trio.Event()

    async def _due(self, at_ms: int) -> None:
        if at_ms <= self.opens_ms:
            return
        if self._opened_s is None:
            for done in list(self._last.values()):
                await done.wait()
            self._opened_s = trio.current_time()
        await trio.sleep_until(self._opened_s + (at_ms - self.opens_ms) / 1000 / self.speed)

    async def _give(self, given: Given, before: trio.Event | None, done: trio.Event) -> None:
        try:
            if before is not None:
                await before.wait()
            body = given.body
            if isinstance(body.get("ref"), str):
                await self._caught_up(given.stream)
                body = referred(given, self.board.shown(given.stream))
            link = self._links[given.by]
            answer = await link.insist("command", stream=given.stream, type=given.type, key=given.key, body=body)
            self.board.answered(given, answer)
            if answer["op"] == "ok":
                self._expected[given.stream] = answer["seqs"][-1]
        finally:
            done.set()
            self._limit.release_on_behalf_of(done)

    async def _caught_up(self, stream: str) -> None:
        """Until the events that were answered are seen."""
        with trio.move_on_after(SEEN_S):
            while self.board.heads.get(stream, 0) < self._expected.get(stream, 0):
                await self._seen.wait()
