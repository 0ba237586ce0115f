"""Nodes for tests: a real node on a real socket over a log in memory, and the tokens to talk to it.

`serving_node()` gives a `TestNode`: its ``url``, ``token(...)``, its ``log`` (a `MemoryLog`, with switches to make it
fail), and `restart()`, which ends the node abruptly and starts another on the same port and log.
"""

from __future__ import annotations

import itertools
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from core.bus import Bus
from core.directory import Directory
from core.limits import Limits
from core.model import Member
from core.ports import Log
from core.tenants import Tenants
from core.tokens import mint
from core.tracks import Tracks
from core.work import Work
from gateway.config import Secrets
from gateway.desk import Desk
from gateway.node import Node, running
from gateway.office import Office
from store.memory import MemoryLog
from store.memory_bus import MemoryBroker, MemoryBus
from store.memory_directory import MemoryDirectory
from store.memory_work import MemoryWork


def calm(limits: Limits) -> Limits:
    """Nothing is shed because the machine that runs the tests stood still for a moment, or because a test moved the
    clock; tests of shedding beat the pulse by hand."""
    return replace(limits, shed_delay_s=60.0) if limits.pulse_interval_s == Limits().pulse_interval_s else limits


SECRETS = Secrets(
    token_secrets={"k1": b"t" * 32},
    resume_keys={"r1": b"r" * 32},
    signing_keys={"s1": b"an Ed25519 seed of thirty-two b."},
)


def token(
    principal: str = "user:amy", *, tenant: str = "demo", roles: Collection[str] = (), ttl_s: float = 3600.0
) -> str:
    return mint(
        SECRETS.token_secrets["k1"],
        kid="k1",
        tenant=tenant,
        principal=principal,
        roles=roles,
        now_s=time.time(),
        ttl_s=ttl_s,
    )


def memory_log() -> MemoryLog:
    return MemoryLog(now_ms=lambda: int(time.time() * 1000), new_key=lambda: str(uuid.uuid4()))


class TestNode:
    """A node that can be ended and started again."""

    __test__ = False

    def __init__(
        self,
        log: Log,
        limits: Limits | None,
        nursery: trio.Nursery,
        *,
        name: str = "",
        make_bus: Callable[[str], Bus] | None = None,
        tenants: Tenants | None = None,
        directory: Directory | None = None,
        audit: bool = False,
        work: Work | None = None,
        tracks: Tracks | None = None,
    ) -> None:
        self.log = log
        self.tracks = tracks
        self.work = work
        self.audit = audit
        self.tenants = tenants
        self.directory = directory
        self.limits = calm(limits or Limits())
        self.bus: Bus | None = None
        self._name = name
        self._make_bus = make_bus
        self.node: Node
        self.desk: Desk
        self.office: Office
        self.port = 0
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ids = (f"s{name}{n}" for n in itertools.count(1))
        self._starts = itertools.count(1)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    @property
    def hears(self) -> bool:
        """Whether its bus is well."""
        return self.bus is not None and self.bus.trouble is None

    async def start(self) -> None:
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        await self._nursery.start(self._run)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self._scope:
                node_id = f"{self._name}.{next(self._starts)}"
                self.bus = None if self._make_bus is None else self._make_bus(node_id)
                async with running(
                    self.log,
                    SECRETS,
                    limits=self.limits,
                    origins=None,
                    new_id=lambda: next(self._ids),
                    bus=self.bus,
                    node_id=node_id,
                    tenants=self.tenants,
                    directory=self.directory,
                    audit=self.audit,
                    work=self.work,
                    tracks=self.tracks,
                ) as self.node:
                    sock = socket.socket()
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind(("127.0.0.1", self.port))
                    sock.listen(1024)
                    self.port = sock.getsockname()[1]
                    self.desk, self.office = Desk(self.node), Office(self.node)
                    self.node.shard.listen(sock)
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Abruptly, as a crash would: every connection is cut."""
        self._scope.cancel()
        await self._ended.wait()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def stream(
        self, name: str, *, tenant: str = "demo", open: bool = True, members: dict[str, str] | None = None
    ) -> None:
        people = [Member(principal, role) for principal, role in (members or {}).items()]
        await self.log.create_stream(tenant, name, open=open, members=people, by="service:test")


def work_of(log: Log) -> Work | None:
    """What a log's workers share; of one in memory, made anew."""
    if isinstance(log, MemoryLog):
        return MemoryWork(log, lambda: int(time.time() * 1000))
    work: Work | None = getattr(log, "work", None)
    return work


@asynccontextmanager
async def serving_node(
    log: Log | None = None,
    limits: Limits | None = None,
    *,
    tenants: Tenants | None = None,
    audit: bool = False,
    tracks: Tracks | None = None,
) -> AsyncIterator[TestNode]:
    """With the log's directory and work, in memory or in Postgres; with ``tracks`` it judges positions, too."""
    log = log or memory_log()
    directory: Directory | None = (
        MemoryDirectory(log) if isinstance(log, MemoryLog) else getattr(log, "directory", None)
    )
    async with trio.open_nursery() as nursery:
        node = TestNode(
            log, limits, nursery, tenants=tenants, directory=directory, audit=audit, work=work_of(log), tracks=tracks
        )
        await node.start()
        try:
            yield node
        finally:
            nursery.cancel_scope.cancel()


def ticks(node: TestNode, count: int) -> None:
    """The shard's clock runs on by so many seconds; who is due is looked after, as its own tick does."""
    shard = node.node.shard
    for _ in range(count):
        shard.tick += 1
        for connection in shard._wheel.pop(shard.tick, []):
            if connection.due == shard.tick:
                shard._look_after(connection)
        shard.hub.flush()
        shard.reap()


async def until(true: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for what other tasks bring about; a failure names nothing, so ask for one thing at a time."""
    with trio.fail_after(timeout_s):
        while not true():  # noqa: ASYNC110  # there is no event for "anything"
            await trio.sleep(0.002)


@asynccontextmanager
async def serving_cluster(
    count: int,
    *,
    log: Log | None = None,
    limits: Limits | None = None,
    broker: MemoryBroker | None = None,
    make_bus: Callable[[str], Bus] | None = None,
    tenants: Tenants | None = None,
    tracks: Tracks | None = None,
) -> AsyncIterator[list[TestNode]]:
    """Nodes on one log and one bus (in memory unless ``make_bus`` gives another's), once each hears the others."""
    shared = log or memory_log()
    directory = MemoryDirectory(shared) if isinstance(shared, MemoryLog) else None
    shared_broker, work = broker or MemoryBroker(), work_of(shared)
    async with trio.open_nursery() as nursery:
        nodes = [
            TestNode(
                shared,
                limits,
                nursery,
                name="abcdefgh"[number],
                make_bus=make_bus or (lambda node_id: MemoryBus(shared_broker)),
                tenants=tenants,
                directory=directory,
                work=work,
                tracks=tracks,
            )
            for number in range(count)
        ]
        for node in nodes:
            await node.start()
        for node in nodes:
            cluster = node.node.cluster
            assert cluster is not None
            await until(lambda cluster=cluster: cluster.bus.trouble is None and len(cluster.gossip.nodes) == count - 1)  # type: ignore[misc]
        try:
            yield nodes
        finally:
            nursery.cancel_scope.cancel()


async def bus_away(broker: MemoryBroker, nodes: Sequence[TestNode]) -> None:
    """The bus goes away, and every node has noticed."""
    broker.down = True
    await until(lambda: not any(node.hears for node in nodes))


async def bus_back(broker: MemoryBroker, nodes: Sequence[TestNode]) -> None:
    """The bus is back, and every node has noticed."""
    broker.down = False
    await until(lambda: all(node.hears for node in nodes))
