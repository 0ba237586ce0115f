"""Twenty who publish into one room and follow it, through whatever happens to the store: the account of every event.

Each sends one message after the other. An answer ``unavailable`` is what the wire promises while the log is away: it
carries ``retry_after``, and the message is sent again with the same key until it is acknowledged. At the end every
acknowledged key stands in the log exactly once, at the seq that was acknowledged, and everyone has seen every event
once and in order, over the connection it began with.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from tests.hostile.peer import Frame, Peer, connected, text
from tests.hostile.scene import ROOM, forbidden_words
from tests.nodes import TestNode
from tests.together import Together

COUNT = 20
PATIENCE_S = 60.0
"""Crash recovery of a Postgres on a busy machine has to fit in; nothing waits this long when all is well."""
REPEAT_S_MAX = 0.2
"""Repeat no later than this, whatever ``retry_after`` allows: the case should not last."""

_FOLLOWED = frozenset(("event", "welcome", "signal", "mark", "marks"))


class Publisher:
    def __init__(self, name: str, peer: Peer, crowd: Crowd) -> None:
        self.name = name
        self.peer = peer
        self.crowd = crowd
        self.cursor = 0
        self._ids = itertools.count(100)
        self._answers: dict[int, Frame] = {}
        self._asked: dict[int, trio.Event] = {}

    def heard(self, frame: Frame) -> None:
        crowd = self.crowd
        if frame["op"] == "event":
            seq, key = frame["seq"], frame["key"]
            if seq != self.cursor + 1 or crowd.order.setdefault(seq, key) != key:
                crowd.problems.append(f"{self.name} stood at {self.cursor} and got {frame}")
            self.cursor = seq
        elif frame.get("id") in self._asked:
            self._answers[frame["id"]] = frame
            self._asked.pop(frame["id"]).set()
        elif frame["op"] not in _FOLLOWED:
            crowd.problems.append(f"{self.name} was told {frame}")
        crowd.stir()

    async def listen(self) -> None:
        while await self.peer.pull():
            pass
        self.crowd.problems.append(f"{self.name} was disconnected: {self.peer.close}")
        self.crowd.stir()

    async def ask(self, op: str, **fields: object) -> Frame:
        id = next(self._ids)
        answered = self._asked[id] = trio.Event()
        await self.peer.put(text({"op": op, "id": id, **fields}))
        await answered.wait()
        return self._answers.pop(id)

    async def send(self, key: str, body: object) -> Frame:
        """Until it is acknowledged, with one key."""
        while True:
            answer = await self.ask("send", stream=ROOM, key=key, body=body)
            if answer["op"] == "ok":
                return answer
            self.crowd.refused(answer)
            await trio.sleep(min(answer["retry_after"], REPEAT_S_MAX))

    async def publish(self) -> None:
        while not self.crowd.quiet:
            key = str(uuid.uuid4())
            self.crowd.said.add(key)
            answer = await self.send(key, {"by": self.name, "pad": "x" * self.crowd.pad})
            self.crowd.acked[key] = answer["seq"]
            self.crowd.stir()
            await trio.lowlevel.checkpoint()


class Crowd(Together):
    def __init__(self, pad: int) -> None:
        super().__init__(PATIENCE_S)
        self.pad = pad
        self.people: list[Publisher] = []
        self.said: set[str] = set()
        self.acked: dict[str, int] = {}
        self.order: dict[int, str] = {}
        self.unavailable = 0
        self.quiet = False

    def refused(self, answer: Frame) -> None:
        if answer["code"] != "unavailable" or not answer["retry_after"] > 0:
            self.problems.append(f"a send was answered {answer}")
        self.unavailable += 1
        self.stir()

    async def acknowledged(self, more: int) -> None:
        """Wait for so many more acknowledgements."""
        goal = len(self.acked) + more
        await self.until(lambda: len(self.acked) >= goal)

    async def refusals(self, more: int = 1) -> None:
        goal = self.unavailable + more
        await self.until(lambda: self.unavailable >= goal)

    async def settle(self) -> None:
        """No more is said; what was said is acknowledged, in the log once, and with everyone."""
        self.quiet = True
        await self.until(lambda: len(self.acked) == len(self.said))
        await self.until(lambda: all(p.cursor == len(self.said) for p in self.people))
        assert {key: seq for seq, key in self.order.items()} == self.acked
        for key, seq in list(self.acked.items())[-50:]:
            answer = await self.people[seq % COUNT].send(key, {"other": "body"})
            assert (answer["seq"], answer["dup"]) == (seq, True)
        assert all(p.cursor == len(self.said) for p in self.people)
        for person in self.people:
            assert not forbidden_words(bytes(person.peer.raw))


@asynccontextmanager
async def publishers(node: TestNode, *, pad: int = 50) -> AsyncIterator[Crowd]:
    crowd = Crowd(pad)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for n in range(COUNT):
            peer = await stack.enter_async_context(connected(node.port))
            await peer.upgrade()
            await peer.hello(f"user:publisher-{n}", {ROOM: {"after": 0}})
            person = Publisher(f"publisher-{n}", peer, crowd)
            peer.on_message = person.heard
            for message in peer.messages:
                person.heard(message)
            crowd.people.append(person)
            nursery.start_soon(person.listen)
        for person in crowd.people:
            nursery.start_soon(person.publish)
        yield crowd
        await crowd.settle()
        nursery.cancel_scope.cancel()
