"""A trip in a simulated run: a device that drives it, its owner, those who want to be told, and what it came to.

The device says where it is twice a second or so and knows no more than a phone does: it numbers its fixes, keeps what was not
answered and says it again, wherever its next connection leads; it is silent in tunnels, says the newest first when it comes
out, has a wild fix now and then, and repeats what was answered long ago. Its way is planned with true times, so that whoever
computes with it is right from the start, and what is told too late is told too late by somebody's fault.

A trip of a run takes some ten seconds: `FAST` are the bounds that make alerts of as many minutes seconds (`world._small`).
"""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from core.commands import recorded
from core.flight.registry import machine_of
from core.geo.polyline import encode
from core.geo.sphere import Plane
from core.ports import Unavailable
from core.tenants import Arrivals, Tenants
from core.tokens import Identity
from core.tracks import Fence
from core.trip import alerts, arriving, showing, verbs
from core.trip.plan import POLYLINE_PRECISION
from core.wire import at_bytes
from gateway.arrivals import engine
from gateway.service import WireError
from gateway.work import alerts as notices
from proof import history
from proof.history import digest
from proof.sim.people import Client
from proof.sim.recorder import WALL_S, run_t

if TYPE_CHECKING:
    from gateway.desk import Desk
    from proof.sim.told import Frame, Told
    from proof.sim.unit import Unit
    from proof.sim.visit import Visit
    from proof.sim.world import World

STREAM: Final = "trip:9"
TENANTS: Final = Tenants(arrivals=Arrivals(thresholds_s=(5, 3), spacing_s=1, stale_s=4.0))
LEAST_S: Final = 3.0
"""Whose threshold is passed sooner after they asked may be told late or not at all (`core.trip.alerts`)."""
FAST: Final = (
    (verbs, "THRESHOLD_S_MIN", 1),
    (alerts, "STEADY_MS", 1_000),
    (alerts, "DELIVERY_MS", 500),
    (alerts, "INSIDE_MS", 1_500),
    (arriving, "AGAIN_MS", 2_000),
    (arriving, "KEPT_S", 3.0),
    (showing, "SHOW_AGAIN_S", 2.0),
    (engine, "LATE_MS", 500),
    (engine, "ARM_MS", 500),
    (engine, "TICK_S", 0.1),
    (engine, "AGAIN_S", 0.2),
    (engine, "AGAIN_MAX_S", 0.8),
    (notices, "WISHED_MS", 500),
)
"""Modules, names and what stands there while such a run lasts."""

BEGIN_S: Final = 0.3
AFTER_S: Final = 7.0
"""It arrives so long after the troubles were to end: what is due by then is due in peace."""
STANDS_S: Final = 3.0
"""It says for so long that it is there."""
EVERY_S: Final = (0.15, 0.5, 0.5, 0.8)
SPEED_MPS: Final = 60.0
"""So fast that near its stop (60 m of a car) is a second before it."""
PLACE: Final = Plane(-16.9, 145.7)
WILD: Final = 0.08
TUNNEL: Final = 0.06
ANEW: Final = 0.05
HASTY: Final = 0.4
"""Shares: of fixes that are wild; of turns in which it goes into a tunnel, says again what was answered, or what was not."""
AT_ONCE: Final = 8
"""Fixes of one message."""
TOLD_MAX: Final = 8
PAGE: Final = 7
"""Samples of a page of the last reading."""


class Wish(NamedTuple):
    recipient: str
    stop: str
    thresholds_s: tuple[int, ...]
    own: bool = False
    """Not the tenant's."""


WISHES: Final = (
    Wish("user:u1", "b", TENANTS.arrivals.thresholds_s),
    Wish("user:u2", "b", (8, 4), own=True),
    Wish("user:u3", "b", (9, 7, 2), own=True),
    Wish("user:u1", "a", (2,), own=True),
)


class Drive:
    """One trip of a run, as it is in truth."""

    def __init__(self, world: World, tenant: str) -> None:
        self.world = world
        self.tenant = tenant
        self.subject = f"device:van-{tenant}"
        self.begin_t = BEGIN_S
        self.lasts_s = world.swarm.troubled_s + AFTER_S
        self.dark_s = random.Random(f"{world.swarm.seed} dark {tenant}").choice((0.0, 0.0, 3.8))
        """So long before it arrives nothing is heard of it any more."""
        self.driver = Driver(self)

    @property
    def there_t(self) -> float:
        return self.begin_t + self.lasts_s

    @property
    def over(self) -> bool:
        """And everything was said of it."""
        return self.world.recorder.now() > self.there_t + STANDS_S and not self.driver.untold

    def metres(self, t: float) -> float:
        return SPEED_MPS * min(max(t - self.begin_t, 0.0), self.lasts_s)

    def plan(self) -> dict[str, Any]:
        length_m = SPEED_MPS * self.lasts_s
        points = [PLACE.place(x_m, 0.0) for x_m in (0.0, length_m / 2, length_m)]
        (_, _), (a_lat, a_lon), (b_lat, b_lon) = points
        line = encode(points, POLYLINE_PRECISION)
        half_s = self.lasts_s / 2
        return {
            "mode": "car",
            "subject": self.subject,
            "stops": [{"stop": "a", "lat": a_lat, "lon": a_lon}, {"stop": "b", "lat": b_lat, "lon": b_lon}],
            "route": {"polyline": line, "legs_s": [half_s, half_s], "source": "plan"},
        }

    async def own(self, owner: Client, rng: random.Random) -> None:
        """Its owner plans it, has it begin, and says who is to be told: one after the other, each until it is answered."""
        script: list[tuple[str, dict[str, Any]]] = [("plan", self.plan()), ("start", {})]
        for wish in WISHES:
            own = {"thresholds_s": list(wish.thresholds_s)} if wish.own else {}
            script.append(("notify", {"recipient": wish.recipient, "stop": wish.stop, **own}))
        for type, body in script:
            key = self.world.key(rng)
            owner.commands[key] = (STREAM, {"type": type, "body": body})
            owner.failed.add(key)
            while key in owner.commands:  # noqa: ASYNC110  # what answers it is told by the client
                await trio.sleep(0.1)

    async def ask(self, rng: random.Random) -> None:
        """Somebody asks some node over HTTP now and then how the trip is."""
        while True:
            await trio.sleep(rng.choice((0.3, 1.0)))
            unit = rng.choice(self.world.units)
            if unit.up and not self.world.scheduler.is_paused(unit.name):
                unit.within(partial(self._asked, unit))

    async def _asked(self, unit: Unit, desk: Desk) -> None:
        with contextlib.suppress(WireError, Unavailable):
            await self.shown(unit)

    async def shown(self, unit: Unit) -> dict[str, Any] | None:
        """What the node says of the trip. Raises `WireError`, `Unavailable`."""
        node, desk = unit.node, unit.trips_desk
        if node is None or desk is None or not unit.up:
            return None
        admin = node.proving.verify(self.world.token(self.tenant, "user:fresh", 3600.0))
        if not isinstance(admin, Identity):
            return None  # by its clock the token is over
        return (await desk.trip(admin, STREAM.removeprefix("trip:"))).doc


class Said(NamedTuple):
    """A fix as the device says it."""

    at_t: float
    wire: dict[str, Any]


class Driver(Client):
    """The device, on whichever connection it has."""

    def __init__(self, drive: Drive) -> None:
        world = drive.world
        rng = random.Random(f"{world.swarm.seed} van {drive.tenant}")
        super().__init__(world, f"van-{drive.tenant}", drive.tenant, drive.subject, rng)
        self.slow = self.newer = False
        self.drive = drive
        self.untold: dict[int, Said] = {}
        """Fixes that nobody has said anything of, by number."""
        self.answered: deque[tuple[int, Said]] = deque(maxlen=TOLD_MAX)
        self.asked: dict[int, list[int]] = {}
        """Numbers on their way on this connection, by the message's id."""
        self.believed = False
        self.at_node = ""

    def wanted(self) -> list[str]:
        return [STREAM]

    async def roll(self) -> None:
        """Make fixes to the end of the trip."""
        drive, now = self.drive, self.world.recorder.now
        rng = random.Random(f"{self.world.swarm.seed} road {self.tenant}")
        seq = 0
        while now() < drive.there_t + STANDS_S:
            at_t = now()
            if drive.there_t - drive.dark_s < at_t < drive.there_t:
                await trio.sleep(drive.there_t - at_t)
                continue
            x_m, standing = drive.metres(at_t), at_t >= drive.there_t
            lat, lon = PLACE.place(x_m, 0.0)
            seq += 1
            self.untold[seq] = _said(seq, at_t, lat, lon, 0.0 if standing else SPEED_MPS)
            if self.believed and rng.random() < WILD:
                seq += 1
                lat, lon = PLACE.place(x_m + rng.uniform(20_000, 90_000), rng.uniform(-90_000, 90_000))
                self.untold[seq] = _said(seq, at_t + rng.choice((-0.05, 0.05)), lat, lon, SPEED_MPS)
            await trio.sleep(rng.choice(EVERY_S))

    async def talk(self, visit: Visit) -> None:
        rng = self.rng
        self.asked.clear()
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                roll = rng.random()
                if not self.world.calm and roll < TUNNEL:
                    await trio.sleep(rng.choice((0.6, 1.2)))
                    await self._say(visit, list(self.untold)[-1:])
                elif not self.world.calm and roll < TUNNEL + ANEW and self.answered:
                    await self._say(visit, [rng.choice(self.answered)[0]])
                if self.asked and rng.random() < HASTY:
                    self.asked.clear()  # it says again what it waits for
                await self._say(visit, list(self.untold))
                await trio.sleep(rng.choice((0.05, 0.2, 0.5)))

    async def _say(self, visit: Visit, seqs: list[int]) -> None:
        """Those that are not on their way."""
        going = {seq for asked in self.asked.values() for seq in asked}
        seqs = [seq for seq in seqs if seq not in going][:AT_ONCE]
        known = dict(self.answered)
        fixes = [self.untold.get(seq, known.get(seq)) for seq in seqs]
        wire = [said.wire for said in fixes if said is not None]
        if not wire:
            return
        if self.at_node and self.at_node != visit.host.name:
            self.world.meters.seen("device at another node")
        self.at_node = visit.host.name
        number = await visit.say("position", stream=STREAM, fixes=wire)
        self.asked[number] = seqs

    def judged(self, visit: Told, frame: Frame) -> None:
        self.asked.pop(frame.get("id", 0), None)
        known = dict(self.answered)
        for verdict in frame.get("verdicts", ()):
            seq, word, reason = verdict["seq"], verdict["verdict"], verdict.get("reason", "")
            said = self.untold.pop(seq, None)
            if said is not None:
                self.answered.append((seq, said))
            else:
                said = known.get(seq)
            if said is None:
                continue
            self.believed = self.believed or word == "accepted"
            self.world.meters.seen("fix answered as a duplicate", word == "duplicate")
            visit.records(history.Judged(visit.now(), visit.name, STREAM, self.who, seq, said.at_t, word, reason))


def _said(seq: int, at_t: float, lat: float, lon: float, speed_mps: float) -> Said:
    at_ms = round(1000 * (WALL_S + at_t))
    wire = {"seq": seq, "at": at_bytes(at_ms).decode(), "lat": round(lat, 7), "lon": round(lon, 7), "acc": 4.0,
            "speed": speed_mps, "heading": 90.0}  # fmt: skip
    return Said(run_t(at_ms), wire)


async def set_up(world: World) -> None:
    """The drives' devices are among the clients from now on."""
    for drive in world.drives:
        world.clients.append(drive.driver)
        half_m = SPEED_MPS * drive.lasts_s / 2
        fence = Fence("half", "half way", (PLACE.place(half_m, 0.0),), 60.0, 0, ())
        await world.tracks.put_fence(drive.tenant, fence)


def begin(world: World) -> None:
    for drive in world.drives:
        owner = next(client for client in world.clients if client.tenant == drive.tenant)
        rng = random.Random(f"{world.swarm.seed} owner {drive.tenant}")
        world.nursery.start_soon(drive.driver.live)
        world.nursery.start_soon(drive.driver.roll)
        world.nursery.start_soon(drive.own, owner, rng)
        world.nursery.start_soon(drive.ask, random.Random(f"{world.swarm.seed} asks {drive.tenant}"))


# -- what they came to --------------------------------------------------------------------------------------------------------


def newest(world: World, visits: Iterable[Visit], *, fresh: bool) -> Iterator[history.Newest]:
    """Who follows, and where they saw each device last."""
    t = world.recorder.now()
    truth: dict[str, float] = {}
    for drive in world.drives:
        believed = [one.at_ms for one in world.tracks.samples_of(drive.tenant, STREAM) if one.verdict != "quarantined"]
        if believed:
            truth[drive.tenant] = run_t(max(believed))
    for visit in visits:
        tenant = visit.client.tenant
        subject = f"device:van-{tenant}"
        if visit.welcomed and STREAM in visit.following and tenant in truth and visit.client.who != subject:
            held = visit.places.get((STREAM, subject))
            yield history.Newest(t, visit.name, STREAM, subject, held, truth[tenant], fresh)


async def ends(world: World) -> AsyncIterator[history.Record]:
    for drive in world.drives:
        async for read in _read(world, drive):
            yield read
        for wished in _wished(world, drive):
            yield wished
        for unit in world.units:
            trip = await _trip(world, drive, unit)
            if trip is not None:
                yield trip


async def _read(world: World, drive: Drive) -> AsyncIterator[history.Read]:
    """Its track, page by page."""
    found: dict[tuple[str, int], int] = {}
    after: tuple[int, str, int] | None = None
    while True:
        page = await world.tracks.track(drive.tenant, STREAM, from_ms=0, to_ms=1 << 52, after=after, limit=PAGE)
        for one in page:
            found[one.subject, one.seq] = found.get((one.subject, one.seq), 0) + 1
        if len(page) < PAGE:
            break
        after = (page[-1].at_ms, page[-1].subject, page[-1].seq)
    t = world.recorder.now()
    for (subject, seq), times in sorted(found.items()):
        yield history.Read(t, drive.tenant, STREAM, subject, seq, times)


def _wished(world: World, drive: Drive) -> Iterator[history.Wished]:
    """Each threshold of each wish, where its trip was under way."""
    t = world.recorder.now()
    asked: dict[tuple[str, str], float] = {}
    started_t = None
    for event in world.log.events_of(drive.tenant, STREAM):
        if event.type == "trip.started":
            started_t = run_t(event.at_ms)
        elif event.type == "trip.recipient":
            body = recorded(event).body
            asked[body["recipient"], body["stop"]] = run_t(event.at_ms)
    for wish in WISHES:
        since_t = asked.get((wish.recipient, wish.stop))
        if since_t is None or started_t is None:
            continue
        there_t = drive.there_t if wish.stop == "b" else drive.begin_t + drive.lasts_s / 2
        for threshold_s in wish.thresholds_s:
            yield history.Wished(
                t,
                drive.tenant,
                STREAM,
                wish.stop,
                wish.recipient,
                threshold_s,
                max(since_t, started_t),
                there_t,
                LEAST_S,
            )


async def _trip(world: World, drive: Drive, unit: Unit) -> history.Trip | None:
    """What the node says of the trip, as one who asks over HTTP is told."""
    shown = await drive.shown(unit)
    if shown is None:
        return None
    machine = machine_of(STREAM)
    assert machine is not None
    state, completed = machine.initial(), 0
    ruled = world.log.ruled_of(drive.tenant, STREAM)
    for event in world.log.events_of(drive.tenant, STREAM):
        if event.seq in ruled:
            state = machine.evolve(state, recorded(event))
            completed += event.type == "trip.completed"
    t = world.recorder.now()
    folded = machine.show(state)
    there = folded["status"] in ("underway", "completed")
    truth = digest(folded)
    return history.Trip(t, unit.name, drive.tenant, STREAM, digest(shown), truth, completed, there)
