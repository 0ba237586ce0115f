"""Twenty people who chat while something terrible happens beside them, and must notice nothing.

`bystanders(node)` opens their connections, keeps them talking one after the other for the length of the block, and at
its end lets each say one more thing and asserts: every send was acknowledged, every event came to everyone once, in
one order, unchanged, and nobody was disconnected, reset or refused anything.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from tests.hostile.peer import PATIENCE_S, Frame, Peer, connected, text
from tests.nodes import TestNode
from tests.together import Together

COUNT = 20
STREAM = "chat:bystanders"
PAUSE_S = 0.003
"""Between two messages of the chat, so that it leaves the processor to what the case is about."""

_NOISE = frozenset(("signal", "mark", "marks", "welcome"))


class Bystander:
    def __init__(self, name: str, peer: Peer, room: Room) -> None:
        self.name = name
        self.peer = peer
        self.room = room
        self.cursor = 0
        self.unanswered: dict[int, str] = {}
        """Sends without an ok yet: id and key."""
        self._ids = itertools.count(100)
        peer.on_message = self.heard

    async def say(self) -> None:
        id, key = next(self._ids), str(uuid.uuid4())
        self.unanswered[id] = self.room.said[key] = key
        body = {"text": f"{self.name} {id}"}
        await self.peer.put(text({"op": "send", "id": id, "stream": STREAM, "key": key, "body": body}))

    def heard(self, frame: Frame) -> None:
        room = self.room
        op = frame["op"]
        if op == "event":
            seq, key = frame["seq"], frame["key"]
            if frame["stream"] != STREAM or seq != self.cursor + 1:
                room.problems.append(f"{self.name} stood at {self.cursor} and got {frame}")
            if room.order.setdefault(seq, key) != key or key not in room.said:
                room.problems.append(f"{self.name} got another event at {seq} than the others: {frame}")
            self.cursor = seq
        elif op == "ok":
            key = self.unanswered.pop(frame["id"], "")
            if room.acked.setdefault(frame["seq"], key) != key or not key or frame["dup"]:
                room.problems.append(f"{self.name} got a wrong acknowledgement: {frame}")
        elif op not in _NOISE:
            room.problems.append(f"{self.name} was told {frame}")
        room.stir()

    async def listen(self) -> None:
        while await self.peer.pull():
            pass
        self.room.problems.append(f"{self.name} was disconnected: {self.peer.close}")
        self.room.stir()


class Room(Together):
    """What the twenty know together."""

    def __init__(self) -> None:
        super().__init__(PATIENCE_S)
        self.people: list[Bystander] = []
        self.said: dict[str, str] = {}
        self.order: dict[int, str] = {}
        """seq → key, as the first who got it saw it."""
        self.acked: dict[int, str] = {}
        self.quiet = False
        self._silence = trio.Event()

    def level(self) -> bool:
        """Everything said is acknowledged and everyone has it."""
        return len(self.acked) == len(self.said) and all(b.cursor == len(self.said) for b in self.people)

    async def until_level(self) -> None:
        await self.look_until(self.level)

    async def talk(self) -> None:
        """One after the other, each when everybody has heard the last."""
        for speaker in itertools.cycle(self.people):
            if self.quiet:
                break
            await speaker.say()
            await self.until_level()
            await trio.sleep(PAUSE_S)
        self._silence.set()

    async def rounds(self, count: int) -> None:
        """Wait until ``count`` more messages have gone round: the chat goes on whatever the case is doing."""
        goal = len(self.acked) + count
        with trio.fail_after(PATIENCE_S):
            await self.look_until(lambda: len(self.acked) >= goal)

    async def settle(self) -> None:
        """A last word of everyone at once, and then nothing may be missing anywhere."""
        self.quiet = True
        with trio.move_on_after(PATIENCE_S):
            await self._silence.wait()  # cancelled, a speaker might be left in the middle of a frame
        for speaker in self.people:
            await speaker.say()
        with trio.move_on_after(PATIENCE_S):
            await self.until_level()
        assert not self.problems, self.problems[:5]
        assert self.level(), f"{len(self.said)} said, {len(self.acked)} acknowledged, {[b.cursor for b in self.people]}"
        assert self.order == self.acked


async def _sit_down(room: Room, n: int, port: int, stack: AsyncExitStack) -> None:
    peer = await stack.enter_async_context(connected(port))
    await peer.upgrade()
    welcome = await peer.hello(f"user:bystander-{n}", {STREAM: {"after": 0}})
    assert welcome["streams"] == {STREAM: {"head": 0, "after": 0}}
    bystander = Bystander(f"bystander-{n}", peer, room)
    for message in peer.messages:
        bystander.heard(message)
    room.people.append(bystander)


@asynccontextmanager
async def bystanders(node: TestNode) -> AsyncIterator[Room]:
    """The twenty, in a room of their own on ``node``, which must have nothing in it yet."""
    room = Room()
    await node.stream(STREAM)
    async with AsyncExitStack() as stack:
        for n in range(COUNT):
            await _sit_down(room, n, node.port, stack)
        async with trio.open_nursery() as nursery:
            for bystander in room.people:
                nursery.start_soon(bystander.listen)
            nursery.start_soon(room.talk)
            yield room
            await room.settle()
            nursery.cancel_scope.cancel()
