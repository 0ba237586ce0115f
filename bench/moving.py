"""What positions cost a node, and what others feel of them: the measured windows of `bench.scenarios.arrivals` and of
`bench.positions`.

`taken`: devices with keys send signed fixes as fast as the node takes them. `watching`: a thousand devices move, each in a trip
of its own, watched by twenty of a thousand connections, while people chat in rooms; windows at rest and with movement go by
turns on the same connections. The generators are processes of their own: what is measured of the chat is the node, not what
watchers take of a generator.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

from bench.gen.devices import Device, devices
from bench.load import LEAD_S, LoadError, Loads, Measured, Progress
from bench.node import TENANT, Cluster, Streams, Tokens
from bench.stats import Histogram
from core.directory import Note
from store.postgres import open_postgres_log

RATE_MAX: Final = {10: 40_000.0, 1: 14_000.0}
"""More fixes a second than a node takes, by fixes a message: so many are signed before."""
DEPTH: Final = 4
"""Messages of each connection under way."""
WARM_S: Final = 1.0
TRIPS_EACH: Final = 20
TIMED: Final = 20
"""One watcher in so many says how late positions are."""
EVERY_S: Final = 2.0
"""Between two fixes of a device that is watched: what the node tells a car."""
ROOMS: Final = 25
PEOPLE: Final = 8
REST_S: Final = 6.0
"""Until what began with the connections (presence, graces) is over."""
PAYLOAD: Final = 130


class Numbers:
    """Of devices, each once in a log."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> int:
        first, self._next = self._next, self._next + count
        return first


def prepare(cluster: Cluster, first: int, count: int) -> list[str]:
    """Their trips and keys; their tokens."""
    assert cluster.base is not None
    assert cluster.database_url is not None
    fleet = devices(first, count)
    trio.run(_enrol, cluster.database_url, fleet)
    tokens = Tokens(cluster.base.secrets_path)
    return [tokens.mint(device.name) for device in fleet]


async def _enrol(url: str, fleet: Sequence[Device]) -> None:
    note = Note("service:bench", b"{}")
    async with open_postgres_log(url) as log:
        for device in fleet:
            await log.create_stream(TENANT, device.trip, open=True, members=[], by="service:bench")
            claim, refresh = (
                hashlib.sha256(f"{what} {device.number}".encode()).digest() for what in ("claim", "refresh")
            )
            await log.directory.mint_claim(TENANT, device.name, claim, at_ms=1, expires_ms=2, note=note)
            await log.directory.redeem_claim(
                claim,
                key=device.key.thumbprint,
                public_key=device.key.public_bytes,
                refresh_hash=refresh,
                at_ms=1,
                refresh_until_ms=2,
                note=note,
            )


def taken(
    cluster: Cluster,
    numbers: Numbers,
    fixes: int,
    connections: int,
    seconds: float,
    progress: Progress,
    *,
    depth: int = DEPTH,
) -> Measured:
    """``fixes`` a message. Its results say ``fixes``, ``accepted``, ``took`` and ``refused``. `LoadError` where more messages
    would have been taken than were signed."""
    first = numbers.take(connections)
    messages = int(RATE_MAX[fixes] * (seconds + WARM_S + 1) / fixes / connections) + depth
    job = {"kind": "fixes", "port": cluster.port, "first": first, "tokens": prepare(cluster, first, connections)}
    job |= {"fixes": fixes, "messages": messages, "depth": depth}
    with Loads.start([job], progress) as loads:
        loads.ready()
        measured = loads.measure(cluster, seconds, WARM_S, phase="saturate")
        loads.ready()
        loads.loads[0].go(phase="end")
    if measured.results[0]["ran_out"]:
        raise LoadError(f"the {messages} messages that each connection had signed ran out")
    return measured


@dataclass(frozen=True, slots=True)
class Turn:
    """A window; ``moving`` is what the generator of movement says of it, if there was any."""

    chat: Measured
    moving: dict[str, Any] | None

    def shown(self) -> Histogram:
        return Histogram.from_json(self.moving["shown"]) if self.moving else Histogram()


class Watched:
    """`turn` measures one window on connections that are open."""

    def __init__(self, cluster: Cluster, chat: Loads, movement: Loads, rate: float) -> None:
        self.cluster = cluster
        self._chat = chat
        self._movement = movement
        self._rate = rate

    def turn(self, seconds: float, *, moving: bool) -> Turn:
        if moving:
            start_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
            until_ns = start_ns + int((2 * LEAD_S + WARM_S + seconds) * 1e9)
            self._movement.loads[0].go(phase="move", start_ns=start_ns, from_ns=start_ns, until_ns=until_ns)
        measured = self._chat.measure(self.cluster, seconds, WARM_S, phase="rate", rate=self._rate)
        self._chat.ready()
        if not measured.total("answered"):
            raise LoadError(f"no send was answered: {measured.results[0]['refused']}")
        if not moving:
            return Turn(measured, None)
        moved = self._movement.loads[0].result()
        self._movement.ready()
        return Turn(measured, moved)


@contextlib.contextmanager
def watching(
    cluster: Cluster,
    numbers: Numbers,
    subjects: int,
    watchers: int,
    rate: float,
    progress: Progress,
    rest: Callable[[float], None] = time.sleep,
) -> Iterator[Watched]:
    """``rate``: of the chat's sends a second."""
    assert cluster.base is not None
    assert cluster.database_url is not None
    first = numbers.take(subjects)
    tokens = Tokens(cluster.base.secrets_path)
    rooms = [f"chat:arrivals-{first}-{number}" for number in range(ROOMS)]
    Streams(cluster.database_url).create(rooms)
    talk = {
        "kind": "chat",
        "dialect": "plain",
        "port": cluster.port,
        "connections": ROOMS * PEOPLE,
        "tokens": [tokens.mint(f"user:p{number}") for number in range(ROOMS * PEOPLE)],
        "rooms": rooms,
        "payload": PAYLOAD,
        "sample": 1,
    }
    move = {
        "kind": "moving",
        "port": cluster.port,
        "first": first,
        "tokens": prepare(cluster, first, subjects),
        "watchers": [tokens.mint(f"user:w{number}") for number in range(watchers)],
        "each": TRIPS_EACH,
        "timed": TIMED,
        "every_s": EVERY_S,
    }
    with Loads.start([talk], progress) as chat, Loads.start([move], progress) as movement:
        chat.ready()
        movement.ready()
        rest(REST_S)
        yield Watched(cluster, chat, movement, rate)
        for load in (*chat.loads, *movement.loads):
            load.go(phase="end")
