"""Jitter once more, with Readback's own Python client as its users run it, every one behind a link that keeps breaking.

Each client, the publisher too, goes through a relay of its own that kills the connection every so often (by turns with
a TCP reset and an ordinary end) and answers nobody for a while. Nothing reaches into the client: it dials, backs off,
resumes and repeats its sends by itself. Counted: every message at every client, the order of every seq, and for the
publisher that every send was acknowledged with a seq of its own.
"""

from __future__ import annotations

import random
import socket
import struct
from typing import Any

import trio

from bench.gen.link import Link, counted_from, monotonic_ns
from bench.stats import Histogram
from readback_client import Client, connect

CATCH_UP_LIMIT_S = 60.0
LINGER_S = 1.0
"""After everybody has everything: would anything come twice?"""
READ_BYTES = 65_536


class Plan:
    """What the relays and clients share."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.stream: str = job["stream"]
        self.messages: int = job["messages"]
        self.rate: float = job["rate"]
        self.cut_every_s: float = job["cut_every_s"]
        self.away_s: float = job["away_s"]
        self.payload: int = job["payload"]
        self.random = random.Random(job["seed"])
        self.cutting = False
        self.cuts = 0
        self.lives: set[trio.CancelScope] = set()
        self.deliveries: list[int] = []
        self.seqs: list[int] = []
        self.repeated = 0

    def stop_cutting(self) -> None:
        self.cutting = False
        for life in self.lives:
            life.deadline = float("inf")


class Relay:
    """A port of its own before the server's, whose connections do not live long.

    Before several nodes it is their balancer as well: each connection goes to one drawn at random.
    """

    def __init__(self, targets: list[int], plan: Plan) -> None:
        self.targets = targets
        self.plan = plan
        self.away_until = 0.0

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self.relay, listeners)

    async def relay(self, near: trio.SocketStream) -> None:
        if trio.current_time() < self.away_until:
            reset(near)
            await near.aclose()
            return
        plan = self.plan
        try:
            far = await trio.open_tcp_stream("127.0.0.1", plan.random.choice(self.targets))
        except OSError:  # the server is gone: the client is told the same
            await near.aclose()
            return
        async with near, far:
            with trio.CancelScope() as life:
                plan.lives.add(life)
                if plan.cutting:
                    life.deadline = trio.current_time() + plan.cut_every_s * plan.random.uniform(0.5, 1.5)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pump, near, far, nursery.cancel_scope)
                    nursery.start_soon(pump, far, near, nursery.cancel_scope)
            plan.lives.discard(life)
            if life.cancelled_caught:
                plan.cuts += 1
                self.away_until = trio.current_time() + plan.away_s
                if plan.cuts % 2:
                    reset(near)
                    reset(far)


def reset(stream: trio.SocketStream) -> None:
    """Let its end be a TCP reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def pump(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    """Bytes one way until either side ends, which ends both."""
    try:
        while data := await source.receive_some(READ_BYTES):
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    both.cancel()


class Reader:
    """What one client got."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.got = bytearray(plan.messages)
        self.cursor = 0
        self.out_of_order = 0
        self.client: Client | None = None

    async def run(self, port: int, token: str, *, task_status: trio.TaskStatus[None]) -> None:
        async with connect(f"ws://127.0.0.1:{port}", token) as client:
            self.client = client
            await client.ready()
            with client.subscribe(self.plan.stream, after=0) as events:
                task_status.started()
                async for event in events:
                    self.take(event.seq, event.body)

    def take(self, seq: int, body: object) -> None:
        assert isinstance(body, dict)
        self.out_of_order += seq != self.cursor + 1
        self.cursor = seq
        if self.got[body["n"]] < 255:
            self.got[body["n"]] += 1
        self.plan.deliveries.append(monotonic_ns() - body["t"])


async def publish(plan: Plan, port: int, token: str, link: Link) -> None:
    """All sends at their moments, whatever the link does; returns when each is acknowledged."""

    async def send(client: Client, number: int, due_ns: int) -> None:
        body = {"t": counted_from(due_ns), "n": number, "text": "x" * plan.payload}
        sent = await client.send(plan.stream, body, timeout_s=CATCH_UP_LIMIT_S)
        plan.seqs.append(sent.seq)
        plan.repeated += sent.dup

    async with connect(f"ws://127.0.0.1:{port}", token) as client:
        await client.ready()
        began_s, began_ns = trio.current_time(), monotonic_ns()
        async with trio.open_nursery() as nursery:
            for number in range(plan.messages):
                await trio.sleep_until(began_s + number / plan.rate)
                nursery.start_soon(send, client, number, began_ns + int(number * 1e9 / plan.rate))
                link.progress(number, plan.messages, "publishing with the Python client while connections are cut")


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port or ports, connections, tokens, stream (empty so far), messages, rate, cut_every_s, away_s, payload, seed."""
    plan = Plan(job)
    readers = [Reader(plan) for _ in range(job["connections"])]
    async with trio.open_nursery() as nursery:
        for number, reader in enumerate(readers):
            port = await nursery.start(Relay(job.get("ports") or [job["port"]], plan).run)
            await nursery.start(reader.run, port, job["tokens"][number])
            link.progress(number + 1, len(readers), "connecting the Python client")
        own_port = await nursery.start(Relay(job.get("ports") or [job["port"]], plan).run)
        link.ready_blocking()
        plan.cutting = True
        for life in plan.lives:
            life.deadline = trio.current_time() + plan.cut_every_s * plan.random.random()
        await publish(plan, own_port, job["spare_token"], link)
        plan.stop_cutting()
        with trio.move_on_after(plan.away_s + CATCH_UP_LIMIT_S):
            while any(reader.cursor < plan.messages for reader in readers):  # noqa: ASYNC110
                await trio.sleep(0.05)
        await trio.sleep(LINGER_S)
        told = account(plan, readers)
        nursery.cancel_scope.cancel()
    link.result(**told)


def account(plan: Plan, readers: list[Reader]) -> dict[str, Any]:
    deliveries = Histogram()
    deliveries.record_all(plan.deliveries)
    stats = [reader.client.stats for reader in readers if reader.client is not None]
    return {
        "expected": plan.messages * len(readers),
        "delivered": sum(sum(1 for times in reader.got if times) for reader in readers),
        "duplicates": sum(sum(times - 1 for times in reader.got if times) for reader in readers),
        "out_of_order": sum(reader.out_of_order for reader in readers),
        "not_whole": sum(reader.cursor < plan.messages for reader in readers),
        "cuts": plan.cuts,
        "acknowledged": len(plan.seqs),
        "distinct": len(set(plan.seqs)),
        "repeated": plan.repeated,
        "dials": sum(one.dials for one in stats),
        "resumes": sum(one.resumes for one in stats),
        "gaps": sum(one.gaps for one in stats),
        "deliveries": deliveries.to_json(),
    }
