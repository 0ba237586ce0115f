"""What an inbound frame costs in one tree of sources: the other half of `bench.inbound_cost`, which starts it.

``python -P bench/inbound_worker.py [--quotas]`` with the tree on PYTHONPATH; it imports nothing of bench, so that it runs on
a revision that has never heard of it. A line with a number on stdin: so many frames of each kind. A line of JSON on stdout:
microseconds of CPU a frame, by kind. A real node over the log in memory is asked; frames go in where the shard has read
them from a socket, masked and in chunks as a busy client's come, and what is sent goes nowhere.
"""

from __future__ import annotations

import argparse
import gc
import json
import socket
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import trio

from core.frames import TEXT, masked_frame
from core.limits import Limits
from core.model import Member
from core.tokens import mint
from gateway.config import Secrets
from gateway.connection import OPEN, Connection
from gateway.node import Node, running
from store.memory import MemoryLog

CHUNK = 64
"""Frames that come together: what the shard takes of a connection before it flushes."""
MASK = b"\x37\xfa\x21\x3d"
SECRETS = Secrets(token_secrets={"k1": b"t" * 32}, resume_keys={"r1": b"r" * 32})
UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LIMITS = replace(Limits(), heartbeat_s=3_600.0, shed_delay_s=3_600.0)
"""Between two rounds the node stands still; nobody is to be ended, or anything shed, for that."""

Frame = dict[str, Any]


def kinds() -> dict[str, Callable[[int], Frame]]:
    """The n-th frame of each kind. Sends come first: markers may not pass the head."""
    body = {"text": "x" * 110}
    return {
        "send": lambda n: {"op": "send", "id": n, "stream": "chat:a", "key": str(uuid.uuid4()), "body": body},
        "ping": lambda n: {"op": "ping", "id": n},
        "mark": lambda n: {"op": "mark", "stream": "chat:a", "delivered": n, "read": n},
        "typing": lambda n: {"op": "signal", "stream": "chat:a", "kind": "typing", "value": n % 2 == 0},
        "history, refused": lambda n: {"op": "history", "id": n, "stream": "chat:a", "limit": 0},
        "send, refused": lambda n: {"op": "send", "id": n, "stream": "chat:b", "key": str(uuid.uuid4()), "body": body},
    }


def unbounded_quotas() -> dict[str, Any]:
    """Every quota there is, and none that is ever met: all of them are looked at."""
    from core.tenants import Quotas, Tenants

    return {
        "tenants": Tenants(
            quotas=Quotas(
                connections=1_000,
                streams=1_000,
                sends_per_s=1e7,
                bytes_per_s=1e10,
                resumes_per_s=1e7,
                history_per_s=1e7,
                principal_sends_per_s=1e7,
                principal_ops_per_s=1e7,
            )
        )
    }


async def opened(node: Node, ours: socket.socket, theirs: socket.socket) -> Connection:
    """A connection that was welcomed and follows two streams; what is sent to it from now on goes nowhere."""
    token = mint(
        SECRETS.token_secrets["k1"],
        kid="k1",
        tenant="demo",
        principal="user:amy",
        roles=(),
        now_s=time.time(),
        ttl_s=36_000.0,
    )
    hello = {"op": "hello", "id": 0, "token": token, "streams": {"chat:a": {}, "chat:b": {}}}
    ours.sendall(UPGRADE + masked_frame(TEXT, json.dumps(hello).encode(), MASK))
    connection = node.shard.add(theirs)
    assert connection is not None, "a node without connections has room for one"
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(ours)
        while connection.state is not OPEN:  # noqa: ASYNC110  the welcome comes when it comes
            await trio.sleep(0.001)
    connection.send = len
    return connection


class Worker:
    def __init__(self, node: Node, connection: Connection) -> None:
        self.node = node
        self.connection = connection
        self.sent = dict.fromkeys(kinds(), 0)

    async def round(self, frames: int) -> dict[str, float]:
        return {kind: await self._measure(kind, make, frames) for kind, make in kinds().items()}

    async def _measure(self, kind: str, make: Callable[[int], Frame], frames: int) -> float:
        node, connection, spent_ns, count = self.node, self.connection, 0, 0
        errors = node.ops.errors_sent
        gc.collect()
        gc.disable()
        try:
            while count < frames:
                first = self.sent[kind] + 1
                self.sent[kind] += CHUNK
                count += CHUNK
                chunk = b"".join(
                    masked_frame(TEXT, json.dumps(make(first + n), separators=(",", ":")).encode(), MASK)
                    for n in range(CHUNK)
                )
                if hasattr(node.shard, "now_s"):
                    node.shard.now_s = trio.current_time()
                began_ns = time.thread_time_ns()
                node.shard._messages(connection, chunk)
                spent_ns += time.thread_time_ns() - began_ns
                node.settle()
                await node.lanes.drained()
        finally:
            gc.enable()
        assert connection.state is OPEN, "the connection was ended"
        refused = node.ops.errors_sent - errors
        assert refused == (count if "refused" in kind else 0), f"{kind}: {refused} of {count} were refused"
        return spent_ns / count / 1000


async def work(quotas: bool) -> None:
    log = MemoryLog(now_ms=lambda: int(time.time() * 1000), new_key=lambda: str(uuid.uuid4()))
    await log.create_stream("demo", "chat:a", open=False, members=[Member("user:amy", "member")], by="user:amy")
    await log.create_stream("demo", "chat:b", open=False, members=[Member("user:amy", "reader")], by="user:amy")
    more = unbounded_quotas() if quotas else {}
    async with running(log, SECRETS, limits=LIMITS, new_id=lambda: str(uuid.uuid4()), **more) as node:
        ours, theirs = socket.socketpair()
        worker = Worker(node, await opened(node, ours, theirs))
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(await worker.round(int(line))), flush=True)
        ours.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quotas", action="store_true", help="with every quota set, none of them ever met")
    trio.run(work, parser.parse_args().quotas)
