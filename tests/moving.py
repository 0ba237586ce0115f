"""Somebody who moves, for tests: fixes of now and of a moment ago, along a road that leads east, and a node that keeps them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from core.limits import Limits
from core.tenants import Arrivals, Tenants
from core.wire import at_bytes
from store.memory import MemoryLog
from store.memory_tracks import MemoryTracks
from tests.nodes import TestNode, memory_log, serving_cluster, serving_node
from tests.wire_client import WireClient

LAT, LON = -33.9, 151.2
STEP_M = 10.0
"""What it goes in a second."""
TRIP = "trip:9"
A = "accepted"


def at(ago_s: float) -> str:
    return at_bytes(int(1000 * (time.time() - ago_s))).decode()


class Mover:
    """Its road is the same whenever it is asked: where it was ``ago_s`` seconds ago."""

    def __init__(self) -> None:
        self.seq = 0
        self.began_s = time.time()

    def fix(self, ago_s: float = 0.0, **fields: Any) -> dict[str, Any]:
        self.seq += 1
        east_m = STEP_M * (time.time() - ago_s - self.began_s)
        lon = round(LON + east_m / 92_400, 7)  # metres of a degree at this latitude
        fix = {"seq": self.seq, "at": at(ago_s), "lat": LAT, "lon": lon, "acc": 5, "speed": STEP_M, "heading": 90}
        return {**fix, **fields}


async def send(client: WireClient, *fixes: dict[str, Any], stream: str = TRIP) -> dict[str, Any]:
    return await client.ask("position", stream=stream, fixes=list(fixes))


@asynccontextmanager
async def tracking_node(
    limits: Limits | None = None, *, arrivals: Arrivals | None = None
) -> AsyncIterator[tuple[TestNode, MemoryTracks]]:
    log = memory_log()
    tracks = MemoryTracks(log)
    async with serving_node(log, limits, tracks=tracks, tenants=Tenants(arrivals=arrivals or Arrivals())) as node:
        await node.stream(TRIP)
        yield node, tracks


@asynccontextmanager
async def tracking_cluster(count: int = 2, **how: Any) -> AsyncIterator[tuple[list[TestNode], MemoryTracks]]:
    log: MemoryLog = memory_log()
    tracks = MemoryTracks(log)
    async with serving_cluster(count, log=log, tracks=tracks, **how) as nodes:
        await nodes[0].stream(TRIP)
        yield nodes, tracks
