"""The log does not answer (a switch of `MemoryLog`): every op says so in its own words, and nobody loses a connection."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio
from trio.testing import MockClock

from core.limits import Limits
from core.ports import Unavailable
from store.memory import MemoryLog
from tests.hostile.peer import Frame, Peer, connected, text
from tests.hostile.scene import ROOM, forbidden_words, watched_log
from tests.nodes import TestNode, memory_log, serving_node, token

INTERNAL = 'connection to server at 10.0.0.7 failed: FATAL: relation "events" select secret from accounts'
"""What a careless store might say. It may stand in health, for the operator; a client never reads it."""


class Away:
    """A node whose log can be switched off, and whoever is connected."""

    def __init__(self, node: TestNode, log: MemoryLog, stack: AsyncExitStack, lines: list[logging.LogRecord]) -> None:
        self.node = node
        self.log = log
        self.lines = lines
        self.peers: list[Peer] = []
        self._stack = stack

    async def peer(self, principal: str = "", streams: object = None) -> Peer:
        peer = await self._stack.enter_async_context(connected(self.node.port))
        self.peers.append(peer)
        await peer.upgrade()
        if principal:
            await peer.hello(principal, streams)
        return peer


@asynccontextmanager
async def away(limits: Limits | None = None) -> AsyncIterator[Away]:
    log = memory_log()
    with watched_log() as lines:
        async with serving_node(log, limits) as node, AsyncExitStack() as stack:
            await node.stream(ROOM)
            await node.stream("chat:crew")
            stage = Away(node, log, stack, lines)
            yield stage
            for peer in stage.peers:
                assert not forbidden_words(bytes(peer.raw)), forbidden_words(bytes(peer.raw))


def refused(answer: Frame) -> bool:
    return (answer["op"], answer.get("code")) == ("error", "unavailable") and float(answer["retry_after"]) > 0


async def test_every_op_that_needs_the_log_says_so_and_works_again_later() -> None:
    """``unavailable`` with ``retry_after`` for each; pings, marks and typing go on; all is well when the log is back."""
    async with away() as stage:
        amy = await stage.peer("user:amy", {ROOM: {"after": 0}})
        await amy.send(ROOM, {"text": "before"})
        stage.log.down = INTERNAL
        key = str(uuid.uuid4())
        assert refused(await amy.send(ROOM, {"text": "now"}, key=key))
        assert refused(await amy.ask("sub", stream="chat:crew"))
        assert refused(await amy.ask("history", stream=ROOM))
        assert refused(await amy.ask("presence", stream="chat:crew"))
        assert (await amy.ask("ping"))["op"] == "pong"
        assert (await amy.ask("mark", stream=ROOM, read=1))["op"] == "ok"
        assert (await amy.ask("signal", stream=ROOM, kind="typing", value=True))["op"] == "ok"
        assert (await amy.ask("presence", stream=ROOM))["count"] == 1
        stage.log.down = None
        ok = await amy.send(ROOM, {"text": "now"}, key=key)
        assert (ok["seq"], ok["dup"]) == (2, False)
        assert (await amy.ask("sub", stream="chat:crew"))["op"] == "ok"
        assert len((await amy.ask("history", stream=ROOM))["events"]) == 2


async def test_a_hello_that_needs_the_log_is_told_when_to_come_back() -> None:
    """4006 and ``retry_after`` for who asks for unknown streams; who asks for what the node holds comes in."""
    async with away() as stage:
        await stage.peer("user:amy", {ROOM: {}})
        stage.log.down = INTERNAL
        bob = await stage.peer()
        await bob.put(text({"op": "hello", "id": 1, "token": token("user:bob"), "streams": {ROOM: {}}}))
        code, bye = await bob.bye()
        assert (code, bye["code"]) == (4006, "unavailable")
        assert bye["retry_after"] > 0
        again = await stage.peer("user:amy", {ROOM: {}})
        assert (await again.ask("ping"))["op"] == "pong"


async def test_a_send_whose_commit_is_unknown_lands_once() -> None:
    """The commit happened and its answer was lost: the repeat is told the first seq, and everyone gets one event."""
    async with away() as stage:
        amy = await stage.peer("user:amy", {ROOM: {"after": 0}})
        key = str(uuid.uuid4())
        stage.log.fail_next("unknown", "append")
        assert refused(await amy.send(ROOM, {"text": "once"}, key=key))
        ok = await amy.send(ROOM, {"text": "once"}, key=key)
        assert (ok["seq"], ok["dup"]) == (1, True)
        await amy.send(ROOM, {"text": "after"})
        seqs = [(await amy.next("event"))["seq"] for _ in range(2)]
        assert seqs == [1, 2]


async def test_a_send_without_an_id_that_fails_is_still_answered() -> None:
    """Its sender cannot tell which, but learns that something was not committed."""
    async with away() as stage:
        amy = await stage.peer("user:amy", {ROOM: {}})
        stage.log.down = INTERNAL
        await amy.put(text({"op": "send", "stream": ROOM, "key": str(uuid.uuid4()), "body": 1}))
        assert refused(await amy.next("error"))


async def test_who_was_catching_up_goes_on_when_the_log_is_back(clock: MockClock) -> None:
    """A page that cannot be read is asked for again; the cursor stays where it is and the connection too."""
    async with away() as stage:
        amy = await stage.peer("user:amy", {ROOM: {}})
        for n in range(20):
            await amy.send(ROOM, {"n": n})
        await stage.node.restart()  # the ring is gone: what bob misses has to be read
        bob = await stage.peer("user:bob")
        assert (await bob.ask("sub", stream=ROOM))["head"] == 20
        reads = stage.log.calls.get("read", 0)
        for _ in range(3):
            stage.log.fail_next("unavailable", "read")
        assert (await bob.ask("sub", stream=ROOM, after=0))["op"] == "ok"
        for failed in range(1, 4):
            with trio.fail_after(10):
                while stage.log.calls.get("read", 0) < reads + failed:  # noqa: ASYNC110  # the next attempt, and then its pause
                    await trio.sleep(0.005)
            clock.jump(1.0)
        assert [(await bob.next("event"))["seq"] for _ in range(20)] == list(range(1, 21))
        assert stage.log.calls["read"] == reads + 4


async def test_markers_raised_meanwhile_are_stored_afterwards() -> None:
    """They are kept, conflated, and written when the log takes them."""
    async with away() as stage:
        amy = await stage.peer("user:amy", {ROOM: {}})
        for n in range(3):
            await amy.send(ROOM, {"n": n})
        stage.log.down = INTERNAL
        for read in (1, 2, 3):
            await amy.ask("mark", stream=ROOM, read=read)
        try:
            await stage.node.node.save_marks()
        except Unavailable:
            pass
        assert stage.node.node.hub.signals.unsaved
        stage.log.down = None
        with trio.fail_after(10):
            await stage.node.node.save_marks()
        (mine,) = await stage.log.my_streams("demo", "user:amy")
        assert (mine.delivered, mine.read) == (3, 3)


async def test_reads_that_succeed_do_not_hide_commits_that_fail() -> None:
    """With a full disk reads go on. Health once forgot the trouble with every read, a second after each refused send,
    and the log had two lines a second about it."""
    async with away(Limits(heads_interval_s=0.01)) as stage:
        amy = await stage.peer("user:amy", {ROOM: {}})
        for _ in range(3):
            stage.log.fail_next("unavailable", "append")
        for n in range(3):
            assert refused(await amy.send(ROOM, {"n": n}))
            seen = stage.log.calls.get("heads", 0)
            with trio.fail_after(10):
                while stage.log.calls.get("heads", 0) < seen + 3:  # noqa: ASYNC110  # three reads that succeed
                    await trio.sleep(0.005)
            assert not stage.node.desk.health().ready
        assert len(stage.lines) == 1
        assert (await amy.send(ROOM, {"n": 4}))["op"] == "ok"
        assert stage.node.desk.health().ready
