"""Idle: connections that subscribe and then say nothing. Their cost is read by the harness from the server's memory."""

from __future__ import annotations

from typing import Any

from bench.gen.dialect import Dialect, dialect_of
from bench.gen.link import Link
from bench.gen.raw import Raw, Swarm
from bench.gen.resume import open_slowly


class Idle(Raw):
    welcome = False
    ended = ""

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        self.welcome = True

    def on_gone(self, reason: str) -> None:
        self.ended = reason


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port, dialect, connections, tokens, streams (names), each. Ready when all are in; then they are counted."""
    swarm = Swarm(job["port"])
    names: list[str] = job["streams"]
    tokens: list[str] = job["tokens"] or [""]
    clients: list[Idle] = []
    welcome = 0

    class Counted(Idle):
        def on_welcome(self, told: dict[str, Any]) -> None:
            nonlocal welcome
            welcome += 1

        def on_gone(self, reason: str) -> None:
            super().on_gone(reason)
            raise RuntimeError(f"an idle connection ended: {reason}")

    for number in range(job["connections"]):
        mine: dict[str, dict[str, int]] = {
            names[(number * job["each"] + k) % len(names)]: {} for k in range(job["each"])
        }
        dialect: Dialect = dialect_of(job["dialect"])
        clients.append(Counted(swarm, dialect, dialect.hello(tokens[number % len(tokens)] or None, mine)))
    await open_slowly(clients, lambda: welcome, link)
    await link.ready()
    link.result(open=sum(client.sock is not None for client in clients))
    swarm.close()
