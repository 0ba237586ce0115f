"""Worker processes are killed again and again, and their Postgres too, while commands come and timers fall due.

Nobody helps: at the end every timer fired exactly once, every row is what the log says, and no stream or task is parked. Looked
at from outside, in Postgres; the workers are processes of their own that know nothing of this.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from core.commands import recorded
from core.flight import times
from core.flight.read_models import source_of
from core.flight.views import MODELS, changes
from core.model import Event
from gateway.node import running
from gateway.work.orders import Orders
from gateway.work.ports import Transient
from store.embedded import EmbeddedPostgres
from store.launch import Launcher
from store.links import StoreLimits
from store.postgres import PostgresLog, migrate_database, open_postgres_log
from tests.faults.crowd import eventually
from tests.faults.processes import HOME, write_secrets
from tests.faults.test_postgres_restarts import SETTINGS, kill_all
from tests.nodes import SECRETS
from tests.servers import TEST_PARTITIONS, Database, fresh_database, run_sql

pytestmark = pytest.mark.slow

TENANT = "demo"
FLIGHTS = tuple(f"flight:QX{n}" for n in range(1, 7))
IMPATIENT = StoreLimits(query_timeout_s=1.0, connect_timeout_s=1.0)
RECOVERED_S = 60.0
"""Leases and claims run out in two seconds (`tests.faults.work_process`); a machine that is busy takes longer."""
RULES = """
[[rule]]
id = "delayed"
version = "1"
says = "A delay is told in the flight's chat"
tenants = ["*"]
[rule.when]
event = "flight.delayed"
[[rule.do]]
message.text = "${flight.flight} is delayed"
"""


class WorkerProcess:
    """One place for a worker; killed and started again as often as is wanted."""

    def __init__(self, name: str, folder: Path, database: Database) -> None:
        self.name = name
        self._ready = folder / f"{name}.ready"
        self._log = folder / f"{name}.log"
        rules = folder / "rules"
        rules.mkdir(exist_ok=True)
        (rules / "delays.toml").write_text(RULES)
        self._environ = {
            "READBACK_DATA": str(folder),
            "READBACK_DEV_TOKENS": "true",
            "READBACK_SECRETS_FILE": str(write_secrets(folder)),
            "READBACK_DATABASE_URL": database.url,
            "READBACK_HTTP_PORT": "0",
            "READBACK_NODE": name,
            "READBACK_RULES": str(rules),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def launch(self) -> None:
        self._ready.unlink(missing_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("READBACK_")}
        command = [sys.executable, "-m", "tests.faults.work_process", "work", "--ready-file", str(self._ready)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                Launcher("plain", None, os.getegid()).command(command, stops_with_us=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=HOME,
                env={**clean, **self._environ},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def ready(self) -> None:
        async def up() -> bool:
            assert self.running, f"{self.name} ended: {self.words()[-2000:]}"
            return self._ready.exists()

        await eventually(up)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def words(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def end(self) -> None:
        if self.running:
            self.kill()


class Desk:
    """Who gives commands, through a node of this process, and gives each again until it is answered."""

    def __init__(self, orders: Orders, seed: int) -> None:
        self._orders = orders
        self._rng = random.Random(seed)
        self.set: Counter[str] = Counter()
        """Timers that were set, by flight."""

    async def give(self, flight: str, type: str, body: dict[str, object]) -> bool:
        key = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        while True:
            try:
                return (await self._orders.command(TENANT, flight, type, body, key)).refusal is None
            except Transient as error:
                await trio.sleep(min(error.retry_after_s or 0.05, 0.2))

    def _ms(self, seconds: float) -> str:
        return times.write(int(1000 * (self._orders.wall() + seconds)))

    async def work(self, flight: str) -> None:
        """A life of one flight, until cancelled."""
        body: dict[str, object] = {
            "flight": flight[7:],
            "from": "CNS",
            "to": "TSV",
            "out": self._ms(3_600),
            "in": self._ms(7_200),
        }
        assert await self.give(flight, "schedule", body)
        while True:
            for _ in range(2):
                self.set[flight] += 1
                timer: dict[str, object] = {"name": f"t{self.set[flight]}", "due": self._ms(self._rng.random() * 1.5)}
                if self._rng.random() < 0.3:
                    timer["do"] = {"type": "estimate", "body": {"milestone": "OUT", "at": self._ms(4_000)}}
                if not await self.give(flight, "timer.set", timer):
                    self.set[flight] -= 1  # so many wait already, for want of workers
            await self.give(flight, "gate", {"departure": {"gate": str(self._rng.randrange(1, 60))}})
            await self.give(flight, "delay", {"reasons": [{"code": "93", "minutes": self._rng.randrange(1, 60)}]})
            await trio.sleep(0.05)


@asynccontextmanager
async def desk_over(database: Database, seed: int) -> AsyncIterator[tuple[Desk, PostgresLog]]:
    async with open_postgres_log(database.url, limits=IMPATIENT) as log:
        for flight in FLIGHTS:
            await log.create_stream(TENANT, flight, open=True, members=[], by="service:test")
        ids = iter(range(1 << 30))
        async with running(log, SECRETS, new_id=lambda: f"s{next(ids)}", node_id=f"desk{seed}") as node:
            yield Desk(Orders(node), seed), log


async def all_events(log: PostgresLog, flight: str, *, ruled: bool = False) -> list[Event]:
    (facts,) = await log.open_streams([(TENANT, flight, "user:nobody")])
    assert facts is not None
    events: list[Event] = []
    while page := await (log.ruled if ruled else log.read)(TENANT, facts.sid, events[-1].seq if events else 0, 1_000):
        events += page
    return events


async def unfinished(log: PostgresLog) -> dict[str, object]:
    """What is still to be done; empty when nothing is."""
    left: dict[str, object] = {}
    for kind in ("timer", "job"):
        tasks = await log.work.tasks(kind, limit=10_000)
        waiting = [(task.key, task.state, task.reason) for task in tasks if task.state not in ("done", "dropped")]
        if waiting:
            left[kind] = waiting[:5]
    behind = [cursor for cursor in await log.work.cursors() if cursor.pos != cursor.head]
    if behind:
        left["behind"] = behind[:5]
    return left


async def held(log: PostgresLog, desk: Desk) -> None:
    """Everything that was promised, looked at in Postgres."""

    async def recovered() -> bool:
        return not await unfinished(log)

    try:
        await eventually(recovered, every_s=0.1, patience_s=RECOVERED_S)
    except trio.TooSlowError:
        raise AssertionError(f"not done {RECOVERED_S} s after the last trouble: {await unfinished(log)}") from None
    assert await log.work.parked() == []
    rows = {
        (row.model, row.key): row.doc for model in MODELS for row in await log.work.rows(model, TENANT, limit=10_000)
    }
    should: dict[tuple[str, str], object] = {}
    for flight in FLIGHTS:
        events = [recorded(event) for event in await all_events(log, flight)]
        due = {event.body["name"]: times.read(event.body["due"]).ms for event in events if event.type == "timer.set"}
        fired = [event for event in events if event.type == "timer.fired"]
        assert Counter(event.body["name"] for event in fired) == Counter(due.keys()), flight
        assert len(due) == desk.set[flight] > 5
        assert all(event.at_ms >= due[event.body["name"]] for event in fired)
        delays = sum(event.type == "flight.delayed" for event in events)
        assert sum(event.type == "message" for event in events) == delays > 5, "a delay is told once"
        source = source_of(flight)
        assert source is not None
        ruled = [recorded(event) for event in await all_events(log, flight, ruled=True)]
        for change in changes(source.view, source.name, source.view.initial(), ruled)[1]:
            if change.doc is not None:
                should[change.model, change.key] = change.doc
    assert rows == should
    assert len(rows) >= len(FLIGHTS)


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """Nobody else uses it: it is killed too."""
    with tempfile.TemporaryDirectory(prefix="readback-faults-") as folder:
        server = EmbeddedPostgres(f"{folder}/postgres", settings=SETTINGS)
        server.start()
        try:
            run_sql(server.url(database="postgres"), "create database template_log", server)
            trio.run(partial(migrate_database, server.url(database="template_log"), partitions=TEST_PARTITIONS))
            yield server
        finally:
            server.stop()


@pytest.fixture
def own_database(own_server: EmbeddedPostgres) -> Iterator[Database]:
    with fresh_database(own_server) as fresh:
        yield fresh


@pytest.fixture
def workers(own_database: Database) -> Iterator[list[WorkerProcess]]:
    with tempfile.TemporaryDirectory(prefix="readback-faults-") as folder:
        places = [WorkerProcess(name, Path(folder), own_database) for name in "xyz"]
        try:
            yield places
        finally:
            for place in places:
                place.end()
        for place in places:
            assert "Traceback" not in place.words(), place.words()[-4000:]


async def test_workers_are_killed_again_and_again(workers: list[WorkerProcess], own_database: Database) -> None:
    """SIGKILL to one of three every moment, amid whatever it does; nothing is lost and nothing done twice."""
    rng = random.Random(7)
    for worker in workers:
        worker.launch()
    async with desk_over(own_database, 7) as (desk, log):
        async with trio.open_nursery() as nursery:
            for flight in FLIGHTS:
                nursery.start_soon(desk.work, flight)
            for worker in workers:
                await worker.ready()
            for _ in range(8):
                await trio.sleep(rng.choice((0.1, 0.3, 0.6)))
                victim = rng.choice([worker for worker in workers if worker.running])
                victim.kill()
                victim.launch()
                if rng.random() < 0.5:
                    await victim.ready()
            nursery.cancel_scope.cancel()
        await held(log, desk)
    assert sum(worker.kills for worker in workers) >= 8


async def test_postgres_is_killed_under_workers(workers: list[WorkerProcess], own_database: Database) -> None:
    """All of Postgres ends and comes back, twice; the workers stay, and go on by themselves."""
    server = own_database.server
    for worker in workers[:2]:
        worker.launch()
    async with desk_over(own_database, 8) as (desk, log):
        async with trio.open_nursery() as nursery:
            for flight in FLIGHTS:
                nursery.start_soon(desk.work, flight)
            for worker in workers[:2]:
                await worker.ready()
            for _ in range(2):
                await trio.sleep(1.0)
                kill_all(server)
                await trio.to_thread.run_sync(server.stop)
                await trio.sleep(0.3)
                server.launch()  # on the main thread, whose end is the server's
                await trio.to_thread.run_sync(server.wait_ready)
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        await held(log, desk)
    assert all(worker.running and not worker.kills for worker in workers[:2])
