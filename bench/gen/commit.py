"""The bare commit: the log's own append function called for one entry, one call after another, by asyncpg alone.

What a lone send cannot be faster than: no gateway, no WebSocket, the same statement in the same Postgres.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import asyncpg

from bench.gen.dialect import body
from bench.gen.link import Link, monotonic_ns
from bench.stats import Histogram

APPEND = """
select * from readback.append(
    $1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::boolean[])
"""
OK = 0


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: url, tenant, stream, payload. Go: count, or an end. Result: the round trips' histogram."""
    connection = await asyncpg.connect(job["url"])
    find = "select sid from readback.streams where tenant = $1 and stream = $2"
    sid = await connection.fetchval(find, job["tenant"], job["stream"])
    append = await connection.prepare(APPEND)
    while count := (await link.ready())["count"]:
        samples = []
        for _ in range(count):
            text = body(monotonic_ns(), job["payload"]).decode()
            key = str(uuid.uuid4())
            began = monotonic_ns()
            verdict = await append.fetchrow(
                [job["tenant"]], [sid], [key], ["message"], ["user:bench"], [text], [None], [None], [True]
            )
            samples.append(monotonic_ns() - began)
            if verdict is None or verdict["outcomes"] != [OK]:
                raise RuntimeError(f"the log refused a bare commit: {verdict}")
            await asyncio.sleep(0.002)
        measured = Histogram()
        measured.record_all(samples)
        link.result(commit=measured.to_json())
    await connection.close()
