"""Two tenants with streams of the same names, a third without any, and everybody who may stand before a wall.

A *place* is a stream together with a principal whose part in it is known by construction; a *case* says whose token is
brought. What is to happen in a place follows from `core.policy` and from nothing written down here: `verdict` asks its
tables, and a behaviour that drifts away from them fails the matrix.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

import httpx
import trio

from core.directory import Directory, Note, ServiceClient
from core.model import AUDIT_STREAM, AUDITOR, Entry, Member
from core.policy import StreamAction, TenantAction, may, may_in_tenant, role_in, standing
from core.ports import Log
from core.tracks import AppKey, Fence, Tracks
from gateway.collect import Collector
from gateway.http import make_app
from gateway.push.desk import PushDesk
from gateway.reads import Reads
from gateway.trips_desk import TripsDesk
from gateway.work.sagas import new_saga
from gateway.work_desk import WorkDesk
from store.memory import MemoryLog
from store.memory_directory import MemoryDirectory
from store.memory_tracks import MemoryTracks
from store.postgres import PostgresLog
from tests.nodes import SECRETS, TestNode, memory_log, work_of

OWN: Final = "acme"
"""The tenant whose walls are looked at."""
TWIN: Final = "twin"
"""Names the same streams, each closed, and nobody is a member of any."""
VOID: Final = "void"
"""Has no stream but an inbox and its audit's, which nobody creates: everything else that it names exists only elsewhere."""

ROOM: Final = "trip:room"
HALL: Final = "chat:hall"
INBOX: Final = "user:ina"
BOARD: Final = "flight:board"
FLIGHTS: Final = ("flight:{}", "flight:{}.seats", "flight:crew.{}")
"""Of the room and of the hall, each with their members; the board has the room's."""
GUEST: Final = "user:guest"
OTHER: Final = "user:other"
STANDINGS: Final = ("", "admin", "service", "auditor", "nobody-knows")
"""Roles of a token, one at a time."""


@dataclass(frozen=True, slots=True)
class Place:
    """``own`` is the principal's part in the stream in the tenant `OWN`, before anything that its token's roles add."""

    name: str
    stream: str
    principal: str
    own: str | None
    member: bool = False
    """By name, so that it can leave."""


PLACES: Final = (
    Place("owner", ROOM, "user:olga", "owner", True),
    Place("member", ROOM, "user:mel", "member", True),
    Place("reader", ROOM, "user:rex", "reader", True),
    Place("none", ROOM, "user:nat", None),
    Place("open", HALL, "user:hal", "member"),
    Place("another's inbox", INBOX, "user:nat", None),
    Place("inbox", INBOX, INBOX, "reader"),
    Place("audit", AUDIT_STREAM, "user:nat", None),
)


class Whose(Enum):
    """Whose token is brought."""

    NOBODY = "no token"
    OWN = OWN
    TWIN = TWIN
    VOID = VOID


class Verdict(Enum):
    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    UNAUTHORIZED = "unauthorized"


class Everybody(Enum):
    """What `core.policy` has no word for, because whoever proved itself may do it; or, `PUBLIC`, whoever asks."""

    KNOWN = "whoever has a token"
    PUBLIC = "whoever asks"
    PROVEN = "whoever proves itself in another way than by a token, which here nobody does"
    NOBODY = "nobody, whatever the role"


Action = StreamAction | TenantAction | Everybody


def in_flight(place: Place, pattern: str = "flight:{}") -> Place:
    """The same principal before the flight (its cabin, a crew member's ledger) of the stream's own name."""
    return replace(place, stream=pattern.format(place.stream.partition(":")[2]))


def at_board(place: Place) -> Place:
    """The same principal before the board, whose members are the room's."""
    return replace(place, stream=BOARD, own=place.own if place.member else None)


def at_trip(place: Place) -> Place:
    """The same principal before the room, which is a trip."""
    return replace(place, stream=ROOM, own=place.own if place.member else None)


def exists(whose: Whose, place: Place) -> bool:
    if place.stream.startswith("flight:"):
        there = [pattern.format(name) for pattern in FLIGHTS for name in ("room", "hall")]
        return whose is not Whose.VOID and place.stream in (BOARD, *there)
    return whose is not Whose.VOID or place.stream in (INBOX, AUDIT_STREAM)


def part(whose: Whose, place: Place, roles: Collection[str]) -> str | None:
    """The role in the stream of that name in the token's own tenant."""
    own = place.own if whose is Whose.OWN else "reader" if place.principal == place.stream else None
    return role_in(place.stream, own, standing(roles))


def verdict(whose: Whose, place: Place, roles: Collection[str], action: Action) -> Verdict:
    """What `core.policy` says of this action here. A tenant's action is judged before the stream is looked for."""
    if action is Everybody.PUBLIC:
        return Verdict.ALLOWED
    if whose is Whose.NOBODY or action is Everybody.PROVEN:
        return Verdict.UNAUTHORIZED
    if action is Everybody.KNOWN:
        return Verdict.ALLOWED
    if isinstance(action, TenantAction):
        return Verdict.ALLOWED if may_in_tenant(action, roles) else Verdict.FORBIDDEN
    if not exists(whose, place):
        return Verdict.NOT_FOUND
    if isinstance(action, StreamAction) and may(action, part(whose, place, roles)):
        return Verdict.ALLOWED
    return Verdict.FORBIDDEN


SWAP = {"a": {"flight": "room", "passenger": "p1"}, "b": {"flight": "hall", "passenger": "p2"}}


class World:
    """A node with the three tenants, and the HTTP API beside it in the same process."""

    def __init__(self, node: TestNode, directory: Directory, tracks: Tracks, http: httpx.AsyncClient) -> None:
        self.node = node
        self.tracks = tracks
        self.directory = directory
        self.http = http
        self.log: Log = node.log
        self.seqs: dict[tuple[str, str, str], int] = {}
        """Seq of an event by (tenant, stream, principal)."""

    async def plant(self) -> None:
        people = [Member(p.principal, p.own) for p in PLACES if p.member and p.own is not None]
        await self.log.create_stream(OWN, ROOM, open=False, members=people, by="service:test")
        await self.log.create_stream(OWN, HALL, open=True, members=[], by="service:test")
        for name in (ROOM, HALL):
            await self.log.create_stream(TWIN, name, open=False, members=[], by="service:test")
        await self._flights(people)
        for tenant in (OWN, TWIN, VOID):
            await self.log.open_streams([(tenant, INBOX, INBOX)])
            await self._audit(tenant)
            for place in PLACES:
                if place.stream == INBOX or (tenant != VOID and place.stream != AUDIT_STREAM):
                    await self._event(tenant, place.stream, place.principal)
                    await self._event(tenant, place.stream, OTHER)

    async def _flights(self, people: list[Member]) -> None:
        for stream in (BOARD, *(pattern.format("room") for pattern in FLIGHTS)):
            await self.log.create_stream(OWN, stream, open=False, members=people, by="service:test")
            await self.log.create_stream(TWIN, stream, open=False, members=[], by="service:test")
        for stream in (pattern.format("hall") for pattern in FLIGHTS):
            await self.log.create_stream(OWN, stream, open=True, members=[], by="service:test")
            await self.log.create_stream(TWIN, stream, open=False, members=[], by="service:test")

    async def _audit(self, tenant: str) -> None:
        (facts,) = await self.log.open_streams([(tenant, AUDIT_STREAM, "user:nat")])
        if facts is None:
            await self.log.create_stream(tenant, AUDIT_STREAM, open=False, members=[], by=AUDITOR)
        await self._event(tenant, AUDIT_STREAM, AUDITOR)

    async def _event(self, tenant: str, stream: str, principal: str) -> None:
        if (tenant, stream, principal) in self.seqs:
            return
        (facts,) = await self.log.open_streams([(tenant, stream, principal)])
        assert facts is not None
        key = str(uuid.uuid4())
        entry = Entry(tenant, facts.sid, key, "message", principal, b'{"text":"planted"}', privileged=True)
        (answer,) = await self.log.append([entry])
        assert answer.seq, (stream, answer)
        self.seqs[tenant, stream, principal] = answer.seq

    def seq(self, whose: Whose, stream: str, principal: str) -> int:
        """Of a planted event; 1 where there is none."""
        return self.seqs.get((whose.value, stream, principal), 1)

    async def grant(self, tenant: str, name: str) -> None:
        """A service client, a device with a claim and an app, a revocation, a saga, and a fence, each of this name."""
        now_ms, note = int(time.time() * 1000), Note("user:root", b"{}")
        client = ServiceClient(f"client-{name}", tenant, f"service:{name}", (), uuid.uuid4().bytes * 2, now_ms)
        await self.directory.add_client(client, note)
        claim, expires_ms = uuid.uuid4().bytes * 2, now_ms + 60_000
        await self.directory.mint_claim(tenant, f"device:{name}", claim, at_ms=now_ms, expires_ms=expires_ms, note=note)
        await self.tracks.put_app_key(AppKey(tenant, f"device:{name}", INBOX, now_ms), uuid.uuid4().bytes * 2)
        await self.directory.revoke(tenant, "token", name, at_ms=now_ms, until_ms=None, reason="lost", note=note)
        assert self.node.work is not None
        await self.node.work.add([new_saga(tenant, "seat_swap", name, SWAP, now_ms)])
        await self.tracks.put_fence(tenant, Fence(name, name, ((1.0, 2.0),), 5.0, 0, ()))

    async def state(self, tenant: str) -> list[Any]:
        """All that is kept of a tenant."""
        found: list[Any] = [
            await self.directory.revoked(tenant),
            await self.directory.clients(tenant),
            await self.directory.devices(tenant),
            await self.tracks.app_keys(tenant),
            await self.tracks.fences(tenant),
        ]
        for stream in (ROOM, HALL, INBOX, AUDIT_STREAM, "flight:room", "flight:hall"):
            (facts,) = await self.log.open_streams([(tenant, stream, OTHER)])
            if facts is not None:
                events = await self.log.read(tenant, facts.sid, 0, 10_000)
                members = await self.log.members(tenant, stream)
                found.append((facts.head, facts.first, members, events, await self.log.load_marks(tenant, [facts.sid])))
            found.append(await self.tracks.track(tenant, stream, from_ms=0, to_ms=2**53))
        return found


@asynccontextmanager
async def world(log: MemoryLog | PostgresLog | None = None) -> AsyncIterator[World]:
    """With an office and read models, so that every route is there."""
    log = log or memory_log()
    directory = MemoryDirectory(log) if isinstance(log, MemoryLog) else log.directory
    async with trio.open_nursery() as nursery:
        work = work_of(log)
        tracks: Tracks = MemoryTracks(log) if isinstance(log, MemoryLog) else log.tracks
        node = TestNode(log, None, nursery, directory=directory, work=work, tracks=tracks)
        await node.start()
        assert work is not None
        assert node.node.positions is not None
        node.node.use_keys(replace(SECRETS, signing_keys={"s1": b"s" * 32}))
        reads = Reads(node.node, work, node.desk)
        transport = httpx.ASGITransport(
            make_app(
                node.desk,
                office=node.office,
                reads=reads,
                work=WorkDesk(node.node, work),
                pushes=PushDesk(tracks, node.node.wall),
                collect=Collector(node.node, tracks, node.node.positions),
                trips=TripsDesk(node.node, node.desk, tracks),
            )
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as http:
            made = World(node, directory, tracks, http)
            await made.plant()
            yield made
        nursery.cancel_scope.cancel()
