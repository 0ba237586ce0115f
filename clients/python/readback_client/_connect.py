"""`connect`: the one nursery that owns every task of a client, and how a block begins and ends.

Promises: when the block is left, by its end, an exception or a cancellation, the socket is closed, cursors are saved
and no task remains. An exception of the block comes out as itself, never wrapped in a group of ours. A connection that
drops is no exception; what ends a client for good (`Unauthorized`, `Superseded`, …) is raised by whatever waits for the
server and, in any case, out of the block.
"""

from __future__ import annotations

import random
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from readback_client._client import Client, Token
from readback_client._device import DeviceKey
from readback_client._link import address_of
from readback_client._machine import Machine
from readback_client._stores import CursorStore
from readback_client._values import Cursors, Limits

SAVE_TIMEOUT_S = 5.0  # for the save at the end, which even a cancellation waits for


@asynccontextmanager
async def connect(
    url: str | Sequence[str],
    token: Token,
    *,
    store: CursorStore | None = None,
    limits: Limits | None = None,
    rng: random.Random | None = None,
    new_key: Callable[[], str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    key: DeviceKey | None = None,
) -> AsyncIterator[Client]:
    """A client of the server at ``url`` (or of any of several), for as long as the block lasts.

    ``token`` is an access token, or an async callable that fetches one; it is asked whenever a hello is due and before
    the last one ends, and may raise `Unavailable` to be asked again later. ``key`` proves itself beside tokens that are
    bound to it. ``store`` keeps cursors between runs. ``rng`` and ``new_key`` are for tests that want the same run twice;
    time is Trio's clock.

    Returns at once: the first connection is made in the background, and calls wait for it. `Client.ready` waits.

        async with connect("ws://127.0.0.1:8400", token) as rb:
            await rb.send("chat:ops", {"text": "pushback approved"})
            async for event in rb.subscribe("chat:ops", last=20):
                print(event.seq, event.by, event.text)
    """
    urls = [url] if isinstance(url, str) else list(url)
    addresses = {each: address_of(each) for each in urls}
    if not isinstance(token, str) and not callable(token):
        raise TypeError("a token is a str, or an async callable that returns one")
    rng = rng if rng is not None else random.Random()
    rng.shuffle(urls)  # clients with one list must not all begin with its first
    cursors = await store.load() if store is not None else None
    limits = limits if limits is not None else Limits()
    machine = Machine(
        urls,
        now=trio.current_time(),
        uniform=rng.uniform,
        limits=limits,
        fresh_tokens=not isinstance(token, str),
        cursors=cursors,
        prove=None if key is None else lambda url, access: key.proof("GET", addresses[url].http_url, access),
    )
    client = Client(machine, addresses, token, ssl_context, new_key if new_key is not None else _uuid4)
    saver = _Saver(store, machine, cursors) if store is not None else None
    raised: BaseException | None = None
    left = False
    try:
        async with trio.open_nursery() as nursery:
            if saver is not None:
                nursery.start_soon(saver.run, limits.save_interval_s)
            nursery.start_soon(client.run, nursery.cancel_scope)
            yield client
            left = True
            await client.say_goodbye()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The nursery's own layer, and nothing of what the block may have raised, is taken off.
        raised = group.exceptions[0] if len(group.exceptions) == 1 else group
    finally:
        machine.end(None)
        if saver is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_TIMEOUT_S):
                await saver.last(quiet=raised is not None or machine.error is not None)
    if raised is not None:
        raise raised
    if machine.error is not None and not left:
        raise machine.error


def _uuid4() -> str:
    return str(uuid.uuid4())


class _Saver:
    def __init__(self, store: CursorStore, machine: Machine, saved: Cursors | None) -> None:
        self._store = store
        self._machine = machine
        self._saved = saved

    async def run(self, interval_s: float) -> None:
        while True:
            await trio.sleep(interval_s)
            try:
                await self.save()
            except Exception:
                continue  # the disk may have room again in a second; the save at the end raises

    async def save(self) -> None:
        cursors = self._machine.cursors()
        if cursors != self._saved and cursors.log:
            await self._store.save(cursors)
            self._saved = cursors

    async def last(self, *, quiet: bool) -> None:
        """The save at the end. ``quiet``: there is an error to raise already, and it is the one that matters."""
        try:
            await self.save()
        except Exception:
            if not quiet:
                raise
