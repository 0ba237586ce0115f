"""A capture: what a node's clients send and are sent, written down as a `proof.history` while it serves.

For `readback check --history` over production: the guarantees are then judged by what really went over the wires. Off by
default, and then nothing of this is loaded: the shard calls a hook for each new connection, and no frame meets anything.
On, a connection's ``send``, ``recv`` and frame reader are replaced by a `Tap`'s. Figures: ``python -m bench.micro capture``.

What is seen. Outgoing: the frames of which the kernel took every byte, in the order in which it did. Incoming: messages
as the reader makes them, before anything is done about them. Time is Unix time, so that the files of several nodes merge
(`proof.files`), as far as their clocks agree.

What is never written: bodies, tokens, the values of signals other than presence and typing. Digests of them are, and
principals, tenants and names of streams.

Bounds. Lines wait in memory for a thread that writes them every `FLUSH_S`, so that a slow disk delays nobody; past
`BUFFER_BYTES` the connection whose line found no room is recorded no further, and the history says so (its `Ended` is
``unseen``): what is not known must not look like a loss. Files are parts of a quarter of ``capture_bytes_max``. Each
stands alone, because the connections that are open at its beginning begin there anew; the oldest is removed when there
are more than four. A disk that takes no more ends the capture, never the node.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
import trio

from core.limits import Limits
from gateway.config import ConfigError
from gateway.connection import Connection
from gateway.tap import Seen, Tap
from proof.history import Drained, Draining, End, Exit, Fault, Record, Run, Took, encode
from proof.watched import event_of

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.capture")

FLUSH_S: Final = 0.1
BUFFER_BYTES: Final = 16 * 1024 * 1024
PARTS: Final = 4
CACHE_BYTES: Final = 4 * 1024 * 1024
"""Of events that were taken apart: each goes to many, and is the same for all."""
MOVED_AT_ONCE: Final = 256
"""Connections that a turn takes over into a new part: some 20 us each."""


class Part:
    """One file: lines that wait for it, and what it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[bytes] = []
        self.waiting = 0
        self.written = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"The capture {path} cannot be written: {error.strerror}.") from None

    def put(self, line: bytes) -> None:
        self.lines.append(line)
        self.waiting += len(line)

    def take(self) -> bytes:
        lines, self.lines = self.lines, []
        self.waiting = 0
        return b"".join(lines)

    def write(self, data: bytes) -> None:
        """All of it. Raises `OSError`. Runs in a thread, never two at once."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.written += len(data)

    def close(self) -> None:
        os.close(self._fd)


class Capture:
    """One node's. ``run`` is a task; what it did not write when it is cancelled, `close` does."""

    def __init__(
        self, folder: Path, node_id: str, limits: Limits, wall: Callable[[], float], *, bus: bool = False
    ) -> None:
        self.folder = folder
        self.node_id = node_id
        self.limits = limits
        self.taps: dict[Connection, Tap] = {}
        self.dropped = 0
        """Connections that were recorded no further, for want of room."""
        self.failed = False
        self._leaving = self._left = False
        """The drain has begun; has ended."""
        self._wall = wall
        self._bus = bus
        self._last_t = 0.0
        self._connections = 0
        self._number = 0
        self._seen: dict[bytes, Seen] = {}
        self._seen_bytes = 0
        self.last_data = b""
        """What went out last that was nothing but events, and what these are: a room's members get the very same bytes."""
        self.last_seen: list[Seen] = []
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._parts = self._earlier()
        except OSError as error:
            raise ConfigError(f"The folder {folder} of captures cannot be used: {error.strerror}.") from None
        self.part = self._new_part()
        self._trim()

    def now(self) -> float:
        """Unix time; it never falls, whatever the machine's clock does."""
        t = int(self._wall() * 1e6) / 1e6  # as lines have it; a third of the time that `round` takes
        if t > self._last_t:
            self._last_t = t
        return self._last_t

    # -- connections --------------------------------------------------------------------------------------------------

    def taken(self, connection: Connection) -> None:
        if not self.failed:
            self._connections += 1
            self.taps[connection] = Tap(self, connection, f"{self.node_id}/{self._connections}")

    def gone(self, connection: Connection) -> None:
        tap = self.taps.pop(connection, None)
        if tap is not None:
            tap.gone()

    def seen(self, payload: bytes) -> Seen:
        """What an event's frame is in a history; taken apart once for all who get it."""
        found = self._seen.get(payload)
        if found is None:
            stream, seq, key, by, what = event_of(orjson.loads(payload))
            line = encode(Took(0.0, "", stream, seq, key, by, what))
            found = line[line.index(b',"stream":') :] + b"\n", stream, seq
            if self._seen_bytes > CACHE_BYTES:
                self._seen.clear()
                self._seen_bytes = 0
            self._seen[payload] = found
            self._seen_bytes += len(payload) + len(line)
        return found

    def room(self) -> bool:
        return self.part.waiting < BUFFER_BYTES

    # -- the node's own life --------------------------------------------------------------------------------------------

    def draining(self, clients: int) -> None:
        self._leaving = True
        self._note(Draining(self.now(), self.node_id, self.limits.drain_window_s, clients))

    def drained(self, unanswered: int) -> None:
        self._left = True
        self._note(Drained(self.now(), self.node_id, unanswered))

    def _note(self, record: Record) -> None:
        self.part.put(encode(record) + b"\n")

    # -- files ----------------------------------------------------------------------------------------------------------

    def _earlier(self) -> list[tuple[Path, int]]:
        """Parts that earlier starts of this node left, oldest first: they count."""
        name = re.compile(re.escape(self.node_id.rpartition(".")[0]) + r"\.[0-9a-zA-Z_-]+-\d{5}\.jsonl")
        found = [path for path in self.folder.iterdir() if name.fullmatch(path.name)]
        return [(path, path.stat().st_size) for path in sorted(found, key=lambda path: (path.stat().st_mtime, path))]

    def _new_part(self) -> Part:
        limits = self.limits
        self._number += 1
        part = Part(self.folder / f"{self.node_id}-{self._number:05}.jsonl")
        run = Run(
            self.now(),
            f"capture of node {self.node_id}, part {self._number}; t is Unix time",
            lease_s=limits.lease_s,
            grace_s=limits.presence_grace_s,
            heartbeat_s=limits.heartbeat_s,
            bus=self._bus,
        )
        part.put(encode(run) + b"\n")
        return part

    async def run(self) -> None:
        """Write what waits, again and again; begin another part when this one is full."""
        try:
            while True:
                await trio.sleep(FLUSH_S)
                # What was begun is ended: half of it would leave lines that are in no file, or a file without an end.
                with trio.CancelScope(shield=True):
                    await self._flush(self.part)
                    if self.part.written > self.limits.capture_bytes_max / PARTS:
                        await self._turn_the_page()
        except (OSError, ConfigError) as error:
            self._give_up(error)

    async def _flush(self, part: Part) -> None:
        if data := part.take():
            await trio.to_thread.run_sync(part.write, data)

    async def _turn_the_page(self) -> None:
        old, self.part = self.part, self._new_part()
        for at, tap in enumerate(list(self.taps.values())):
            tap.move(old, self.part)
            if at % MOVED_AT_ONCE == MOVED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        old.put(encode(End(self.now())) + b"\n")
        await self._flush(old)
        old.close()
        self._parts.append((old.path, old.written))
        self._trim()

    def _trim(self) -> None:
        while self._parts and sum(size for _, size in self._parts) + self.part.written > self.limits.capture_bytes_max:
            path, _ = self._parts.pop(0)
            path.unlink(missing_ok=True)

    def _give_up(self, error: Exception) -> None:
        log.error("the capture ends here: %s", error)
        self.failed = True
        self.part.take()
        for tap in self.taps.values():
            tap.let_go()
        self.taps.clear()

    @asynccontextmanager
    async def running(self, node: Node) -> AsyncIterator[Capture]:
        """Record what the node's connections do in the block, which begins before the first of them."""
        node.shard.on_taken, node.shard.on_gone = self.taken, self.gone
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.run)
                try:
                    yield self
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            node.shard.on_taken = node.shard.on_gone = lambda connection: None
            if not self.failed:
                self.close()

    def close(self) -> None:
        """The node has ended, or cuts whom it still has. Writes what is left at once."""
        for connection in list(self.taps):
            self.gone(connection)
        if self._leaving and not self._left:
            # A second signal cut the drain short: nobody is promised then what a drain promises.
            self._note(Fault(self.now(), "kill", self.node_id))
        self._note(Exit(self.now(), self.node_id, wanted=self._left))
        self._note(End(self.now()))
        try:
            self.part.write(self.part.take())
        except OSError as error:
            log.error("the end of the capture could not be written: %s", error)
        self.part.close()
        self._trim()
        if self.dropped:
            log.warning("the capture had no room for all: %d connections were recorded in part", self.dropped)
