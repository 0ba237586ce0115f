"""Devices that send as many fixes as the node takes: each connection has several messages under way, and the next leaves when
one is answered. Messages are signed before the clock starts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from bench.gen.devices import Record, Sender, devices, opened
from bench.gen.link import Link, Window, until
from bench.gen.raw import Swarm
from bench.stats import Histogram

LATE_S = 0.5
"""For the answers that are under way when the window ends."""


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port, first (number of the first device), tokens (one a device), fixes (a message), messages (of each), depth.

    Go: phase, its window. Result: fixes judged and accepted in the window, latency of messages, what was not accepted, and
    whether messages ran out.
    """
    record, swarm = Record(), Swarm(job["port"])
    fleet = devices(job["first"], len(job["tokens"]))
    senders = [Sender(swarm, device, token, record) for device, token in zip(fleet, job["tokens"], strict=True)]
    for at, sender in enumerate(senders):
        sender.prepare(job["messages"], job["fixes"])
        link.progress(at + 1, len(senders), "signing")
        await asyncio.sleep(0)
    await opened(senders)
    while (go := await link.ready())["phase"] != "end":
        link.result(**await _window(go, record, senders, job["depth"]))
    swarm.close()


async def _window(go: dict[str, Any], record: Record, senders: list[Sender], depth: int) -> dict[str, Any]:
    window = Window.of(go)
    record.fixes = record.accepted = 0
    record.took_ns.clear()
    record.running = True
    await until(window.start_ns)
    for sender in senders:
        sender.go(depth)
    await until(window.from_ns)
    record.measured = True
    await until(window.until_ns)
    record.measured, ran_out = False, any(not sender.waiting for sender in senders)
    record.running = False
    await asyncio.sleep(LATE_S)
    took = Histogram()
    took.record_all(record.took_ns)
    return {
        "fixes": record.fixes,
        "accepted": record.accepted,
        "took": took.to_json(),
        "refused": dict(record.verdicts + record.errors + Counter(record.gone)),
        "ran_out": ran_out,
    }
