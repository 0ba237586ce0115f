"""``python -m store.measure_bus``: what the bus's own link carries, beside redis-py's asyncio client under trio-asyncio.

An embedded Redis, one publisher and one listener in this process, one channel. Three numbers a way: messages a second
when as many as go are on their way (a window of them, so that neither side runs ahead), processor time of this process for
each, and the round trip of one message alone. Ways in turn, the best of some rounds: the others had company on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

from core.bus import Message
from store.bus import RedisBus
from store.embedded_redis import EmbeddedRedis, running_redis
from store.links import asyncio_loop

CHANNEL = "events:0"
WAIT_S = 60.0


class Way(NamedTuple):
    """``stream`` publishes so many payloads, ``window`` ahead of what was heard; ``echo`` one, and waits for it."""

    name: str
    stream: Callable[[int, bytes, int], Awaitable[None]]
    echo: Callable[[bytes], Awaitable[None]]


@asynccontextmanager
async def our_way(server: EmbeddedRedis) -> AsyncIterator[Way]:
    bus = RedisBus(server.url, cell="measure", node="measure")
    heard = 0
    wanted = 0
    there = trio.Event()

    def take(messages: Sequence[Message]) -> None:
        nonlocal heard
        heard += len(messages)
        if heard >= wanted:
            there.set()

    async def until(count: int) -> None:
        nonlocal wanted, there
        wanted, there = count, trio.Event()
        if heard < count:
            await there.wait()

    async def stream(count: int, payload: bytes, window: int) -> None:
        start = heard
        for sent in range(1, count + 1):
            bus.publish(CHANNEL, payload)
            if sent % (window // 2) == 0:
                await until(start + sent - window // 2)
        await until(start + count)

    async def echo(payload: bytes) -> None:
        bus.publish(CHANNEL, payload)
        await until(heard + 1)

    bus.on_messages = take
    well = trio.Event()
    bus.on_change = well.set
    bus.listen(CHANNEL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.run)
        await well.wait()
        yield Way("hiredis on a Trio socket", stream, echo)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def redis_py_way(server: EmbeddedRedis, *, pipelined: bool) -> AsyncIterator[Way]:
    """As its documentation shows it; ``pipelined`` sends a window in one pipeline, which its users may do by hand."""
    import redis.asyncio
    import trio_asyncio  # type: ignore[import-untyped]

    call = trio_asyncio.aio_as_trio
    client = redis.asyncio.Redis.from_url(server.url, protocol=2)
    listening = client.pubsub()
    await call(listening.subscribe)("measure")
    while (await call(listening.get_message)(timeout=1.0)) is None:
        pass

    ahead = 0
    room = asyncio.Event()

    async def hear(count: int, window: int) -> None:
        nonlocal ahead
        while count:
            if await listening.get_message(ignore_subscribe_messages=True, timeout=WAIT_S):
                count -= 1
                ahead -= 1
                if ahead <= window // 2:
                    room.set()

    async def stream(count: int, payload: bytes, window: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call(hear), count, window)
            await call(publish)(count, payload, window)

    async def publish(count: int, payload: bytes, window: int) -> None:
        nonlocal ahead
        half = window // 2
        for _ in range(0, count, half):
            if ahead > half:
                room.clear()
                await room.wait()
            ahead += half
            if pipelined:
                pipeline = client.pipeline(transaction=False)
                for _ in range(half):
                    pipeline.publish("measure", payload)
                await pipeline.execute()
            else:
                for _ in range(half):
                    await client.publish("measure", payload)

    async def echo(payload: bytes) -> None:
        await call(both)(payload)

    async def both(payload: bytes) -> None:
        nonlocal ahead
        ahead += 1
        await client.publish("measure", payload)
        await hear(1, 1)

    try:
        yield Way(f"redis-py, trio-asyncio{', pipelines' if pipelined else ''}", stream, echo)
    finally:
        await call(listening.aclose)()
        await call(client.aclose)()


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(way: Way, count: int, echoes: int, payload: bytes, window: int) -> tuple[float, float, float, float]:
    """Messages a second, our microseconds each, p50 and p99 of the round trip in microseconds."""
    cpu, began = cpu_s(), time.perf_counter()
    await way.stream(count, payload, window)
    took, cpu = time.perf_counter() - began, cpu_s() - cpu
    round_trips = []
    for _ in range(echoes):
        sent = time.perf_counter()
        await way.echo(payload)
        round_trips.append((time.perf_counter() - sent) * 1e6)
    round_trips.sort()
    return count / took, cpu / count * 1e6, round_trips[echoes // 2], round_trips[int(echoes * 0.99)]


async def run(size: int, rounds: int, echoes: int, window: int, count: int) -> None:
    async with (
        running_redis() as server,
        asyncio_loop(),
        our_way(server) as ours,
        redis_py_way(server, pipelined=False) as plain,
        redis_py_way(server, pipelined=True) as pipelined,
    ):
        payload = bytes(size)
        print(f"Redis {'.'.join(map(str, server.version))}, payloads of {size} B, {window} on their way at most\n")
        print(f"{'':34}{'messages/s':>12}{'ours, us each':>15}{'alone: p50, us':>16}{'p99, us':>10}")
        for way, share in ((ours, 1), (plain, 20), (pipelined, 5)):
            each = count // share // window * window
            results = [await measure(way, each, echoes, payload, window) for _ in range(rounds + 1)][1:]
            rate = max(result[0] for result in results)
            cost, p50, p99 = (min(result[column] for result in results) for column in (1, 2, 3))
            print(f"{way.name:34}{rate:12,.0f}{cost:15.2f}{p50:16.0f}{p99:10.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m store.measure_bus", description=__doc__)
    parser.add_argument("--size", type=int, default=130, help="bytes a payload (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each way, of which the best counts (%(default)s)")
    parser.add_argument("--echoes", type=int, default=500, help="messages alone, a round (default: %(default)s)")
    parser.add_argument("--window", type=int, default=1_000, help="messages on their way (default: %(default)s)")
    parser.add_argument("--count", type=int, default=200_000, help="messages a round of ours (default: %(default)s)")
    chosen = parser.parse_args()
    trio.run(run, chosen.size, chosen.rounds, chosen.echoes, chosen.window, chosen.count)


if __name__ == "__main__":
    main()
