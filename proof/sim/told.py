"""One connection of a simulated client: its bytes, what it is told, and the records of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson
import trio

from core.flight import times
from core.frames import CLOSE, PING, PONG, TEXT, close_payload, masked_frame
from proof import history
from proof.sim.flights import answered
from proof.sim.net import Host, Link
from proof.sim.recorder import run_t
from proof.sim.store import what

if TYPE_CHECKING:
    from proof.sim.people import Client

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


class Told:
    """Use `proof.sim.visit.Visit`."""

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
        self.rows: dict[str, dict[str, Any]] = {}
        """Of each board, what was told last of each row."""
        self.places: dict[tuple[str, str], float] = {}
        """When each subject was, by stream, where it was shown last."""
        self.asked_who: set[str] = set()
        """Streams whose presence was asked for on this connection, so that what is told adds up to a whole."""
        self.away = False
        self.welcomed = False
        self.answers: dict[int, tuple[str, str, str]] = {}
        """(op, stream, key) of what was asked and is not answered, by id."""
        self.heads: deque[tuple[int | None, float | None]] = deque()
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

    def _follow(self, stream: str, after: int, head: int) -> None:
        self.following.add(stream)
        self.client.cursors[stream] = after
        self.marks.setdefault(stream, {})
        self.present.setdefault(stream, {})
        self.rows[stream] = {}
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
                self.now(),
                self.name,
                stream,
                seq,
                frame["key"],
                frame["by"],
                what(frame["type"], frame["at"], body),
                mark,
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
        if op == "position":
            self.client.judged(self, frame)
        if op == "sub":
            self.records(history.Answered(self.now(), self.name, frame["id"], True))
            self._follow(stream, frame["after"], frame["head"])
            return
        if op == "unsub":
            self.records(history.Unfollow(self.now(), self.name, stream))
            self.following.discard(stream)
        elif op == "presence" and "online" in frame and len(frame["online"]) == frame["count"]:
            self.present[stream] = {row["by"]: row["value"] for row in frame["online"] if row["value"] != "offline"}
        seqs = frame.get("seqs", ())
        self.records(
            history.Answered(
                self.now(), self.name, frame["id"], True, "", seqs[0] if seqs else frame.get("seq", 0),
                frame.get("dup", False), stream, key, len(seqs),
            )
        )  # fmt: skip
        if op == "command":
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            answered(self, frame, key)
        if op == "send":
            if self.client.pending.pop(key, None) is not None and frame["dup"] and key in self.client.repeated:
                self.world.meters.seen("commit unknown retried, found as duplicate")
            self.client.failed.discard(key)

    def _error(self, frame: Frame, payload: bytes) -> None:
        op, stream, key = self.answers.pop(frame.get("id", 0), ("", "", ""))
        self.records(
            history.Answered(
                self.now(), self.name, frame.get("id", 0), False, frame["code"], 0, frame.get("dup", False), stream, key, 0,
                frame.get("reason", ""),
            )
        )  # fmt: skip
        if op == "command":
            answered(self, frame, key)
        elif op == "position":
            self.client.judged(self, frame)
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
        self.records(
            history.Told(self.now(), self.name, frame["stream"], "mark", frame["by"], value, 0.0, head, sent_t)
        )

    def _signal(self, frame: Frame, payload: bytes) -> None:
        stream, by, value = frame["stream"], frame.get("by", frame.get("key")), frame["value"]
        head, sent_t = self.heads.popleft() if self.heads else (None, None)
        if frame["kind"] == "presence":
            present = self.present.setdefault(stream, {})
            if value == "offline":
                present.pop(by, None)  # type: ignore[arg-type]
            else:
                present[by] = value  # type: ignore[index]
        elif frame["kind"] == "row":
            self.world.meters.seen("row of the board told")
            self.rows.setdefault(stream, {})[by] = value  # type: ignore[index]
        told = history.Told(self.now(), self.name, stream, frame["kind"], by, value, frame["age"], head, sent_t)
        self.records(told)
        if frame["kind"] == "position":
            assert by is not None
            at_t = self.places[stream, by] = run_t(times.read(value["at"]).ms)
            stale = value.get("stale", False)
            self.world.meters.seen("subject told as stale", stale)
            self.records(history.Placed(self.now(), self.name, stream, by, at_t, frame["age"], sent_t, stale))
        elif frame["kind"] == "trail":
            assert by is not None
            been = [run_t(at_ms) for at_ms, *_ in value["points"]]
            self.records(history.Trailed(self.now(), self.name, stream, by, been))

    def _unsub(self, frame: Frame, payload: bytes) -> None:
        self.world.meters.seen("removed while following")
        self.following.discard(frame["stream"])
        self.client.cursors.pop(frame["stream"], None)
        self.records(history.Unfollow(self.now(), self.name, frame["stream"], frame["reason"], frame["seq"]))

    def _pong(self, frame: Frame, payload: bytes) -> None:
        if "id" in frame:
            self.answers.pop(frame["id"], None)
            self.records(history.Answered(self.now(), self.name, frame["id"], True))
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


_HANDLERS: Final[dict[str, Callable[[Told, Frame, bytes], None]]] = {
    "event": Told._event, "reset": Told._reset, "ok": Told._ok, "error": Told._error, "mark": Told._mark,
    "signal": Told._signal, "unsub": Told._unsub, "pong": Told._pong, "drain": Told._drain, "bye": Told._bye_said,
}  # fmt: skip
