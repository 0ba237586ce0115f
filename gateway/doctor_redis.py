"""The doctor's look at Redis: can it carry what nodes tell each other, and how fast does it?

For: `gateway.doctor`. Promises: does what a node does there, under names of the log's own cell where the log answers, and
leaves nothing behind (what it writes expires in a second); ends within seconds; shows no password. Does not: fill it, or
look at what others keep in it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import asyncpg
import trio

from gateway.config import Config
from gateway.doctor import Finding, Level
from store.bus import BusLimits, BusRefused, BusUnreachable, RedisBus, check_redis
from store.bus_limits import BusCounters
from store.embedded import running_url
from store.redis_find import find, parse_url
from store.redis_wire import LinkLost, connect

TIMEOUT_S = 5.0
ROUND_TRIPS = 5
ROUND_TRIP_WARN_MS = 5.0  # what others have sent comes later by half of it
FULL_WARN = 0.8

NO_CELL = "doctor"
"""Where the log does not say which cell it is."""


def look_at_redis(config: Config) -> Iterator[Finding]:
    if config.redis_url is None:
        seen = "none is set: nodes on one database hear each other within a second"
        if config.workers == 1:
            yield Finding("redis", "ok", seen)
        elif config.database_url is None:
            yield Finding("redis", "ok", "none is set: `readback dev --workers` brings its own")
        else:
            yield Finding("redis", "fail", f"{seen}, and workers need one", "give READBACK_REDIS_URL")
        return
    yield from trio.run(_examine, config.redis_url, asyncio.run(_cell(config)))


async def _cell(config: Config) -> str:
    """The log's epoch, which is in every name on Redis that is ours, and which its rights may be limited to."""
    url = config.database_url or running_url(config.postgres_dir, user="readback_gateway")
    if url is None:
        return NO_CELL
    try:
        async with asyncio.timeout(TIMEOUT_S):
            link = await asyncpg.connect(url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
            try:
                return str(await link.fetchval("select epoch from readback.meta"))
            finally:
                link.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError):
        return NO_CELL  # `look_at_database` says why


async def _examine(url: str, cell: str) -> list[Finding]:
    try:
        warnings = await check_redis(url, cell)
    except BusUnreachable as error:
        advice = "is it running, and reachable from here? nodes serve meanwhile, and hear each other through the log"
        return [Finding("redis", "fail", str(error), advice)]
    except BusRefused as error:
        return [_parted("fail", str(error))]
    findings = await _servers(url)
    findings += [_parted("warn", warning) for warning in warnings]
    findings += await _round_trip(url, cell)
    return findings


def _parted(level: Level, sentence: str) -> Finding:
    """What is wrong, and after the last colon what to do: so the bus writes its sentences."""
    seen, colon, advice = sentence.rpartition(": ")
    if not colon:
        seen, advice = sentence, "see docs/operations.md, Redis"
    return Finding("redis", level, seen, advice)


async def _servers(url: str) -> list[Finding]:
    """Each server of the bus: its version, and how full it is."""
    findings = []
    parsed, limits = parse_url(url), BusLimits()
    try:
        for server in (await find(parsed, limits)).servers:
            wire = await connect(server, parsed.login, limits, BusCounters())
            try:
                with trio.fail_after(TIMEOUT_S):
                    version, memory = await wire.exchange(("INFO", "server"), ("INFO", "memory"))
            finally:
                wire.close()
            findings.append(_server(str(server), _facts(version), _facts(memory)))
    except (LinkLost, trio.TooSlowError) as error:
        findings.append(Finding("redis", "warn", f"it went away while it was looked at: {error}", "look again"))
    return findings


def _server(server: str, version: dict[str, str], memory: dict[str, str]) -> Finding:
    name = f"Redis {version.get('redis_version', '')}".strip()
    seen = f"{name} at {server} has every right that the bus needs"
    used, most = _number(memory.get("used_memory")), _number(memory.get("maxmemory"))
    if not most:
        return Finding("redis", "ok", f"{seen}; {used / 1024**2:.0f} MB used, of no fixed most")
    seen = f"{seen}; {used / 1024**2:.0f} of {most / 1024**2:.0f} MB used"
    if used > FULL_WARN * most and memory.get("maxmemory_policy", "noeviction") == "noeviction":
        advice = "raise maxmemory, or give the bus a Redis of its own: a full one takes no session numbers"
        return Finding("redis", "warn", seen, advice)
    return Finding("redis", "ok", seen)


def _facts(reply: object) -> dict[str, str]:
    """Empty where this user may not ask."""
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


async def _round_trip(url: str, cell: str) -> list[Finding]:
    """A bus of our own, as a node has one, until its canary has come back a few times; the shortest time counts."""
    bus = RedisBus(url, cell=cell, node=f"doctor-{secrets.token_hex(4)}")
    times: list[float] = []
    with trio.move_on_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bus.run)
            while len(times) < ROUND_TRIPS:
                await trio.sleep(0.02)
                if bus.trouble is None and bus.canary_s and bus.canary_s not in times:
                    times.append(bus.canary_s)
            nursery.cancel_scope.cancel()
    if not times:
        why = bus.trouble or "nothing came back"
        return [Finding("redis round trip", "fail", f"no canary came back: {why}", "look at Redis's own log")]
    shortest_ms = min(times) * 1000
    seen = f"a message through Redis and back takes {shortest_ms:.1f} ms"
    if shortest_ms > ROUND_TRIP_WARN_MS:
        advice = "move it nearer: what is sent at one node is seen at the others half of that later"
        return [Finding("redis round trip", "warn", seen, advice)]
    return [Finding("redis round trip", "ok", seen)]
