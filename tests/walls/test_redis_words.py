"""What Redis is told of a tenant, and what it keeps: taken down by MONITOR while two nodes live on it."""

from __future__ import annotations

import re
from collections import Counter
from urllib.parse import urlsplit

import redis
import trio

from store.embedded_redis import EmbeddedRedis
from tests.buses import RedisStage, module_redis, redis_server  # noqa: F401
from tests.nodes import until
from tests.walls.marked import live, pry, town

_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
KEEPING_COMPANY = {
    b"PING",
    b"HELLO",
    b"AUTH",
    b"SELECT",
    b"CLIENT",
    b"INFO",
    b"CONFIG",
    b"COMMAND",
    b"SCRIPT",
    b"SUBSCRIBE",
}
KEEPING_COMPANY |= {b"UNSUBSCRIBE", b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"GET", b"SET", b"ROLE", b"CLUSTER", b"MONITOR"}
"""Commands that carry nothing but names of channels and keys, and numbers."""


def unescaped(word: bytes) -> bytes:
    return _ESCAPED.sub(lambda m: bytes([int(m[1][1:], 16)]) if len(m[1]) > 1 else _LETTERS.get(m[1], m[1]), word)


async def monitored(
    url: str, said: list[list[bytes]], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Every command that the server gets, as its words."""
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    stream = await trio.open_tcp_stream(place.hostname, place.port)
    await stream.send_all(f"AUTH {place.password}\r\n".encode())
    assert await stream.receive_some() == b"+OK\r\n"
    await stream.send_all(b"MONITOR\r\n")
    rest = b""
    async with stream:
        async for data in stream:
            *lines, rest = (rest + data).split(b"\r\n")
            for line in lines:
                if line == b"+OK":
                    task_status.started()
                else:
                    said.append([unescaped(word) for word in _QUOTED.findall(line)])


async def test_redis_is_told_nothing_that_is_not_sealed(redis_server: EmbeddedRedis) -> None:  # noqa: F811
    """Every payload that bears the tenant's mark is sealed for its channel; no name of a channel or a key bears it, nor does
    anything that is kept; and every name is of the cell, so that none can be another's."""
    stage = RedisStage(redis_server)
    said: list[list[bytes]] = []
    async with trio.open_nursery() as nursery:
        with trio.fail_after(30):
            await nursery.start(monitored, redis_server.url, said)
        async with town(lambda node_id: stage.bus(node_id)) as made:
            await pry(made)
            await live(made)
            await pry(made)
            await until(lambda: sum(words[0] == b"PUBLISH" or words[0] == b"SPUBLISH" for words in said) > 20)
            heard = made.others.heard()
            assert not made.found_in(heard)
            assert made.found_in(made.own.heard())["mark"] > 250
            told = list(said)
            with redis.Redis.from_url(redis_server.url, protocol=2) as plain:
                kept = {key: plain.get(key) for key in plain.keys("*") if stage.cell.encode() in key}
        nursery.cancel_scope.cancel()

    prefix = f"readback:{{{stage.cell}:".encode()
    kinds: Counter[str] = Counter()
    marked = 0
    for command, *words in told:
        verb = command.upper()
        if verb in (b"PUBLISH", b"SPUBLISH"):
            channel, payload = words
            assert channel.startswith(prefix), channel
            assert channel.endswith(b"}"), channel
            name = channel.removeprefix(prefix)[:-1].decode()
            kinds[name.partition(":")[0]] += 1
            assert not made.found_in(channel), channel
            if made.found_in(payload):
                marked += 1
                assert made.sealed(name, payload), name
        elif verb in (b"EVAL", b"EVALSHA"):
            kinds["number"] += 1
            script, count, *rest = words
            assert not made.found_in(script)
            for key in rest[: int(count)]:
                assert key.startswith(prefix)
            assert not made.found_in(b" ".join(rest), but=("session",)), rest
        else:
            assert verb in KEEPING_COMPANY, verb
            assert not made.found_in(b" ".join(words), but=("session",)), (verb, words)
    assert marked > 5, kinds
    assert {"nodes", "sessions", "events", "signals", "trims", "revocations", "number"} <= kinds.keys(), kinds
    assert kept
    for key, value in kept.items():
        assert not made.found_in(key, but=("session",)), key
        assert value is not None
        assert value.isdigit(), (key, value)
