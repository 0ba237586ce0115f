"""The load generator's process: one job from standard input, on uvloop (or Trio, for the store), then it ends."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
from typing import Any

import orjson
import trio
import uvloop

from bench.gen.link import Link

JOBS = (
    "echo",
    "fanout",
    "chat",
    "resume",
    "jitter",
    "idle",
    "crowd",
    "presence",
    "soak",
    "noise",
    "commands",
    "fixes",
    "moving",
)
TRIO_JOBS = ("commit", "official")
"""Those that use the store or the Python client, which run under Trio."""


def main() -> None:
    link = Link()
    job: dict[str, Any] = orjson.loads(sys.stdin.buffer.readline())
    kind = job["kind"]
    if kind not in JOBS + TRIO_JOBS:
        link.say("error", message=f"no job {kind!r}")
        return
    # A pause of the generator would be counted as the server's latency. Its garbage is bounded by the run's length.
    gc.disable()
    run = importlib.import_module(f"bench.gen.{kind}").run
    try:
        if kind in TRIO_JOBS:
            trio.run(run, job, link)
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(run(job, link))
    except* Exception as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        link.say("error", message=f"{type(first).__name__}: {first}")
        raise


if __name__ == "__main__":
    main()
