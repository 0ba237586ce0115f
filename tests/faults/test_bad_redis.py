"""``readback serve`` with a Redis that is no good: one sentence and an exit status; where it is only away, a start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from gateway.cli_errors import CANNOT
from store.embedded_redis import EmbeddedRedis, embedded_redis, free_port
from tests.faults.inside import operator
from tests.faults.processes import Fleet, NodeProcess
from tests.servers import Database

pytestmark = pytest.mark.slow


def serve(folder: Path, database: Database, redis_url: str) -> NodeProcess:
    folder.mkdir()
    (node,) = Fleet(folder, database.url, redis_url, names="n").nodes
    node.launch()
    return node


@asynccontextmanager
async def old_redis() -> AsyncIterator[int]:
    """The port of somebody who answers as Redis 5 would."""
    info = b"# Server\r\nredis_version:5.0.14\r\nredis_mode:standalone\r\n# Replication\r\nrole:master\r\n"

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            while data := await stream.receive_some():
                for command in data.split(b"*")[1:]:
                    word = command.upper()
                    if b"HELLO" in word:
                        await stream.send_all(b"-ERR unknown command `HELLO`, with args beginning with: \r\n")
                    elif b"INFO" in word:
                        await stream.send_all(b"$%d\r\n%s\r\n" % (len(info), info))
                    elif b"ROLE" in word:
                        await stream.send_all(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
                    else:
                        await stream.send_all(b"+OK\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_a_redis_that_can_never_do_ends_the_start(
    database: Database, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """A wrong password, too old a version, a replica, no right to publish, no room: each is said in one line that says
    what to do, without any password; the exit status says that it cannot."""
    port, password = redis_server.port, redis_server.password
    with (
        embedded_redis(password="", args=("--replicaof", "127.0.0.1", "1")) as replica,
        embedded_redis(args=("--maxmemory", "1")) as full,
    ):
        async with old_redis() as old, operator(redis_server.url) as ask:
            await ask("ACL", "SETUSER", "mute", "on", ">shut-up", "~*", "&*", "+@all", "-publish")
            cases: dict[str, tuple[str, str]] = {
                "password": (f"redis://:not-the-one@127.0.0.1:{port}/0", "password"),
                "old": (f"redis://127.0.0.1:{old}/0", "5.0.14, and the bus needs 6.2 or newer: upgrade it"),
                "replica": (replica.url, "is a replica: give the URL of its primary"),
                "rights": (f"redis://mute:shut-up@127.0.0.1:{port}/0", "publish"),
                "full": (full.url, "is full: raise its maxmemory"),
            }
            nodes = {name: serve(tmp_path / name, database, url) for name, (url, _) in cases.items()}
            try:
                for name, (_, expected) in cases.items():
                    assert await nodes[name].ended() == CANNOT, nodes[name].words()
                    words = nodes[name].words().strip()
                    assert len(words.splitlines()) == 1, words
                    assert expected in words
                    for secret in (password, full.password, "not-the-one", "shut-up"):
                        assert secret not in words
            finally:
                for node in nodes.values():
                    node.end()


async def test_a_redis_that_is_away_is_waited_for(database: Database, tmp_path: Path) -> None:
    """The node serves from the log, says so in readiness, and uses the bus as soon as it is there."""
    port = free_port()
    node = serve(tmp_path / "n", database, f"redis://:sesame@127.0.0.1:{port}/0")
    try:
        await node.ready()
        await node.bus_is(False)
        with embedded_redis(port=port, password="sesame"):
            await node.bus_is(True)
        await node.bus_is(False)
        assert "sesame" not in node.words()
    finally:
        node.end()
