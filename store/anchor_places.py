"""Where anchors are kept: a file that only grows, or a table of another Postgres.

One record is written at a time, whoever writes: a place is locked while its last record is read and the next one is
appended, so that any number of nodes may share it and its records are one chain (`core.anchors`).

Promises: what `append` returned is on disk; nothing that is there is ever changed, not even a line that was cut off by a
crash (the next record begins on a line of its own and says so). A file that holds something else is refused. Does not: keep
whoever owns the file or the table from changing it; that is for its place to do (docs/audit.md).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

import asyncpg
import orjson
import trio

from core.anchors import RECORD_BYTES_MAX, Anchor, parse
from core.ports import StoreError, Unavailable
from store.links import Connector, StoreLimits, asyncio_loop
from store.pgerrors import TOO_LATE, from_asyncpg

Next = Callable[[Anchor | None, bool], Anchor | None]
"""From the last record, and whether a line after it was cut off, the next one; ``None``: nothing to write."""

T = TypeVar("T")

TABLE: Final = "readback_anchors"
LOCK_KEY: Final = 0x7265_6164_616E_6368
LOCK_WAIT_S: Final = 5.0
TAIL_BYTES: Final = 2 * RECORD_BYTES_MAX
PAGE_RECORDS: Final = 500
DEADLINE_S: Final = 15.0


class AnchorPlace(Protocol):
    name: str
    """For people: without a password."""

    async def append(self, next: Next) -> Anchor | None:
        """Write the record that ``next`` makes, if any. Raises `StoreError`, `OSError`."""
        ...

    async def lines(self) -> list[bytes]:
        """Every line, in order. Raises `StoreError`, `OSError`."""
        ...

    async def find(self, epoch: str, partition: int, pos: int) -> Anchor | None:
        """The first record of this log in which the partition ended at ``pos`` or later. Raises `StoreError`, `OSError`."""
        ...


def open_place(where: str) -> AnchorPlace:
    """By the setting ``anchor``: the URL of a Postgres, or a path."""
    return TablePlace(where) if "://" in where else FilePlace(Path(where))


class FilePlace:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    async def append(self, next: Next) -> Anchor | None:
        return await trio.to_thread.run_sync(self._append, next, abandon_on_cancel=True)

    async def lines(self) -> list[bytes]:
        return await trio.to_thread.run_sync(lambda: list(self._lines()), abandon_on_cancel=True)

    async def find(self, epoch: str, partition: int, pos: int) -> Anchor | None:
        return await trio.to_thread.run_sync(
            lambda: _first(self._lines(), epoch, partition, pos), abandon_on_cancel=True
        )

    def _lines(self) -> Iterator[bytes]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            while line := file.readline(RECORD_BYTES_MAX + 1):
                yield line.removesuffix(b"\n")

    def _append(self, next: Next) -> Anchor | None:
        made = not self.path.exists()
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _lock(file, self.name)
            last, rest = self._last(file)
            torn = bool(rest) and isinstance(parse(rest), str)
            record = next(last, torn)
            if record is None:
                return None
            data = (b"\n" if rest else b"") + record.line + b"\n"
            if os.write(file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
            os.fsync(file)
            if made:
                folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
            return record
        finally:
            os.close(file)

    def _last(self, file: int) -> tuple[Anchor | None, bytes]:
        """The last whole record, and what follows the last newline."""
        size = os.fstat(file).st_size
        tail = os.pread(file, TAIL_BYTES, max(0, size - TAIL_BYTES))
        *lines, rest = tail.split(b"\n")
        last = _whole((rest, *reversed(lines)))
        if last is not None:
            return last, rest
        if size and not (not lines and rest.startswith(b'{"at":"'[: len(rest)])):
            raise StoreError(f"{self.name} holds something else than anchors: give the path of a file of their own")
        return None, rest


def _lock(file: int, name: str) -> None:
    """Within `LOCK_WAIT_S`; whoever else holds it does so for the time of one record."""
    until_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until_s:
                raise Unavailable(f"{name} is locked by another program") from None
            time.sleep(0.02)


def _whole(lines: Iterable[bytes]) -> Anchor | None:
    """The first of these that is a record."""
    return next((anchor for line in lines if isinstance(anchor := parse(line), Anchor)), None)


def _first(lines: Iterator[bytes], epoch: str, partition: int, pos: int) -> Anchor | None:
    for line in lines:
        try:  # a signature is looked at only where the record is wanted
            record = orjson.loads(line)
            wanted = record["epoch"] == epoch and any(
                head[0] == partition and head[1] >= pos for head in record["heads"]
            )
        except (ValueError, TypeError, KeyError, IndexError):
            continue
        if wanted and isinstance(anchor := parse(line), Anchor):
            return anchor
    return None


class TablePlace:
    """A table of its own in another Postgres; made where it is missing and the login may make one."""

    def __init__(self, url: str, limits: StoreLimits | None = None) -> None:
        parts = urlsplit(url)
        self.name = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
        self._url = url
        self._limits = limits or StoreLimits()

    async def append(self, next: Next) -> Anchor | None:
        async def work(link: asyncpg.Connection) -> Anchor | None:
            async with link.transaction():
                await link.execute("select pg_advisory_xact_lock($1)", LOCK_KEY)
                await self._make_table(link)
                rows = await link.fetch(f"select line from {TABLE} order by id desc limit 20")
                last = _whole(row["line"].encode() for row in rows)
                record = next(last, False)
                if record is not None:
                    await self._refuse_the_log_itself(link, record.epoch)
                    await link.execute(f"insert into {TABLE} (line) values ($1)", record.line.decode())
                return record

        return await self._run(work)

    async def lines(self) -> list[bytes]:
        async def work(link: asyncpg.Connection) -> list[bytes]:
            return [line async for page in self._pages(link) for line in page]

        return await self._run(work)

    async def find(self, epoch: str, partition: int, pos: int) -> Anchor | None:
        async def work(link: asyncpg.Connection) -> Anchor | None:
            async for page in self._pages(link):
                found = _first(iter(page), epoch, partition, pos)
                if found is not None:
                    return found
            return None

        return await self._run(work)

    @staticmethod
    async def _pages(link: asyncpg.Connection) -> AsyncIterator[list[bytes]]:
        """All lines in order, some at a time; none where there is no table."""
        if not await link.fetchval("select to_regclass($1) is not null", TABLE):
            return
        after = -1
        while True:
            rows = await link.fetch(
                f"select id, line from {TABLE} where id > $1 order by id limit $2", after, PAGE_RECORDS
            )
            if not rows:
                return
            after = rows[-1]["id"]
            yield [row["line"].encode() for row in rows]

    async def _make_table(self, link: asyncpg.Connection) -> None:
        # Asked first: making a table "if not exists" needs the right to make one even where it is there.
        if await link.fetchval("select to_regclass($1) is not null", TABLE):
            return
        await link.execute(
            f"create table if not exists {TABLE} (id bigint generated always as identity primary key, "
            "written_at timestamptz not null default clock_timestamp(), line text not null)"
        )

    async def _refuse_the_log_itself(self, link: asyncpg.Connection, epoch: str) -> None:
        """Who rewrites the log could rewrite what lies beside it."""
        has_log = await link.fetchval(
            "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
            "where n.nspname = 'readback' and c.relname = 'meta' and has_schema_privilege(n.oid, 'usage') "
            "and has_table_privilege(c.oid, 'select'))"
        )
        if has_log and await link.fetchval("select epoch::text from readback.meta") == epoch:
            raise StoreError(f"{self.name} is the log's own database: anchors must lie where it cannot be changed from")

    async def _run(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        async with asyncio_loop():
            connector = Connector(self._url, self._limits)
            link = await connector.connect()
            try:
                with trio.fail_after(DEADLINE_S):
                    return await connector.call(work, link)
            except trio.TooSlowError:
                raise Unavailable(TOO_LATE) from None
            except asyncpg.InsufficientPrivilegeError:
                raise StoreError(f"the login at {self.name} may not use or make the table {TABLE}") from None
            except Exception as error:
                known = from_asyncpg(error)
                if known is None:
                    raise
                raise known from error
            finally:
                connector.terminate(link)
