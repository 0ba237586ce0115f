"""The people of a long run: they come over ways that fail, do everything a client does, and keep their heads.

What the protocol asks of a client they do: ping, leave when nothing is heard for two heartbeats, come back with the newest
token and their cursors, repeat with the same key, say hello when a token is refused. What it does not promise they do not
forgive.
"""

from __future__ import annotations

import functools
import itertools
import random
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from tests.faults.crowd import Crowd
from tests.faults.gate import GATE
from tests.faults.library import LibraryUser
from tests.faults.person import TEMPORARY, Frame, Manners, Person
from tests.faults.processes import NodeProcess
from tests.faults.way import Way
from tests.wire_client import WireClient, wire_client

HEARTBEAT_S = 1.5
KNOCK_S = 0.25
LONG, LONG_BYTES_MAX = 0.2, 8_000
"""The part of messages that are long, so that a stalled way fills up to the node."""
MANNERS = Manners(patience_s=60.0, dial_s=3.0, ping_s=0.75, silence_s=2 * HEARTBEAT_S, looks=True)


class Traveller(Person):
    def __init__(self, *args: Any, rng: random.Random, **named: Any) -> None:
        super().__init__(*args, **named)
        self._rng = rng
        self._said: list[tuple[str, str, int]] = []
        """(stream, key, seq) of what was acknowledged."""
        self.inside = False
        """It follows the gate."""

    async def talk(self) -> None:
        crowd, rng = self.crowd, self._rng
        for number in itertools.count():
            if crowd.quiet:
                break
            stream = rng.choice(self.streams)
            key, text = str(uuid.UUID(int=rng.getrandbits(128), version=4)), f"{self.name} {number}"
            if rng.random() < LONG:
                text = text.ljust(rng.randrange(LONG_BYTES_MAX))
            if stream == GATE:
                await self._try(stream, text, key)
            else:
                self._said.append((stream, key, await self.send(stream, text, key=key)))
            await self._do_something_else(stream)
            await trio.sleep(rng.uniform(0.03, 0.3))
        crowd.talking -= 1
        crowd.stir()

    async def _do_something_else(self, stream: str) -> None:
        rng, cursor = self._rng, self.cursor(stream)
        match rng.randrange(12):
            case 0 | 1:
                await self.ask("mark", stream=stream, delivered=cursor, read=max(0, cursor - rng.randint(0, 3)))
            case 2:
                await self.ask("signal", stream=stream, kind="typing", value=rng.random() < 0.6)
            case 3:
                await self._repeat(*rng.choice(self._said))
            case _:
                pass

    async def _try(self, stream: str, text: str, key: str) -> None:
        """Once: it may be forbidden by now, and forbidden for ever."""
        answer = await self.ask("send", stream=stream, key=key, body={"text": text, "of": self.tenant})
        if answer is not None and answer["op"] == "ok":
            self.crowd.histories[self.tenant].acknowledge(stream, key, answer["seq"])
            self.crowd.acknowledged_at.append(self.crowd.now())
            self._said.append((stream, key, answer["seq"]))
        elif answer is not None and answer["code"] not in {*TEMPORARY, "forbidden"}:
            self.crowd.problem(f"{self.name}'s send into {stream} was answered {answer}")

    async def _repeat(self, stream: str, key: str, seq: int) -> None:
        """What was acknowledged long ago is acknowledged again, at the same place."""
        answer = await self.ask("send", stream=stream, key=key, body={"text": "again", "of": self.tenant})
        if answer is not None and answer["op"] == "ok" and (answer["seq"], answer["dup"]) != (seq, True):
            self.crowd.problem(f"{self.name} said {key} again, at {seq} in {stream}, and was answered {answer}")

    # -- the gate -----------------------------------------------------------------------------------------------------

    async def knock(self) -> None:
        """Follow the gate again, from where it left, as soon as it is let in."""
        while True:
            await self.crowd.look_until(lambda: self.online and not self.inside)
            again = functools.partial(self._follows, GATE)
            answer = await self.ask("sub", again, stream=GATE, after=self.cursor(GATE))
            if answer is not None and answer["op"] == "ok":
                await self.look()
            else:
                await trio.sleep(KNOCK_S)

    def _follows(self, stream: str, at: Mapping[str, Any]) -> None:
        super()._follows(stream, at)
        self.inside = self.inside or stream == GATE

    def _was_refused(self, refused: Mapping[str, str]) -> None:
        if refused.get(GATE) == "forbidden":
            self.inside = False
            refused = {stream: code for stream, code in refused.items() if stream != GATE}
        super()._was_refused(refused)

    def _was_let_go(self, frame: Frame) -> None:
        """The removed has had all up to its removal, and nothing past it."""
        if frame["stream"] != GATE:
            super()._was_let_go(frame)
        elif (frame["reason"], frame["seq"]) != ("removed", self.cursor(GATE)):
            self.crowd.problem(f"{self.name} has all up to {self.cursor(GATE)}, and was told {frame}")
        self.inside = False

    # -- the end ------------------------------------------------------------------------------------------------------

    async def mark_all(self) -> None:
        """All that there is has been read; until the node says so."""
        for stream in self.streams:
            while stream != GATE or self.inside:
                await self.crowd.until(lambda: self.online)
                seq = self.cursor(stream)
                answer = await self.ask("mark", stream=stream, delivered=seq, read=seq)
                if answer is not None and answer["op"] == "ok":
                    break

    def _was_superseded(self) -> None:
        """By itself: a node may still hold a resume whose answer never came here. Without one, nobody may."""
        if not self.rivalled:
            self.crowd.problem(f"{self.name} was superseded on {self.node} with no rival")
        self.credentials = {}


class Travellers(Crowd):
    def __init__(self, nodes: Mapping[str, NodeProcess], ways: Mapping[str, Way], nursery: trio.Nursery) -> None:
        super().__init__({name: node.url for name, node in nodes.items()}, nursery, MANNERS)
        self.library: list[LibraryUser] = []
        self._nodes = nodes
        self._ways = ways

    def start_of(self, node: str) -> str:
        return start_of(self._nodes[node])

    def port_for(self, person: Person) -> Callable[[], int]:
        """Where this person's way leads: to the node that it tries next."""
        return lambda: self._nodes[person.node].port

    def dial(self, person: Person) -> AbstractAsyncContextManager[WireClient]:
        """Over its own way, where it has one."""
        way = self._ways.get(person.name)
        port = self._nodes[person.node].port if way is None else way.port
        return wire_client(f"ws://127.0.0.1:{port}/v1/ws", give_up_s=self.manners.dial_s)

    def of(self, tenant: str) -> list[Person]:
        return [person for person in self.people if person.tenant == tenant]


def start_of(node: NodeProcess) -> str:
    """This start of it, for a history."""
    return f"{node.name}.{node.starts}"
