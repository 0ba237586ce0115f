"""One WebSocket from dial to end: trio-websocket with three things added that a client for bad networks needs.

* `_Tap` hears every byte, pings included (trio-websocket answers those unseen), so silence can be judged; and a peer
  that hangs up during the upgrade fails the dial at once instead of when its time is over.
* A write that the peer does not take for two heartbeats ends the link: a half-written frame can never be mended.
* Whatever happens, the socket is closed when `run_link` returns, politely where the peer plays along.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol, cast
from urllib.parse import urlsplit

import trio
import trio_websocket
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection
from wsproto.utilities import LocalProtocolError

from readback_client._errors import ReadbackError, Refused, wire_error
from readback_client._values import Limits
from readback_client._wire import SUBPROTOCOL


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed ``ws://`` or ``wss://`` url."""

    url: str
    tls: bool
    host: str
    port: int
    resource: str

    @property
    def host_header(self) -> str:
        """The host, and the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def http_url(self) -> str:
        """The upgrade request's own url, which a proof names.

        >>> address_of("wss://rt.example").http_url
        'https://rt.example/v1/ws'
        """
        return f"{'https' if self.tls else 'http'}://{self.host_header}{self.resource}"


def address_of(url: str) -> Address:
    """The url's parts, or `ValueError`. A bare host gets the wire's path, ``/v1/ws``.

    >>> address_of("ws://127.0.0.1:8400").resource
    '/v1/ws'
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a url: {error}") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"{url!r} is not a WebSocket url: ws://host:port or wss://host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{url!r}: a url names the server and nothing else; the token is given beside it")
    tls = parts.scheme == "wss"
    path = parts.path if parts.path not in ("", "/") else "/v1/ws"
    return Address(url, tls, parts.hostname, port if port is not None else (443 if tls else 80), path)


class Listener(Protocol):
    """What a link reports to, and takes its writes from. All but `idle` are plain calls and return at once."""

    def heard(self) -> None: ...
    async def received(self, text: str | bytes) -> None: ...
    def next_write(self) -> str | None: ...
    @property
    def write_timeout_s(self) -> float:
        """How long the peer may leave one frame untaken."""
        ...

    async def idle(self) -> None:
        """Wait until there may be something to write."""
        ...


class DialFailed(Exception):
    """No connection. ``final`` is set where the same dial cannot be expected to fare better."""

    def __init__(self, why: str, retry_after_s: float | None = None, final: ReadbackError | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after_s = retry_after_s
        self.final = final


class _Tap(trio.abc.Stream):
    """A stream that reports each arrival, and its own end while nobody has shaken hands yet."""

    def __init__(self, inner: trio.abc.Stream, heard: Callable[[], None]) -> None:
        self._inner = inner
        self._heard = heard
        self.ended = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._inner.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()  # a reset before the upgrade request: there is no handshake to wait for
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            data = await self._inner.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise
        if not data:
            self.ended.set()
        self._heard()
        return bytes(data)

    async def aclose(self) -> None:
        self.ended.set()
        await self._inner.aclose()


async def run_link(
    address: Address,
    listener: Listener,
    opened: Callable[[], None],
    *,
    limits: Limits,
    ssl_context: ssl.SSLContext | None,
    hangup: trio.Event,
) -> tuple[int, str]:
    """Dial, call ``opened``, carry frames until either side is done; returns the close code and reason.

    Raises `DialFailed` instead where there never was a connection. Cancelling it closes the socket at once; setting
    ``hangup`` closes it politely.
    """
    tap = await _dial(address, listener.heard, limits, ssl_context)
    try:
        async with trio.open_nursery() as nursery:
            ws = await _upgrade(nursery, tap, address, limits, hangup)
            opened()
            nursery.start_soon(_read, ws, listener, hangup, nursery.cancel_scope)
            nursery.start_soon(_write, ws, listener, nursery.cancel_scope)
            nursery.start_soon(_part, ws, hangup, limits.close_timeout_s, nursery.cancel_scope)
    except BaseExceptionGroup as group:
        # One task failed and the others were told to stop; what it raised is all there is to say.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + limits.close_timeout_s):
            await trio.aclose_forcefully(tap)
    closed = ws.closed
    return (closed.code, closed.reason or "") if closed is not None else (1006, "")


async def _dial(
    address: Address, heard: Callable[[], None], limits: Limits, ssl_context: ssl.SSLContext | None
) -> _Tap:
    try:
        with trio.fail_after(limits.dial_timeout_s):
            tcp = await trio.open_tcp_stream(address.host, address.port)
            if not address.tls:
                return _Tap(tcp, heard)
            context = ssl_context if ssl_context is not None else ssl.create_default_context()
            tls = trio.SSLStream(tcp, context, server_hostname=address.host, https_compatible=True)
            try:
                await tls.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(tcp)
                raise
            return _Tap(tls, heard)
    except trio.TooSlowError:
        raise DialFailed(f"no connection to {address.url} in {limits.dial_timeout_s:g} s") from None
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError):
            why = f"TLS with {address.url} failed: {cause.reason or cause}"
            raise DialFailed(why, final=Refused(why)) from None
        raise DialFailed(f"{address.url} hung up during the TLS handshake") from None
    except OSError as error:
        raise DialFailed(f"{_plain(error)} at {address.url}") from None


def _plain(error: OSError) -> str:
    """The operating system's words without Python's around them."""
    inner = error.__cause__
    if isinstance(inner, BaseExceptionGroup):  # one error an address tried; they rarely differ
        first = inner.exceptions[0]
        return _plain(first) if isinstance(first, OSError) else str(first)
    if isinstance(inner, OSError):
        return _plain(inner)
    if error.errno is not None and error.errno > 0:  # getaddrinfo's own numbers are negative, with words of their own
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


async def _upgrade(
    nursery: trio.Nursery, tap: _Tap, address: Address, limits: Limits, hangup: trio.Event
) -> WebSocketConnection:
    """The WebSocket handshake, in a nursery of its own until it stands, so that a refusal is an exception here."""

    async def shake(task_status: trio.TaskStatus[WebSocketConnection]) -> None:
        try:
            async with trio.open_nursery() as inner:
                ws = await trio_websocket.wrap_client_stream(
                    inner,
                    # It asks for a socket stream and uses a stream.
                    cast(trio.SocketStream, tap),
                    address.host_header,
                    address.resource,
                    subprotocols=[SUBPROTOCOL],
                    max_message_size=limits.message_bytes_max,
                    receive_buffer_size=65_536,
                )
                task_status.started(ws)
        except BaseExceptionGroup as group:
            _, other = group.split(LocalProtocolError)
            if other is not None or not hangup.is_set():
                raise
            # trio-websocket answers a ping that crossed our close, which wsproto forbids: we have said goodbye, so go.
            nursery.cancel_scope.cancel()

    try:
        with trio.fail_after(limits.dial_timeout_s):
            ws = await _unless(tap.ended, lambda: nursery.start(shake))
    except trio.TooSlowError:
        raise DialFailed(f"{address.url} did not finish the upgrade in {limits.dial_timeout_s:g} s") from None
    except BaseExceptionGroup as group:
        rejected, _ = group.split(ConnectionRejected)
        if rejected is None:
            raise
        raise _rejection(address, _first(rejected)) from None
    if ws is None:
        raise DialFailed(f"{address.url} hung up during the upgrade")
    return ws


def _first(group: BaseExceptionGroup[ConnectionRejected]) -> ConnectionRejected:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


async def _unless(ended: trio.Event, act: Callable[[], Awaitable[WebSocketConnection]]) -> WebSocketConnection | None:
    """What ``act`` returns, or ``None`` if ``ended`` comes first (given a turn, so that a refusal's words win)."""
    result: WebSocketConnection | None = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await ended.wait()
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        result = await act()
        nursery.cancel_scope.cancel()
    return result


def _rejection(address: Address, rejected: ConnectionRejected) -> DialFailed:
    status = rejected.status_code
    headers = {name.lower(): value for name, value in rejected.headers}
    said = (rejected.body or b"")[:200].decode("utf-8", "replace").strip()
    why = f"{address.url} answered the upgrade with HTTP {status}" + (f": {said}" if said else "")
    if status == 401:
        return DialFailed(why, final=wire_error("unauthorized", why))
    if status == 403:
        return DialFailed(why, final=wire_error("forbidden", why))
    if 300 <= status < 500 and status not in (408, 425, 429):
        return DialFailed(why, final=Refused(why))
    return DialFailed(why, retry_after_s=_retry_after(headers.get(b"retry-after"), headers.get(b"date")))


def _retry_after(value: bytes | None, date: bytes | None) -> float | None:
    """RFC 9110 section 10.2.3, seconds or a date; a date is measured against the server's own clock."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if text.isdigit():
        return min(float(text), 3_600.0)
    try:
        then = parsedate_to_datetime(text)
        now = parsedate_to_datetime(date.decode("latin-1")) if date is not None else None
        return min(max((then - now).total_seconds(), 0.0), 3_600.0) if now is not None else None
    except (TypeError, ValueError):
        return None


async def _read(ws: WebSocketConnection, listener: Listener, hangup: trio.Event, scope: trio.CancelScope) -> None:
    try:
        while True:
            await listener.received(await ws.get_message())
    except ConnectionClosed:
        if not hangup.is_set():  # else `_part` is still waiting for the peer's half of the close
            scope.cancel()


async def _write(ws: WebSocketConnection, listener: Listener, scope: trio.CancelScope) -> None:
    try:
        while True:
            text = listener.next_write()
            if text is None:
                await listener.idle()
                continue
            with trio.move_on_after(listener.write_timeout_s) as writing:
                await ws.send_message(text)
            if writing.cancelled_caught:
                scope.cancel()
    except ConnectionClosed:
        # What the peer sent before it closed is still to be read (a bye, with its reason); the reader ends the link.
        await trio.sleep_forever()


async def _part(ws: WebSocketConnection, hangup: trio.Event, timeout_s: float, scope: trio.CancelScope) -> None:
    await hangup.wait()
    with trio.move_on_after(timeout_s):
        await ws.aclose(1000, "going")
    scope.cancel()
