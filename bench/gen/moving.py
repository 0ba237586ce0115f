"""Devices that move, each in a trip of its own, and who watches them: connections that follow many trips each.

Every device says where it is once in a while, spread evenly, whatever was answered, and in an order that has nothing to do with
who watches whom. All watchers count what they are told; one in some reads it and says how late it was, since reading all of it
would take this process a core.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from bench.gen.devices import Device, Record, Sender, devices, opened
from bench.gen.dialect import Dialect
from bench.gen.link import Link, Window, monotonic_ns, until
from bench.gen.raw import Raw, Swarm
from bench.stats import Histogram

LATE_S = 0.3


class Mover(Sender):
    """``left_ns``: when its last position left."""

    def __init__(self, swarm: Swarm, device: Device, token: str, record: Record) -> None:
        super().__init__(swarm, device, token, record)
        self.left_ns = 0

    def say(self, at_ms: int) -> None:
        self.left_ns = monotonic_ns()
        super().say(at_ms)


class Watcher(Raw):
    """Follows trips, and counts what it is told; who is ``timed`` says how late that was."""

    def __init__(self, swarm: Swarm, token: str, watched: Sequence[Mover], *, timed: bool) -> None:
        super().__init__(swarm, Dialect(), Dialect().hello(token, {mover.device.trip: {} for mover in watched}))
        self.positions = 0
        self.movers = {mover.device.trip: mover for mover in watched} if timed else {}
        self.took_ns: list[int] = []
        self.gone = ""

    def on_answer(self, payload: bytes) -> None:
        now_ns, count = monotonic_ns(), payload.count(b'"kind":"position"')
        self.positions += count
        if count and self.movers:
            left_ns = self.movers[orjson.loads(payload)["stream"]].left_ns
            if left_ns:
                self.took_ns.append(now_ns - left_ns)

    def on_gone(self, reason: str) -> None:
        self.gone = reason


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port, first (number of the first device), tokens (one a device), watchers (a token each), each (trips of a watcher),
    timed (one in so many), every_s. Go: phase, its window.

    Result: positions told, how late they were, how long fixes took to be answered, what was not accepted.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # it stands for devices and clients elsewhere
    record, swarm = Record(measured=True), Swarm(job["port"])
    fleet = devices(job["first"], len(job["tokens"]))
    movers = [Mover(swarm, device, token, record) for device, token in zip(fleet, job["tokens"], strict=True)]
    each = min(job["each"], len(movers))
    watchers = [
        Watcher(
            swarm,
            token,
            [movers[(number * each + at) % len(movers)] for at in range(each)],
            timed=number % job["timed"] == 0,
        )
        for number, token in enumerate(job["watchers"])
    ]
    await opened([*movers, *watchers])
    while (go := await link.ready())["phase"] != "end":
        link.result(**await _window(go, record, movers, watchers, job["every_s"]))
    swarm.close()


async def _window(
    go: dict[str, Any], record: Record, movers: list[Mover], watchers: list[Watcher], every_s: float
) -> dict[str, Any]:
    window = Window.of(go)
    record.took_ns.clear()
    for watcher in watchers:
        watcher.positions = 0
        watcher.took_ns.clear()
    order = random.Random(1).sample(movers, len(movers))
    step_ns, due_ns, sent = int(1e9 * every_s / len(movers)), window.start_ns, 0
    while due_ns < window.until_ns:
        await until(due_ns)
        order[sent % len(order)].say(time.time_ns() // 1_000_000)
        sent += 1
        due_ns += step_ns
    await asyncio.sleep(LATE_S)
    shown, took = Histogram(), Histogram()
    shown.record_all(late for watcher in watchers for late in watcher.took_ns)
    took.record_all(record.took_ns)
    gone = Counter(watcher.gone for watcher in watchers if watcher.gone) + Counter(record.gone)
    return {
        "sent": sent,
        "told": sum(watcher.positions for watcher in watchers),
        "shown": shown.to_json(),
        "took": took.to_json(),
        "refused": dict(record.verdicts + record.errors + gone),
    }
