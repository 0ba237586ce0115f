"""Runs the examples of a page against a node, so that the page cannot say what the node does not do.

A fence with the word ``wire`` holds one exchange a line, continued by lines that begin with a space::

    amy → {"op":"ping","id":1}                      a frame; the first line of a name opens its connection
    amy ← {"op":"pong","id":1,"time":"…"}           the node says this, with these fields and no others
    ops → POST /v1/streams {"stream":"chat:ops"}    a request to the HTTP API, with the token of ``ops``
    ops ← 201 {"stream":"chat:ops","open":false,"head":0,"first":1}
    amy → cut                                       the connection ends; the next line of the name opens another
    amy ← close 4501                                the node closes with this code

``"…"`` stands for any value. In what is sent, ``<token>`` is the name's access token, ``<resume>`` and ``<log>`` are what
the node said last, ``<now>`` is the time. ``amy2`` is a second connection of amy; ``ops`` is ``service:ops`` with the role
``service``.

A frame that the page does not show fails its block, except signals and markers, which may be conflated. What a line
expects may come before what an earlier line of another connection expects; on one connection order is not checked
either, because an answer and an event may pass each other (docs/protocol.md says what is ordered).
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from core.wire import at_bytes
from gateway.http import make_app
from gateway.trips_desk import TripsDesk
from tests.nodes import TestNode, token

Frame = dict[str, Any]
Seen = Callable[[str, str, Frame], None]

ANY = "…"
CONFLATED = frozenset(("signal", "mark", "marks"))
WAIT_S = 10.0

_LINE = re.compile(r"(?P<name>[a-z]+)(?P<again>[0-9]?) (?P<way>[→←]) (?P<what>.+)\Z", re.DOTALL)
_REQUEST = re.compile(
    r"(?P<method>GET|POST|PUT|DELETE) (?P<target>\S+)(?: Idempotency-Key:(?P<key>\S+))?(?: (?P<body>.+))?\Z", re.DOTALL
)
_ANSWER = re.compile(r"(?P<status>[0-9]{3}) (?P<body>.+)\Z", re.DOTALL)


def blocks(text: str) -> list[list[str]]:
    """The ``wire`` fences of a page, each as its lines with continuations joined."""
    result = []
    for fence in re.findall(r"^```wire\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        lines: list[str] = []
        for line in fence.splitlines():
            if line.startswith(" "):
                lines[-1] += " " + line.strip()
            elif line:
                lines.append(line)
        result.append(lines)
    return result


def matches(wanted: object, got: object) -> bool:
    """Equal, where ``"…"`` equals everything. Objects have the same fields, in any order."""
    if wanted == ANY:
        return True
    if isinstance(wanted, dict) and isinstance(got, dict):
        return wanted.keys() == got.keys() and all(matches(value, got[name]) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(matches, wanted, got))
    return wanted == got and isinstance(wanted, bool) == isinstance(got, bool)


@dataclass
class Speaker:
    """One name of the page: its connection and what came over it that no line has expected yet."""

    name: str
    principal: str
    roles: tuple[str, ...]
    socket: WebSocketConnection | None = None
    tcp: trio.SocketStream | None = None
    unread: list[Frame] = field(default_factory=list)
    answer: tuple[int, Any] | None = None
    resume: str = ""


class Page:
    """Plays blocks in order. ``seen(name, way, frame)`` is told every frame; "→" is to the node."""

    def __init__(
        self,
        node: TestNode,
        nursery: trio.Nursery,
        stack: AsyncExitStack,
        http: httpx.AsyncClient,
        seen: Seen | None,
    ) -> None:
        self._node = node
        self._nursery = nursery
        self._stack = stack
        self._http = http
        self._seen = seen or (lambda name, way, frame: None)
        self._speakers: dict[str, Speaker] = {}
        self._log = ""

    async def play(self, lines: list[str]) -> None:
        spoke: dict[str, Speaker] = {}  # in the order of the page
        for line in lines:
            match = _LINE.match(line)
            assert match is not None, f"not a line of a wire example: {line}"
            speaker = self._speaker(match["name"], match["again"])
            spoke[match["name"] + match["again"]] = speaker
            if match["way"] == "→":
                await self._say(speaker, match["what"])
            else:
                await self._hear(speaker, match["what"], line)
        for speaker in spoke.values():
            await self._nothing_else(speaker)

    def _speaker(self, name: str, again: str) -> Speaker:
        known = self._speakers.get(name + again)
        if known is None:
            service = name == "ops"
            principal = f"{'service' if service else 'user'}:{name}"
            known = self._speakers[name + again] = Speaker(name + again, principal, ("service",) if service else ())
        return known

    async def _say(self, speaker: Speaker, what: str) -> None:
        request = _REQUEST.match(what)
        if request is not None:
            await self._request(speaker, request)
        elif what == "cut":
            assert speaker.tcp is not None
            await speaker.tcp.aclose()
            speaker.socket = None
        else:
            if speaker.socket is None:
                await self._dial(speaker)
            assert speaker.socket is not None
            text = what.replace("<token>", token(speaker.principal, roles=speaker.roles))
            text = text.replace("<resume>", speaker.resume).replace("<log>", self._log)
            text = text.replace("<now>", at_bytes(int(1000 * time.time())).decode())
            await speaker.socket.send_message(text)
            try:
                self._seen(speaker.name, "→", orjson.loads(text))
            except orjson.JSONDecodeError:
                pass  # an example of malformed JSON

    async def _dial(self, speaker: Speaker) -> None:
        """A connection whose TCP side is ours: it can be cut, and is closed whatever became of the WebSocket."""
        speaker.tcp = await trio.open_tcp_stream("127.0.0.1", self._node.port)
        self._stack.push_async_callback(speaker.tcp.aclose)
        host = f"127.0.0.1:{self._node.port}"
        speaker.socket = await wrap_client_stream(
            self._nursery, speaker.tcp, host, "/v1/ws", subprotocols=["readback.v1"]
        )
        speaker.unread.clear()

    async def _request(self, speaker: Speaker, request: re.Match[str]) -> None:
        headers = {"authorization": f"Bearer {token(speaker.principal, roles=speaker.roles)}"}
        if request["key"]:
            headers["idempotency-key"] = request["key"]
        if request["body"]:
            headers["content-type"] = "application/json"
        with trio.fail_after(WAIT_S):
            response = await self._http.request(
                request["method"], request["target"], headers=headers, content=request["body"]
            )
        speaker.answer = (response.status_code, response.json())

    async def _hear(self, speaker: Speaker, what: str, line: str) -> None:
        answer = _ANSWER.match(what)
        if answer is not None:
            assert speaker.answer is not None
            status, body = speaker.answer
            assert status == int(answer["status"]), f"{line}\n  but: {status} {body}"
            assert matches(orjson.loads(answer["body"]), body), f"{line}\n  but: {body}"
        elif what.startswith("close "):
            code = await self._closed(speaker)
            assert code == int(what.removeprefix("close ")), f"{line}\n  but: close {code}"
        else:
            await self._expect(speaker, orjson.loads(what), line)

    async def _expect(self, speaker: Speaker, wanted: Frame, line: str) -> None:
        for at, frame in enumerate(speaker.unread):
            if matches(wanted, frame):
                del speaker.unread[at]
                return
        with trio.move_on_after(WAIT_S):
            while True:
                try:
                    frame = await self._next(speaker)
                except ConnectionClosed as closed:
                    raise AssertionError(f"{line}\n  but: {closed}") from None
                if matches(wanted, frame):
                    return
                speaker.unread.append(frame)
        raise AssertionError(f"{line}\n  never came; instead: {speaker.unread}")

    async def _next(self, speaker: Speaker) -> Frame:
        assert speaker.socket is not None
        frame: Frame = orjson.loads(await speaker.socket.get_message())
        self._seen(speaker.name, "←", frame)
        speaker.resume = frame.get("resume", speaker.resume)
        self._log = frame.get("log", self._log)
        return frame

    async def _closed(self, speaker: Speaker) -> int:
        with trio.fail_after(WAIT_S):
            while True:
                try:
                    speaker.unread.append(await self._next(speaker))
                except ConnectionClosed as closed:
                    speaker.socket = None
                    return 1006 if closed.reason is None else int(closed.reason.code)

    async def _nothing_else(self, speaker: Speaker) -> None:
        """A ping without an id is a fence: all that the block caused on this connection came before its pong."""
        if speaker.socket is not None:
            await speaker.socket.send_message('{"op":"ping"}')
            await self._expect(speaker, {"op": "pong", "time": ANY}, "the pong of the page's own ping")
        rest = [frame for frame in speaker.unread if frame["op"] not in CONFLATED]
        speaker.unread.clear()
        assert not rest, f"{speaker.name} also got what the page does not show: {rest}"


@asynccontextmanager
async def playing(node: TestNode, seen: Seen | None = None) -> AsyncIterator[Page]:
    trips = TripsDesk(node.node, node.desk, node.tracks)
    transport = httpx.ASGITransport(make_app(node.desk, trips=trips))
    async with (
        AsyncExitStack() as stack,
        httpx.AsyncClient(transport=transport, base_url="http://node") as http,
        trio.open_nursery() as nursery,
    ):
        yield Page(node, nursery, stack, http, seen)
        nursery.cancel_scope.cancel()
