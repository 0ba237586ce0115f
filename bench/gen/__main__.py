"""The load generator's process: one job from standard input, on uvloop, then it ends."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
from typing import Any

import orjson
import uvloop

from bench.gen.link import Link

JOBS = ("echo", "fanout", "chat", "commit", "resume", "jitter", "idle")


async def main() -> None:
    link = Link()
    job: dict[str, Any] = orjson.loads(sys.stdin.buffer.readline())
    if job["kind"] not in JOBS:
        link.say("error", message=f"no job {job['kind']!r}")
        return
    # A pause of the generator would be counted as the server's latency. Its garbage is bounded by the run's length.
    gc.disable()
    try:
        await importlib.import_module(f"bench.gen.{job['kind']}").run(job, link)
    except* Exception as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        link.say("error", message=f"{type(first).__name__}: {first}")
        raise


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
