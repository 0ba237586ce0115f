"""One connection of the demo: asks and waits for the answer, and hands on whatever else is said.

The client library has no commands; this says them in the wire's own words (docs/protocol.md). It does not come back when the
connection is lost: who plays a day begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, connect_websocket_url

from gateway.cli_errors import CliError

Frame = dict[str, Any]
DIAL_S: Final = 15.0
AGAIN: Final = ("overloaded", "unavailable", "rate_limited")
"""Codes after which the same is asked again."""
AGAIN_S: Final = 0.5
CLOSE_S: Final = 0.3
"""For the goodbye, which nobody hears where we are cancelled: the task that reads is, too."""


class Link:
    """`read` must run."""

    def __init__(self, socket: WebSocketConnection, who: str, heard: Callable[[Frame], None]) -> None:
        self._socket = socket
        self._who = who
        self._heard = heard
        self._ids = 0
        self._closing = False
        self._waiting: dict[int, tuple[trio.Event, list[Frame]]] = {}

    async def ask(self, op: str, **fields: Any) -> Frame:
        """The answer, ``ok`` or ``error``."""
        self._ids += 1
        id, done = self._ids, trio.Event()
        answers: list[Frame] = []
        self._waiting[id] = done, answers
        try:
            await self._socket.send_message(orjson.dumps({"op": op, "id": id, **fields}).decode())
            await done.wait()
        except ConnectionClosed as closed:
            raise self._lost(closed) from None
        finally:
            del self._waiting[id]
        return answers[0]

    async def insist(self, op: str, **fields: Any) -> Frame:
        """The answer of a gateway that has time for it: asked again until then."""
        while True:
            answer = await self.ask(op, **fields)
            if answer.get("code") not in AGAIN:
                return answer
            await trio.sleep(answer.get("retry_after") or AGAIN_S)

    async def read(self) -> None:
        while True:
            try:
                frame: Frame = orjson.loads(await self._socket.get_message())
            except ConnectionClosed as closed:
                if self._closing:
                    return
                raise self._lost(closed) from None
            waiting = self._waiting.get(frame.get("id", 0))
            if waiting is None:
                self._heard(frame)
            else:
                waiting[1].append(frame)
                waiting[0].set()

    async def close(self) -> None:
        """Soon, whatever is cancelled meanwhile."""
        self._closing = True
        with trio.CancelScope(shield=True):
            with trio.move_on_after(CLOSE_S):
                await self._socket.aclose()
            # Where the server closed first, or does not answer, trio-websocket leaves the client's socket open.
            await trio.aclose_forcefully(self._socket._stream)

    def _lost(self, closed: ConnectionClosed) -> CliError:
        reason = "" if closed.reason is None else f" ({closed.reason.code} {closed.reason.reason or ''})".rstrip()
        return CliError(f"the gateway ended the connection of {self._who}{reason}; what was answered is kept")


async def linked(nursery: trio.Nursery, url: str, token: str, who: str, heard: Callable[[Frame], None]) -> Link:
    """A connection that was welcomed; `close` it before the nursery ends. Raises `CliError`."""
    try:
        with trio.fail_after(DIAL_S):
            socket = await connect_websocket_url(nursery, url, subprotocols=["readback.v1"])
    except (OSError, HandshakeError, trio.TooSlowError, ValueError) as error:
        said = str(error) or type(error).__name__
        raise CliError(f"no gateway answers at {url} ({said}); start one with `readback dev`, or give --url") from None
    link = Link(socket, who, heard)
    nursery.start_soon(link.read)
    answer = await link.ask("hello", token=token, streams={})
    if answer["op"] != "welcome":
        await link.close()
        raise CliError(f"the gateway does not take {who}: {answer.get('message')}")
    return link
