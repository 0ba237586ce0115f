"""A program with the Python client, which comes over failing ways too: it follows a stream and talks, and notices nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import trio

from readback_client import Client, Limits, connect
from tests.faults.histories import History, Seen
from tests.faults.person import what
from tests.nodes import token


class LibraryUser:
    def __init__(
        self,
        name: str,
        history: History,
        stream: str,
        *,
        limits: Limits | None = None,
        pause_s: float = 0.02,
        stir: Callable[[], None] = lambda: None,
    ) -> None:
        """``stir`` is called whenever it has done or seen something."""
        self.name = name
        self.stream = stream
        self.client: Client
        self.quiet = False
        self.silent = False
        """It has said its last word."""
        self.done = trio.Event()
        self.cursor = 0
        self.sent = 0
        self._history = history
        self._limits = limits
        self._pause_s = pause_s
        self._stir = stir

    async def run(self, urls: Sequence[str]) -> None:
        async with (
            connect(urls, token(f"user:{self.name}"), limits=self._limits) as self.client,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._follow)
            while not self.quiet:
                key = str(uuid.uuid4())
                sent = await self.client.send(self.stream, {"text": f"{self.name} {self.sent}", "of": "demo"}, key=key)
                self._history.acknowledge(self.stream, key, sent.seq)
                self.sent += 1
                self._stir()
                await trio.sleep(self._pause_s)
            self.silent = True
            self._stir()
            await self.done.wait()
            nursery.cancel_scope.cancel()

    async def _follow(self) -> None:
        events = self._history.begin(self.name, "any", {self.stream: 0}).events.setdefault(self.stream, [])
        async for event in self.client.subscribe(self.stream, after=0):
            at = event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            events.append(Seen(event.seq, event.key, what(event.by, event.type, at, event.body)))
            self.cursor = event.seq
            self._stir()
