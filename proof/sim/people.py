"""The clients of a simulated run: people and devices who talk, read slowly, vanish, come back anywhere, and break rules.

Each keeps, over many connections, what a good client keeps (cursors, the newest resume token, sends not yet answered) and
writes down what it was told. It decides nothing about right and wrong: `proof.guarantees` does, afterwards.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson
import trio

from core.frames import CLOSE, PING, PONG, TEXT, close_payload, masked_frame
from core.tokens import mint
from proof import history
from proof.sim.net import Host, Link
from proof.sim.store import what

if TYPE_CHECKING:
    from proof.sim.world import World

MASK: Final = b"\x0b\x16\x21\x2c"
UPGRADE: Final = (
    b"GET /v1/ws HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
PROTOCOL: Final = b"Sec-WebSocket-Protocol: readback.v1\r\n"
TEMPORARY: Final = frozenset(("unavailable", "overloaded", "rate_limited"))
PATIENCE_S: Final = 3.0
"""For any answer, where nothing holds the link up: a commit's time-out and room for a turn of everything."""

Frame = dict[str, Any]


class Gone(Exception):
    """The connection is over, in whichever way; the record has been made."""


class Client:
    """One device of a principal."""

    def __init__(self, world: World, name: str, tenant: str, principal: str, rng: random.Random) -> None:
        self.world = world
        self.name = name
        self.tenant = tenant
        self.who = principal
        self.rng = rng
        swarm = world.swarm
        self.newer = rng.random() < swarm.newer_clients
        """Speaks a later version of the wire: fields and ops that nobody here knows."""
        self.slow = rng.random() < swarm.slow_readers
        self.short_lived = rng.random() < swarm.short_tokens
        self.cursors: dict[str, int] = {}
        self.epoch: str | None = None
        self.resume: str | None = None
        self.resume_until_s = 0.0
        self.spent = False
        """The resume token was presented and no answer came: it may have been used."""
        self.used: str | None = None
        """A token that was used up long ago."""
        self.auth_until_s = 0.0
        self.pending: dict[str, tuple[str, bytes, int | None]] = {}
        """Sends not yet answered: stream, body and ``expect`` by key. Repeated until they are."""
        self.failed: set[str] = set()
        """Of these, answered ``unavailable`` or waited for in vain: to be sent again, with the same key."""
        self.repeated: set[str] = set()
        self.sent = 0
        self.connections = 0
        self.visit: Visit | None = None
        self.life: trio.CancelScope | None = None
        self.pause_s = 0.0

    @property
    def link(self) -> Link | None:
        return None if self.visit is None else self.visit.link

    # -- over many connections --------------------------------------------------------------------------------------------

    async def live(self) -> None:
        rng, world = self.rng, self.world
        while True:
            await trio.sleep(
                min(self.pause_s + 0.02, 0.4) if world.calm else self.pause_s + rng.choice((0.0, 0.02, 0.2, 0.6))
            )
            self.pause_s = 0.0
            host = world.somewhere(rng)
            if host is None:
                self.pause_s = 0.1
                continue
            life_s = math.inf if world.calm else rng.choice(world.swarm.lives_s)
            with trio.CancelScope(deadline=trio.current_time() + life_s) as self.life:
                await self._one(host)

    async def _one(self, host: Host) -> None:
        self.connections += 1
        link = self.world.connect(f"{self.name}.{self.connections}", host, self.rng)
        self.visit = visit = Visit(self, link, host)
        try:
            await visit.run()
        except Gone:
            pass
        except trio.BrokenResourceError:
            visit.ended("network")
        finally:
            visit.leave()
            self.visit = None

    async def look_in(self, host: Host) -> None:
        """One connection that follows everything from its head and asks who is there."""
        link = self.world.connect(self.name, host, self.rng)
        self.visit = visit = Visit(self, link, host)
        try:
            await visit.look_in()
        except (Gone, trio.BrokenResourceError):
            visit.ended("network")
        finally:
            visit.ended("client")
            link.cut()

    def token(self, ttl_s: float) -> str:
        return self.world.token(self.tenant, self.who, ttl_s)

    def wanted(self) -> list[str]:
        rooms = self.world.rooms[self.tenant]
        if self.world.calm:
            return list(rooms)
        return [name for name in rooms if self.rng.random() < self.world.swarm.follows]


class Visit:
    """One connection of a client."""

    def __init__(self, client: Client, link: Link, host: Host) -> None:
        self.client = client
        self.world = client.world
        self.rng = client.rng
        self.link = link
        self.host = host
        self.name = link.name
        tap = link.end.on_sent
        if hasattr(tap, "visit"):
            tap.visit = self
        self.following: set[str] = set()
        self.marks: dict[str, dict[str, list[int]]] = {}
        self.present: dict[str, dict[str, str]] = {}
        self.asked_who: set[str] = set()
        """Streams whose presence was asked for on this connection, so that what is told adds up to a whole."""
        self.away = False
        self.welcomed = False
        self.answers: dict[int, tuple[str, str, str]] = {}
        """(op, stream, key) of what was asked and is not answered, by id."""
        self.heads: deque[tuple[int | None, float]] = deque()
        """The node's head of a stream when each marker and signal was put on the wire, and when (`world.Tap`)."""
        self._over = False
        self._bye = ""
        self._buffer = bytearray()
        self._id = 0
        self._presented = ""
        self.quick = not (link.latency_s or link.dribble or client.slow)
        """Nothing on the way holds answers up, so far."""

    @property
    def records(self) -> Callable[[history.Record], object]:
        return self.world.recorder.add

    def now(self) -> float:
        return self.world.recorder.now()

    def ended(self, by: str, code: int = 0, reason: str = "") -> None:
        if not self._over:
            self._over = True
            self.records(history.Ended(self.now(), self.name, by, code, reason, self._bye))

    def leave(self) -> None:
        """The client lets go: in order, abruptly, or without anybody being told."""
        if self._over:
            self.link.finish()
            return
        self.ended("client")
        how = self.rng.random()
        if how < 0.3:
            self.link.carry_up(masked_frame(CLOSE, close_payload(1000, ""), MASK))
            self.link.finish()
        elif how < 0.5:
            self.link.finish()
        elif how < 0.6 and not self.world.calm:
            self.link.half_open()
        elif how < 0.7:
            frame = masked_frame(TEXT, b'{"op":"ping"}', MASK)
            self.link.carry_up(frame[: self.rng.randrange(1, len(frame))])  # amid a frame
            self.link.cut()
        else:
            self.link.cut()

    async def run(self) -> None:
        rng, world = self.rng, self.world
        stage = rng.random()
        if not world.calm and stage < world.swarm.loiterers:
            await self._loiter(rng)
        protocol = PROTOCOL if rng.random() < 0.7 else b""
        await self.link.send(UPGRADE % protocol)
        await self._upgraded()
        await self._open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._talk)
            try:
                while True:
                    if self.client.slow and not world.calm and rng.random() < 0.1:
                        with trio.move_on_after(rng.choice((0.05, 0.5, 2.0))):
                            await world.calmed.wait()
                    self._take(await self.frame())
            except Gone:
                pass
            except trio.BrokenResourceError:
                self.ended("network")
            finally:
                nursery.cancel_scope.cancel()

    async def look_in(self) -> None:
        client = self.client
        await self.link.send(UPGRADE % PROTOCOL)
        await self._upgraded()
        token = client.token(3600.0)
        rooms = client.wanted()
        self.records(history.Open(self.now(), self.name, client.name, client.tenant, client.who, self.host.name, "hello",
                                  dict.fromkeys(rooms), history.digest(token)))  # fmt: skip
        await self.say("hello", token=token, streams={room: {} for room in rooms})
        await self._welcome("good")
        for stream in sorted(self.following):
            await self.say("presence", stream=stream)
            self.asked_who.add(stream)
        while True:
            self._take(await self.frame())

    async def _loiter(self, rng: random.Random) -> None:
        """Connect and say too little: nothing, half a handshake, a handshake and no hello."""
        self.records(history.Open(self.now(), self.name, self.client.name, self.client.tenant, self.client.who,
                                  self.host.name, "loiter", hostile=True))  # fmt: skip
        if rng.random() < 0.7:
            await self.link.send(UPGRADE[: rng.randrange(1, len(UPGRADE) - 40)])
        else:
            await self.link.send(UPGRADE % b"")
        while True:
            data = await self.link.receive()
            if not data:
                self.ended("server")
                raise Gone

    # -- bytes ------------------------------------------------------------------------------------------------------------

    async def _upgraded(self) -> None:
        while b"\r\n\r\n" not in self._buffer:
            data = await self.link.receive()
            if not data:
                self.ended("server", reason="closed instead of upgraded")
                raise Gone
            self._buffer += data
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer[:] = rest
        if not head.startswith(b"HTTP/1.1 101"):
            retry = head.lower().partition(b"retry-after: ")[2].split(b"\r\n")[0]
            self.client.pause_s = min(float(retry or 1.0), 1.0)
            if b" 503 " in head.split(b"\r\n")[0] + b" ":
                self.world.meters.seen("newcomer refused while draining")
            self.ended("server", reason=head.split(b"\r\n")[0].decode())
            raise Gone

    async def frame(self) -> tuple[int, bytes]:
        buffer = self._buffer
        while True:
            have = len(buffer)
            if have >= 2:
                size, start = buffer[1], 2
                if size >= 126:
                    start = 4 if size == 126 else 10
                    size = int.from_bytes(buffer[2:start], "big") if have >= start else 1 << 62
                if have >= start + size:
                    opcode, payload = buffer[0] & 15, bytes(buffer[start : start + size])
                    del buffer[: start + size]
                    return opcode, payload
            data = await self.link.receive()
            if not data:
                self.ended("server", reason="no close frame")
                raise Gone
            buffer += data

    async def say(self, op: str, within_s: float | None = PATIENCE_S, **fields: Any) -> int:
        self._id += 1
        if self.client.newer:
            fields["hint_v2"] = {"trace": self._id}
        stream, key = fields.get("stream", ""), fields.get("key", "")
        self.answers[self._id] = (op, stream, key)
        if not self.quick or not (self.world.calm or self.world.swarm.punctual):
            within_s = None
        if op not in ("hello", "resume"):
            self.records(
                history.Asked(self.now(), self.name, self._id, op, within_s, stream, key, fields.get("expect"))
            )
        await self.link.send(masked_frame(TEXT, orjson.dumps({"op": op, "id": self._id, **fields}), MASK))
        return self._id

    # -- opening ----------------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        client, rng, swarm, now_s = self.client, self.rng, self.world.swarm, self.now()
        asked: dict[str, int | None] = {name: client.cursors.get(name, 0) for name in client.wanted()}
        epoch = client.epoch
        quiet = self.world.calm
        if asked and not quiet and rng.random() < swarm.liars:
            if rng.random() < 0.5 and epoch is not None:
                epoch = "00000000-0000-4000-8000-000000000000"
            else:
                asked[rng.choice(list(asked))] = 1_000_000
        how, standing, credential, auth_until_s = "hello", "good", "", client.auth_until_s
        if client.resume is not None and (quiet or rng.random() < 0.85):
            how, credential = "resume", client.resume
            # What cannot be sure to be honoured is called spent: an earlier try that nobody answered, a time too near.
            soon_s = now_s + self.world.limits.opening_wait_s + 1.0  # when it has been looked at, at the latest
            sure = soon_s < client.resume_until_s and soon_s < client.auth_until_s and not self.world.jumped
            standing = "good" if sure and not client.spent else "spent"
            if not quiet and rng.random() < swarm.thieves:
                if client.used is not None and rng.random() < 0.6:
                    credential, standing = client.used, "used" if self.world.remembers_tokens else "spent"
                else:
                    credential, standing = _forged(credential, rng), "forged"
        elif not quiet and rng.random() < swarm.thieves:
            standing = "expired"
        while True:
            if how == "hello":
                ttl_s = rng.choice((2.0, 5.0)) if client.short_lived and not quiet else 3600.0
                if standing == "expired":
                    ttl_s = -2.0
                credential = client.token(ttl_s)
                auth_until_s = now_s + ttl_s
            streams: dict[str, Any] = dict(asked) if how == "resume" else {n: {"after": a} for n, a in asked.items()}
            self.records(
                history.Open(
                    self.now(), self.name, client.name, client.tenant, client.who, self.host.name, how, dict(asked),
                    history.digest(credential), standing,
                    auth_until_s + 1.0 if not self.world.jumped else None, False, epoch,
                )
            )  # fmt: skip
            fields: Frame = {"resume": credential} if how == "resume" else {"token": credential}
            if epoch is not None:
                fields["log"] = epoch
            self._presented = credential
            if how == "resume" and credential == client.resume:
                client.spent = True
            await self.say(how, **fields, streams=streams)
            if await self._welcome(standing):
                client.auth_until_s = auth_until_s
                return
            # A resume that was rejected: the same connection may say hello.
            if client.resume is not None and standing != "forged" and standing != "used":
                client.resume = None
            how, standing = "hello", "good"

    async def _welcome(self, standing: str) -> bool:
        """Read on to the answer. False: rejected. Raises `Gone` where the connection ends instead."""
        meters = self.world.meters
        while True:
            opcode, payload = await self.frame()
            if opcode == TEXT:
                frame: Frame = orjson.loads(payload)
                if frame["op"] == "welcome":
                    self._welcomed(frame, standing)
                    return True
                if frame["op"] == "error" and frame["code"] == "resume_rejected":
                    self.records(history.Rejected(self.now(), self.name, frame["code"]))
                    meters.seen(f"resume token refused: {'used before' if 'used' in frame['message'] else standing}")
                    return False
                if frame["op"] == "bye" and frame["code"] == "unauthorized" and standing == "expired":
                    meters.seen("hello refused: token expired")
            self._take((opcode, payload))

    def _welcomed(self, frame: Frame, standing: str) -> None:
        client, now = self.client, self.now()
        if frame.get("resumed") and client.resume is not None and client.resume == self._presented:
            client.used = client.resume
        client.resume, client.spent = frame["resume"], False
        client.resume_until_s = now + frame["resume_ttl"] - 0.2
        refused = {name: told["error"] for name, told in frame["streams"].items() if "error" in told}
        self.records(
            history.Welcome(
                now, self.name, frame["session"], bool(frame.get("resumed")), frame["log"],
                history.digest(frame["resume"]), refused,
            )
        )  # fmt: skip
        if client.epoch is not None and client.epoch != frame["log"]:
            client.cursors.clear()
        client.epoch = frame["log"]
        self.welcomed = True
        behind = 0
        for name, told in frame["streams"].items():
            if "error" in told:
                client.cursors.pop(name, None)
                continue
            self._follow(name, told["after"], told["head"])
            behind += told["head"] - told["after"]
        self.world.opened(self, bool(frame.get("resumed")), behind)

    def _follow(self, stream: str, after: int, head: int) -> None:
        self.following.add(stream)
        self.client.cursors[stream] = after
        self.marks.setdefault(stream, {})
        self.present.setdefault(stream, {})
        self.records(history.Follow(self.now(), self.name, stream, after, head))

    # -- being told ---------------------------------------------------------------------------------------------------------

    def _take(self, got: tuple[int, bytes]) -> None:
        opcode, payload = got
        if opcode == TEXT:
            frame = orjson.loads(payload)
            op = frame["op"]
            handler = _HANDLERS.get(op)
            if handler is not None:
                handler(self, frame, payload)
        elif opcode == PING:
            self.link.carry_up(masked_frame(PONG, payload, MASK))
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self.ended("server", code, payload[2:].decode())
            raise Gone

    def _event(self, frame: Frame, payload: bytes) -> None:
        stream, seq = frame["stream"], frame["seq"]
        body = payload[payload.index(b'"body":') + 7 : -1].decode()
        mark = frame["body"].get("w", "") if isinstance(frame["body"], dict) else ""
        self.records(
            history.Took(
                self.now(), self.name, stream, seq, frame["key"], frame["by"], what(frame["type"], frame["at"], body), mark
            )
        )
        self.client.cursors[stream] = seq

    def _reset(self, frame: Frame, payload: bytes) -> None:
        self.world.meters.seen(f"reset sent: {frame['reason']}")
        self.records(
            history.Reset(self.now(), self.name, frame["stream"], frame["reason"], frame["first"], frame["head"])
        )
        self.client.cursors[frame["stream"]] = frame["first"] - 1

    def _ok(self, frame: Frame, payload: bytes) -> None:
        op, stream, key = self.answers.pop(frame["id"], ("", "", ""))
        if op == "sub":
            self.records(history.Answered(self.now(), self.name, frame["id"], True))
            self._follow(stream, frame["after"], frame["head"])
            return
        if op == "unsub":
            self.records(history.Unfollow(self.now(), self.name, stream))
            self.following.discard(stream)
        elif op == "presence" and "online" in frame and len(frame["online"]) == frame["count"]:
            self.present[stream] = {row["by"]: row["value"] for row in frame["online"] if row["value"] != "offline"}
        self.records(
            history.Answered(
                self.now(), self.name, frame["id"], True, "", frame.get("seq", 0), frame.get("dup", False), stream, key
            )
        )
        if op == "send":
            if self.client.pending.pop(key, None) is not None and frame["dup"] and key in self.client.repeated:
                self.world.meters.seen("commit unknown retried, found as duplicate")
            self.client.failed.discard(key)

    def _error(self, frame: Frame, payload: bytes) -> None:
        op, stream, key = self.answers.pop(frame.get("id", 0), ("", "", ""))
        self.records(
            history.Answered(self.now(), self.name, frame.get("id", 0), False, frame["code"], 0, False, stream, key)
        )
        meters = self.world.meters
        if op == "send":
            if frame["code"] == "unavailable":
                meters.seen("sends answered unavailable")
                self.client.failed.add(key)
            elif frame["code"] not in TEMPORARY:
                self.client.pending.pop(key, None)
        if frame["code"] == "conflict":
            meters.seen("conflict answered")
        elif frame["code"] == "unknown_op":
            meters.seen("client of a newer version answered unknown_op")

    def _mark(self, frame: Frame, payload: bytes) -> None:
        value = [frame["delivered"], frame["read"]]
        head, sent_t = self.heads.popleft() if self.heads else (None, None)
        self.marks.setdefault(frame["stream"], {})[frame["by"]] = value
        self.records(history.Told(self.now(), self.name, frame["stream"], "mark", frame["by"], value, 0.0, head, sent_t))

    def _signal(self, frame: Frame, payload: bytes) -> None:
        stream, by, value = frame["stream"], frame.get("by"), frame["value"]
        head, sent_t = self.heads.popleft() if self.heads else (None, None)
        if frame["kind"] == "presence":
            present = self.present.setdefault(stream, {})
            if value == "offline":
                present.pop(by, None)  # type: ignore[arg-type]
            else:
                present[by] = value  # type: ignore[index]
        told = history.Told(self.now(), self.name, stream, frame["kind"], by, value, frame["age"], head, sent_t)
        self.records(told)

    def _unsub(self, frame: Frame, payload: bytes) -> None:
        self.world.meters.seen("removed while following")
        self.following.discard(frame["stream"])
        self.client.cursors.pop(frame["stream"], None)
        self.records(history.Unfollow(self.now(), self.name, frame["stream"], frame["reason"], frame["seq"]))

    def _pong(self, frame: Frame, payload: bytes) -> None:
        self.answers.pop(frame.get("id", 0), None)
        self.records(history.Answered(self.now(), self.name, frame.get("id", 0), True))
        self._newer_token(frame)

    def _newer_token(self, frame: Frame) -> None:
        if "resume" in frame:
            self.client.resume, self.client.spent = frame["resume"], False
            self.client.resume_until_s = self.now() + self.world.limits.resume_ttl_s - 0.2

    def _drain(self, frame: Frame, payload: bytes) -> None:
        self.world.meters.seen("drain told")
        self.records(history.DrainTold(self.now(), self.name, frame["after_ms"] / 1000))
        self._newer_token(frame)
        if self.rng.random() < 0.8 and self.client.life is not None:
            self.client.life.deadline = min(self.client.life.deadline, trio.current_time() + frame["after_ms"] / 1000)

    def _bye_said(self, frame: Frame, payload: bytes) -> None:
        self._bye = frame["code"]
        self.client.pause_s = min(frame["retry_after"] or 0.0, 1.0)
        self.world.was_sent_away(self, frame["code"], frame["reason"])

    # -- talking ------------------------------------------------------------------------------------------------------------

    async def _talk(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # who reads notices
            await self._say_things()

    async def _say_things(self) -> None:
        client, rng, world = self.client, self.rng, self.world
        repeats_s = 0.0
        while True:
            for key, (stream, body, expect) in list(client.pending.items()):
                if key not in client.failed and repeats_s:
                    continue  # it is on its way on this connection
                client.failed.discard(key)
                client.repeated.add(key)
                await self._send(stream, key, body, expect)
            repeats_s = 1.0
            if world.calm:
                await trio.sleep(0.3)
                for key in client.pending:
                    if not any(asked[2] == key for asked in self.answers.values()):
                        client.failed.add(key)
                continue
            await trio.sleep(rng.choice(world.swarm.pauses_s))
            await rng.choices(_WHAT, _WEIGHTS)[0](self)

    def _room(self) -> str:
        rooms = self.world.rooms[self.client.tenant]
        mine = [name for name in rooms if name in self.following]
        return self.rng.choice(mine if mine and self.rng.random() < 0.8 else rooms)

    async def say_something(self) -> None:
        client = self.client
        stream = self._room()
        key = self.world.key(client.rng)
        client.sent += 1
        pad = "x" * self.rng.choice(self.world.swarm.pads)
        body = orjson.dumps({"n": client.sent, "w": client.tenant, "pad": pad})
        expect = client.cursors.get(stream) if self.rng.random() < 0.08 else None
        client.pending[key] = (stream, body, expect)
        await self._send(stream, key, body, expect)

    async def _send(self, stream: str, key: str, body: bytes, expect: int | None) -> None:
        fields: Frame = {} if expect is None else {"expect": expect}
        await self.say("send", stream=stream, key=key, type="message", body=orjson.Fragment(body), **fields)

    async def mark_read(self) -> None:
        if self.following:
            stream = self._room()
            seq = self.client.cursors.get(stream, 0)
            if self.rng.random() < 0.3:
                seq = self.rng.randrange(seq + 1)  # as a second device does that has not seen as much
            await self.say("mark", stream=stream, delivered=seq, read=self.rng.randrange(seq + 1))

    async def type_something(self) -> None:
        await self.say("signal", stream=self._room(), kind="typing", value=self.rng.random() < 0.7)

    async def go_away(self) -> None:
        self.away = not self.away
        await self.say("signal", stream=self._room(), kind="presence", value="away" if self.away else "online")

    async def ask_who(self) -> None:
        await self.say("presence", stream=self._room())

    async def look_back(self) -> None:
        await self.say("history", stream=self._room(), limit=5)

    async def ping(self) -> None:
        await self.say("ping")

    async def change_rooms(self) -> None:
        stream = self._room()
        if any(asked[0] in ("sub", "unsub") for asked in self.answers.values()):
            return  # one after the other, so that what is followed when is beyond doubt
        if stream in self.following:
            await self.say("unsub", stream=stream)
        else:
            await self.say("sub", stream=stream, after=self.client.cursors.get(stream, 0))

    async def ask_the_unknown(self) -> None:
        if self.client.newer:
            await self.say("react_v2", stream=self._room(), emoji="+1")

    async def forget_something(self) -> None:
        """One send is given up: what became of it nobody will ask."""
        if self.client.pending and self.rng.random() < 0.3:
            key = next(iter(self.client.pending))
            del self.client.pending[key]
            self.client.failed.discard(key)


_HANDLERS: Final[dict[str, Callable[[Visit, Frame, bytes], None]]] = {
    "event": Visit._event, "reset": Visit._reset, "ok": Visit._ok, "error": Visit._error, "mark": Visit._mark,
    "signal": Visit._signal, "unsub": Visit._unsub, "pong": Visit._pong, "drain": Visit._drain, "bye": Visit._bye_said,
}  # fmt: skip

_TALK: Final[list[tuple[Callable[[Visit], Awaitable[None]], int]]] = [
    (Visit.say_something, 60), (Visit.mark_read, 10), (Visit.type_something, 14), (Visit.go_away, 2), (Visit.ask_who, 3),
    (Visit.look_back, 3), (Visit.ping, 4), (Visit.change_rooms, 6), (Visit.ask_the_unknown, 2), (Visit.forget_something, 2),
]  # fmt: skip
_WHAT: Final = [do for do, _ in _TALK]
_WEIGHTS: Final = [weight for _, weight in _TALK]


def _forged(token: str, rng: random.Random) -> str:
    at = rng.randrange(len(token))
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]


HOSTILITIES: Final[list[Callable[[random.Random], bytes]]] = [
    lambda rng: rng.randbytes(rng.randrange(1, 200)),
    lambda rng: masked_frame(TEXT, b'{"op":', MASK),
    lambda rng: masked_frame(TEXT, b"[1,2,3]", MASK),
    lambda rng: masked_frame(TEXT, b"\xff\xfe", MASK),
    lambda rng: masked_frame(2, b"binary", MASK),
    lambda rng: masked_frame(TEXT, b"[" * 200 + b"]" * 200, MASK),
    lambda rng: bytes((0x81, 0xFF)) + b"\x7f" * 8,
    lambda rng: bytes((0x81, 0x05)) + b"hello",
    lambda rng: masked_frame(0, b"nothing to go on from", MASK),
    lambda rng: masked_frame(TEXT, b'{"op":"send","id":1,"stream":[],"key":{},"body":1}', MASK),
    lambda rng: masked_frame(TEXT, b'{"op":"hello","id":1,"token":{"a":1},"streams":[]}', MASK),
    lambda rng: masked_frame(TEXT, b'{"op":"sub","id":1e400,"stream":"chat:a"}', MASK),
]


async def harass(world: World, rng: random.Random) -> None:
    """Somebody who breaks rules, again and again, to the end of the troubles."""
    for number in _forever():
        await trio.sleep(rng.choice((0.1, 0.5, 1.5)))
        if world.calm:
            return
        host = world.somewhere(rng)
        if host is None:
            continue
        name = f"hostile.{number}"
        link = world.connect(name, host, rng)
        add, now = world.recorder.add, world.recorder.now
        add(history.Open(now(), name, "hostile", "nobody", "user:nobody", host.name, "none", hostile=True))
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(2.0):
            if rng.random() < 0.9:
                await link.send(UPGRADE % b"")
            if rng.random() < 0.5:
                token = world.token(next(iter(world.rooms)), "user:mallory", 3600.0)
                await link.send(masked_frame(TEXT, orjson.dumps({"op": "hello", "id": 0, "token": token}), MASK))
            for _ in range(rng.randrange(1, 4)):
                await link.send(rng.choice(HOSTILITIES)(rng))
            while await link.receive():
                pass
            world.meters.seen("hostile connection ended")
        add(history.Ended(now(), name, "server"))
        link.cut()


def _forever() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


__all__ = ["Client", "Visit", "harass", "mint"]
