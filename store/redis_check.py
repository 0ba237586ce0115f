"""Whether a Redis can carry the bus, found out by doing what the bus does, under names of our own cell.

What is wrong is one sentence that says what to do next, as `BusRefused`; a Redis that does not answer now is
`BusUnreachable`, with which a node may start. Nothing is changed for good: what is written here expires at once.
"""

from __future__ import annotations

from uuid import uuid4

import trio

from store.bus_limits import BusCounters, BusLimits, BusRefused, BusUnreachable
from store.redis_find import Topology, find, name_on, parse_url
from store.redis_wire import Command, LinkLost, Login, ReplyError, Server, Wire, connect, read_version, refusal

OLDEST = (6, 2)
NUMBER_SCRIPT = "local was = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return was"


async def check_redis(url: str, cell: str, limits: BusLimits | None = None) -> list[str]:
    """Warnings for an operator. Raises `BusRefused`; takes a few round trips, some seconds at worst."""
    limits = limits or BusLimits()
    parsed = parse_url(url)
    try:
        topology = await find(parsed, limits)
        warnings: list[str] = []
        for server in topology.servers:
            warnings += await _check_server(server, parsed.login, topology, cell, limits)
    except LinkLost as lost:
        raise (BusRefused if lost.refused else BusUnreachable)(str(lost)) from None
    return warnings


async def _check_server(server: Server, login: Login, topology: Topology, cell: str, limits: BusLimits) -> list[str]:
    counters = BusCounters()
    wire = await connect(server, login, limits, counters)
    try:
        with trio.fail_after(limits.reply_timeout_s * 3):
            await _refuse_wrong_kind(wire, topology)
            name = name_on(topology, server, cell, f"check:{uuid4()}")
            await _do_what_the_bus_does(wire, name, "SPUBLISH" if topology.sharded else "PUBLISH")
            listening = await connect(server, login, limits, counters)
            try:
                await _hear(wire, listening, name, topology.sharded)
            finally:
                listening.close()
            return await _memory_warnings(wire)
    except trio.TooSlowError:
        raise LinkLost(f"Redis {server} does not answer") from None
    finally:
        wire.close()


async def _refuse_wrong_kind(wire: Wire, topology: Topology) -> None:
    version = wire.version or read_version((await _info(wire, "server")).get("redis_version", "").encode())
    if version and version < OLDEST:
        raise LinkLost(
            f"Redis {wire.server} is {'.'.join(map(str, version))}, and the bus needs 6.2 or newer: upgrade it",
            refused=True,
        )
    if wire.is_replica:
        raise LinkLost(
            f"Redis {wire.server} is a replica: give the URL of its primary, or of the Sentinels that know it",
            refused=True,
        )
    if wire.mode == "sentinel":
        raise LinkLost(
            f"Redis {wire.server} is a Sentinel: the URL must be redis+sentinel://host:port/service", refused=True
        )
    if wire.mode == "cluster" and not topology.slots:
        raise LinkLost(
            f"Redis {wire.server} is part of a cluster: the URL must begin with redis+cluster://", refused=True
        )


async def _do_what_the_bus_does(wire: Wire, name: bytes, publish: str) -> None:
    commands: list[Command] = [
        ("SET", name, 1, "PX", 100),
        ("EVAL", NUMBER_SCRIPT, 1, name, 2, 100),
        ("EVALSHA", "0" * 40, 1, name, 2, 100),
        (publish, name, b"readback"),
    ]
    for reply in await wire.exchange(*commands):
        if isinstance(reply, ReplyError) and not str(reply).startswith("NOSCRIPT"):
            raise refusal(wire.server, reply)


async def _hear(wire: Wire, listening: Wire, name: bytes, sharded: bool) -> None:
    letter = "S" if sharded else ""
    for reply in await listening.exchange((f"{letter}SUBSCRIBE", name)):
        if isinstance(reply, ReplyError):
            raise refusal(listening.server, reply)
    sent = uuid4().bytes
    await wire.exchange((f"{letter}PUBLISH", name, sent))
    # One reply is the message, the other the confirmation of the end.
    for reply in await listening.exchange((f"{letter}UNSUBSCRIBE", name), ("PING",)):
        if isinstance(reply, ReplyError):
            raise refusal(listening.server, reply)
        if isinstance(reply, list) and reply[-1] == sent:
            return
    raise LinkLost(
        f"Redis {wire.server} does not deliver what is published: it is no Redis that the bus can use", refused=True
    )


async def _memory_warnings(wire: Wire) -> list[str]:
    facts = await _info(wire, "memory")
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory", "0") == "0" or policy == "noeviction":
        return []
    warning = (
        f"Redis {wire.server} may evict the numbers of sessions (maxmemory-policy {policy}), after which an old resume "
        "token could be used once more: set it to noeviction, or give the bus a Redis of its own"
    )
    return [warning]


async def _info(wire: Wire, section: str) -> dict[str, str]:
    """Empty where this user may not ask."""
    (reply,) = await wire.exchange(("INFO", section))
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
