"""Somebody who follows some streams, talks, and comes back: what a good client of the protocol does, and what it saw.

A `Person` is on one node, over trio-websocket. When its connection ends it comes back to the next node, with its resume
token and its cursors, and repeats under the same key what was not acknowledged. All that it asks and hears is written down as
it comes, for `tests.faults.histories` and as `proof.history` has it. What it must never be told is a problem of its crowd's.
"""

from __future__ import annotations

import functools
import itertools
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import trio
from trio_websocket import ConnectionClosed, HandshakeError
from wsproto.utilities import LocalProtocolError

from proof import history as proof
from tests.faults.histories import Life, Seen
from tests.nodes import token
from tests.wire_client import WireClient

if TYPE_CHECKING:
    from tests.faults.crowd import Crowd

Frame = dict[str, Any]

PATIENCE_S = 15.0
"""For anything that is waited for; on an idle machine nothing takes a tenth of it."""
REPEAT_S_MAX = 0.2
"""Come back no later than this, whatever ``retry_after`` allows: the case should not last."""
PAUSE_S = 0.05
"""Between two messages of a person."""
TEMPORARY = frozenset(("unavailable", "overloaded", "rate_limited"))
SUPERSEDED = 4504


@dataclass(frozen=True, slots=True)
class Manners:
    """How long a person bears what."""

    patience_s: float = PATIENCE_S
    dial_s: float = 60.0
    """A dial, or a close, that is not answered for so long is given up."""
    ping_s: float = math.inf
    """It asks whether anybody is there this often."""
    silence_s: float = math.inf
    """Having heard nothing for so long it leaves without a word, as a client should (docs/protocol.md, "Keeping alive")."""
    looks: bool = False
    """It asks who is here when it comes, so that ``present`` is all of the truth as it was told."""


def what(by: str, type: str, at: str, body: object) -> str:
    """All of an event that is the same for everybody."""
    return f"{by} {type} {at} {orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()}"


class Person:
    def __init__(
        self, crowd: Crowd, name: str, node: str, streams: Sequence[str], *, tenant: str = "demo", who: str = ""
    ) -> None:
        self.crowd = crowd
        self.name = name
        self.tenant = tenant
        self.who = who or name
        self.principal = f"user:{self.who}"
        self.node = node
        """Where it is, or tries to be next."""
        self.streams = list(streams)
        self.welcomed = 0
        self.resumed = 0
        self.rejected = 0
        """Resume tokens that were refused, so that it had to say hello."""
        self.closes: list[int] = []
        """Codes with which its connections ended."""
        self.superseded = False
        self.credentials: Frame = {}
        """What it would resume with now."""
        self.present: dict[tuple[str, str], str] = {}
        """(stream, principal) → what presence it was told last."""
        self.marks: dict[tuple[str, str], list[int]] = {}
        """(stream, principal) → the markers it was told last, on this connection."""
        self.client: WireClient | None = None
        self.dials = 0
        self.rivalled = False
        """A token of this session was presented and nobody said what became of it: another connection may hold it."""
        self._seqs = dict.fromkeys(self.streams, 0)
        self._asked: dict[int, Callable[[Frame | None], None]] = {}
        self._pause_s = 0.0
        self._patience = trio.CancelScope()
        self._presented = ""
        """The resume token that was presented last, whatever became of it."""
        self._bye = ""
        self._leaving = self._gone = False

    @property
    def online(self) -> bool:
        return self.client is not None

    def cursor(self, stream: str) -> int:
        return self._seqs[stream]

    # -- being connected ----------------------------------------------------------------------------------------------

    @property
    def conn(self) -> str:
        """The newest connection's name."""
        return f"{self.name}.{self.dials}"

    async def live(self) -> None:
        """Be somewhere, until superseded or cancelled."""
        while not self.superseded:
            self._pause_s = 0.02
            try:
                async with self.crowd.dial(self) as client:
                    await self._stay(client)
            except (HandshakeError, OSError, LocalProtocolError):
                pass  # the last is trio-websocket's for a ping that crossed our close, which it would answer
            await trio.sleep(min(self._pause_s, REPEAT_S_MAX))
            self.node = self.crowd.after(self.node)

    async def _stay(self, client: WireClient) -> None:
        """Until the connection ends, or is as good as ended."""
        manners = self.crowd.manners
        self.dials += 1
        self._leaving = self._gone = False
        self._bye = ""
        try:
            async with trio.open_nursery() as nursery:
                self._patience = nursery.cancel_scope
                self._patience.deadline = trio.current_time() + manners.silence_s
                if manners.ping_s < math.inf:
                    nursery.start_soon(self._ping, client)
                await self._live(client)
                nursery.cancel_scope.cancel()
        finally:
            if not self._gone:
                self._ended("client", 1006, "heard nothing" if self._patience.cancelled_caught else "")

    async def _ping(self, client: WireClient) -> None:
        try:
            while True:
                await client.say("ping")
                await trio.sleep(self.crowd.manners.ping_s)
        except (ConnectionClosed, OSError):
            pass  # the reader says so

    def _ended(self, by: str, code: int, reason: str = "") -> None:
        self._gone = True
        self.crowd.record(proof.Ended(self.crowd.now(), self.conn, by, code, reason, self._bye))

    async def _live(self, client: WireClient) -> None:
        history = self.crowd.histories[self.tenant]
        life = Life(self.node, dict(self._seqs))
        try:
            opening = await (self._resume(client) if self.credentials else self._hello(client))
            while True:
                frame = orjson.loads(await client.websocket.get_message())
                self._patience.deadline = trio.current_time() + self.crowd.manners.silence_s
                if frame["op"] == "error" and frame.get("id") == opening and frame["code"] == "resume_rejected":
                    self.rejected += 1
                    self.crowd.record(proof.Rejected(self.crowd.now(), self.conn, frame["code"]))
                    opening = await self._hello(client)
                    continue
                if frame["op"] == "welcome":
                    history.lives.setdefault(self.name, []).append(life)
                    self._welcome(frame, client)
                self._heard(frame, life)
                self.crowd.stir()
        except ConnectionClosed as closed:
            code = 1006 if closed.reason is None else int(closed.reason.code)
            reason = "" if closed.reason is None else str(closed.reason.reason or "")
            # 1006 is trio-websocket's for a connection that ended without a close.
            self._ended("client" if self._leaving else "network" if code == 1006 else "server", code, reason)
            self.closes.append(code)
            if code == SUPERSEDED:
                self._was_superseded()
            elif code >= 4500:
                self.crowd.problem(f"{self.name} was closed with {closed.reason}")
        finally:
            self.client = None
            asked, self._asked = self._asked, {}
            for answered in asked.values():
                answered(None)
            self.crowd.stir()

    def _was_superseded(self) -> None:
        self.superseded = True

    async def _hello(self, client: WireClient) -> int:
        self.rivalled = False
        self._presented = ""
        self._open("hello", "", "good", None)
        streams = {name: {"after": seq} for name, seq in self._seqs.items()}
        return await client.say("hello", token=token(self.principal, tenant=self.tenant), streams=streams)

    async def _resume(self, client: WireClient) -> int:
        credential = proof.digest(self.credentials["resume"])
        standing = "spent" if credential == self._presented else "good"
        self.rivalled = self.rivalled or standing == "spent"
        self._presented = credential
        self._open("resume", credential, standing, self.credentials["log"])
        return await client.say("resume", **self.credentials, streams=self._seqs)

    def _open(self, how: str, credential: str, standing: str, epoch: str | None) -> None:
        self.crowd.record(
            proof.Open(
                self.crowd.now(),
                self.conn,
                self.name,
                self.tenant,
                self.principal,
                self.crowd.start_of(self.node),
                how,
                dict(self._seqs),
                credential,
                standing,
                epoch=epoch,
            )
        )

    def _welcome(self, frame: Frame, client: WireClient) -> None:
        crowd = self.crowd
        self.welcomed += 1
        self.resumed += frame.get("resumed", False)
        self.credentials = {"resume": frame["resume"], "log": frame["log"]}
        self.client = client
        self.marks.clear()
        refused = {name: at["error"] for name, at in frame["streams"].items() if "error" in at}
        self._was_refused(refused)
        crowd.record(
            proof.Welcome(
                crowd.now(),
                self.conn,
                frame["session"],
                frame.get("resumed", False),
                frame["log"],
                proof.digest(frame["resume"]),
                refused,
            )
        )
        for name, at in frame["streams"].items():
            if name not in refused:
                self._follows(name, at)
        if crowd.manners.looks:
            crowd.nursery.start_soon(self.look)

    def _heard(self, frame: Frame, life: Life) -> None:
        crowd, now = self.crowd, self.crowd.now()
        match frame["op"]:
            case "event":
                stream, seq, by = frame["stream"], frame["seq"], frame["by"]
                body = frame["body"]
                seen = Seen(seq, frame["key"], what(by, frame["type"], frame["at"], body))
                life.events.setdefault(stream, []).append(seen)
                self._seqs[stream] = seq
                of = body.get("of", "") if isinstance(body, dict) else ""
                crowd.record(proof.Took(now, self.conn, stream, seq, seen.key, by, seen.what, of))
            case "signal":
                if frame["kind"] == "presence":
                    self.present[frame["stream"], frame["by"]] = frame["value"]
                told = proof.Told(
                    now, self.conn, frame["stream"], frame["kind"], frame.get("by"), frame["value"], frame["age"]
                )
                crowd.record(told)
            case "mark":
                self.marks[frame["stream"], frame["by"]] = [frame["delivered"], frame["read"]]
                crowd.record(
                    proof.Told(
                        now, self.conn, frame["stream"], "mark", frame["by"], [frame["delivered"], frame["read"]]
                    )
                )
            case "reset":
                crowd.record(
                    proof.Reset(now, self.conn, frame["stream"], frame["reason"], frame["first"], frame["head"])
                )
                crowd.problem(f"{self.name} was told {frame} by {life.node}")
            case "unsub":
                crowd.record(proof.Unfollow(now, self.conn, frame["stream"], frame["reason"], frame["seq"]))
                self._was_let_go(frame)
            case "bye":
                self._bye = frame["code"]
                self._pause_s = frame.get("retry_after") or 0.0
            case "drain":
                crowd.record(proof.DrainTold(now, self.conn, frame["after_ms"] / 1000))
                self.credentials["resume"] = frame["resume"]
                self.crowd.nursery.start_soon(self._leave, self.client, frame["after_ms"] / 1000)
            case "pong" if "resume" in frame:
                self.credentials["resume"] = frame["resume"]
        if (answered := self._asked.pop(frame.get("id", 0), None)) is not None:
            answered(frame)

    def _follows(self, stream: str, at: Mapping[str, Any]) -> None:
        self.crowd.record(proof.Follow(self.crowd.now(), self.conn, stream, at["after"], at["head"]))

    def _was_refused(self, refused: Mapping[str, str]) -> None:
        if refused:
            self.crowd.problem(f"{self.name} was refused {refused} by {self.node}")

    def _was_let_go(self, frame: Frame) -> None:
        self.crowd.problem(f"{self.name} was told {frame} by {self.node}")

    async def look(self) -> None:
        """Ask who is here, in each stream; what is told later is added to that."""
        for stream in self.streams:
            await self.ask("presence", functools.partial(self._saw, stream), stream=stream)

    def _saw(self, stream: str, answer: Frame) -> None:
        for key in [key for key in self.present if key[0] == stream]:
            del self.present[key]
        for row in answer.get("online", ()):
            self.present[stream, row["by"]] = row["value"]

    async def _leave(self, client: WireClient | None, after_s: float) -> None:
        await trio.sleep(after_s)
        if client is not None and client is self.client:
            self._leaving = True
            try:
                with trio.move_on_after(self.crowd.manners.dial_s):
                    await client.websocket.aclose()
            except (ConnectionClosed, OSError):
                pass

    # -- talking ------------------------------------------------------------------------------------------------------

    async def ask(self, op: str, heard: Callable[[Frame], None] | None = None, **fields: Any) -> Frame | None:
        """The answer; ``None`` where the connection ended before it came. ``heard`` is called with it before anything
        that came after it is taken."""
        client = self.client
        if client is None:
            return None
        got: list[Frame | None] = []
        done = trio.Event()
        id, conn, crowd = client._id + 1, self.conn, self.crowd
        named = {"stream": fields.get("stream", ""), "key": fields.get("key", "")}

        def answered(frame: Frame | None) -> None:
            got.append(frame)
            done.set()
            if frame is None:
                return
            ok = frame["op"] != "error"
            seq, dup = (frame["seq"], frame["dup"]) if ok and op == "send" else (0, False)
            crowd.record(proof.Answered(crowd.now(), conn, id, ok, frame.get("code", ""), seq, dup, **named))
            if ok and heard is not None:
                heard(frame)

        self._asked[id] = answered
        crowd.record(proof.Asked(crowd.now(), conn, id, op, 2 * crowd.manners.patience_s, **named))
        try:
            await client.say(op, **fields)
        except (ConnectionClosed, OSError):
            # It is known to be over here before the reader knows; who asked again at once would not let it find out.
            await self.crowd.until(lambda: self.client is not client)
            return None
        await done.wait()
        return got[0]

    async def send(self, stream: str, text: str, *, key: str = "") -> int:
        """Until it is acknowledged, with one key, wherever this person is; the seq, or 0 where it was superseded."""
        crowd, key = self.crowd, key or str(uuid.uuid4())
        while True:
            await crowd.until(lambda: self.online or self.superseded)
            if self.superseded:
                return 0
            answer = await self.ask("send", stream=stream, key=key, body={"text": text, "of": self.tenant})
            if answer is None:
                crowd.unanswered += 1
            elif answer["op"] == "ok":
                crowd.histories[self.tenant].acknowledge(stream, key, answer["seq"])
                crowd.acks += 1
                crowd.acknowledged_at.append(crowd.now())
                crowd.stir()
                return int(answer["seq"])
            else:
                if answer["code"] not in TEMPORARY:
                    crowd.problem(f"{self.name}'s send was answered {answer}")
                crowd.refusals += 1
                crowd.stir()
                await trio.sleep(min(answer["retry_after"], REPEAT_S_MAX))

    async def talk(self) -> None:
        crowd = self.crowd
        for number in itertools.count():
            if crowd.quiet or self.superseded:
                break
            await self.send(self.streams[number % len(self.streams)], f"{self.name} {number}")
            await trio.sleep(PAUSE_S)
        crowd.talking -= 1
        crowd.stir()

    async def roster(self, stream: str) -> list[str]:
        """Who is online, as this person's node says."""
        answer = await self.ask("presence", stream=stream)
        return [] if answer is None else sorted(row["by"] for row in answer.get("online", ()))
