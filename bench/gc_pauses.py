"""What the collector costs a node with many connections, by what was frozen: `python -m bench.gc_pauses`.

In one process and without traffic: a node over the log in memory, its own connection objects with real sockets, their
sessions and subscriptions. A full collection is timed with nothing frozen, with what was there before the clients frozen
(`gateway.memory.freeze`), and with the clients frozen as well (`Collector.tidy`, as the node's housekeeping calls it),
whose own pause is the price. Each figure is the median of several collections; the collections that CPython starts by
itself while the clients come are listed too. Decision 20 has the figures of one machine.
"""

from __future__ import annotations

import argparse
import gc
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable

import trio

from bench.servers import open_files_max
from core.limits import Limits
from core.model import StreamFacts
from core.tenants import Tenants
from gateway.config import Secrets
from gateway.connection import OPEN
from gateway.edges import Edges
from gateway.memory import COLLECTOR, watching
from gateway.node import Node
from store.memory import MemoryLog

REPEATS = 7


def populate(node: Node, connections: int, each: int, streams: int) -> None:
    """Clients that are open and follow streams, with all that a node keeps of them."""
    hub = node.hub
    hub.loading()
    facts = [StreamFacts(sid, "demo", f"chat:{sid}", sid % 16, 0, 1, True, "member") for sid in range(1, streams + 1)]
    hub.load([(one, "user:0") for one in facts], 0.0)
    for number in range(connections):
        connection = node.shard.add(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        assert connection is not None, "more connections than the node takes"
        connection.handshake = None
        connection.tenant, connection.principal = "demo", f"user:{number}"
        connection.state = OPEN
        connection.session = f"session-{number}"
        node.sessions.open(connection.session, connection)
        for at in range(each):
            stream = hub.by_sid[1 + (number * each + at) % streams]
            stream.roles[connection.principal] = "member"
            hub.subscribe(connection, stream, 0, 0.0)
    hub.signals.flush(0.0, large_rooms=True)


def median_ms(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Milliseconds of one run: the median, since another process may take the core amid any of them."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


async def measure(connections: int, each: int, streams: int) -> None:
    import gateway.serve  # noqa: F401 - what a node has imported is part of what a full collection walks

    log = MemoryLog(now_ms=lambda: int(time.time() * 1000), new_key=lambda: "")
    node = Node(
        log,
        await log.epoch(),
        Limits(),
        Secrets({"k": b"t" * 32}, {"r": b"r" * 32}),
        audience="readback",
        origins=None,
        lanes=1,
        edges=Edges(),
        new_id=lambda: "",
        bus=None,
        node_id="gc",
        tenants=Tenants(),
        directory=None,
    )
    print(
        f"{connections} connections, {connections * each} subscriptions of {streams} streams; Python {sys.version.split()[0]}"
    )
    print(f"  full collection before clients, nothing frozen  {median_ms(gc.collect):7.1f} ms")
    COLLECTOR.freeze()
    pauses: dict[int, list[float]] = {}
    with watching(lambda generation, seconds: pauses.setdefault(generation, []).append(seconds * 1000)):
        populate(node, connections, each, streams)
    for generation, taken in sorted(pauses.items()):
        print(f"  while clients came, generation {generation}: {len(taken)} collections, longest {max(taken):.1f} ms")
    print(f"  full collection, frozen at start alone          {median_ms(gc.collect):7.1f} ms")
    gc.unfreeze()
    print(f"  full collection, nothing frozen                 {median_ms(gc.collect):7.1f} ms")
    gc.freeze()
    for connection in list(node.shard.connections.values()):
        node.shard.close(connection)
    populate(node, connections, each, streams)
    tracked = len(gc.get_objects())
    began = time.perf_counter()
    gc.collect()
    gc.freeze()
    print(f"  freezing {tracked} objects of the clients        {(time.perf_counter() - began) * 1000:7.1f} ms, once")
    print(f"  full collection, clients frozen too             {median_ms(gc.collect):7.1f} ms")
    print(f"  walking everything once for what froze in cycles {median_ms(clean, 3):6.1f} ms")


def clean() -> None:
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gc_pauses", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=3, help="streams of a connection")
    parser.add_argument("--streams", type=int, default=2_000)
    asked = parser.parse_args()
    most = open_files_max()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    trio.run(measure, asked.connections, asked.each, asked.streams)


if __name__ == "__main__":
    main()
