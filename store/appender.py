"""Appending: batches over a few writer links, and what happens to a batch that Postgres refuses as a whole.

A batch fails as a whole only for a reason that the append function does not foresee: bytes that are no UTF-8, a body
too large for an index, a constraint. One such entry must not fail its neighbours, so that the batch is then halved until
the entry is alone, and that one is answered ``FORBIDDEN``. The halves are batches of their own, in order: seq still
follows the order of the entries. Only their cost differs (a commit each), which a sender of garbage cannot exploit,
because the gateway parses bodies before it accepts them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import trio

from core.model import Entry, Outcome, Verdict
from core.ports import Unavailable
from store.links import Connector, StoreLimits
from store.pgerrors import LOST, TOO_LATE, from_asyncpg, is_entrys_fault, to_store_error
from store.pgwire import AppendCodec, Malformed, ProtocolError, ServerError
from store.writer import Writer, open_writer

logger = logging.getLogger("readback.store")


class Appender:
    """``limits.writers`` links at most; a batch takes any that is free, and waits its turn where none is."""

    def __init__(self, connector: Connector, limits: StoreLimits) -> None:
        self._connector = connector
        self._limits = limits
        self._codec = AppendCodec()
        self._free = trio.CapacityLimiter(limits.writers)
        self._idle: deque[Writer] = deque()
        self._closed = False

    async def append(self, entries: Sequence[Entry]) -> list[Verdict]:
        try:
            with trio.fail_after(self._limits.query_timeout_s):
                return await self._append(entries)
        except trio.TooSlowError:
            raise Unavailable(TOO_LATE) from None

    async def _append(self, entries: Sequence[Entry]) -> list[Verdict]:
        try:
            return await self._on_a_link(entries)
        except Malformed:
            pass
        except ServerError as error:
            if not is_entrys_fault(error.sqlstate):
                logger.warning("append failed: %s", error)
                raise to_store_error(error.sqlstate) from error
            if len(entries) == 1:
                logger.warning("the log cannot store an entry of %s: %s", entries[0].tenant, error.sqlstate)
        if len(entries) == 1:
            return [Verdict(Outcome.FORBIDDEN, 0, 0, 0, 0)]
        half = len(entries) // 2
        return await self._append(entries[:half]) + await self._append(entries[half:])

    async def _on_a_link(self, entries: Sequence[Entry]) -> list[Verdict]:
        try:
            self._free.acquire_nowait()  # the wait below would cost a turn of the scheduler even where a link is free
        except trio.WouldBlock:
            await self._free.acquire()
        try:
            writer = await self._take()
            try:
                return await writer.append(entries)
            except ProtocolError as error:
                logger.error("append: the database's reply makes no sense: %s", error)
                raise Unavailable(LOST) from error
            finally:
                if self._closed:
                    writer.close()
                elif not writer.closed:
                    self._idle.append(writer)
        finally:
            self._free.release()

    async def _take(self) -> Writer:
        if self._closed:
            raise Unavailable("the log was closed")
        while self._idle:
            writer = self._idle.pop()
            if writer.is_alive():
                return writer
            writer.close()
        try:
            return await open_writer(self._connector, self._codec)
        except ServerError as error:
            raise to_store_error(error.sqlstate) from error
        except Exception as error:
            known = from_asyncpg(error)
            if known is None:
                raise
            raise known from error

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()
