"""A scripted server for the client's tests: readback.v1 in memory on trio-websocket, with a handle on every fault.

By itself it behaves: streams are lists, sends append and fan out, resumes rotate. A test bends one thing at a time:
`refuse` answers the next frames of an op with an error, `take_over` lets the test answer an op itself, `cut` drops the
TCP connection, `bye` and `drain` end connections in the wire's own words.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

AT = "2026-11-21T09:30:00.000Z"
Frame = dict[str, Any]
Takeover = Callable[["Link", Frame], Awaitable[None]]


class Link:
    """One connection as the server sees it."""

    def __init__(self, ws: WebSocketConnection, principal: str) -> None:
        self.ws = ws
        self.principal = principal
        self.subs: dict[str, bool] = {}
        self.frames: list[Frame] = []
        self.gone = trio.Event()

    async def say(self, **frame: Any) -> None:
        try:
            await self.ws.send_message(json.dumps(frame))
        except ConnectionClosed:
            pass


class FakeServer:
    def __init__(self) -> None:
        self.log = "epoch-1"
        self.streams: dict[str, list[Frame]] = defaultdict(list)
        self.trimmed: dict[str, int] = {}  # seqs below are gone
        self.keys: dict[str, int] = {}
        self.forbidden: set[str] = set()
        self.resumes: set[str] = set()
        self.links: list[Link] = []
        self.all_links: list[Link] = []
        self.refusals: dict[str, deque[Frame]] = defaultdict(deque)
        self.takeovers: dict[str, Takeover] = {}
        self.http_refusals: deque[tuple[int, list[tuple[bytes, bytes]], bytes]] = deque()
        self.heartbeat = 25
        self.life_s: float | None = None  # of each access token; None: an older server, which says nothing of it
        self.port = 0
        self.tokens: list[str] = []
        self.bad_tokens: set[str] = set()
        self._changed = trio.Event()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    # -- what a test does ---------------------------------------------------------------------------------------------

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something about the server is so."""
        while not true():
            await self._changed.wait()

    def received(self, op: str) -> list[Frame]:
        return [frame for link in self.all_links for frame in link.frames if frame.get("op") == op]

    def refuse(self, op: str, code: str, times: int = 1, **fields: Any) -> None:
        for _ in range(times):
            self.refusals[op].append({"op": "error", "code": code, "message": f"{op} refused", **fields})

    async def append(
        self, stream: str, *, by: str = "user:bob", type: str = "message", body: Frame | None = None
    ) -> int:
        """A committed event, told to every subscriber."""
        events = self.streams[stream]
        event = {"seq": len(events) + 1, "type": type, "key": "", "by": by, "at": AT, "body": body or {"text": "x"}}
        events.append(event)
        for link in list(self.links):
            if stream in link.subs:
                await link.say(op="event", stream=stream, **event)
        return int(event["seq"])

    async def cut(self) -> None:
        """Every TCP connection is gone without a word."""
        for link in list(self.links):
            await link.ws._stream.aclose()
            await link.gone.wait()

    async def bye(self, code: int, name: str, reason: str = "", retry_after: float | None = None) -> None:
        for link in list(self.links):
            await link.say(op="bye", code=name, reason=reason, retry_after=retry_after)
            await link.ws.aclose(code, reason)

    # -- serving ------------------------------------------------------------------------------------------------------

    async def handle(self, request: WebSocketRequest) -> None:
        if self.http_refusals:
            status, headers, body = self.http_refusals.popleft()
            await request.reject(status, extra_headers=headers, body=body)
            return
        offered = request.proposed_subprotocols
        ws = await request.accept(subprotocol=offered[0] if offered else None)
        link = Link(ws, "user:amy")
        self.links.append(link)
        self.all_links.append(link)
        self._tell()
        try:
            while True:
                frame = json.loads(await ws.get_message())
                link.frames.append(frame)
                await self._serve(link, frame)
                self._tell()
        except ConnectionClosed:
            pass
        finally:
            self.links.remove(link)
            link.gone.set()
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _serve(self, link: Link, frame: Frame) -> None:
        op = frame["op"]
        if self.refusals[op]:
            await link.say(**{**self.refusals[op].popleft(), "id": frame["id"]})
        elif op in self.takeovers:
            await self.takeovers[op](link, frame)
        else:
            await getattr(self, f"op_{op}")(link, frame)

    async def op_hello(self, link: Link, frame: Frame) -> None:
        self.tokens.append(frame["token"])
        if frame["token"] in self.bad_tokens:
            await link.say(op="bye", code="unauthorized", reason="expired", retry_after=None)
            await link.ws.aclose(4501, "expired")
            return
        await self.welcome(link, frame, frame["streams"])

    def ends(self) -> Frame:
        """What a welcome says of the time, and of the end of the token that it was given."""
        now = datetime.fromisoformat(AT) + timedelta(seconds=trio.current_time())
        if self.life_s is None:
            return {"time": now.isoformat()}
        return {"time": now.isoformat(), "expires": (now + timedelta(seconds=self.life_s)).isoformat()}

    async def op_refresh(self, link: Link, frame: Frame) -> None:
        self.tokens.append(frame["token"])
        if frame["token"] in self.bad_tokens:
            await link.say(op="error", id=frame["id"], code="unauthorized", message="expired")
            return
        ended = {name: {"error": "forbidden"} for name in sorted(self.forbidden & link.subs.keys())}
        for name in ended:
            del link.subs[name]
        resume = f"refreshed-{len(self.tokens)}"
        self.resumes.add(resume)
        await link.say(op="ok", id=frame["id"], expires=self.ends().get("expires"), resume=resume, streams=ended)

    async def op_resume(self, link: Link, frame: Frame) -> None:
        if frame["resume"] not in self.resumes:
            await link.say(op="error", id=frame["id"], code="resume_rejected", message="used before")
            return
        self.resumes.discard(frame["resume"])
        await self.welcome(link, frame, {name: {"after": n} for name, n in frame["streams"].items()}, resumed=True)

    async def welcome(self, link: Link, frame: Frame, wanted: dict[str, Frame], *, resumed: bool = False) -> None:
        token = f"resume-{len(self.all_links)}-{len(self.resumes)}"
        self.resumes.add(token)
        told: Frame = {}
        starts: dict[str, int] = {}
        for name, spec in wanted.items():
            if name in self.forbidden:
                told[name] = {"error": "forbidden"}
                continue
            starts[name] = self._start(name, spec)
            told[name] = {"head": len(self.streams[name]), "after": starts[name]}
        extra = {"resumed": True} if resumed else {}
        await link.say(
            op="welcome", id=frame["id"], session="s-1", principal=link.principal, log=self.log, resume=token,
            resume_ttl=300, heartbeat=self.heartbeat, limits={"frame": 65536, "streams": 1000}, streams=told,
            **self.ends(), **extra,
        )  # fmt: skip
        for name, after in starts.items():
            await self._follow(link, name, after)

    def _start(self, name: str, spec: Frame) -> int:
        head = len(self.streams[name])
        if "after" in spec:
            return int(spec["after"])
        return max(head - spec["last"], 0) if "last" in spec else head

    async def _follow(self, link: Link, name: str, after: int) -> None:
        first, head = self.trimmed.get(name, 1), len(self.streams[name])
        link.subs[name] = True
        if after > head or after < first - 1:
            reason = "ahead" if after > head else "trimmed"
            await link.say(op="reset", stream=name, reason=reason, first=first, head=head)
            after = first - 1
        for event in self.streams[name][after:]:
            await link.say(op="event", stream=name, **event)

    async def op_sub(self, link: Link, frame: Frame) -> None:
        name = frame["stream"]
        if name in self.forbidden:
            await link.say(op="error", id=frame["id"], code="forbidden", message=f"not a member of {name}")
            return
        after = self._start(name, frame)
        await link.say(op="ok", id=frame["id"], stream=name, head=len(self.streams[name]), after=after)
        await self._follow(link, name, after)

    async def op_unsub(self, link: Link, frame: Frame) -> None:
        link.subs.pop(frame["stream"], None)
        await link.say(op="ok", id=frame["id"], stream=frame["stream"])

    async def op_send(self, link: Link, frame: Frame) -> None:
        stream, key = frame["stream"], frame["key"]
        dup = key in self.keys
        if not dup:
            self.keys[key] = await self.append(stream, by=link.principal, type=frame["type"], body=frame["body"])
        await link.say(op="ok", id=frame["id"], stream=stream, seq=self.keys[key], at=AT, dup=dup)

    async def op_command(self, link: Link, frame: Frame) -> None:
        """`refuse` is refused; `both` becomes two events; anything else one."""
        stream, key = frame["stream"], frame["key"]
        dup = key in self.keys
        if frame["type"] == "refuse":
            self.keys[key] = 0
            said = {"reason": "over_duty", "cite": "CAO 48.1", "message": "no", **({"dup": True} if dup else {})}
            await link.say(op="error", id=frame["id"], code="rejected", **said)
            return
        count = 2 if frame["type"] == "both" else 1
        if not dup:
            for _ in range(count):
                last = await self.append(stream, by=link.principal, type="flight.done", body=frame["body"])
            self.keys[key] = last - count + 1
        seqs = list(range(self.keys[key], self.keys[key] + count))
        await link.say(op="ok", id=frame["id"], stream=stream, seqs=seqs, at=AT, dup=dup)

    async def op_history(self, link: Link, frame: Frame) -> None:
        events = self.streams[frame["stream"]]
        before = frame.get("before", len(events) + 1)
        found = events[: before - 1][-frame["limit"] :]
        await link.say(op="ok", id=frame["id"], stream=frame["stream"], events=found, first=1)

    async def op_presence(self, link: Link, frame: Frame) -> None:
        online = [{"by": "user:amy", "value": "online", "devices": 2}]
        await link.say(op="ok", id=frame["id"], online=online, count=1)

    async def op_mark(self, link: Link, frame: Frame) -> None:
        await link.say(op="ok", id=frame["id"])

    async def op_signal(self, link: Link, frame: Frame) -> None:
        await link.say(op="ok", id=frame["id"])

    async def op_ping(self, link: Link, frame: Frame) -> None:
        await link.say(op="pong", id=frame["id"], time=AT)


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    """The server, listening on a free port of the loopback until the block ends."""
    server = FakeServer()
    async with trio.open_nursery() as nursery:
        listening = await nursery.start(serve_websocket, server.handle, "127.0.0.1", 0, None)
        server.port = listening.port
        yield server
        nursery.cancel_scope.cancel()
