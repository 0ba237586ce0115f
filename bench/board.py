"""How soon a command is a row at who follows the board: ``python -m bench.board [--rate R] [--seconds S] [--apart]``.

A node on a Postgres of its own, with a worker in it; or, ``--apart``, the worker a process of its own that hears of commits
over Redis, as the node hears of rows. One client gives commands to many flights, each at the moment it is due, whether others
were answered or not; another follows `flight:board`. Measured is from when a command was due to when its row came, by a time in
it that no other command says. The promise is a p50 below 15 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from bench.load import LoadError
from bench.node import TENANT, Cluster, readback_cluster
from bench.servers import Process
from core.flight.times import write
from core.model import Member
from store.postgres import open_postgres_log

P50_MAX_MS: Final = 15.0
FLIGHTS: Final = 200
LATE_S: Final = 10.0
BOARD: Final = "flight:board"
WARM: Final = 40


async def _make(url: str) -> None:
    async with open_postgres_log(url) as log:
        await log.create_stream(TENANT, BOARD, open=True, members=[], by="service:bench")
        for number in range(FLIGHTS):
            owner = [Member("user:b0", "owner")]
            await log.create_stream(TENANT, f"flight:QX{number}", open=True, members=owner, by="service:bench")


class _Clients:
    """One that gives commands, one that follows; both know when each command was due."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.rate = rate
        self.count = int(rate * seconds)
        self.base_ms = int(1000 * time.time()) + 7_200_000
        self.due: dict[str, float] = {}
        self.taken: list[float] = []
        self.asked: dict[int, float] = {}
        self.answered: list[float] = []
        """Milliseconds from due to row, and to the answer of who gave the command."""
        self.scheduled: set[str] = set()
        self.ready = trio.Event()
        self.refused: list[str] = []
        self.began = False
        """Every flight has its row, and commands were given."""

    async def hello(self, socket: WebSocketConnection, token: str, streams: dict[str, Any]) -> None:
        await socket.send_message(json.dumps({"op": "hello", "id": 1, "token": token, "streams": streams}))
        answer = json.loads(await socket.get_message())
        assert answer["op"] == "welcome", answer

    async def command(self, socket: WebSocketConnection, id: int, flight: int, type: str, body: dict[str, Any]) -> None:
        frame = {"op": "command", "id": id, "stream": f"flight:QX{flight}", "type": type, "body": body}
        await socket.send_message(json.dumps({**frame, "key": str(uuid.uuid4())}))

    async def give(self, url: str, token: str) -> None:
        async with open_websocket_url(url) as socket, trio.open_nursery() as nursery:
            await self.hello(socket, token, {})
            nursery.start_soon(self._answers, socket)
            out, arrive = write(self.base_ms), write(self.base_ms + 5_400_000)
            for flight in range(FLIGHTS):
                body = {"flight": f"QX{flight}", "from": "SYD", "to": "MEL", "out": out, "in": arrive}
                await self.command(socket, 2 + flight, flight, "schedule", body)
            with trio.move_on_after(LATE_S):
                await self.ready.wait()
                self.began = True
            if not self.began:
                nursery.cancel_scope.cancel()
                return
            began = trio.current_time()
            for number in range(self.count):
                due = began + number / self.rate
                await trio.sleep_until(due)
                at = write(self.base_ms + 1_000 * (number + 1))
                self.due[at] = self.asked[1_000 + number] = due
                body = {"milestone": "OUT", "at": at, "source": "ops"}
                await self.command(socket, 1_000 + number, number % FLIGHTS, "estimate", body)
            with trio.move_on_after(LATE_S):
                while self.due:  # noqa: ASYNC110  # rows come to the other client
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    async def _answers(self, socket: WebSocketConnection) -> None:
        while True:
            answer = json.loads(await socket.get_message())
            due = self.asked.pop(answer.get("id", 0), None)
            if due is not None:
                self.answered.append(1000 * (trio.current_time() - due))
            if answer["op"] == "error":
                self.refused.append(answer["message"])

    async def follow(self, url: str, token: str, task_status: trio.TaskStatus[None]) -> None:
        async with open_websocket_url(url, max_message_size=1 << 22) as socket:
            await self.hello(socket, token, {BOARD: {}})
            task_status.started()
            while True:
                frame = json.loads(await socket.get_message())
                if frame["op"] != "signal" or frame["kind"] != "row" or frame["value"] is None:
                    continue
                now = trio.current_time()
                self.scheduled.add(frame["key"])
                if len(self.scheduled) == FLIGHTS:
                    self.ready.set()
                due = self.due.pop(frame["value"]["times"]["OUT"]["estimated"] or "", None)
                if due is not None:
                    self.taken.append(1000 * (now - due))


async def _measure(cluster: Cluster, rate: float, seconds: float) -> _Clients:
    assert cluster.tokens is not None
    url = f"ws://127.0.0.1:{cluster.places[0].port}/v1/ws"
    tokens, clients = cluster.tokens(2), _Clients(rate, seconds)

    async def follow(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await clients.follow(url, tokens[1], task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(follow)
        await clients.give(url, tokens[0])
        nursery.cancel_scope.cancel()
    return clients


@contextlib.contextmanager
def _worker(cluster: Cluster) -> Iterator[None]:
    """`readback work` beside the node, with its settings."""
    base = cluster.base
    assert base is not None
    ours = {key: value for key, value in os.environ.items() if not key.startswith("READBACK_")}
    settings = {
        "READBACK_DATA": str(base.folder),
        "READBACK_SECRETS_FILE": str(base.secrets_path),
        "READBACK_DEV_TOKENS": "true",
        "READBACK_DATABASE_URL": base.database.url(user="readback_gateway"),
        "READBACK_HTTP_PORT": "0",
        "READBACK_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "gateway", "work"]
    process = Process.start(command, {**ours, **cluster.env, **settings})
    try:
        yield
    finally:
        process.stop()


@dataclass(frozen=True, slots=True)
class Shown:
    """Milliseconds from when a command was due to its row and to its answer; and rows that nobody was shown."""

    rows_ms: list[float]
    answers_ms: list[float]
    unseen: int
    """Overtaken by a later one of their flight, or never come."""


def measure(rate: float, seconds: float, *, apart: bool) -> Shown:
    """Raises as `shown` does; `Missing` where there is no Redis and ``apart``."""
    env = {} if apart else {"READBACK_WORK": "true"}
    with readback_cluster(1, bus=apart, env=env) as cluster:
        assert cluster.database_url is not None
        trio.run(_make, cluster.database_url)
        with _worker(cluster) if apart else contextlib.nullcontext():
            clients = trio.run(_measure, cluster, rate, seconds)
    return shown(clients)


def shown(clients: _Clients) -> Shown:
    """`LoadError` when commands were refused, or too few had rows."""
    if clients.refused:
        raise LoadError(f"commands were refused: {'; '.join(clients.refused[:3])}")
    if not clients.began or len(clients.taken) <= WARM:
        raise LoadError(
            f"{len(clients.scheduled)} of {FLIGHTS} flights had a row, {len(clients.taken)} commands after that"
        )
    return Shown(clients.taken[WARM:], clients.answered[WARM:], len(clients.due))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.board", description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="commands a second")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--apart", action="store_true", help="the worker as a process of its own, over Redis")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    found = measure(options.rate, options.seconds, apart=options.apart)
    values = found.rows_ms
    if found.unseen:
        print(f"{found.unseen} rows were overtaken by later ones of their flight, or never came", file=sys.stderr)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    where = "the worker apart, over Redis" if options.apart else "the worker in the node"
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {options.rate:g} commands/s, {where}; milliseconds"
    )
    print(f"command to row, {len(values)} of them: p50 {cuts[49]:.1f}, p95 {cuts[94]:.1f}, worst {max(values):.1f}")
    print(f"command to answer, of the same: p50 {statistics.median(found.answers_ms):.1f}")
    print(f"p50 at most {P50_MAX_MS:g} ms: {'met' if cuts[49] <= P50_MAX_MS else 'not met'}")
    if options.json is not None:
        options.json.write_text(json.dumps(values) + "\n")
    return 0 if cuts[49] <= P50_MAX_MS else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
