"""A simulated run from its seed to its history: a cluster, its clients, troubles, healing, and the last look at everything.

Everything that differs between two runs comes from the seed: who does what and when, which tasks go first, how much a socket
takes, which messages are lost. Time is Trio's mock clock: a minute of it takes as long as there is work in it.
"""

from __future__ import annotations

import contextlib
import math
import random
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from core import hub as hub_module
from core.model import Member
from core.rules.model import RuleSet
from core.tokens import mint
from gateway.work import rebuild
from proof import history
from proof.sim import company, drives, flights, labour, labours
from proof.sim.bus import SimBroker
from proof.sim.hostile import harass
from proof.sim.meters import Meters
from proof.sim.net import Host, Link
from proof.sim.people import Client
from proof.sim.recorder import Recorder
from proof.sim.scheduler import Scheduler, Steps
from proof.sim.store import TruthLog, Way, Weather
from proof.sim.swarm import Swarm
from proof.sim.timers import Timers
from proof.sim.tracks import TruthTracks
from proof.sim.troubles import Troubles
from proof.sim.unit import SECRETS, WALL_S, Unit
from proof.sim.visit import Visit
from proof.sim.work import TruthWork

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TENANTS = ("amber", "birch")
OPEN_ROOMS = ("chat:ops", "flight:RB1", "trip:9")
CREW = "chat:crew"
BOARD = "flight:board"
FRESH = "user:fresh"
LEEWAY_S = 30
"""For clocks that differ (`core.tokens`): a token here is good until then and no longer."""
BY = "service:sim"


def principal(number: int) -> str:
    """Whose the client of this number is; some people have two."""
    return f"user:u{number // 2}" if number % 5 else f"device:d{number}"


class World:
    def __init__(
        self,
        swarm: Swarm,
        nursery: trio.Nursery,
        say: Callable[[str], object] | None = None,
        crash_at: int | None = None,
    ) -> None:
        self.swarm = swarm
        self.limits = swarm.limits
        self.nursery = nursery
        self.rng = random.Random(f"{swarm.seed} world")
        self.recorder = Recorder(say)
        self.meters = Meters()
        self.scheduler = Scheduler()
        self.timers = Timers()
        self.weather = Weather()
        keys = random.Random(f"{swarm.seed} log")
        self.log = TruthLog(
            self.recorder,
            self.meters,
            now_ms=lambda: int((WALL_S + trio.current_time()) * 1000),
            new_key=lambda: self.key(keys),
            partitions=swarm.partitions,
        )
        alone = swarm.nodes == 1 and self.rng.random() < 0.5
        self.broker = (
            None if alone else SimBroker(random.Random(f"{swarm.seed} bus"), self.timers, self.meters, self.recorder)
        )
        self.company = company.Company(self) if swarm.sagas and swarm.flights >= 2 and swarm.workers else None
        self.flights = flights.names(swarm.flights, company.CREW if self.company is not None else "")
        """Streams of flights that get commands, of each tenant."""
        rooms = (*OPEN_ROOMS, *self.flights, *((BOARD,) if swarm.board else ()), CREW)
        self.rooms: dict[str, tuple[str, ...]] = dict.fromkeys(TENANTS[: swarm.tenants], rooms)
        self.rooms_a_tenant = len(rooms)
        self.work = TruthWork(self)
        self.work.swapped = partial(labours.swapped, self)
        self.tracks = TruthTracks(self.log, self.recorder, self.meters)
        self.driven = (drives.STREAM,) if swarm.trips else ()
        """Streams of trips that are driven, of each tenant."""
        self.rules = labour.rules() if swarm.workers else RuleSet([])
        self.work_weather = Weather()
        self.unheard: set[str] = set()
        """Hosts whose workers' beats get no answer."""
        self.poisoned: set[str] = set()
        """Streams whose events `proof.sim.labour.Tally` cannot take now."""
        self.clients: list[Client] = []
        self.people_in_all = len({principal(number) for number in range(swarm.clients)}) + 2 + swarm.trips
        """Everybody who can be named in a stream, with the newcomers of the end and those who break rules."""
        self.rooms_in_all = self.rooms_a_tenant * swarm.tenants
        self.units = [Unit(self, number) for number in range(swarm.nodes)]
        self.drives = [drives.Drive(self, tenant) for tenant in self.rooms] if swarm.trips else []
        self.calm = False
        """The troubles are over: nobody says anything new, and whoever is there stays."""
        self.calmed = trio.Event()
        self._over = False
        self.jumped = False
        """Some node's wall clock is not the others': what a token's age is depends on whom one asks."""
        self.hold_down = False
        self.steps = Steps("a1", crash_at, lambda: self.units[0].crash())
        """Of the first node's first start; it crashes before the chosen one."""
        self.steps_before_calm = 0
        self._tokens: dict[tuple[str, str, int], str] = {}

    def way(self, store: str, effect: str, host: Host) -> Way:
        """A host's to a store; both stores are one Postgres, in one weather."""
        timeout_s = self.limits.commit_timeout_s
        return Way(store, effect, host, self.timers, self.meters, self.recorder, lambda: self.weather, timeout_s)

    @property
    def work_s(self) -> float:
        """Within so long after the troubles workers have done all that is due; a trip goes on for a while after them."""
        if not self.swarm.workers:
            return 0.0
        return labour.WORK_S + (drives.AFTER_S + drives.STANDS_S if self.drives else 0.0)

    def is_over(self) -> bool:
        return self._over

    # -- for clients --------------------------------------------------------------------------------------------------------

    @staticmethod
    def key(rng: random.Random) -> str:
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    def token(self, tenant: str, who: str, ttl_s: float) -> str:
        until_s = math.ceil(WALL_S + trio.current_time() + ttl_s) - LEEWAY_S
        known = self._tokens.get((tenant, who, until_s))
        if known is None:
            roles = ["admin"] if who == FRESH else []
            known = mint(SECRETS.token_secrets["k1"], kid="k1", tenant=tenant, principal=who, roles=roles,
                         now_s=until_s - 3600.0, ttl_s=3600.0)  # fmt: skip
            self._tokens[tenant, who, until_s] = known
        return known

    def somewhere(self, rng: random.Random) -> Host | None:
        """A node that takes newcomers, as a balancer finds one."""
        hosts = [
            unit.host for unit in self.units if unit.up and unit.host is not None and unit.host.listener is not None
        ]
        return rng.choice(hosts) if hosts else None

    def connect(self, name: str, host: Host, rng: random.Random) -> Link:
        swarm = self.swarm
        link = Link(
            name,
            host,
            self.timers,
            rng,
            capacity=rng.choice(swarm.capacity),
            partial=swarm.partial,
            latency_s=rng.choice(swarm.latency_s),
        )
        if self.calm:
            link.heal()
        if "dribble" in swarm.troubles and not self.calm and rng.random() < 0.3:
            link.dribble = rng.choice((1, 3, 20))
            link.latency_s = link.latency_s or 0.002
            self.recorder.add(history.Fault(self.recorder.now(), "dribble"))
        link.end.on_sent = Tap(self, link)
        assert host.listener is not None
        host.listener.put(link.end)
        return link

    def unit_of(self, node: str) -> Unit | None:
        return next((unit for unit in self.units if unit.name == node and unit.up), None)

    @property
    def remembers_tokens(self) -> bool:
        """Whether a token that was used once must be refused, wherever and whenever it is tried again."""
        if self.broker is None:
            return all(unit.starts <= 1 for unit in self.units)
        return not self.swarm.forgets_tokens and not self.jumped

    def visits(self) -> Iterable[Visit]:
        return (client.visit for client in self.clients if client.visit is not None)

    def opened(self, visit: Visit, resumed: bool, behind: int) -> None:
        unit = self.unit_of(visit.host.name)
        if resumed and behind and unit is not None and unit.node is not None:
            by_name = unit.node.hub.by_name
            streams = [by_name.get((visit.client.tenant, name)) for name in visit.following]
            from_log = any(s is not None and visit.client.cursors.get(s.name, s.head) + 1 < s.base for s in streams)
            self.meters.seen("resumed from the log" if from_log else "resumed from the ring")

    # -- a run --------------------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        swarm, recorder, limits = self.swarm, self.recorder, self.limits
        recorder.add(
            history.Run(
                recorder.now(), f"simulation, seed {swarm.seed}, {swarm}", limits.lease_s, limits.presence_grace_s,
                limits.heartbeat_s, 2.0, True, bus=self.broker is not None,
                flush_s=limits.signal_flush_s, work_s=self.work_s,
            )
        )  # fmt: skip
        self.nursery.start_soon(self.timers.run)
        await self._make_streams()
        if self.company is not None:
            await company.set_up(self, random.Random(f"{swarm.seed} company's streams"))
        for unit in self.units:
            self.nursery.start_soon(unit.keep)
        for number in range(swarm.clients):
            tenant = TENANTS[number % swarm.tenants]
            who = principal(number)
            name = f"c{number}"
            client = Client(self, name, tenant, who, random.Random(f"{swarm.seed} {name}"))
            self.clients.append(client)
            self.nursery.start_soon(client.live)
        if self.drives:
            await drives.set_up(self)
            drives.begin(self)
        await trio.sleep(0.3)
        troubles = Troubles(self)
        if swarm.size == "short":
            trio.lowlevel.add_instrument(self.steps)
        async with trio.open_nursery() as nursery:
            if "hostile" in swarm.troubles:
                self.nursery.start_soon(harass, self, random.Random(f"{swarm.seed} hostile"))
            nursery.start_soon(troubles.run)
            if self.company is not None:
                nursery.start_soon(self.company.run)
            await trio.sleep(swarm.troubled_s)
            nursery.cancel_scope.cancel()
        self.steps_before_calm = self.steps.count
        await troubles.heal()
        await self._settle()
        await self._end()
        recorder.add(history.End(recorder.now()))

    async def _make_streams(self) -> None:
        for tenant, rooms in self.rooms.items():
            people = dict.fromkeys(map(principal, range(self.swarm.clients)))
            owners = [Member(who, "owner") for who in list(people)[:2]]
            for room in rooms[:-1]:
                members = owners if room in (*self.flights, *self.driven) else []
                await self.log.create_stream(tenant, room, open=True, members=members, by=BY)
            members = [Member(who, "owner" if not at else "member") for at, who in enumerate(people)]
            await self.log.create_stream(tenant, CREW, open=False, members=members, by=BY)

    async def _settle(self) -> None:
        """The troubles are over. Who is away comes back; within `settle_s` of that everybody must have everything."""
        self.calm = True
        self.calmed.set()
        for client in self.clients:
            if client.life is not None:
                client.life.deadline = math.inf
                if self.recorder.now() <= client.auth_until_s < self.recorder.now() + 30.0:
                    client.life.cancel()  # a better token is at hand from now on; who stays too long the node must end
            if client.visit is not None:
                client.visit.link.heal()
                if client.visit.link.vanished and client.life is not None:
                    client.life.cancel()  # the client's own time-out: nothing will ever come on that
        self.recorder.add(history.Heal(self.recorder.now()))
        self.meters.seen("markers stored", self.log.calls.get("save_marks", 0))
        healed_s = self.recorder.now()
        await self._all_welcome(8.0)
        if self.swarm.workers:
            await self._worked_off(healed_s + self.work_s)
        for visit in self.visits():
            for stream in sorted(visit.following):
                self.nursery.start_soon(self._ask_who, visit, stream)
            if self.swarm.board and BOARD not in visit.following:
                self.nursery.start_soon(self._follow_board, visit)
        await trio.sleep(2.0)
        await self._all_welcome(0.5)  # one whose identity had run out may have been ended this very moment
        self._stand()
        limits = self.limits
        await trio.sleep(limits.lease_s + limits.presence_grace_s + 1.0)
        if self.swarm.troubles or self.swarm.loiterers or min(self.swarm.lives_s) < 60.0:
            await trio.sleep(2 * limits.heartbeat_s + 3.0)  # until who vanished without a word is found out
        self._views()
        labours.boards(self)
        for held in drives.newest(self, self.visits(), fresh=False):
            self.recorder.add(held)
        await self._fresh_views()
        if self.swarm.workers:
            await trio.sleep(max(healed_s + self.work_s + 0.5 - self.recorder.now(), 0.0))
            async for remains in labours.left(self):
                self.recorder.add(remains)
            async for row in labours.rows(self):
                self.recorder.add(row)
        if self.company is not None:
            async for end in company.ends(self):
                self.recorder.add(end)
        async for record in drives.ends(self):
            self.recorder.add(record)

    async def _worked_off(self, until_s: float) -> None:
        """Until workers have done all that is due, so that no event comes amid the last look."""
        while self.recorder.now() < until_s:
            busy = any(client.commands for client in self.clients) or not all(drive.over for drive in self.drives)
            if not busy and await labours.at_rest(self):
                return
            await trio.sleep(0.2)

    async def _all_welcome(self, within_s: float) -> None:
        with trio.move_on_after(within_s):
            while not all(client.visit is not None and client.visit.welcomed for client in self.clients):  # noqa: ASYNC110
                await trio.sleep(0.1)

    async def _ask_who(self, visit: Visit, stream: str) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await visit.say("presence", stream=stream)
            visit.asked_who.add(stream)

    async def _follow_board(self, visit: Visit) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await visit.say("sub", stream=BOARD, after=visit.client.cursors.get(BOARD, 0))

    def _stand(self) -> None:
        add, now = self.recorder.add, self.recorder.now()
        for client in self.clients:
            visit = client.visit
            connected = visit is not None and visit.welcomed
            if not connected:
                add(history.Stand(now, client.name, client.tenant, "(nowhere)", 0, 0, False))
            else:
                assert visit is not None
                for stream in sorted(visit.following):
                    head = self.log.head_of(client.tenant, stream)
                    add(history.Stand(now, client.name, client.tenant, stream, client.cursors.get(stream, 0), head))
            waiting = len(client.pending) + len(client.commands)
            add(history.Stand(now, client.name, client.tenant, "(sends not answered)", 0, waiting, connected))

    def _views(self) -> None:
        """What everybody holds now, and who is there in truth."""
        add, now = self.recorder.add, self.recorder.now()
        there: dict[tuple[str, str], dict[str, str]] = {}
        for visit in self.visits():
            if not visit.welcomed:
                continue
            for stream in visit.following:
                people = there.setdefault((visit.client.tenant, stream), {})
                value = "away" if visit.away else "online"
                people[visit.client.who] = "online" if "online" in (value, people.get(visit.client.who)) else "away"
        for (tenant, stream), present in sorted(there.items()):
            marks = {who: list(mark) for who, mark in self.log.marks_of(tenant, stream).items()}
            add(history.There(now, tenant, stream, present, marks))
        for visit in self.visits():
            if visit.welcomed:
                for stream in sorted(visit.following):
                    self._view(visit, stream, fresh=False)

    def _view(self, visit: Visit, stream: str, *, fresh: bool) -> None:
        tenant = visit.client.tenant
        known = stream in visit.asked_who
        large = self.swarm.limits.presence_list_max < self.people_in_all
        self.recorder.add(
            history.View(
                self.recorder.now(), visit.name, stream, visit.client.cursors.get(stream, 0),
                None if large else dict(visit.marks.get(stream, {})),
                dict(visit.present.get(stream, {})) if known and not large else None,
                fresh, f"{tenant} at {visit.host.name}",
            )
        )  # fmt: skip

    async def _fresh_views(self) -> None:
        """Somebody new at each node, who gets nothing but a snapshot: it must be what the others have come to hold."""
        newcomers: list[Client] = []
        async with trio.open_nursery() as nursery:
            for unit in self.units:
                if not unit.up:
                    continue
                for tenant in self.rooms:
                    client = Client(
                        self, f"fresh-{unit.name}-{tenant}", tenant, FRESH, random.Random(f"{unit.name} fresh")
                    )
                    client.slow = False
                    newcomers.append(client)
                    assert unit.host is not None
                    nursery.start_soon(client.look_in, unit.host)
            await trio.sleep(1.0)
            for client in newcomers:
                visit = client.visit
                if visit is not None and visit.welcomed:
                    for stream in sorted(visit.following):
                        self._view(visit, stream, fresh=True)
            lookers = (client.visit for client in newcomers if client.visit is not None)
            for held in drives.newest(self, lookers, fresh=True):
                self.recorder.add(held)
            nursery.cancel_scope.cancel()

    async def _end(self) -> None:
        """Every node is drained, as in a shutdown."""
        self._over = True
        for unit in self.units:
            unit.drain()
        with trio.move_on_after(self.limits.drain_window_s + 2.0):
            while any(unit.node is not None for unit in self.units):  # noqa: ASYNC110
                await trio.sleep(0.1)
        for unit in self.units:
            if unit.node is not None:
                self.recorder.add(
                    history.Exit(self.recorder.now(), unit.name, True, 0, ["the node itself: it does not end"])
                )


class Tap:
    """Sees what a node's socket takes: for the trace, and to note the node's head when a marker or signal leaves."""

    __slots__ = ("_buffer", "_link", "_upgraded", "_whole", "_world", "visit")

    def __init__(self, world: World, link: Link) -> None:
        self._world = world
        self._link = link
        self._buffer = b""
        self._upgraded = False
        self._whole = True
        """Whether the frame at the buffer's start began in this very send."""
        self.visit: Visit | None = None

    def __call__(self, data: bytes) -> None:
        self._world.recorder.trace(self._link.name.encode() + b" < " + data)
        visit = self.visit
        if visit is None:
            return
        whole = not self._buffer
        buffer = self._buffer + data if self._buffer else data
        if not self._upgraded:
            at = buffer.find(b"\r\n\r\n")
            if at < 0:
                self._buffer = buffer
                return
            self._upgraded = True
            buffer = buffer[at + 4 :]
            whole = True
        at, have = 0, len(buffer)
        while have - at >= 2:
            size, start = buffer[at + 1], 2
            if size >= 126:
                start = 4 if size == 126 else 10
                if have - at < start:
                    break
                size = int.from_bytes(buffer[at + 2 : at + start], "big")
            end = at + start + size
            if end > have:
                break
            op = buffer[at + start : at + start + 14]
            if op == b'{"op":"signal"' or op[:12] == b'{"op":"mark"':
                self._note(visit, buffer[at + start : end] if whole else b"")
            whole = True
            at = end
        self._buffer = buffer[at:]

    def _note(self, visit: Visit, payload: bytes) -> None:
        head = None
        if payload:
            unit = self._world.unit_of(self._link.host.name)
            name = payload.split(b'"stream":"', 1)[1].split(b'"', 1)[0].decode()
            stream = None
            if unit is not None and unit.node is not None:
                stream = unit.node.hub.by_name.get((visit.client.tenant, name))
            if stream is not None and name in visit.following:
                head = stream.floor
        # Of one that was cut nobody knows when it was written: its age is of then.
        visit.heads.append((head, self._world.recorder.now() if payload else None))


@contextlib.contextmanager
def _small(swarm: Swarm) -> Iterator[None]:
    """With bounds that a short run meets, of modules that have them as constants."""
    changed = (
        (hub_module, "GATHER_PORTS_MAX", swarm.gather_ports_max),
        (rebuild, "LEASE_S", 1.5),
        (rebuild, "HOLD_S", 1.0),
        (rebuild, "NEAR_EVENTS", 5),
        *(drives.FAST if swarm.trips else ()),
    )
    before = [getattr(module, name) for module, name, _ in changed]
    for module, name, value in changed:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(changed, before, strict=True):
            setattr(module, name, value)


async def main(swarm: Swarm, say: Callable[[str], object] | None, crash_at: int | None, out: list[World]) -> None:
    """The whole of a Trio run; ``out`` gets the world as soon as there is one."""
    async with trio.open_nursery() as nursery:
        world = World(swarm, nursery, say, crash_at)
        out.append(world)
        with _small(swarm):
            await world.live()
        nursery.cancel_scope.cancel()
