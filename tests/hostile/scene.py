"""The stage of a hostile case: a node, a room of bystanders, a rival tenant with a secret, and eyes on every word.

`scene()` gives all of it; at its end it asserts that the bystanders noticed nothing (`tests.hostile.bystanders`), that
no byte sent to an attacker and no line of the log holds what neither may ever hold, and that no case reached the
exception boundary of a connection: that boundary is for bugs, and hostile input is not one.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import trio

from core.limits import Limits
from core.model import Entry
from core.ports import Log
from gateway.connection import Connection
from tests.hostile.bystanders import Room, bystanders
from tests.hostile.peer import PATIENCE_S, Peer, connected
from tests.nodes import TestNode, serving_node

ROOM = "chat:ops"
"""Open to the tenant ``demo``, and empty: the room in which attackers may do their worst."""

SECRET = "the-rivals-plan"
VAULT = "chat:vault"
"""A stream of the tenant ``rival``; ``SECRET`` is in it."""

_NEVER_SENT = re.compile(
    rb"Traceback|File \"|\.py\b|Error\b|asyncpg|orjson|trio\b|select |insert |readback\.append|relation \"|"
    + SECRET.encode()
)
_SIGNATURE = re.compile(rb'("resume":"r1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)\.[A-Za-z0-9_-]{43}(?=")')
_NEVER_LOGGED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]|eyJ[A-Za-z0-9_-]{8}|\br1\.|" + SECRET)


class Scene:
    def __init__(
        self,
        node: TestNode,
        room: Room,
        stack: AsyncExitStack,
        nursery: trio.Nursery,
        lines: list[logging.LogRecord],
    ) -> None:
        self.node = node
        self.room = room
        self.nursery = nursery
        """For what an attacker does in the background; it ends with the scene."""
        self.lines = lines
        self.peers: list[Peer] = []
        self._stack = stack

    async def connect(self) -> Peer:
        """An attacker on the line, silent so far."""
        peer = await self._stack.enter_async_context(connected(self.node.port))
        self.peers.append(peer)
        return peer

    async def upgraded(self) -> Peer:
        peer = await self.connect()
        await peer.upgrade()
        return peer

    async def welcomed(self, principal: str = "user:mallory", streams: object = None, **claims: object) -> Peer:
        peer = await self.upgraded()
        await peer.hello(principal, streams, **claims)
        return peer

    async def still_serves(self, peer: Peer) -> None:
        """The connection survived what it said: it is answered as ever."""
        assert (await peer.ask("ping"))["op"] == "pong"

    def server_side(self, principal: str) -> Connection:
        """The node's end of the one open connection of a principal."""
        (found,) = [c for c in self.node.node.shard.connections.values() if c.principal == principal]
        return found

    def squeeze(self, peer: Peer, principal: str) -> Connection:
        """The node's end of a connection whose buffers in the kernel are made small, so that few bytes fill them."""
        found = self.server_side(principal)
        found.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        return found

    @staticmethod
    def release(peer: Peer, end: Connection) -> None:
        """Undo `squeeze`, for a peer that begins to read: megabytes through a window of a few KB wait for the kernel's
        zero-window probes, 200 ms and more each, and 5 MB once took over 20 s of them."""
        end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_048_576)
        peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_048_576)

    def pardon(self, message: str) -> None:
        """One line of the log, an error, that this case brought about on purpose."""
        (record,) = [record for record in self.lines if record.getMessage() == message]
        self.lines.remove(record)

    def pardon_all(self, message: str) -> None:
        """Every line that says this: an error in a library's own words, without a consequence that anyone notices."""
        self.lines[:] = [record for record in self.lines if record.getMessage() != message]

    @staticmethod
    def relax(peer: Peer, end: Connection) -> None:
        """Undo `squeeze`: now it is going to read, and small windows would only make that slow."""
        end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_048_576)
        peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_048_576)

    async def until(self, ready: Callable[[], object]) -> None:
        """Wait for a condition of the node, looked at every turn of the loop."""
        with trio.fail_after(PATIENCE_S):
            while not ready():  # noqa: ASYNC110  # the node has no event for every condition a case may want
                await trio.sleep(0.001)


def held_bytes(connection: Connection) -> int:
    """What the node keeps in memory for a connection that does not take it."""
    parts = [*(connection.replies or ()), *(connection.out or ()), *(connection.backlog or ()), connection.rest or b""]
    return sum(map(len, parts))


def forbidden_words(data: bytes) -> list[bytes]:
    """What no client may ever read. The signature of a resume token is any 43 letters, now and then ``py-`` and some more."""
    return [match[0] for match in _NEVER_SENT.finditer(_SIGNATURE.sub(rb"\1", data))]


def resident_bytes() -> int:
    """Memory of this process, server and attackers together."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextmanager
def watched_log(expected: str | None = None) -> Iterator[list[logging.LogRecord]]:
    """Every record of every logger, kept; what must not be in a log is asserted at the end. ``expected`` is the message
    of the one error that may be there."""
    records: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    keeper, root = Keeper(logging.DEBUG), logging.getLogger()
    usual = root.level
    root.setLevel(logging.DEBUG)  # an operator may ask for everything, and still gets no token
    root.addHandler(keeper)
    try:
        yield records
    finally:
        root.removeHandler(keeper)
        root.setLevel(usual)
    for record in records:
        line = record.getMessage()
        if record.exc_info:
            line += "\n" + logging.Formatter().formatException(record.exc_info)
        assert record.levelno < logging.ERROR or line == expected, line
        assert not _NEVER_LOGGED.search(line), repr(line)
        assert "\n" not in record.getMessage(), repr(line)


async def _plant_secret(node: TestNode) -> None:
    facts = await node.log.create_stream("rival", VAULT, open=True, members=[], by="service:test")
    key = "00000000-0000-4000-8000-000000000001"
    body = b'{"text":"%b"}' % SECRET.encode()
    await node.log.append([Entry("rival", facts.sid, key, "message", "user:rita", body)])


@asynccontextmanager
async def scene(
    log: Log | None = None, limits: Limits | None = None, origins: frozenset[str] | None = None
) -> AsyncIterator[Scene]:
    with watched_log() as lines:
        async with serving_node(log, limits) as node:
            node.node.shard.origins = origins
            await node.stream(ROOM)
            await _plant_secret(node)
            async with AsyncExitStack() as stack, bystanders(node) as room, trio.open_nursery() as nursery:
                stage = Scene(node, room, stack, nursery, lines)
                yield stage
                nursery.cancel_scope.cancel()
                for peer in stage.peers:
                    assert not forbidden_words(bytes(peer.raw)), forbidden_words(bytes(peer.raw))
