"""gateway.sessions: claims on the bus, what is kept while it is away, and what is made good when it is back.

Whole nodes do the same in tests/e2e/test_cluster_sessions; here the bus answers what the test says, and time is moved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from core.bus import Bus
from core.limits import Limits
from core.ports import Unavailable
from core.session import Sessions
from core.tokens import ResumeClaims
from core.wire import Close
from gateway.metrics import Registry
from gateway.node import Node
from gateway.sessions import ASKS_AT_ONCE, CLAIM_WAIT_S, SILENT_S, SUPERSEDED, Claims

LIMITS = replace(Limits(), claims_kept_max=3, resume_ttl_s=100.0)
NOW_S = 5_000.0


class Numbers:
    """The part of a bus that raises numbers; it can be away, or silent."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self.silent = False
        self.answers = trio.Event()
        """Nothing is answered before it is set."""
        self.answers.set()
        self.numbers: dict[str, int] = {}
        self.asked: list[tuple[str, int, float]] = []
        self.at_once = 0
        self._open = 0

    async def raise_number(self, key: str, number: int, ttl_s: float) -> int:
        self.asked.append((key, number, ttl_s))
        self._open += 1
        self.at_once = max(self.at_once, self._open)
        try:
            await trio.sleep_forever() if self.silent else await self.answers.wait()
        finally:
            self._open -= 1
        if self.trouble is not None:
            raise Unavailable(self.trouble)
        before = self.numbers.get(key, 0)
        self.numbers[key] = max(before, number)
        return before


@dataclass
class FakeNode:
    """What claims need of a node: its sessions, and to be seen saying goodbye and telling the others."""

    limits: Limits = LIMITS
    sessions: Sessions[str] = field(default_factory=lambda: Sessions(100, LIMITS.resume_ttl_s))
    registry: Registry = field(default_factory=Registry)
    byes: list[tuple[str, Close, str]] = field(default_factory=list)
    told: list[tuple[str, int]] = field(default_factory=list)
    settled: int = 0

    @property
    def measures(self) -> FakeNode:
        return self

    @property
    def shard(self) -> FakeNode:
        return self

    @property
    def cluster(self) -> FakeNode:
        return self

    def wall(self) -> float:
        return NOW_S

    def settle(self) -> None:
        self.settled += 1

    def bye(self, connection: str, code: Close, reason: str) -> None:
        self.byes.append((connection, code, reason))

    def publish_session(self, session: str, generation: int) -> None:
        self.told.append((session, generation))

    def resume(self, session: str, generation: int) -> None:
        """A connection here speaks for the session, by a token of this generation."""
        expiry = ResumeClaims("demo", "user:amy", session, generation - 1, frozenset(), 1e9, 1e9)
        self.sessions.resume(expiry, f"c-{session}")


def claims_of(node: FakeNode, bus: Numbers) -> Claims:
    return Claims(cast(Node, node), cast(Bus, bus), "m")


@asynccontextmanager
async def running(node: FakeNode, bus: Numbers) -> AsyncIterator[Claims]:
    claims = claims_of(node, bus)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(claims.run)
        await wait_all_tasks_blocked()
        yield claims
        nursery.cancel_scope.cancel()


async def test_a_claim_is_the_numbers_own() -> None:
    """Made where the number was lower; kept on the bus for twice as long as a token may resume."""
    node, bus = FakeNode(), Numbers()
    claims = claims_of(node, bus)
    assert [await claims.claim("s1", generation) for generation in (2, 2, 1, 3)] == [True, False, False, True]
    assert bus.asked[0] == ("s:s1", 2, 200.0)
    assert (claims.unheard, bus.numbers) == (0, {"s:s1": 3})


async def test_the_first_claim_of_all_is_asked_at_once(autojump_clock: MockClock) -> None:
    """A node that has just started does not take the bus for silent, whatever its clock says."""
    bus = Numbers()
    assert trio.current_time() < SILENT_S
    assert await claims_of(FakeNode(), bus).claim("s1", 2)
    assert len(bus.asked) == 1


async def test_a_bus_that_is_away_is_asked_each_time_and_one_that_is_silent_is_not(autojump_clock: MockClock) -> None:
    """No answer in time costs one wait a second and no more; a quick no costs nothing and is no silence."""
    node, bus = FakeNode(), Numbers()
    claims = claims_of(node, bus)
    bus.trouble = "away"
    for n in (1, 2):
        assert await claims.claim(f"s{n}", 2)
    assert (len(bus.asked), claims.unheard) == (2, 2)
    bus.trouble, bus.silent = None, True
    began_s = trio.current_time()
    for _ in range(3):
        assert await claims.claim("s3", 2)
    assert (len(bus.asked), trio.current_time() - began_s) == (3, CLAIM_WAIT_S)
    await trio.sleep(SILENT_S - 0.1)
    assert await claims.claim("s3", 2)
    assert len(bus.asked) == 3
    await trio.sleep(0.1)
    assert await claims.claim("s3", 2)
    assert len(bus.asked) == 4


async def test_a_change_of_the_bus_ends_the_silence(autojump_clock: MockClock) -> None:
    """Back again it is asked at once; that it went away is no reason to look at anything."""
    node, bus = FakeNode(), Numbers()
    node.resume("s1", 2)
    async with running(node, bus) as claims:
        bus.silent = True
        await claims.claim("s9", 2)
        bus.silent, bus.trouble = False, "away"
        claims.bus_changed()
        await wait_all_tasks_blocked()
        assert len(bus.asked) == 1
        bus.trouble = None
        claims.bus_changed()
        assert await claims.claim("s8", 2)
        assert ("s:s8", 2, 200.0) in bus.asked


async def test_what_was_kept_is_claimed_and_told_when_the_bus_is_back() -> None:
    """Each claim once; of a session that is spoken for here still, the others are told; of one that is not, nobody."""
    node, bus = FakeNode(), Numbers()
    node.resume("s1", 3)
    node.resume("s2", 2)
    async with running(node, bus) as claims:
        bus.trouble = "away"
        for session, generation in (("s1", 3), ("s2", 9), ("gone", 2)):
            assert await claims.claim(session, generation)
        bus.asked.clear()
        bus.trouble = None
        claims.bus_changed()
        await wait_all_tasks_blocked()
        assert sorted(bus.asked) == [("s:gone", 2, 200.0), ("s:s1", 3, 200.0), ("s:s2", 9, 200.0)]
        assert (node.told, node.byes, node.settled) == ([("s1", 3)], [], 1)
        bus.asked.clear()
        claims.bus_changed()  # nothing is kept any more: the sessions alone are looked after
        await wait_all_tasks_blocked()
        assert sorted(bus.asked) == [("s:s1", 3, 200.0), ("s:s2", 2, 200.0)]
        assert (node.told, claims._kept) == ([("s1", 3)], {})


async def test_a_claim_alone_makes_no_one_look_at_the_sessions() -> None:
    """They are asked about after an outage and not with each claim that had to wait."""
    node, bus = FakeNode(), Numbers()
    node.resume("s1", 3)
    async with running(node, bus) as claims:
        for session in ("s2", "s3"):
            bus.trouble = "away"
            await claims.claim(session, 2)
            bus.trouble = None
            bus.asked.clear()
            claims._again.set()
            await wait_all_tasks_blocked()
            assert bus.asked == [(f"s:{session}", 2, 200.0)]


async def test_looking_after_the_sessions_uses_no_first_token_up() -> None:
    """A session that was never resumed has no claim: it is only asked about. A bus that came back empty is told again."""
    node, bus = FakeNode(), Numbers()
    node.sessions.open("new", "c-new")
    node.resume("old", 4)
    async with running(node, bus) as claims:
        claims.bus_changed()
        await wait_all_tasks_blocked()
        assert sorted(bus.asked) == [("s:new", 0, 200.0), ("s:old", 4, 200.0)]
        assert bus.numbers == {"s:new": 0, "s:old": 4}
        assert (node.told, node.byes) == ([], [])
        assert await claims.claim("new", 2)


async def test_who_was_taken_over_unheard_is_let_go_of() -> None:
    """The bus knows a higher number: the connection here is superseded, and its session is the other's."""
    node, bus = FakeNode(), Numbers()
    node.resume("s1", 3)
    node.resume("s2", 3)
    node.resume("s3", 3)
    bus.numbers = {"s:s1": 4, "s:s2": 3, "s:s3": 9}
    async with running(node, bus) as claims:
        claims.bus_changed()
        await wait_all_tasks_blocked()
        assert sorted(node.byes) == [(f"c-s{n}", Close.SUPERSEDED, SUPERSEDED) for n in (1, 3)]
        assert (list(node.sessions.speaking()), claims.elsewhere) == ([("s2", 3)], 2)
        assert node.sessions.generation("s3") == 9
        newest = ResumeClaims("demo", "user:amy", "s3", 9, frozenset(), 1e9, 0.0)
        assert node.sessions.may_resume(newest, NOW_S + 99.0) is None  # it counts from now
        assert node.sessions.may_resume(newest, NOW_S + 100.0) == "expired"


async def test_a_bus_that_fails_again_is_asked_again_a_second_later(autojump_clock: MockClock) -> None:
    """Nothing is lost of what was to be done: claims and the look at the sessions. Meanwhile it is left alone."""
    node, bus = FakeNode(), Numbers()
    node.resume("s1", 3)
    async with running(node, bus) as claims:
        bus.silent = True
        await claims.claim("s2", 2)
        bus.asked.clear()
        claims.bus_changed()
        await trio.sleep(CLAIM_WAIT_S + SILENT_S - 0.1)
        assert {key for key, _, _ in bus.asked} == {"s:s1", "s:s2"}
        assert (node.settled, claims._kept) == (1, {"s2": 2})
        bus.asked.clear()
        bus.silent = False
        await trio.sleep(0.2)
        assert {key for key, _, _ in bus.asked} == {"s:s1", "s:s2"}
        assert (node.settled, claims._kept) == (2, {})
        await trio.sleep(10 * SILENT_S)
        assert len(bus.asked) == 2


async def test_what_is_claimed_anew_while_it_is_made_good_stays_kept() -> None:
    """The answer was to the older claim; the newer one is not done by it."""
    node, bus = FakeNode(), Numbers()
    async with running(node, bus) as claims:
        bus.trouble = "away"
        await claims.claim("s1", 2)
        bus.trouble, bus.answers = None, trio.Event()
        bus.asked.clear()
        claims.bus_changed()
        await wait_all_tasks_blocked()
        claims._keep("s1", 3)
        bus.answers.set()
        await wait_all_tasks_blocked()
        assert [number for _, number, _ in bus.asked] == [2, 3]
        assert (bus.numbers, claims._kept) == ({"s:s1": 3}, {})


async def test_many_are_asked_about_at_once_but_not_all() -> None:
    """So many questions at a time; those after a failure are not asked."""
    node, bus = FakeNode(sessions=Sessions(1_000, 100.0)), Numbers()
    for n in range(3 * ASKS_AT_ONCE):
        node.resume(f"s{n}", 2)
    async with running(node, bus) as claims:
        claims.bus_changed()
        await wait_all_tasks_blocked()
        assert (len(bus.asked), bus.at_once) == (3 * ASKS_AT_ONCE, ASKS_AT_ONCE)


async def test_equals_agree_on_the_higher_node() -> None:
    """Both took one token while the bus was away: we are "m". The lower node hears that it is ours, to the higher we give
    it up; our own word coming back changes nothing."""
    for node_id, ours in (("a", True), ("m", False), ("z", False)):
        node = FakeNode()
        node.resume("s1", 3)
        claims_of(node, Numbers()).superseded("s1", 3, node_id)
        assert node.told == ([("s1", 3)] if ours else [])
        assert [connection for connection, _, _ in node.byes] == ([] if ours else ["c-s1"])


async def test_more_resumes_win_whatever_the_node() -> None:
    """Of a newer generation elsewhere the connection here is ended, of an older one nothing is heard."""
    node = FakeNode()
    claims = claims_of(node, Numbers())
    node.resume("s1", 3)
    claims.superseded("s1", 2, "z")
    claims.superseded("unknown", 2, "z")
    assert (node.told, node.byes, claims.elsewhere) == ([], [], 0)
    claims.superseded("s1", 4, "a")
    claims.superseded("s1", 4, "a")
    assert (node.told, node.byes, claims.elsewhere) == ([], [("c-s1", Close.SUPERSEDED, SUPERSEDED)], 1)


async def test_what_is_kept_is_bounded_and_counted() -> None:
    """Past the bound the oldest claim goes; a session claimed again is one claim. The metrics say how many."""
    node, bus = FakeNode(), Numbers()
    claims = claims_of(node, bus)
    bus.trouble = "away"
    for session, generation in (("s1", 2), ("s2", 2), ("s3", 2), ("s4", 2)):
        await claims.claim(session, generation)
    assert claims._kept == {"s2": 2, "s3": 2, "s4": 2}
    node.resume("s9", 2)
    claims.superseded("s9", 3, "z")
    lines = node.registry.text().decode().splitlines()
    assert [line for line in lines if "readback" in line and "TYPE" not in line] == [
        "# HELP readback_claims_kept Claims that wait for the bus.",
        "readback_claims_kept 3",
        "# HELP readback_claims_unheard_total Resumes decided without the bus.",
        "readback_claims_unheard_total 4",
        "# HELP readback_taken_elsewhere_total Connections ended for one elsewhere.",
        "readback_taken_elsewhere_total 1",
    ]
