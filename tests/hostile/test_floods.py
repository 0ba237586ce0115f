"""Too much of everything: what one client can pile up in the node is bounded, and the others' chat goes on."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import uuid

import pytest
import trio
from trio.testing import MockClock

from core.frames import CLOSE, PING, TEXT, close_payload, masked_frame
from core.limits import Limits
from core.signals import Signals
from core.stream import Port
from gateway import ops
from tests.hostile.peer import MASK, request, text
from tests.hostile.scene import ROOM, Scene, held_bytes, resident_bytes, scene

MIB = 1_048_576
CHUNK = 250_000


async def test_a_million_empty_fragments() -> None:
    """They add up to nothing, are legal and hold no memory; the others get their turns between them."""
    async with scene() as stage:
        peer = await stage.welcomed()
        end = stage.server_side("user:mallory")
        await peer.put(masked_frame(TEXT, b"", MASK, fin=False))
        some = masked_frame(0, b"", MASK, fin=False) * 50_000
        before = resident_bytes()
        for _ in range(20):
            await peer.put(some)
            await stage.room.rounds(1)
        assert resident_bytes() - before < 8 * MIB
        assert end.reader.pending
        await peer.put(masked_frame(0, b'{"op":"ping","id":4}', MASK))
        assert (await peer.next(id=4))["op"] == "pong"


async def test_a_message_in_tens_of_thousands_of_fragments_that_are_not_empty() -> None:
    """Fragments of one byte up to the largest message are legal, and one buffer takes them all."""
    async with scene() as stage:
        peer = await stage.welcomed()
        message = b'{"op":"ping","id":4}' + b" " * 65_000
        await peer.put(masked_frame(TEXT, message[:1], MASK, fin=False))
        body = b"".join(masked_frame(0, message[at : at + 1], MASK, fin=False) for at in range(1, len(message)))
        for at in range(0, len(body), CHUNK):
            await peer.put(body[at : at + CHUNK])
        await peer.put(masked_frame(0, b"", MASK))
        assert (await peer.next(id=4))["op"] == "pong"


async def test_a_million_pings_from_one_who_reads_the_answers() -> None:
    """WebSocket pings are answered as fast as they are taken, and take no turn of anyone else's."""
    async with scene() as stage:
        peer = await stage.welcomed()
        burst = masked_frame(PING, b"", MASK) * (CHUNK // 6)
        pongs = 0

        async def drink() -> None:
            nonlocal pongs
            while pongs < 24 * (CHUNK // 6) * 2:
                data = await peer.stream.receive_some(1 << 20)
                assert data
                pongs += len(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drink)
            for _ in range(24):
                await peer.put(burst)
        await stage.still_serves(peer)


async def _flood_unread(stage: Scene, data: bytes, *, held_max: int) -> None:
    """Say all of ``data`` without reading; returns once the node has stopped reading too."""
    peer = stage.peers[-1]
    end = stage.squeeze(peer, "user:mallory")
    stage.nursery.start_soon(peer.put, data)
    await stage.until(lambda: end.choked)
    for _ in range(5):
        await stage.room.rounds(1)
        assert held_bytes(end) < held_max
    assert end.choked
    stage.relax(peer, end)


async def test_fifty_thousand_pings_from_one_who_reads_nothing() -> None:
    """Its answers fill its socket, then it is not read from: what it says next waits in its own kernel buffers. When it
    reads at last, every answer is there, in order."""
    async with scene() as stage:
        peer = await stage.welcomed()
        data = b"".join(text(b'{"op":"ping","id":%d}' % n) for n in range(100, 50_100))
        await _flood_unread(stage, data, held_max=MIB)
        ids: list[int] = []
        peer.on_message = lambda message: ids.append(message["id"])
        await peer.until(lambda: len(ids) == 50_000)
        assert ids == list(range(100, 50_100))


AMPLIFIED = {
    "history": (b'{"op":"history","id":%d,"stream":"chat:ops","limit":500}', 500),
    "presence": (b'{"op":"presence","id":%d,"stream":"chat:bystanders"}', 20_000),
    "unknown op": (b'{"op":"?","id":%d}', 20_000),
}


@pytest.mark.parametrize("op", AMPLIFIED)
async def test_small_questions_with_large_answers_from_one_who_reads_nothing(op: str) -> None:
    """A kilobyte of questions can ask for a megabyte of answers. The answers kept are bounded, not the questions'
    number: ``history`` once answered all that had been read in one go, 64 KB each, to a socket that took none."""
    question, count = AMPLIFIED[op]
    async with scene() as stage:
        peer = await stage.welcomed()
        for n in range(50):
            await peer.send(ROOM, {"text": "x" * 10_000, "n": n})
        data = b"".join(text(question % n) for n in range(100, 100 + count))
        await _flood_unread(stage, data, held_max=3 * MIB)
        answered: list[int] = []
        peer.on_message = lambda message: answered.append(message["id"])
        await peer.until(lambda: len(answered) == count)
        assert answered == list(range(100, 100 + count))


async def test_five_thousand_sends_from_one_who_reads_nothing() -> None:
    """Each is answered once: committed, or ``rate_limited`` beyond the unanswered sends a connection may have."""
    async with scene() as stage:
        peer = await stage.welcomed()
        end = stage.squeeze(peer, "user:mallory")
        sends = [
            text({"op": "send", "id": n, "stream": ROOM, "key": str(uuid.uuid4()), "body": {"n": n}})
            for n in range(100, 5_100)
        ]
        answers: dict[int, str] = {}

        stage.nursery.start_soon(peer.put, b"".join(sends))
        await stage.until(lambda: end.choked)
        await stage.room.rounds(3)
        assert held_bytes(end) < MIB
        assert end.inflight <= Limits().inflight_sends_per_connection_max
        oks: list[int] = []
        stage.relax(peer, end)

        def heard(message: dict[str, object]) -> None:
            id = message["id"]
            assert isinstance(id, int)
            assert id not in answers
            answers[id] = str(message.get("code", message["op"]))
            if message["op"] == "ok":
                seq = message["seq"]
                assert isinstance(seq, int)
                oks.append(seq)

        peer.on_message = heard
        await peer.until(lambda: len(answers) == 5_000)
        assert set(answers.values()) <= {"ok", "rate_limited"}
        assert oks == list(range(1, len(oks) + 1))
        sub = await _head(stage)
        assert sub == len(oks)


async def _head(stage: Scene) -> int:
    reader = await stage.welcomed("user:reader")
    head = (await reader.ask("sub", stream=ROOM))["head"]
    assert isinstance(head, int)
    return head


async def test_a_storm_of_subscribing_and_leaving() -> None:
    """Joining and leaving thousands of times leaves no trace: one subscription or none, and the answers in order."""
    async with scene() as stage:
        peer = await stage.welcomed()
        pairs = [
            text(b'{"op":"%b","id":%d,"stream":"chat:bystanders"}' % (op, n))
            for n in range(100, 5_100)
            for op in (b"sub", b"unsub")
        ]
        oks: list[int] = []
        peer.on_message = lambda message: oks.append(message["id"]) if message["op"] == "ok" else None
        stage.nursery.start_soon(peer.put, b"".join(pairs))
        await peer.until(lambda: len(oks) == 10_000)
        assert oks == [n for n in range(100, 5_100) for _ in range(2)]
        end = stage.server_side("user:mallory")
        assert not end.subs
        stream = stage.node.node.hub.by_name["demo", "chat:bystanders"]
        assert end not in stream.live
        assert end not in stream.behind
        assert len(stream.live) + len(stream.behind) == 20


async def test_a_storm_of_going_away_and_coming_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn from online to away touches every stream one follows: with 1,000 streams, the toggles of one chunk of
    64 KB once held the whole node for 1.4 seconds. Now the last word before a flush counts, and the others cost nothing."""
    turns = 0
    turn = Signals._turn

    def counted(signals: Signals, port: Port, away: bool) -> None:
        nonlocal turns
        turns += 1
        turn(signals, port, away)

    monkeypatch.setattr(Signals, "_turn", counted)
    async with scene(limits=Limits(signal_flush_s=0.2)) as stage:
        for n in range(100):
            await stage.node.stream(f"chat:m-{n}")
        peer = await stage.welcomed(streams={f"chat:m-{n}": {} for n in range(100)} | {ROOM: {}})
        amy = await stage.welcomed("user:amy", {ROOM: {}})
        values = ("away", "online") * 1_000 + ("away",)
        said = [text({"op": "signal", "id": n, "kind": "presence", "value": v}) for n, v in enumerate(values, 100)]
        await peer.put(b"".join(said))
        assert (await peer.next(id=2_100))["op"] == "ok"
        assert await amy.next("signal", kind="presence", by="user:mallory", value="away")
        await stage.until(lambda: stage.server_side("user:mallory").away)
        assert turns < 200
        assert (await amy.ask("presence", stream=ROOM))["online"][0]["value"] == "away"


async def test_a_storm_of_streams_that_do_not_exist() -> None:
    """Each is looked for and not found; the node remembers none of them."""
    async with scene() as stage:
        peer = await stage.welcomed()
        held = len(stage.node.node.hub.by_sid)
        said = b"".join(text(b'{"op":"sub","id":%d,"stream":"chat:no-%d"}' % (n, n)) for n in range(100, 2_100))
        answers: list[str] = []
        peer.on_message = lambda message: answers.append(message["code"])
        stage.nursery.start_soon(peer.put, said)
        await peer.until(lambda: len(answers) == 2_000)
        assert set(answers) == {"not_found"}
        assert len(stage.node.node.hub.by_sid) == held


async def test_one_who_reads_nothing_while_its_room_gets_five_thousand_events() -> None:
    """It costs a cursor: nothing of the 5,000 is kept for it beyond a cut frame. When it reads, it gets them all, once
    and in order."""
    async with scene() as stage:
        peer = await stage.welcomed(streams={ROOM: {"after": 0}})
        end = stage.squeeze(peer, "user:mallory")
        busy = await stage.welcomed("user:busy")
        before = resident_bytes()
        total = 5_000
        for start in range(0, total, 500):
            sends = [
                text(
                    {"op": "send", "id": n, "stream": ROOM, "key": str(uuid.uuid4()), "body": {"n": n, "x": "y" * 1000}}
                )
                for n in range(start + 100, start + 600)
            ]
            answered: list[object] = []
            busy.on_message = answered.append
            await busy.put(b"".join(sends))
            await busy.until(lambda seen=answered: len(seen) == 500)  # type: ignore[misc]
            assert held_bytes(end) < 65_536
        assert end.blocked
        limits = Limits()
        assert stage.node.node.hub.ring_bytes < 3 * limits.ring_bytes_max
        assert resident_bytes() - before < 64 * MIB  # the log in memory has its 5 MB in it
        seqs: list[int] = []
        peer.on_message = lambda m: seqs.append(m["seq"]) if m["op"] == "event" else None
        stage.release(peer, end)
        await peer.until(lambda: len(seqs) >= total)
        assert seqs == list(range(1, total + 1))


async def test_data_after_a_close_frame_is_thrown_away() -> None:
    """The close is answered with its own code; whatever follows it is no message any more."""
    async with scene() as stage:
        peer = await stage.welcomed()
        after = text({"op": "send", "id": 5, "stream": ROOM, "key": str(uuid.uuid4()), "body": 1}) * 1000
        await peer.put(masked_frame(CLOSE, close_payload(1000, "done"), MASK) + after)
        assert (await peer.ended())[0] in (1000, 1006)  # 1006: reset, for it writes into a socket that was closed
        assert await _head(stage) == 0


async def test_one_who_never_closes_its_half_is_cut_off(clock: MockClock) -> None:
    """After our close frame the peer has a moment to close too; then the socket goes, whatever it still says."""
    async with scene() as stage:
        peer = await stage.welcomed()
        await peer.put(b"\xc1\x80" + MASK)
        assert (await peer.ended())[0] == 1002
        for _ in range(5):
            await peer.put(b"more" * 10_000)
            await stage.room.rounds(1)
            clock.jump(1.0)
        await stage.until(lambda: len(stage.node.node.shard.connections) == 20)


_MANY = """
import socket, sys
held = []
try:
    for _ in range(int(sys.argv[2])):
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5))
except OSError:
    pass
print(len(held), flush=True)
sys.stdin.read()
"""


async def test_a_node_out_of_descriptors_serves_those_it_has(clock: MockClock) -> None:
    """Out of descriptors it takes nobody new, says so once, does not spin, and goes on by itself when some are free.

    The listening socket stays readable while somebody waits in its backlog: polled as usual, it woke the shard for
    nothing thousands of times a second, each with a warning in the log.
    """
    async with scene() as stage:
        shard = stage.node.node.shard
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        many = await trio.lowlevel.open_process(
            [sys.executable, "-c", _MANY, str(stage.node.port), "300"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert many.stdin is not None
        assert many.stdout is not None
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, hard))
        try:
            await many.stdout.receive_some()
            await stage.until(lambda: any("cannot accept" in record.getMessage() for record in stage.lines))
            turns, lines = shard.counts.turns, len(stage.lines)
            rounds = 20
            await stage.room.rounds(rounds)
            assert shard.counts.turns - turns < 40 * rounds  # some turns a message, none for nothing
            assert len(stage.lines) - lines <= 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await many.stdin.aclose()
            await many.wait()
        clock.jump(2.0)
        late = await stage.welcomed("user:late")
        await stage.still_serves(late)


async def test_a_bug_met_by_a_message_that_had_to_wait_ends_its_connection_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Messages behind one that asks the log are handled outside the shard's turn, and once outside the exception boundary
    of the connection: whatever raised there took the whole node down."""

    def stumble(*_: object) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setitem(ops._HANDLERS, "unsub", stumble)
    async with scene() as stage:
        peer = await stage.welcomed()
        await peer.put(text({"op": "history", "id": 1, "stream": ROOM}) + text({"op": "unsub", "id": 2}))
        code, bye = await peer.bye()
        assert (code, bye["code"], bye["reason"]) == (4000, "internal", "internal error")
        stage.pardon("connection of tenant 'demo' ended by an internal error")


async def test_half_a_frame_then_a_reset() -> None:
    """A connection that dies amid a frame takes its half message with it, and nothing else."""
    async with scene() as stage:
        before = len(stage.node.node.hub.by_sid)
        for n in range(50):
            stream = await trio.open_tcp_stream("127.0.0.1", stage.node.port)
            await stream.send_all(request() + text({"op": "ping", "n": n})[: 5 + n % 9])
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.socket.close()
        await stage.until(lambda: len(stage.node.node.shard.connections) == 20)
        assert len(stage.node.node.hub.by_sid) == before


async def test_frames_that_end_where_a_read_ends() -> None:
    """Every way of cutting a stream of frames into reads gives the same messages."""
    async with scene() as stage:
        peer = await stage.welcomed()
        data = b"".join(text(b'{"op":"ping","id":%d,"pad":"%b"}' % (n, b"x" * n)) for n in range(100, 200))
        for size in (1, 7, 4096):
            for at in range(0, len(data), size):
                await peer.put(data[at : at + size])
            ids = [(await peer.next("pong"))["id"] for _ in range(100)]
            assert ids == list(range(100, 200))
