"""Keeping a server that is our child up for the length of a block: started again when it ends by itself, stopped at the end.

Promises: it is stopped even when the block was cancelled, and what the block raises comes out as it is. Does not: start
it the first time. Both embedded servers end with the thread that started them, so that is done on the caller's.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from core.ports import StoreError

logger = logging.getLogger("readback.store")

WATCH_S = 0.2  # how soon an end of the server is noticed
RELAUNCH_MAX_S = 5.0  # between attempts, at most


@asynccontextmanager
async def kept_up(
    name: str,
    *,
    ended: Callable[[], str | None],
    again: Callable[[], Awaitable[None]],
    stop: Callable[[], None],
    first: Callable[[], None] | None = None,
) -> AsyncIterator[None]:
    """``ended``: its last words where it ended by itself. ``again``: start it and wait until it is ready; may raise
    `StoreError` or `OSError`, and is called again later. ``stop`` and ``first`` (waiting for the first start) block."""
    raised: BaseException | None = None
    try:
        if first is not None:
            await trio.to_thread.run_sync(first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, name, ended, again)
            try:
                yield
            except BaseException as error:  # to come out as it is, not in the nursery's exception group
                raised = error
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):  # `stop` is bounded by itself
            await trio.to_thread.run_sync(stop)
        if raised is not None:
            raise raised


async def _watch(name: str, ended: Callable[[], str | None], again: Callable[[], Awaitable[None]]) -> None:
    pause_s = WATCH_S
    while True:
        await trio.sleep(pause_s)
        words = ended()
        if words is None:
            pause_s = WATCH_S
            continue
        logger.error("%s ended by itself (%s): starting it again", name, words)
        pause_s = min(pause_s * 2, RELAUNCH_MAX_S)
        try:
            await again()
        except (StoreError, OSError) as error:
            logger.error("%s", error)
