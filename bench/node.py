"""Readback as a server under measurement: a Postgres of its own in a temporary folder, and one node beside it.

Postgres runs with the settings that `readback dev` gives it (fsync and synchronous_commit on), as a process tree of its
own, so that its CPU is read apart from the gateway's. Everything is stopped, and the folder removed, when the block
ends. `Missing` when the embedded Postgres cannot run here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from bench.servers import Missing, Process, Server, listening_on

if TYPE_CHECKING:
    from store.embedded import EmbeddedPostgres

TENANT = "bench"
TOKEN_TTL_S = 6 * 3600.0


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

    def __init__(self, secrets_path: Path) -> None:
        document = json.loads(secrets_path.read_text())
        self.kid, encoded = next(iter(document["token_secrets"].items()))
        self.secret = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))

    def mint(self, principal: str) -> str:
        from core.tokens import mint

        return mint(
            self.secret,
            kid=self.kid,
            tenant=TENANT,
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

    def __init__(self, database_url: str) -> None:
        self.url = database_url
        self.made: set[str] = set()

    def create(self, names: Sequence[str]) -> None:
        wanted = [name for name in names if name not in self.made]
        trio.run(self._create, wanted)
        self.made.update(wanted)

    async def _create(self, names: Sequence[str]) -> None:
        from store.postgres import open_postgres_log

        async with open_postgres_log(self.url) as log:
            for name in names:
                await log.create_stream(TENANT, name, open=True, members=[], by="service:bench")


@contextlib.contextmanager
def readback_node() -> Iterator[Server]:
    """A node on free ports, durable in a Postgres of its own, for the length of the block."""
    from gateway.keyring import ensure_secrets

    with tempfile.TemporaryDirectory(prefix="readback-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root, and must pass through
        with postgres(folder / "postgres") as database:
            secrets_path = folder / "secrets.json"
            ensure_secrets(secrets_path)
            clean = {key: value for key, value in os.environ.items() if not key.startswith("READBACK_")}
            process = Process.start(
                [sys.executable, "-m", "bench.peers.readback_server"],
                {
                    **clean,
                    "READBACK_DATA": name,
                    "READBACK_SECRETS_FILE": str(secrets_path),
                    "READBACK_DATABASE_URL": database.url(user="readback_gateway"),
                    "READBACK_PORT": "0",
                    "READBACK_HTTP_PORT": "0",
                    "READBACK_LOG_LEVEL": "warning",
                },
                cwd=Path(__file__).parent.parent,
            )
            try:
                port = listening_on(process)[0]
                tokens = Tokens(secrets_path)
                streams = Streams(database.url(user="readback_gateway"))
                assert database.pid is not None, "Postgres was started above"
                url = database.url()
                gateway_url = database.url(user="readback_gateway")
                yield Server(
                    "readback",
                    port,
                    process.pid,
                    durable=True,
                    postgres_pid=database.pid,
                    tokens=tokens.many,
                    create_streams=streams.create,
                    transactions=lambda: asyncio.run(_transactions(url)),
                    database_url=gateway_url,
                )
            finally:
                process.stop()
