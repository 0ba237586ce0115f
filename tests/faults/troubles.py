"""The servers of a long run, and how each kind of trouble is made and undone (`tests.faults.plans` says which, and when).

Whoever runs the servers is played too: a node that ended is started again until it serves, and so is a Postgres that gave up
because its disk was full while it recovered.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import trio

from proof import history as proof
from store.embedded import EmbeddedPostgres
from store.embedded_redis import EmbeddedRedis
from store.leftovers import stop_leftovers
from tests.disks import fill
from tests.faults.crowd import eventually
from tests.faults.plans import KINDS, Trouble
from tests.faults.processes import LIMITS, NodeProcess, on_all
from tests.faults.proxy import Proxy
from tests.faults.travellers import MANNERS, Travellers, start_of
from tests.faults.way import DOWN, UP, Way

PATIENCE_S = MANNERS.patience_s
AGAIN_S = 0.2
"""Between two starts of a node whose log is away."""
SLOW_S = 0.15
DRAINING, DRAINED = "draining: ", "drained: "
"""How a node's words begin when it is asked to drain, and when it has."""
WORDS: Final = {"node killed": "kill", "node stopped": "pause", "node drained": "drain"}
"""What the guarantees call what they make allowance for."""


@dataclass(slots=True)
class Servers:
    nodes: Mapping[str, NodeProcess]
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    bus: Mapping[str, Proxy]
    ways: dict[str, Way]
    """By person."""
    disk: Path
    """Where Postgres keeps its data."""


class Troubles:
    """Makes a plan come true, and writes down what it did."""

    def __init__(self, servers: Servers, crowd: Travellers) -> None:
        self._servers = servers
        self._crowd = crowd
        self._down: set[str] = set()
        """Nodes that were ended here and are not up again."""
        self._held: defaultdict[tuple[str, str], trio.Lock] = defaultdict(trio.Lock)
        """By whose trouble it is: on a busy machine one may last longer than was planned, and the next waits for it."""
        self.made: list[Trouble] = []
        self.refused_starts = 0
        """Starts of a node that ended again because the log was away."""

    async def run(self, plan: Sequence[Trouble]) -> None:
        """All of it; at the end all is undone, and every server serves."""
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for trouble in plan:
                await trio.sleep_until(began_s + trouble.at_s)
                nursery.start_soon(self._make, trouble)
        await self.all_up()
        self._crowd.record(proof.Heal(self._crowd.now()))

    async def _make(self, trouble: Trouble) -> None:
        async with AsyncExitStack() as stack:
            for name in trouble.on:
                await stack.enter_async_context(self._held[KINDS[trouble.kind].on, name])
            await self._make_now(trouble)

    async def _make_now(self, trouble: Trouble) -> None:
        self._look_for_the_dead()
        crowd, servers = self._crowd, self._servers
        family, _, how = trouble.kind.partition(" ")
        name = trouble.on[0]
        start = start_of(servers.nodes[name]) if family == "node" else ""
        what = WORDS.get(trouble.kind, f"{trouble.kind}: {', '.join(trouble.on)}")
        crowd.record(proof.Fault(crowd.now(), what, start, trouble.for_s))
        self.made.append(trouble)
        lasting = partial(trio.sleep, trouble.for_s)
        match family:
            case "node":
                await self._node(servers.nodes[name], how, lasting)
            case "postgres":
                await self._postgres(how, lasting)
            case "disk":
                await self._disk(lasting)
            case "redis":
                await self._redis(how, lasting)
            case "bus":
                proxy = servers.bus[name]
                proxy.cut() if how == "cut" else proxy.stall()
                await lasting()
                proxy.mend()
            case "way":
                await self._ways([servers.ways[name] for name in trouble.on], how, lasting)

    # -- nodes --------------------------------------------------------------------------------------------------------

    async def _node(self, node: NodeProcess, how: str, lasting: Callable[[], Awaitable[None]]) -> None:
        crowd, start = self._crowd, start_of(node)
        if how == "stopped":
            node.pause()
            await lasting()
            node.go_on()
            return
        if how == "killed":
            self._down.add(node.name)
            node.kill()
            crowd.record(proof.Exit(crowd.now(), start, wanted=False, status=-signal.SIGKILL))
        else:
            await self._drain(node)
        await lasting()
        await self._bring_up(node)

    async def _drain(self, node: NodeProcess) -> None:
        """It has its window, and the time that a busy machine takes to end a process."""
        self._down.add(node.name)
        crowd, start, window_s = self._crowd, start_of(node), float(LIMITS["drain_window_s"])
        crowd.record(proof.Draining(crowd.now(), start, window_s + PATIENCE_S))
        node.drain()
        status = await node.ended(patience_s=PATIENCE_S)
        unanswered = None
        for line in node.words().rpartition(DRAINING)[2].splitlines():
            if DRAINED in line:
                found = re.search(r"(\d+) sends without an answer", line)
                unanswered = 0 if found is None else int(found[1])
        if unanswered is not None:
            crowd.record(proof.Drained(crowd.now(), start, unanswered))
        left = ["a traceback in its log"] if "Traceback" in node.words() else []
        crowd.record(proof.Exit(crowd.now(), start, status=status, left=left))
        if status != 0:
            crowd.problem(f"{start} was drained and ended with {status}: {node.words()[-2000:]}")

    async def _bring_up(self, node: NodeProcess) -> None:
        """Until it serves, as a supervisor would: at start a node whose log is away ends with a sentence."""
        with trio.fail_after(PATIENCE_S):
            while True:
                node.launch()
                try:
                    await node.ready(patience_s=PATIENCE_S)
                    break
                except AssertionError:
                    if node.status != 3:
                        raise
                    self.refused_starts += 1
                    await trio.sleep(AGAIN_S)
        self._down.discard(node.name)

    # -- stores -------------------------------------------------------------------------------------------------------

    async def _postgres(self, how: str, lasting: Callable[[], Awaitable[None]]) -> None:
        postgres = self._servers.postgres
        if how == "killed":
            signal_all(postgres, signal.SIGKILL)
            await lasting()
            await self._bring_postgres_back()
        else:
            stopped = signal_all(postgres, signal.SIGSTOP)
            await lasting()
            send_signal(stopped, signal.SIGCONT)

    async def _disk(self, lasting: Callable[[], Awaitable[None]]) -> None:
        filler = self._servers.disk / "filler"
        await trio.to_thread.run_sync(fill, filler)
        await lasting()
        filler.unlink()
        await self._bring_postgres_back()

    async def _bring_postgres_back(self) -> None:
        postgres = self._servers.postgres

        async def answers() -> bool:
            if postgres.pid is None:
                await trio.to_thread.run_sync(stop_leftovers, postgres.pgdata)
                postgres.relaunch()  # on the main thread, whose end is the server's
                await trio.to_thread.run_sync(postgres.wait_ready)
            asked = await trio.run_process(
                [postgres.bin_dir / "psql", postgres.url(), "-XqAtc", "select 1"],
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            return asked.returncode == 0

        await eventually(answers, patience_s=PATIENCE_S)

    async def _redis(self, how: str, lasting: Callable[[], Awaitable[None]]) -> None:
        redis = self._servers.redis
        if how == "killed":
            redis.kill()
            await lasting()
            redis.launch()
            await trio.to_thread.run_sync(redis.wait_ready)
        else:
            redis.freeze()
            await lasting()
            redis.thaw()

    # -- ways ---------------------------------------------------------------------------------------------------------

    async def _ways(self, ways: Sequence[Way], how: str, lasting: Callable[[], Awaitable[None]]) -> None:
        for way in ways:
            match how:
                case "cut":
                    way.cut()
                case "vanishes":
                    way.vanish()
                case "slow":
                    way.slow(SLOW_S)
                case "dribbles":
                    way.dribble()
                case "stalled up":
                    way.stall(UP)
                case "stalled down":
                    way.stall(DOWN)
        await lasting()
        for way in ways:
            way.flow()

    # -- the end ------------------------------------------------------------------------------------------------------

    async def all_up(self) -> None:
        """Every node serves, from the log and by the bus, and hears all the others. None ended by itself."""
        servers = self._servers
        for node in servers.nodes.values():

            async def whole(node: NodeProcess = node) -> bool:
                self._look_for_the_dead()
                try:
                    health = await node.health()
                except httpx.HTTPError:
                    return False
                facts = health.get("facts", {})
                return bool(
                    health["code"] == 200 and facts.get("bus") == "ok" and facts.get("nodes") == len(servers.nodes)
                )

            await eventually(whole, patience_s=PATIENCE_S)

    def _look_for_the_dead(self) -> None:
        """A node that was not ended here runs."""
        crowd = self._crowd
        for node in self._servers.nodes.values():
            if not node.running and node.name not in self._down:
                crowd.record(proof.Exit(crowd.now(), start_of(node), wanted=False, status=node.status or 0))
                raise AssertionError(f"{start_of(node)} ended by itself with {node.status}: {node.words()[-2000:]}")

    async def end(self) -> None:
        """Nodes are drained with nobody on them: each ends with status 0 and has said nothing of a fault of its own."""
        await on_all(list(self._servers.nodes.values()), self._drain)


def signal_all(postgres: EmbeddedPostgres, number: signal.Signals) -> list[int]:
    """To the postmaster and all its children; who got it."""
    assert postgres.pid is not None
    # It is stopped first: a child that it starts between the question and the signal would be missed.
    send_signal([postgres.pid], signal.SIGSTOP)
    children = Path(f"/proc/{postgres.pid}/task/{postgres.pid}/children").read_text().split()
    pids = [postgres.pid, *map(int, children)]
    send_signal(pids, number)
    return pids


def send_signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
