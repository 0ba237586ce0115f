"""What a seed draws before anything happens: the cluster, its people, and which troubles it will have at all.

Swarm testing (Groce et al., 2012): a run with a few kinds of trouble, often, finds more than every run with all of them,
seldom; so each seed leaves most kinds out. Sizes: ``small`` is a few seconds of two or three nodes and six to nine clients;
``large`` is half a minute of three or four nodes and two to three dozen.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

from core.limits import Limits

Size = Literal["short", "small", "large"]

ANYWHERE: Final = (
    "cut", "stall", "half_open", "dribble", "crash", "power", "crash_amid", "pause", "wall", "drain", "bus_down",
    "bus_loses", "bus_doubles", "bus_late", "bus_parted", "bus_deaf", "bus_version", "log_down", "log_slow", "log_unknown",
    "log_late", "log_refuses", "removal", "trim", "evict", "restore", "hostile", "desk",
)  # fmt: skip
WORKERS: Final = (
    "work_crash", "work_leaves", "work_slow", "work_unknown", "work_late", "work_refuses", "beat_lost", "skew", "poison",
)  # fmt: skip
"""Where there are workers: drawn apart, so that the runs of other seeds are what they were."""
COMPANY: Final = ("rebuild", "operator")
"""Where there are workers, drawn once more apart; `operator` where there are sagas."""
ON_TRIPS: Final = ("crash", "drain", "bus_late", "log_slow", "log_unknown", "log_late", "work_slow", "work_unknown")
TROUBLES: Final = ANYWHERE + WORKERS + COMPANY

SHORT: Final = replace(
    Limits(),
    handshake_timeout_s=2.0,
    hello_timeout_s=2.0,
    replies_per_connection_max=12,
    reply_bytes_per_connection_max=4_096,
    inflight_sends_per_connection_max=16,
    ring_events_max=8,
    stream_idle_s=0.5,
    replay_page_events=4,
    replay_page_bytes=4_096,
    turn_replay_bytes=12_000,  # two pages, and two slices
    slice_deliveries=3,
    lane_entries_max=64,
    batch_entries_max=8,
    commit_timeout_s=1.0,
    parked_batches_max=4,
    resume_ttl_s=20.0,
    heartbeat_s=2.0,
    presence_grace_s=0.3,
    presence_list_max=200,
    lease_s=2.0,
    node_beat_s=0.4,
    signal_flush_s=0.1,
    marker_flush_s=0.5,
    drain_window_s=2.0,
    drain_per_second_min=10.0,
    drain_grace_s=0.2,
    opening_work_max=3,
    openings_waiting_max=6,
    openings_waiting_tenant_max=4,
    opening_wait_s=1.0,
    sessions_max=40,
    claims_kept_max=10,
    pulse_interval_s=0.5,
    shed_delay_s=0.2,
)
"""Every bound so low that a short run meets it, and every wait so short that it ends."""


@dataclass(slots=True)
class Swarm:
    seed: int
    size: Size
    nodes: int
    clients: int
    troubled_s: float
    troubles: tuple[str, ...]
    limits: Limits
    lanes: int
    partitions: int
    tenants: int = 1
    lives_s: tuple[float, ...] = (1.0, 4.0, 60.0)
    pauses_s: tuple[float, ...] = (0.02, 0.1, 0.3)
    pads: tuple[int, ...] = (0, 0, 10)
    follows: float = 0.7
    capacity: tuple[int, ...] = (65_536,)
    partial: float = 0.0
    latency_s: tuple[float, ...] = (0.0,)
    gather_ports_max: int = 64
    newer_clients: float = 0.0
    slow_readers: float = 0.0
    short_tokens: float = 0.0
    loiterers: float = 0.0
    liars: float = 0.0
    thieves: float = 0.0
    flights: int = 0
    """Of a tenant, each with its seats; people give them commands, and workers do what follows."""
    workers: int = 0
    """Nodes with a worker beside them."""
    sagas: bool = False
    """A desk starts sagas, on two flights with passengers and crew."""
    board: bool = False
    """Nodes show the live board, and everybody can follow it."""

    trips: int = 0
    """Of a tenant: a device drives, others watch it and want to be told before it arrives. One, or none."""

    @property
    def punctual(self) -> bool:
        """Whether answers can be expected in time while the troubles last: none holds up links or the log."""
        late = {
            "stall",
            "half_open",
            "dribble",
            "power",
            "log_slow",
            "log_late",
            "log_down",
            "log_refuses",
            "log_unknown",
        }
        return not late & set(self.troubles) and self.latency_s == (0.0,) and self.partial == 0.0

    @property
    def forgets_tokens(self) -> bool:
        """Whether a used token may pass again (decision 5): the bus that all nodes ask is not always there."""
        return bool({"bus_down", "bus_loses", "bus_parted"} & set(self.troubles))

    def __str__(self) -> str:
        return (
            f"{self.size}: {self.nodes} nodes, {self.clients} clients of {self.tenants} tenants, {self.troubled_s:g} s of "
            f"{', '.join(self.troubles) or 'peace'}"
            + (f"; {self.flights} flights a tenant, {self.workers} workers" if self.flights else "")
            + (", sagas" if self.sagas else "")
            + (", the board" if self.board else "")
            + (f", {self.trips} trip a tenant, {self.workers} workers" if self.trips else "")
        )


def reduced(swarm: Swarm, changes: Mapping[str, object]) -> Swarm:
    """The same seed with less in it. ``without``: names of troubles; any other key is a field of `Swarm`.

    Raises `ValueError` for what there is no such thing of.
    """
    left = {name: value for name, value in changes.items() if name != "without"}
    known = {f.name for f in fields(Swarm)} - {"seed", "size", "limits", "troubles"}
    for name in left:
        if name not in known:
            raise ValueError(f"{name}: one of {', '.join(sorted(known))}")
    without = changes.get("without", ())
    assert isinstance(without, tuple)
    for name in without:
        if name not in TROUBLES:
            raise ValueError(f"{name}: one of {', '.join(TROUBLES)}")
    troubles = tuple(name for name in swarm.troubles if name not in without)
    return replace(swarm, troubles=troubles, **left)  # type: ignore[arg-type]  # the fields were looked up


def draw(seed: int, size: Size = "small") -> Swarm:
    """The same for the same seed and size."""
    swarm = _with_work(seed, size)
    rng = random.Random(f"swarm trips {size} {seed}")
    if size == "short" or rng.random() > (0.15 if size == "large" else 0.05):
        return swarm
    return _with_trips(swarm, rng)


def _with_trips(swarm: Swarm, rng: random.Random) -> Swarm:
    """In half of them all clocks are right, so that times can be judged; none has its log put back. They are few: what meets
    positions is drawn once more."""
    working = swarm.workers > 0
    added = () if working else tuple(name for name in WORKERS if rng.random() < 0.25 and name != "poison")
    more = tuple(name for name in ON_TRIPS if rng.random() < 0.25 and name not in (*swarm.troubles, *added))
    without = ("restore", "wall", "skew") if rng.random() < 0.5 else ("restore",)
    return replace(
        swarm,
        trips=1,
        workers=swarm.workers or rng.choice((1, 2, swarm.nodes)),
        troubles=tuple(name for name in (*swarm.troubles, *added, *more) if name not in without),
        limits=replace(swarm.limits, book_idle_s=2.0, samples_commit_max=4, live_flush_s=0.05),
    )


def _with_work(seed: int, size: Size) -> Swarm:
    swarm = _draw(seed, size)
    rng = random.Random(f"swarm work {size} {seed}")
    if size == "short":
        return replace(swarm, flights=1, workers=1) if seed % 2 else swarm
    if rng.random() > (0.5 if size == "large" else 0.2):
        return swarm
    troubles = tuple(name for name in WORKERS if rng.random() < 0.25)
    swarm = replace(
        swarm,
        flights=rng.choice((1, 1, 2)),
        workers=rng.choice((1, 2, swarm.nodes)),
        troubles=swarm.troubles + troubles,
    )
    return _with_company(swarm, random.Random(f"swarm company {size} {seed}"))


def _with_company(swarm: Swarm, rng: random.Random) -> Swarm:
    sagas, board = rng.random() < 0.5, rng.random() < 0.4
    troubles = tuple(name for name in COMPANY if rng.random() < 0.35 and (sagas or name != "operator"))
    flights = 2 if sagas else swarm.flights
    return replace(swarm, flights=flights, sagas=sagas, board=board, troubles=swarm.troubles + troubles)


def _draw(seed: int, size: Size) -> Swarm:
    rng = random.Random(f"swarm {size} {seed}")
    if size == "short":  # for crashes at every checkpoint: as little as shows everything
        return Swarm(seed, size, 2, 3, 1.2, (), SHORT, 1, 2, lives_s=(60.0,), pauses_s=(0.02, 0.05, 0.1),
                     follows=1.0)  # fmt: skip
    large = size == "large"
    troubles = tuple(name for name in ANYWHERE if rng.random() < (0.3 if large else 0.16))
    if "restore" in troubles and rng.random() < 0.5:
        troubles = tuple(name for name in troubles if name != "restore")
    limits = SHORT
    if rng.random() < 0.3:
        limits = replace(limits, ring_events_max=64, replay_page_events=32)
    if rng.random() < 0.15:
        limits = replace(limits, presence_list_max=3)
    if rng.random() < 0.3:
        limits = replace(limits, opening_work_max=64, openings_waiting_max=64, openings_waiting_tenant_max=64)
    return Swarm(
        seed,
        size,
        nodes=rng.choice((3, 3, 4)) if large else rng.choice((1, 2, 2, 3)),
        clients=rng.randrange(20, 32) if large else rng.randrange(4, 8),
        troubled_s=rng.choice((15.0, 25.0)) if large else rng.choice((2.0, 3.0, 4.0)),
        troubles=troubles,
        limits=limits,
        lanes=rng.choice((1, 1, 2)),
        partitions=rng.choice((1, 2, 5)),
        tenants=rng.choice((1, 2)),
        lives_s=rng.choice(((0.2, 0.6, 2.0), (1.0, 4.0, 60.0), (60.0,))),
        pauses_s=rng.choice(((0.02, 0.1, 0.3), (0.1, 0.3, 1.0), (0.0, 0.0, 0.3))),
        pads=rng.choice(((0, 0, 10), (0, 200, 1_500))),
        follows=rng.choice((0.3, 0.7, 1.0)),
        capacity=rng.choice(((65_536,), (600, 2_048, 65_536), (300, 700))),
        partial=rng.choice((0.0, 0.0, 0.1, 0.5)),
        latency_s=rng.choice(((0.0,), (0.0,), (0.0, 0.01, 0.08))),
        gather_ports_max=rng.choice((64, 64, 1)),
        newer_clients=rng.choice((0.0, 0.4)),
        slow_readers=rng.choice((0.0, 0.0, 0.4)),
        short_tokens=rng.choice((0.0, 0.0, 0.4)),
        loiterers=rng.choice((0.0, 0.0, 0.15)),
        liars=rng.choice((0.0, 0.0, 0.2)),
        thieves=rng.choice((0.0, 0.0, 0.4)),
    )
