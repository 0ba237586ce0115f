"""One HTTP call to a provider of routes: bounded, not followed anywhere, and read without trusting it.

The operator names providers, so private addresses and plain http are right here, unlike for webhooks.

Promises: no redirect, no proxy of the environment, no compressed answer; of an answer no more is read than
`BODY_BYTES_MAX`; large ones are decoded in a thread, so that the loop goes on. What is raised is a `RouteError` whose words
hold nothing of the answer. Does not: wait for less than the host takes (`gateway.routes.calling` bounds that), count, or
try again.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import httpx
import orjson
import trio

from core.geo.routing import RouteError, Snapshot
from core.retry import retry_after_s
from gateway.work.outside import answered

BODY_BYTES_MAX: Final = 4_000_000
"""Twenty thousand points with two figures each are some 600 kB."""
THREAD_BYTES: Final = 8_192
"""What is longer is decoded in a thread: it would take 2 ms of the loop's time, and ten times that for the longest."""
CONNECTIONS_MAX: Final = 32
KEEPALIVE_S: Final = 4.0
"""osrm-routed ends a connection after 5 s."""
BUSY_S: Final = 60.0
"""How long a provider that says 429 and no time is left alone."""


class Said(NamedTuple):
    status: int
    body: bytes


class Wire:
    """Connections to providers. ``wall`` is Unix time in seconds."""

    def __init__(
        self, wall: Callable[[], float], wait_s: float, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._wall = wall
        self._timeout = {"timeout": httpx.Timeout(wait_s).as_dict()}
        self._transport = transport
        """``None`` until somebody is called: reading the machine's authorities takes a while, and most nodes call nobody."""

    def now_ms(self) -> int:
        return int(1000 * self._wall())

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()

    async def _opened(self) -> httpx.AsyncBaseTransport:
        # The machine's own authorities: a router may be under a private one.
        verify = None if self._transport is not None else await trio.to_thread.run_sync(ssl.create_default_context)
        if self._transport is None:
            assert verify is not None
            self._transport = httpx.AsyncHTTPTransport(
                verify=verify,
                trust_env=False,
                limits=httpx.Limits(
                    max_connections=CONNECTIONS_MAX,
                    max_keepalive_connections=CONNECTIONS_MAX,
                    keepalive_expiry=KEEPALIVE_S,
                ),
            )
        return self._transport

    async def send(
        self, name: str, method: str, url: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Said:
        """An answer of status 200 or 400: others say nothing of the way that was asked for, and are raised."""
        sent = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "readback",
            **(headers or {}),
        }
        request = httpx.Request(method, url, headers=sent, content=content, extensions=self._timeout)
        transport = await self._opened()
        try:
            async with answered(transport, request) as answer:
                self._look(name, answer)
                said = Said(answer.status_code, await _body(name, answer))
        except (httpx.TransportError, OSError) as error:
            raise RouteError(f"{name} cannot be reached ({type(error).__name__})") from None
        return said

    def _look(self, name: str, answer: httpx.Response) -> None:
        status = answer.status_code
        if status in (200, 400):
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise RouteError(f"{name} answers compressed, which was not asked for")
            return
        wait_s = retry_after_s(answer.headers.get("retry-after", ""), self._wall())
        if status == 429:
            raise RouteError(f"{name} has too many requests (429)", BUSY_S if wait_s is None else wait_s)
        if status >= 500:
            raise RouteError(f"{name} answers {status}", wait_s)
        raise RouteError(f"{name} does not serve us ({status}): look at its address and key in the settings")

    async def read(self, name: str, body: bytes, work: Callable[[Any], Snapshot]) -> Snapshot:
        """``work`` over the answer's JSON, in a thread where it is long. Raises `RouteError` for whatever it trips over."""
        if len(body) <= THREAD_BYTES:
            return _worked(name, body, work)
        return await trio.to_thread.run_sync(_worked, name, body, work, abandon_on_cancel=True)


def _worked(name: str, body: bytes, work: Callable[[Any], Snapshot]) -> Snapshot:
    with reading(name):
        return work(orjson.loads(body))


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Around what takes an answer apart: whatever it is not shaped like, it is the provider's fault."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise RouteError(f"{name} answers what cannot be read") from None


async def _body(name: str, answer: httpx.Response) -> bytes:
    data = bytearray()
    try:
        async for chunk in answer.aiter_raw():
            if len(data) <= BODY_BYTES_MAX:
                data += chunk
            else:
                # Cut off, and read on to where that shows: a generator that is not read to its end is left to the collector,
                # of which Trio warns.
                await answer.aclose()
    except httpx.HTTPError:
        if len(data) <= BODY_BYTES_MAX:
            raise
    if len(data) > BODY_BYTES_MAX:
        # Of this ask: another's answer may be short, so nobody else is kept from asking.
        raise RouteError(f"{name} answers with more than {BODY_BYTES_MAX} bytes", fatal=True)
    return bytes(data)
