"""asyncpg from Trio: a small pool of links with a deadline on everything.

Promises: a call returns within its deadline, or raises `Unavailable`. A link whose reply was not read to its end
(cancelled, too late, broken) is closed and never lent again, so that no borrower gets another's answer. Links that died
while idle are noticed before they are lent. After a failed connect, calls fail at once until the next attempt is due
(50 ms, doubling to 1 s): a stopped database costs its callers nothing.

There is no background task: whoever calls, connects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
import trio
import trio_asyncio  # type: ignore[import-untyped]

from core.ports import Unavailable
from store.pgerrors import LOST, TOO_LATE, from_asyncpg

T = TypeVar("T")

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0

SESSION = {
    "application_name": "readback",
    "default_transaction_isolation": "read committed",  # the append function relies on it
    "jit": "off",  # compiling costs more than any of our queries
    # Every query of ours wants index lookups in nested loops, whatever the statistics of a young table say. Without this
    # a plan made on the empty log looked keys up through the index of seqs: 120 us an event instead of 30, and rising.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "cpu_tuple_cost": "1",
    "cpu_index_tuple_cost": "0.5",
    "random_page_cost": "1.1",
}


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds of one node's use of Postgres."""

    writers: int = 4  # links that append: at most so many commits in flight; more only wait for each other's locks
    readers: int = 4  # links for everything else but what the next two are for
    commanders: int = 2  # links that keep commands: what people read and what workers do takes none of their turns
    workers: int = 3  # links of the workers' store (`core.work`), for the same reason; none without a worker or a board
    keepers: int = 2  # links that keep positions (`core.tracks`): one copies while the other commits
    connect_timeout_s: float = 3.0
    query_timeout_s: float = 5.0  # of one call, waiting for a link included
    statement_timeout_s: float = 10.0  # the server's own, so that what nobody waits for any more ends
    trim_events_per_commit: int = 2_000  # a trim holds its locks for about 50 ms at a time
    check_page_events: int = 2_000


@asynccontextmanager
async def asyncio_loop() -> AsyncIterator[None]:
    """A trio-asyncio loop around the block, unless one is running. What the block raises comes out as it is.

    The loop's own nursery would wrap it in an exception group, and every caller would have to look inside.
    """
    if trio_asyncio.current_loop.get() is not None:
        yield
        return
    raised: BaseException | None = None
    try:
        async with trio_asyncio.open_loop():
            try:
                yield
            except BaseException as error:
                raised = error
    finally:
        if raised is not None:
            raise raised


class Backoff:
    """When the next connect may be tried. Pure: the time is handed in."""

    def __init__(self) -> None:
        self._delay_s = BACKOFF_FIRST_S
        self._not_before = float("-inf")
        self._reason = LOST

    def refusal(self, now: float) -> Unavailable | None:
        if now >= self._not_before:
            return None
        return Unavailable(self._reason, max(self._not_before - now, BACKOFF_FIRST_S))

    def failed(self, now: float, reason: str) -> None:
        self._not_before = now + self._delay_s
        self._delay_s = min(self._delay_s * 2, BACKOFF_MAX_S)
        self._reason = reason

    def succeeded(self) -> None:
        self._delay_s = BACKOFF_FIRST_S
        self._not_before = float("-inf")


class Connector:
    """Makes asyncpg links on one trio-asyncio loop, and runs asyncpg's coroutines on it from any Trio task."""

    def __init__(self, url: str, limits: StoreLimits, loop: object = None) -> None:
        self._loop = loop if loop is not None else trio_asyncio.current_loop.get()
        assert self._loop is not None, "open_postgres_log opens one"
        self._url = url
        self._limits = limits
        self._backoff = Backoff()

    def with_limits(self, limits: StoreLimits) -> Connector:
        return Connector(self._url, limits, self._loop)

    async def call(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Await an asyncio function from Trio, whichever task calls: the loop is not found through the caller's context."""
        token = trio_asyncio.current_loop.set(self._loop)
        try:
            result: T = await trio_asyncio.aio_as_trio(function)(*args)
            return result
        finally:
            trio_asyncio.current_loop.reset(token)

    def terminate(self, link: asyncpg.Connection) -> None:
        """Close at once, without a word to the server; from any task."""
        token = trio_asyncio.current_loop.set(self._loop)
        try:
            link.terminate()
        finally:
            trio_asyncio.current_loop.reset(token)

    async def connect(self) -> asyncpg.Connection:
        refusal = self._backoff.refusal(trio.current_time())
        if refusal is not None:
            raise refusal
        try:
            with trio.fail_after(self._limits.connect_timeout_s):
                link = await self.call(self._connect)
        except trio.TooSlowError:
            self._backoff.failed(trio.current_time(), TOO_LATE)
            raise Unavailable(TOO_LATE) from None
        except Exception as error:
            known = from_asyncpg(error)
            if known is None:
                raise
            self._backoff.failed(trio.current_time(), str(known))
            raise known from error
        self._backoff.succeeded()
        return link

    async def _connect(self) -> asyncpg.Connection:
        timeout_ms = str(int(self._limits.statement_timeout_s * 1000))
        link: asyncpg.Connection = await asyncpg.connect(
            self._url, server_settings={**SESSION, "statement_timeout": timeout_ms}
        )
        return link


class Links:
    """A pool. At most ``links`` of them, ``limits.readers`` unless given; those idle longest are used least."""

    def __init__(self, connector: Connector, limits: StoreLimits, links: int | None = None) -> None:
        self._connector = connector
        self._limits = limits
        self._free = trio.CapacityLimiter(limits.readers if links is None else links)
        self._idle: deque[asyncpg.Connection] = deque()
        self._closed = False

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[asyncpg.Connection]:
        """A link for several calls. Anything but a normal end of the block closes it."""
        async with self._free:
            if self._closed:
                raise Unavailable("the log was closed")
            link = self._pop_idle() or await self._connector.connect()
            try:
                yield link
            except BaseException:
                self._connector.terminate(link)
                raise
            self._give_back(link)

    def _pop_idle(self) -> asyncpg.Connection | None:
        while self._idle:
            link = self._idle.pop()
            if not link.is_closed():
                return link
        return None

    async def on_loop(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        return await self._connector.call(function, *args)

    async def fetch(self, sql: str, *args: object, retry: bool = True) -> list[asyncpg.Record]:
        """All rows of one query; see `run`."""
        rows: list[asyncpg.Record] = await self.run(asyncpg.Connection.fetch, sql, *args, retry=retry)
        return rows

    async def run(self, function: Callable[..., Awaitable[T]], *args: object, retry: bool = True) -> T:
        """What an asyncio function makes of a link and these, within ``query_timeout_s``.

        Repeated once where the link turns out to be dead, unless ``retry`` is off because it must not run twice.
        """
        try:
            with trio.fail_after(self._limits.query_timeout_s):
                try:
                    return await self._run(function, *args)
                except asyncpg.ConnectionDoesNotExistError:
                    if not retry:
                        raise
                    return await self._run(function, *args)
        except trio.TooSlowError:
            raise Unavailable(TOO_LATE) from None
        except Exception as error:
            known = from_asyncpg(error)
            if known is None:
                raise
            raise known from error

    async def _run(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        async with self._free:
            if self._closed:
                raise Unavailable("the log was closed")
            link = self._pop_idle() or await self._connector.connect()
            try:
                made = await self._connector.call(function, link, *args)
            except asyncpg.PostgresError as error:
                # An error response is a whole reply: the link is as good as before, unless the server said goodbye.
                if str(error.sqlstate).startswith(("57P", "08", "53")):
                    self._connector.terminate(link)
                else:
                    self._give_back(link)
                raise
            except BaseException:
                self._connector.terminate(link)
                raise
            self._give_back(link)
            return made

    def _give_back(self, link: asyncpg.Connection) -> None:
        if self._closed or link.is_closed():
            self._connector.terminate(link)
        else:
            self._idle.append(link)

    def close(self) -> None:
        """Idle links now, lent ones when they come back."""
        self._closed = True
        while self._idle:
            self._connector.terminate(self._idle.pop())
