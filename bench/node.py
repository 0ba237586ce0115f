"""Readback as a server under measurement: a Postgres of its own in a temporary folder, and one node or several beside it.

Postgres runs with the settings that `readback dev` gives it (fsync and synchronous_commit on), as a process tree of its
own, so that its CPU is read apart from the gateway's. Several nodes share a Redis of their own as well; `Cluster` can
kill, drain and replace each of them, and kill and start that Redis. Everything is stopped, and the folder removed,
when the block ends. `Missing` when the embedded Postgres or Redis cannot run here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import time
import urllib.request
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from bench import proc
from bench.servers import Missing, Process, Server, listening_on

if TYPE_CHECKING:
    from store.embedded import EmbeddedPostgres
    from store.embedded_redis import EmbeddedRedis

TENANT = "bench"
TOKEN_TTL_S = 6 * 3600.0
UNANSWERED = re.compile(r"(\d+) sends without an answer")
"""What a node warns of as it leaves (`gateway.drain.Drained`)."""


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A fresh server with the schema in it."""
    from core.ports import StoreError
    from store.embedded import EmbeddedPostgres

    try:
        server = EmbeddedPostgres(folder)
        server.start()
    except StoreError as error:
        raise Missing(f"its Postgres cannot run here: {error}") from error
    try:
        asyncio.run(_migrate(server.url()))
        yield server
    finally:
        server.stop()


async def _migrate(url: str) -> None:
    import asyncpg

    from store.migrations import migrate

    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()


async def _transactions(url: str) -> int:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        counted = await connection.fetchval(
            "select sum(xact_commit + xact_rollback)::bigint from pg_stat_database where datname = current_database()"
        )
    finally:
        await connection.close()
    return int(counted)


class Tokens:
    """Access tokens of distinct principals, signed with the node's own key."""

    def __init__(self, secrets_path: Path, tenant: str = TENANT) -> None:
        self.tenant = tenant
        document = json.loads(secrets_path.read_text())
        self.kid, encoded = next(iter(document["token_secrets"].items()))
        self.secret = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))

    def mint(self, principal: str) -> str:
        from core.tokens import mint

        return mint(
            self.secret,
            kid=self.kid,
            tenant=self.tenant,
            principal=principal,
            roles=(),
            now_s=time.time(),
            ttl_s=TOKEN_TTL_S,
        )

    def many(self, count: int) -> list[str]:
        return [self.mint(f"user:b{number}") for number in range(count)]


class Streams:
    """Makes streams in the log, once each, open to everybody of the tenant.

    Past the gateway on purpose: what a thousand HTTP requests leave behind in its memory would blur what a connection
    costs there.
    """

    def __init__(self, database_url: str, tenant: str = TENANT) -> None:
        self.url = database_url
        self.tenant = tenant
        self.made: set[str] = set()

    def create(self, names: Sequence[str]) -> None:
        wanted = [name for name in names if name not in self.made]
        trio.run(self._create, wanted)
        self.made.update(wanted)

    async def _create(self, names: Sequence[str]) -> None:
        from store.postgres import open_postgres_log

        async with open_postgres_log(self.url) as log:
            for name in names:
                await log.create_stream(self.tenant, name, open=True, members=[], by="service:bench")


@dataclass(frozen=True, slots=True)
class Base:
    """What every node of a run shares: the folder, the database, the keys."""

    folder: Path
    database: EmbeddedPostgres
    secrets_path: Path

    def start(self, env: Mapping[str, str], port: int = 0) -> Process:
        """A node's process, begun; `listening_on` says when it serves and where."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("READBACK_")}
        return Process.start(
            [sys.executable, "-m", "bench.peers.readback_server"],
            {
                **clean,
                "READBACK_DATA": str(self.folder),
                "READBACK_SECRETS_FILE": str(self.secrets_path),
                "READBACK_DEV_TOKENS": "true",
                "READBACK_DATABASE_URL": self.database.url(user="readback_gateway"),
                "READBACK_PORT": str(port),
                "READBACK_HTTP_PORT": "0",
                "READBACK_LOG_LEVEL": "warning",
                **env,
            },
            cwd=Path(__file__).parent.parent,
        )


@contextlib.contextmanager
def _base() -> Iterator[Base]:
    from gateway.keyring import ensure_secrets

    with tempfile.TemporaryDirectory(prefix="readback-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root, and must pass through
        with postgres(folder / "postgres") as database:
            secrets_path = folder / "secrets.json"
            ensure_secrets(secrets_path)
            yield Base(folder, database, secrets_path)


@contextlib.contextmanager
def readback_node() -> Iterator[Server]:
    """A node on free ports, durable in a Postgres of its own, for the length of the block."""
    with _base() as base:
        process = base.start({})
        try:
            port = listening_on(process)[0]
            database = base.database
            gateway_url = database.url(user="readback_gateway")
            assert database.pid is not None, "Postgres was started above"
            url = database.url()
            yield Server(
                "readback",
                port,
                process.pid,
                durable=True,
                postgres_pid=database.pid,
                tokens=Tokens(base.secrets_path).many,
                create_streams=Streams(gateway_url).create,
                transactions=lambda: asyncio.run(_transactions(url)),
                database_url=gateway_url,
            )
        finally:
            process.stop()


@dataclass(slots=True)
class Place:
    """Where one node of a cluster runs; a replacement takes the place, and its port unless told otherwise."""

    process: Process
    port: int
    http_port: int


@dataclass(slots=True)
class Cluster(Server):
    """Nodes that serve one set of streams. As a `Server` it is all of them: CPU by group, with those that are gone."""

    base: Base | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    redis: EmbeddedRedis | None = None
    places: list[Place] = field(default_factory=list)
    ended_s: dict[str, float] = field(default_factory=lambda: {"nodes": 0.0, "redis": 0.0})
    """CPU of the processes that are no more, by group."""
    happened: Callable[[str, int | None, int], None] = field(default=lambda what, at, status: None, repr=False)
    """Told what is done to it, as it is done: in a word, to which node, with which status or count."""

    @property
    def ports(self) -> list[int]:
        return [place.port for place in self.places]

    def cpu_s(self) -> dict[str, float]:
        used = {"nodes": self.ended_s["nodes"] + sum(proc.cpu_s(place.process.pid) for place in self.places)}
        assert self.postgres_pid is not None, "a cluster has a Postgres"
        used["postgres"] = proc.tree_cpu_s(self.postgres_pid)
        if self.redis is not None:
            used["redis"] = self.ended_s["redis"] + (proc.cpu_s(self.redis.pid) if self.redis.pid else 0.0)
        return used

    # Nodes

    def kill(self, at: int) -> None:
        """SIGKILL: nothing is said to anybody."""
        self.happened("kill", at, 0)
        self.places[at].process.popen.kill()
        self._gone(at, 5.0)
        self.happened("killed", at, -signal.SIGKILL)

    def drain(self, at: int, limit_s: float) -> float:
        """SIGTERM, and the seconds until it was gone; `TimeoutError` when it stays longer than ``limit_s``."""
        began = time.monotonic()
        self.happened("drain", at, 0)
        self.places[at].process.popen.terminate()
        words = self._gone(at, limit_s)
        took = time.monotonic() - began
        found = UNANSWERED.search(words)
        self.happened("drained", at, int(found[1]) if found else 0)
        return took

    def _gone(self, at: int, limit_s: float) -> str:
        """Wait for its end, and say its last words; its CPU is read before it is reaped, while /proc still has it."""
        process = self.places[at].process
        deadline = time.monotonic() + limit_s
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"node {at + 1} has not ended within {limit_s:g} s")
            time.sleep(0.005)
        self.ended_s["nodes"] += proc.cpu_s(process.pid)
        words = process.last_errors()
        process.stop()
        return words

    def replace(self, at: int, *, same_port: bool = True) -> None:
        """A new node where one was killed or drained, serving when this returns."""
        assert self.base is not None
        self.happened("starting", at, 0)
        process = self.base.start(self.env, self.places[at].port if same_port else 0)
        try:
            port, http_port = listening_on(process)
        except BaseException:
            process.stop()
            raise
        self.places[at] = Place(process, port, http_port)
        self.happened("start", at, 0)

    def metrics(self, at: int) -> str:
        """What a node says of itself in Prometheus' text."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.places[at].http_port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    # Redis

    def kill_redis(self) -> None:
        assert self.redis is not None
        pid = self.redis.pid
        assert pid is not None
        self.happened("redis killed", None, 0)
        os.kill(pid, signal.SIGSTOP)  # nothing is used up between the reading and the end
        self.ended_s["redis"] += proc.cpu_s(pid)
        self.redis.kill()

    def start_redis(self) -> None:
        """On the port it had."""
        assert self.redis is not None
        self.redis.start()
        self.happened("redis back", None, 0)

    def freeze_redis(self) -> None:
        assert self.redis is not None
        self.happened("redis frozen", None, 0)
        self.redis.freeze()

    def thaw_redis(self) -> None:
        assert self.redis is not None
        self.redis.thaw()
        self.happened("redis thawed", None, 0)

    def stop(self) -> None:
        for place in self.places:
            if place.process.popen.poll() is None:
                place.process.popen.terminate()  # all of them drain at the same time
        for place in self.places:
            place.process.stop()


@contextlib.contextmanager
def redis_server() -> Iterator[EmbeddedRedis]:
    from core.ports import StoreError
    from store.embedded_redis import EmbeddedRedis

    try:
        server = EmbeddedRedis()
        server.start()
    except StoreError as error:
        raise Missing(f"its Redis cannot run here: {error}") from error
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def readback_cluster(
    count: int, *, bus: bool = True, env: Mapping[str, str] | None = None, peer: str = "readback"
) -> Iterator[Cluster]:
    """``count`` nodes on one Postgres and one Redis; without ``bus`` they have only the log to hear of each other."""
    with _base() as base, contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_server()) if bus else None
        database = base.database
        assert database.pid is not None, "Postgres was started above"
        gateway_url = database.url(user="readback_gateway")
        settings = {**(env or {}), **({"READBACK_REDIS_URL": redis.url} if redis else {})}
        cluster = Cluster(
            peer,
            0,
            0,
            durable=True,
            postgres_pid=database.pid,
            tokens=Tokens(base.secrets_path).many,
            create_streams=Streams(gateway_url).create,
            database_url=gateway_url,
            base=base,
            env=settings,
            redis=redis,
        )
        begun: list[Process] = []
        try:
            begun = [base.start(settings) for _ in range(count)]
            for process in begun:
                port, http_port = listening_on(process)
                cluster.places.append(Place(process, port, http_port))
            cluster.port, cluster.pid = cluster.places[0].port, begun[0].pid
            yield cluster
        finally:
            cluster.stop()
            for process in begun[len(cluster.places) :]:  # those that were begun and did not come to listen
                process.stop()
