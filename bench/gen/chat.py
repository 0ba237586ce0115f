"""Chat: many rooms, every send committed and delivered to all of its room.

Three phases, each at the harness's word. ``saturate``: a fixed number of sends outstanding, the next one leaves when one
is answered (closed loop: it finds the most the server does). ``rate``: sends due at fixed moments whatever the server
does (open loop), the latency counted from the due moment, so that a stall is paid for by every send it delayed.
``lone``: one send at a time on an otherwise idle server.

Every answer's latency is recorded; send-to-delivery is sampled on one connection of every ``sample``-th room.

With several ``ports`` the members of a room are spread over them, and one of each port is sampled: ``deliveries`` are those
at members of the first port, ``far`` those at the others. ``one_sender`` lets members of the first port alone send.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from picows import WSFrame, WSTransport

from bench.gen.conn import Conn, close_all, open_all, settle
from bench.gen.dialect import Dialect, Keys, body, dialect_of, sent_at_ns
from bench.gen.link import Link, Window, counted_from, monotonic_ns, until
from bench.stats import Histogram

TICK_S = 0.002
DRAIN_LIMIT_S = 15.0


class Talk:
    """What all connections of the process share: who sends next, what is outstanding, what was recorded."""

    def __init__(self, payload: int) -> None:
        self.payload = payload
        self.keys = Keys()
        self.sent: dict[int, int] = {}
        """Outstanding sends: id to the moment they are counted from."""
        self.next_id = 0
        self.conns: list[Chatter] = []
        """Those that send, in their order."""
        self.turn = 0
        self.loop_closed = False
        """Whether an answer lets the next send go."""
        self.acks: list[int] = []
        self.seen: list[int] = []
        self.far: list[int] = []
        self.refusals = 0
        self.refused = b""
        self.lone: asyncio.Future[None] | None = None

    def send_next(self, counted_ns: int) -> None:
        """The next connection in turn sends; the turn goes room by room, so that rooms share the load evenly."""
        conn = self.conns[self.turn]
        self.turn = (self.turn + 1) % len(self.conns)
        self.next_id += 1
        self.sent[self.next_id] = counted_ns
        conn.send(conn.dialect.send(self.next_id, conn.room, self.keys(), body(counted_ns, self.payload)))

    def answered(self, payload: bytes) -> None:
        at = payload.index(b'"id":') + 5
        ident = int(payload[at : payload.index(b",", at)])
        now = monotonic_ns()
        self.acks.append(now - self.sent.pop(ident))
        if self.loop_closed:
            self.send_next(now)
        elif self.lone is not None and not self.lone.done():
            self.lone.set_result(None)

    def denied(self, payload: bytes) -> None:
        """A send was refused: it stays outstanding no longer, and its reason is kept for the report."""
        self.refusals += 1
        self.refused = payload
        at = payload.find(b'"id":')
        if at >= 0:
            digits = payload[at + 5 : at + 25].split(b",", 1)[0].rstrip(b"}")
            if digits.isdigit():
                self.sent.pop(int(digits), None)


class Chatter(Conn):
    def __init__(self, dialect: Dialect, hello: bytes, room: bytes, talk: Talk, samples: list[int] | None) -> None:
        super().__init__(dialect, hello)
        self.room = room
        self.talk = talk
        self.samples = samples
        self.event_prefix = dialect.event_prefix
        self.answer_prefix = dialect.answer_prefix
        self.events = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # Deliveries are most of what this process does, on the cores that the server needs: no call more than needed.
        if self.opened is None:
            payload = frame.get_payload_as_bytes()
            if payload.startswith(self.event_prefix):
                self.events += 1
                if self.samples is not None:
                    self.samples.append(monotonic_ns() - sent_at_ns(payload))
            else:
                self.on_payload(payload, frame)
        else:
            super().on_ws_frame(transport, frame)

    def on_payload(self, payload: bytes, frame: WSFrame) -> None:
        if payload.startswith(self.event_prefix):  # in the same read as the welcome
            self.events += 1
        elif payload.startswith(self.answer_prefix):
            self.talk.answered(payload)
        elif b'"op":"error"' in payload:
            self.talk.denied(payload)
        else:
            self.on_other(payload)


def places(ports: list[int], rooms: int, connections: int) -> list[int]:
    """Which port each connection takes: a room's members go round the ports, every room beginning at another one."""
    return [ports[(number // rooms + number % rooms) % len(ports)] for number in range(connections)]


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port or ports, dialect, connections, tokens, rooms (names), payload, sample. Go: phase, its window or count.

    Result: sends answered and events delivered in the window, latencies of both, refusals, sends left unanswered.
    """
    talk = Talk(job["payload"])
    rooms: list[str] = job["rooms"]
    tokens: list[str] = job["tokens"] or [""]
    every: int = job["sample"]
    ports: list[int] = job.get("ports") or [job["port"]]
    at_ports = places(ports, len(rooms), job["connections"])
    taken: set[tuple[int, int]] = set()

    def maker(number: int) -> Chatter:
        dialect = dialect_of(job["dialect"])
        at = number % len(rooms)
        hello = dialect.hello(tokens[number % len(tokens)] or None, {rooms[at]: {}})
        place = (at, at_ports[number])
        sampled = at % every == 0 and place not in taken
        taken.add(place)
        samples = talk.seen if at_ports[number] == ports[0] else talk.far
        return Chatter(dialect, hello, rooms[at].encode(), talk, samples if sampled else None)

    everybody = await open_all([partial(maker, number) for number in range(job["connections"])], at_ports, link)
    talk.conns = [
        conn
        for conn, port in zip(everybody, at_ports, strict=True)
        if port == ports[0] or not job.get("one_sender", False)
    ]
    await settle(everybody)
    while (go := await link.ready())["phase"] != "end":
        if go["phase"] == "lone":
            link.result(**await lone(talk, go["count"]))
        else:
            link.result(**await windowed(talk, everybody, go))
    await close_all(everybody)


async def windowed(talk: Talk, everybody: list[Chatter], go: dict[str, Any]) -> dict[str, Any]:
    window = Window.of(go)
    sending: asyncio.Task[int] | None = None
    await until(window.start_ns)
    if go["phase"] == "saturate":
        talk.loop_closed = True
        for _ in range(go["outstanding"]):
            talk.send_next(monotonic_ns())
    else:
        sending = asyncio.create_task(paced(talk, go["rate"], window))
    await until(window.from_ns)
    talk.acks.clear()
    talk.seen.clear()
    talk.far.clear()
    before, began = _events(everybody), monotonic_ns()
    await until(window.until_ns)
    took, answered, seen, far = monotonic_ns() - began, len(talk.acks), len(talk.seen), len(talk.far)
    delivered = _events(everybody) - before
    talk.loop_closed = False
    late = await sending if sending else 0
    # Sends still outstanding at the end of an open loop belong to the record: a stall must not fall off its edge.
    deadline = monotonic_ns() + int(DRAIN_LIMIT_S * 1e9)
    while talk.sent and monotonic_ns() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    acks, deliveries, far_deliveries = Histogram(), Histogram(), Histogram()
    acks.record_all(talk.acks if sending else talk.acks[:answered])
    deliveries.record_all(talk.seen if sending else talk.seen[:seen])
    far_deliveries.record_all(talk.far if sending else talk.far[:far])
    result = {
        "took_ns": took,
        "answered": answered,
        "delivered": delivered,
        "late": late,
        "unanswered": len(talk.sent),
        "refusals": talk.refusals,
        "refused": talk.refused.decode(errors="replace"),
        "acks": acks.to_json(),
        "deliveries": deliveries.to_json(),
        "far": far_deliveries.to_json(),
    }
    talk.sent.clear()
    return result


async def paced(talk: Talk, rate: float, window: Window) -> int:
    """Send everything that is due at every tick. Returns how many left more than a tick after they were due."""
    gap_ns = 1e9 / rate
    number = late = 0
    while True:
        now = monotonic_ns()
        if now >= window.until_ns:
            return late
        while (due := window.start_ns + int(number * gap_ns)) <= now:
            number += 1
            late += now - due > 2 * TICK_S * 1e9
            talk.send_next(counted_from(due))
        await asyncio.sleep(TICK_S)


async def lone(talk: Talk, count: int) -> dict[str, Any]:
    """One send after another, each when the one before was answered and a moment has passed."""
    talk.acks.clear()
    for _ in range(count):
        talk.lone = asyncio.get_running_loop().create_future()
        talk.send_next(monotonic_ns())
        async with asyncio.timeout(DRAIN_LIMIT_S):
            await talk.lone
        await asyncio.sleep(0.002)
    talk.lone = None
    acks = Histogram()
    acks.record_all(talk.acks)
    return {"acks": acks.to_json(), "refusals": talk.refusals, "refused": talk.refused.decode(errors="replace")}


def _events(conns: list[Chatter]) -> int:
    return sum(conn.events for conn in conns)
