"""The troubles of a simulated run: drawn from the seed, one or several at a time, each of bounded length, and all healed."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from core.flight.views import MODELS
from core.model import PRINCIPAL_RE
from core.ports import Refused, StoreError, Unavailable
from core.tokens import Identity
from core.work import Work
from gateway.desk import Desk
from gateway.service import WireError
from gateway.work.rebuild import Rebuild, RebuildError
from proof import history
from proof.sim.bus import BusWeather
from proof.sim.scheduler import Steps
from proof.sim.store import Weather, _Backup
from proof.sim.work import NodeWork

if TYPE_CHECKING:
    from proof.sim.unit import Unit
    from proof.sim.world import World

NOW_AND_THEN_S: Final = (0.0, 0.05, 0.2, 0.5)
FOR_S: Final = (0.02, 0.15, 0.5, 1.5)


class Troubles:
    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"{world.swarm.seed} troubles")
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "cut": self._cut, "stall": self._stall, "half_open": self._half_open, "dribble": self._peace,
            "crash": self._crash, "power": self._power, "crash_amid": self._crash_amid, "pause": self._pause,
            "wall": self._wall, "drain": self._drain, "bus_down": self._bus_down, "bus_loses": self._bus_loses,
            "bus_doubles": self._bus_doubles, "bus_late": self._bus_late, "bus_parted": self._bus_parted,
            "bus_deaf": self._bus_deaf, "bus_version": self._bus_version, "log_down": self._log_down,
            "log_slow": self._log_slow, "log_unknown": self._log_unknown, "log_late": self._log_late,
            "log_refuses": self._log_refuses, "removal": self._removal, "trim": self._trim, "evict": self._evict,
            "restore": self._restore, "hostile": self._peace, "desk": self._desk_work,
            "work_crash": self._work_crash, "work_leaves": self._work_leaves, "work_slow": self._work_slow,
            "work_unknown": self._work_unknown, "work_late": self._work_late, "work_refuses": self._work_refuses,
            "beat_lost": self._beat_lost, "skew": self._skew, "poison": self._poison,
            "rebuild": self._rebuild, "operator": self._operator,
        }  # fmt: skip
        self._backup: _Backup | None = None
        self._work_backup: dict[str, Any] = {}
        self._rebuilds = 0
        self._restored = False

    async def run(self) -> None:
        rng, world = self._rng, self._world
        mine = [self._kinds[name] for name in world.swarm.troubles]
        if "restore" in world.swarm.troubles:
            await trio.sleep(rng.choice((0.2, 0.6, 1.0)))
            self._backup = world.log.backup()
            self._work_backup = world.work.backup()
        async with trio.open_nursery() as nursery:
            while mine:
                await trio.sleep(rng.choice(NOW_AND_THEN_S))
                trouble = rng.choice(mine)
                if rng.random() < 0.6:
                    await trouble()
                else:
                    nursery.start_soon(trouble)  # two at once

    async def heal(self) -> None:
        world = self._world
        world.weather = Weather()
        world.work_weather = Weather()
        world.unheard.clear()
        world.poisoned.clear()
        world.hold_down = False
        if world.broker is not None:
            world.broker.weather = BusWeather()
            world.broker.down = False
            world.broker.deaf.clear()
            world.broker.parted.clear()
            if world.broker.other_version:
                world.broker.other_version.clear()  # the deployment is over: all are of one version
        for unit in world.units:
            world.scheduler.go_on(unit.name)
            unit.wall_offset_s = 0.0
        if "log_late" in world.swarm.troubles:
            await trio.sleep(2 * world.limits.commit_timeout_s)
        for parked in await world.work.parked():  # by an operator, who mended the consumer
            await world.work.ask_retry(parked.consumer, parked.sid, skip=False)
        if world.company is not None:
            await world.company.last_word()
        with trio.move_on_after(world.limits.drain_window_s + 1.0):
            while any(unit.node is not None and unit.drain_asked.is_set() for unit in world.units):  # noqa: ASYNC110
                await trio.sleep(0.05)

    def _fault(self, what: str, node: str = "", for_s: float = 0.0) -> None:
        recorder = self._world.recorder
        recorder.trace(f"fault {what} {node} {for_s}".encode())
        recorder.add(history.Fault(recorder.now(), what, node, for_s))

    def _for_s(self) -> float:
        return self._rng.choice(FOR_S)

    def _unit(self) -> Unit | None:
        up = [unit for unit in self._world.units if unit.up]
        return self._rng.choice(up) if up else None

    async def _peace(self) -> None:
        await trio.sleep(self._for_s())

    # -- links --------------------------------------------------------------------------------------------------------------

    async def _cut(self) -> None:
        visits = list(self._world.visits())
        for visit in self._rng.sample(visits, min(len(visits), self._rng.choice((1, 1, 3, 100)))):
            visit.link.cut()
        self._fault("cut")
        await trio.lowlevel.checkpoint()

    async def _stall(self) -> None:
        for_s = self._for_s()
        for visit in self._world.visits():
            if self._rng.random() < 0.4:
                visit.quick = False
                visit.link.stall(for_s)
        self._fault("stall", for_s=for_s)
        await trio.sleep(for_s)

    async def _half_open(self) -> None:
        visits = list(self._world.visits())
        if visits:
            visit = self._rng.choice(visits)
            visit.link.half_open()
            visit.quick = False
            self._fault("half open")
            if visit.client.life is not None:
                visit.client.life.deadline = trio.current_time() + self._rng.choice((0.05, 0.5, 2.0))
        await trio.sleep(0.05)

    # -- nodes --------------------------------------------------------------------------------------------------------------

    async def _crash(self) -> None:
        unit = self._unit()
        if unit is not None:
            unit.crash()
        await trio.sleep(self._for_s())

    async def _power(self) -> None:
        unit = self._unit()
        if unit is not None:
            for visit in self._world.visits():
                if visit.host is unit.host:
                    visit.quick = False
                    if visit.client.life is not None:
                        visit.client.life.deadline = trio.current_time() + 0.5  # the client's own time-out
            unit.crash(silent=True)
        await trio.sleep(self._for_s())

    async def _crash_amid(self) -> None:
        unit = self._unit()
        if unit is None:
            await trio.sleep(0.05)
            return
        steps = Steps(unit.name, self._rng.randrange(1, 300), unit.crash)
        trio.lowlevel.add_instrument(steps)
        try:
            await trio.sleep(1.0)
        finally:
            trio.lowlevel.remove_instrument(steps)

    async def _pause(self) -> None:
        unit = self._unit()
        if unit is None or self._world.scheduler.is_paused(unit.name):
            await trio.sleep(0.05)
            return
        large = self._world.swarm.size == "large"
        for_s = self._rng.choice((1.0, 3.0, 10.0, 60.0) if large else (1.0, 1.0, 3.0))
        if for_s > self._world.limits.lease_s:
            self._world.meters.seen("node paused past its lease")
        name = unit.name
        self._fault("pause", name, for_s)
        for visit in self._world.visits():
            if visit.host is unit.host and visit.client.life is not None and self._rng.random() < 0.5:
                visit.client.life.deadline = trio.current_time() + 0.5
        self._world.scheduler.pause(name)
        try:
            await trio.sleep(for_s)
        finally:
            self._world.scheduler.go_on(name)

    async def _wall(self) -> None:
        unit = self._unit()
        if unit is not None:
            self._world.jumped = True
            jumps_s = (-7200.0, -5.0, -0.3, 0.3, 5.0, 7200.0)
            unit.wall_offset_s += self._rng.choice(jumps_s)
            self._world.meters.seen("wall clock jumped")
            self._fault("wall", unit.name)
        await trio.sleep(self._for_s())

    async def _drain(self) -> None:
        unit = self._unit()
        if unit is not None and sum(other.up for other in self._world.units) > 0:
            unit.close_listener = self._rng.random() < 0.5
            self._fault("drain", unit.name)
            unit.drain()
        await trio.sleep(self._for_s())

    # -- the bus ------------------------------------------------------------------------------------------------------------

    async def _bus_down(self) -> None:
        broker = self._world.broker
        if broker is not None:
            broker.down = True
            self._fault("bus down")
        try:
            await trio.sleep(self._for_s())
        finally:
            if broker is not None:
                broker.down = False

    async def _bus_weather(self, what: str, **change: float) -> None:
        broker = self._world.broker
        self._fault(what)
        if broker is not None:
            for name, value in change.items():
                setattr(broker.weather, name, value)
        try:
            await trio.sleep(self._for_s())
        finally:
            if broker is not None:
                for name in change:
                    setattr(broker.weather, name, 0.0)

    async def _bus_loses(self) -> None:
        await self._bus_weather("bus loses", loses=self._rng.choice((0.1, 0.5, 1.0)), claims_fail=0.3)

    async def _bus_doubles(self) -> None:
        await self._bus_weather("bus doubles", doubles=0.5)

    async def _bus_late(self) -> None:
        await self._bus_weather("bus late", late=self._rng.choice((0.2, 0.8)))

    async def _bus_parted(self) -> None:
        broker, unit = self._world.broker, self._unit()
        if broker is None or unit is None:
            await trio.sleep(0.05)
            return
        name, for_s = unit.name, self._rng.choice((0.2, 1.0, 3.0))
        self._fault("bus parted", name)
        broker.parted.add(name)
        try:
            await trio.sleep(for_s)
        finally:
            broker.parted.discard(name)

    async def _bus_deaf(self) -> None:
        broker, unit = self._world.broker, self._unit()
        if broker is None or unit is None or unit.bus is None:
            await trio.sleep(0.05)
            return
        bus = unit.bus
        self._fault("bus deaf", unit.name)
        broker.deaf.add(bus)
        try:
            await trio.sleep(self._for_s())
        finally:
            broker.deaf.discard(bus)

    async def _bus_version(self) -> None:
        """A rolling deployment: some nodes are of the next version for a while, whose words the others cannot read."""
        broker, unit = self._world.broker, self._unit()
        if broker is None or unit is None:
            await trio.sleep(0.05)
            return
        name = unit.name
        self._fault("bus version", name)
        broker.other_version.add(name)
        try:
            await trio.sleep(self._rng.choice((0.3, 1.5)))
        finally:
            broker.other_version.discard(name)

    # -- the log ------------------------------------------------------------------------------------------------------------

    async def _log_weather(self, what: str, **change: Any) -> None:
        weather = self._world.weather
        self._fault(what)
        before = {name: getattr(weather, name) for name in change}
        for name, value in change.items():
            setattr(weather, name, value)
        try:
            await trio.sleep(self._for_s())
        finally:
            for name, value in before.items():
                setattr(weather, name, value)

    async def _log_down(self) -> None:
        await self._log_weather("log down", down="as the seed has it")

    async def _log_slow(self) -> None:
        await self._log_weather("log slow", slow_s=(0.0, 0.001, 0.01, 0.05, 0.3))

    async def _log_unknown(self) -> None:
        await self._log_weather("log unknown", lost_before=0.2, lost_after=0.3)

    async def _log_late(self) -> None:
        await self._log_weather("log late", late=0.3)

    async def _log_refuses(self) -> None:
        await self._log_weather("log refuses", refused=0.4)

    async def _restore(self) -> None:
        """Postgres is put back to a backup, as an operator does it: nodes down first. Once a run."""
        world = self._world
        if self._backup is None or self._restored:
            await trio.sleep(0.2)
            return
        self._restored = True
        self._fault("restore")
        world.hold_down = True
        try:
            for unit in world.units:
                unit.crash()
            with trio.move_on_after(2.0):
                while any(unit.node is not None for unit in world.units):  # noqa: ASYNC110
                    await trio.sleep(0.02)
            world.log.restore(self._backup)
            world.work.restore(self._work_backup)
            world.meters.seen("log restored under another epoch")
        finally:
            world.hold_down = False
        await trio.sleep(0.5)

    # -- workers ------------------------------------------------------------------------------------------------------------

    def _working(self) -> Unit | None:
        working = [unit for unit in self._world.units if unit.up and unit.labour is not None]
        return self._rng.choice(working) if working else None

    async def _work_crash(self) -> None:
        """kill -9, now or amid one of the next steps: its leases and claims run out by themselves."""
        unit = self._working()
        if unit is None:
            await trio.sleep(0.05)
            return
        self._world.meters.seen("worker crashed")
        steps = Steps(unit.name, self._rng.choice((1, 3, 10, 30, 100)), unit.crash)
        trio.lowlevel.add_instrument(steps)
        try:
            await trio.sleep(self._rng.choice((0.5, 1.0)))
        finally:
            trio.lowlevel.remove_instrument(steps)

    async def _work_leaves(self) -> None:
        unit = self._working()
        if unit is not None and unit.labour is not None and not self._world.scheduler.is_paused(unit.name):
            self._fault("work leaves", unit.name)
            labour = unit.labour
            unit.within(lambda desk: labour.leave())
        await trio.sleep(self._for_s())

    async def _work_weather(self, what: str, **change: Any) -> None:
        weather = self._world.work_weather
        self._fault(what)
        before = {name: getattr(weather, name) for name in change}
        for name, value in change.items():
            setattr(weather, name, value)
        try:
            await trio.sleep(self._for_s())
        finally:
            for name, value in before.items():
                setattr(weather, name, value)

    async def _work_slow(self) -> None:
        await self._work_weather("work slow", slow_s=(0.0, 0.01, 0.1, 0.6))

    async def _work_unknown(self) -> None:
        await self._work_weather("work unknown", lost_before=0.15, lost_after=0.3)

    async def _work_late(self) -> None:
        await self._work_weather("work late", late=0.3)

    async def _work_refuses(self) -> None:
        await self._work_weather("work refuses", refused=0.4)

    async def _beat_lost(self) -> None:
        """A worker goes on believing that it holds what others have by then."""
        unit = self._working()
        if unit is None:
            await trio.sleep(0.05)
            return
        name = unit.name
        self._fault("beat lost", name)
        self._world.unheard.add(name)
        try:
            await trio.sleep(self._rng.choice((0.5, 2.0, 3.0)))
        finally:
            self._world.unheard.discard(name)

    async def _skew(self) -> None:
        """A node's clock is a little off, as clocks are."""
        unit = self._unit()
        if unit is not None:
            self._world.jumped = True
            unit.wall_offset_s = self._rng.choice((-0.8, -0.2, -0.01, 0.01, 0.2, 0.8))
            self._fault("wall", unit.name)
        await trio.sleep(self._for_s())

    async def _poison(self) -> None:
        """A consumer cannot take a stream's events for a while; an operator has it tried again."""
        world = self._world
        stream = self._rng.choice(world.flights)
        self._fault("poison")
        world.poisoned.add(stream)
        try:
            await trio.sleep(self._for_s())
        finally:
            world.poisoned.discard(stream)
        for parked in await world.work.parked():
            if parked.stream == stream:
                await world.work.ask_retry(parked.consumer, parked.sid, skip=False)

    async def _rebuild(self) -> None:
        """Read models are made anew on some node, once or twice at once; it may crash amid it."""
        unit, rng = self._unit(), self._rng
        if unit is None or unit.host is None or not self._world.swarm.workers:
            await trio.sleep(0.05)
            return
        models = rng.choice((MODELS, MODELS[:1], rng.sample(MODELS, 2)))
        self._rebuilds += 1
        work, holder = cast(Work, NodeWork(self._world, unit.host)), f"rebuild.{self._rebuilds}"
        batch = rng.choice((1, 3, 20))
        self._fault("rebuild", unit.name)

        async def work_on(desk: Desk) -> None:
            assert unit.node is not None
            try:
                await Rebuild(unit.node.log, work, models, holder=holder, batch_events=batch).run()
            except (RebuildError, StoreError) as error:
                self._world.meters.seen("rebuild given up")
                self._world.recorder.trace(f"rebuild given up: {error}".encode())

        unit.within(work_on)
        await trio.sleep(self._for_s())

    async def _operator(self) -> None:
        """An operator's word on a saga."""
        if self._world.company is not None:
            await self._world.company.word()
        await trio.sleep(self._for_s())

    # -- what administrators do ---------------------------------------------------------------------------------------------

    def _at_a_desk(self, tenant: str, job: Callable[[Desk, Identity], Awaitable[object]]) -> None:
        unit = self._unit()
        if unit is None:
            return
        token = self._world.token(tenant, "user:fresh", 3600.0)

        async def work(desk: Desk) -> None:
            admin = unit.node.proving.verify(token) if unit.node is not None else None
            if isinstance(admin, Identity):
                try:
                    await job(desk, admin)
                except (Unavailable, Refused, WireError):
                    pass  # the log is away, or another was quicker

        unit.within(work)

    async def _removal(self) -> None:
        world, rng = self._world, self._rng
        client = rng.choice(world.clients)
        tenant, who = client.tenant, client.who
        assert PRINCIPAL_RE.match(who)
        crew = world.rooms[tenant][-1]
        if world.log.role_in(tenant, crew, who) is None:
            role = rng.choice(("member", "member", "reader"))
            self._at_a_desk(tenant, lambda desk, admin: desk.put_member(admin, crew, who, role))
        else:
            self._at_a_desk(tenant, lambda desk, admin: desk.remove_member(admin, crew, who))
        await trio.sleep(self._for_s())

    async def _trim(self) -> None:
        world, rng = self._world, self._rng
        tenant = rng.choice(list(world.rooms))
        # A flight's facts, and a trip's, are what it is: nobody trims those.
        room = rng.choice([name for name in world.rooms[tenant] if name not in (*world.flights, *world.driven)])
        unheard = world.broker is not None and rng.random() < 0.5
        kept = rng.choice((0, 1, 4, 12))
        if unheard:
            assert world.broker is not None
            self._fault("bus loses")
            world.broker.weather.loses = 1.0
            if await self._unmet(tenant, room):
                kept = 0
        try:
            before = max(world.log.head_of(tenant, room) + 1 - kept, 1)
            self._fault("trim")
            self._at_a_desk(tenant, lambda desk, admin: desk.trim(admin, room, before))
            await trio.sleep(self._for_s())
        finally:
            if unheard:
                assert world.broker is not None
                world.broker.weather.loses = 0.0

    async def _unmet(self, tenant: str, room: str) -> bool:
        """Wait, not for long, for an event of the room that a node which follows it has yet to meet."""
        world = self._world
        with trio.move_on_after(2.0):
            while True:
                followed = [unit.node.hub.by_name.get((tenant, room)) for unit in world.units if unit.node is not None]
                if any(stream is not None and stream.head < world.log.head_of(tenant, room) for stream in followed):
                    return True
                await trio.sleep(0.02)
        return False

    async def _desk_work(self) -> None:
        """Those without a socket send, read and ask what is theirs, through the same lanes and rules."""
        world, rng = self._world, self._rng
        tenant = rng.choice(list(world.rooms))
        room = rng.choice(world.rooms[tenant])
        key = world.key(rng)
        jobs: list[Callable[[Desk, Identity], Awaitable[object]]] = [
            lambda desk, who: desk.send(
                who, room, key=key, type="message", body={"n": 0, "w": tenant, "pad": ""}, expect=None
            ),
            lambda desk, who: desk.read(who, room, after=0, limit=20),
            lambda desk, who: desk.members(who, room),
            lambda desk, who: desk.my_streams(who),
        ]
        self._at_a_desk(tenant, rng.choice((jobs[0], *jobs)))
        await trio.sleep(rng.choice((0.02, 0.15)))

    async def _evict(self) -> None:
        """Streams without followers are let go at once, as when the rings hold too much."""
        for unit in self._world.units:
            if unit.up and unit.node is not None and not self._world.scheduler.is_paused(unit.name):
                unit.node.hub.evict(trio.current_time() + self._world.limits.stream_idle_s + 1.0)
        await trio.sleep(0.02)
