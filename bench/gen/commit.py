"""The bare commit: the store's own append of one entry, one after another, in a process without a gateway.

What a lone send cannot be faster than: the same code on the same kind of link to the same Postgres, with no WebSocket,
no lane and no fan-out around it. Under Trio, as the store asks for; nothing else happens in this process, so waiting for
the harness may block it.
"""

from __future__ import annotations

import uuid
from typing import Any

import trio

from bench.gen.dialect import body
from bench.gen.link import Link, monotonic_ns
from bench.stats import Histogram
from core.model import Entry, Outcome
from store.postgres import open_postgres_log

PAUSE_S = 0.002
"""Between two commits, as between two lone sends."""


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: url, tenant, stream, payload. Go: count, 0 to end. Result: the round trips' histogram."""
    async with open_postgres_log(job["url"]) as log:
        (facts,) = await log.open_streams([(job["tenant"], job["stream"], "service:bench")])
        if facts is None:
            raise RuntimeError(f"there is no stream {job['stream']}")
        while count := link.ready_blocking()["count"]:
            samples = []
            for _ in range(count):
                text = body(monotonic_ns(), job["payload"])
                key = str(uuid.uuid4())
                entry = Entry(job["tenant"], facts.sid, key, "message", "service:bench", text, privileged=True)
                began = monotonic_ns()
                (verdict,) = await log.append([entry])
                samples.append(monotonic_ns() - began)
                if verdict.outcome is not Outcome.OK:
                    raise RuntimeError(f"the log refused a bare commit: {verdict.outcome.name}")
                await trio.sleep(PAUSE_S)
            measured = Histogram()
            measured.record_all(samples)
            link.result(commit=measured.to_json())
