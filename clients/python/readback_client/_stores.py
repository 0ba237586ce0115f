"""Where cursors survive a restart of the program.

A store is loaded once, when `connect()` opens, and saved about every second while cursors move and when it closes. What
is saved is how far the *reader* was done, never how far the wire was ahead, so a crash repeats the event that was being
worked on (and those of the last second) and skips none.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Protocol

import orjson
import trio

from readback_client._values import Cursors

FORMAT = 1


class CursorStore(Protocol):
    """Anything that keeps `Cursors`. Calls never overlap. A failing `save` is tried again at the next interval; the
    last one, at the end, raises out of `connect()`."""

    async def load(self) -> Cursors:
        """What was saved last; `Cursors()` where nothing was."""
        ...

    async def save(self, cursors: Cursors) -> None: ...


class MemoryCursorStore:
    """Cursors for as long as the program runs: several `connect()` blocks, one after the other, go on where the last
    one stopped.

    >>> store = MemoryCursorStore()
    >>> store.cursors.streams
    {}
    """

    def __init__(self, cursors: Cursors | None = None) -> None:
        self.cursors = cursors if cursors is not None else Cursors()
        self.saves = 0

    async def load(self) -> Cursors:
        return self.cursors

    async def save(self, cursors: Cursors) -> None:
        self.cursors = cursors
        self.saves += 1


class FileCursorStore:
    """Cursors in one JSON file, replaced as a whole (write, fsync, rename): a crash leaves the old one or the new one.

    One program a file: two that share one overwrite each other's cursors. A file that is no cursor file raises
    `ValueError` when loaded, rather than start from the head and lose what lay between.

        store = FileCursorStore("ops.cursors")
        async with connect(url, token, store=store) as rb:
            async for event in rb.subscribe("chat:ops"):
                ...
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    async def load(self) -> Cursors:
        return await trio.to_thread.run_sync(self._load)

    async def save(self, cursors: Cursors) -> None:
        await trio.to_thread.run_sync(self._save, cursors)

    def _load(self) -> Cursors:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return Cursors()
        try:
            found = orjson.loads(raw)
            log, streams = found["log"], found["streams"]
            if found["format"] != FORMAT or not isinstance(log, str):
                raise ValueError("another format")
            if not all(isinstance(name, str) and type(seq) is int and seq >= 0 for name, seq in streams.items()):
                raise ValueError("cursors are numbers by stream")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path} is not a cursor file ({error}); move it away to start anew") from None
        return Cursors(log, streams)

    def _save(self, cursors: Cursors) -> None:
        raw = orjson.dumps(
            {"format": FORMAT, "log": cursors.log, "streams": dict(cursors.streams)}, option=orjson.OPT_SORT_KEYS
        )
        # In the same folder, so that the rename cannot cross a file system; mkstemp makes it private (0600).
        descriptor, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise
