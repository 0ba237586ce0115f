"""A capture of a lively session, with the log's own truth beside it: it holds, it is complete, and damage in it is named.

People talk while connections are cut and resumed, one reads nothing for a while, one is removed, and the node drains:
first a node in this process over a log in memory, then `readback serve` with its Postgres, judged by `readback check` as an
operator would.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from core.limits import Limits
from core.tokens import Identity
from gateway.capture import Capture
from gateway.tap import Tap
from proof.committed import followed, read_log
from proof.files import files_of, read_all
from proof.guarantees import check
from proof.history import Answered, DrainTold, End, Ended, Record, Told, Took, Unfollow
from store.postgres import open_postgres_log
from tests.nodes import TestNode, serving_node, token
from tests.raw_client import RawClient
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.serving import HOME, Serving, serving
from tests.wire_client import WireClient, hello, wire_client

ROOM, CREW = "chat:ops", "chat:crew"
LIMITS = replace(Limits(), drain_window_s=0.4)
TURNS, EACH = 3, 20

Frames = list[dict[str, Any]]


class Party:
    """The clients of a session, in the order in which they connected, and what each was told."""

    def __init__(self, node: TestNode) -> None:
        self.node = node
        self.told: list[Frames] = []

    async def join(self, principal: str, streams: dict[str, Any], *, buffer_bytes: int | None = None) -> Guest:
        guest = self._guest(buffer_bytes)
        guest.told.append(await guest.client.hello(principal, streams=streams))
        return guest

    async def resume(self, welcome: dict[str, Any], cursors: dict[str, int]) -> Guest:
        guest = self._guest(None)
        await guest.client.upgrade()
        await guest.client.say("resume", id=0, resume=welcome["resume"], log=welcome["log"], streams=cursors)
        await guest.until("welcome")
        return guest

    def _guest(self, buffer_bytes: int | None) -> Guest:
        guest = Guest(RawClient(self.node.node, buffer_bytes))
        self.told.append(guest.told)
        return guest


class Guest:
    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.told: Frames = []
        self._ident = 0

    async def until(self, op: str, count: int = 1, **fields: Any) -> None:
        """Read on until so many such frames were told on this connection in all."""

        def such(frame: dict[str, Any]) -> bool:
            return frame["op"] == op and fields.items() <= frame.items()

        while sum(map(such, self.told)) < count:
            self.told.append(await self.client.message())

    async def send(self, stream: str, text: str) -> None:
        self._ident += 1
        body = {"text": text}
        await self.client.say("send", id=self._ident, stream=stream, key=str(uuid4()), type="message", body=body)
        await self.until("ok", id=self._ident)

    async def rest(self) -> None:
        """Up to the end of the connection."""
        while (frame := await self.client.frame()) is not None:
            if frame[0] == 1:
                self.told.append(json.loads(frame[1]))


async def session(node: TestNode, capture: Capture) -> Party:
    party = Party(node)
    await node.stream(ROOM)
    await node.stream(CREW, open=False, members={"user:amy": "owner", "user:cy": "member"})
    amy = await party.join("user:amy", {ROOM: {}, CREW: {}})
    cy = await party.join("user:cy", {CREW: {}})
    dee = await party.join("user:dee", {ROOM: {}}, buffer_bytes=4_096)
    bob = await party.join("user:bob", {ROOM: {"after": 0}})
    for turn in range(1, TURNS + 1):
        for number in range(EACH):
            await amy.send(ROOM, f"{turn}.{number} {'x' * 600}")
        await bob.until("event", EACH)
        await bob.client.stream.aclose()  # cut off, as its network would
        bob = await party.resume(bob.told[0], {ROOM: EACH * turn})
    assert dee.client.connection.blocked, "it has not read anything"
    await dee.until("event", TURNS * EACH)
    await amy.send(CREW, "to all")
    boss = node.node.proving.verify(token("service:ops", roles=["admin"]))
    assert isinstance(boss, Identity)
    await node.desk.remove_member(boss, CREW, "user:cy")
    await cy.until("unsub")
    await amy.send(CREW, "without cy")
    await bob.client.say("sub", id=7, stream=CREW)  # of which he is no member
    await bob.until("error")
    capture.draining(len(node.node.shard.connections))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.node.drain)
        for guest in (amy, bob, cy, dee):
            nursery.start_soon(guest.rest)
    capture.drained(node.node.drained.unanswered)
    for guest in (amy, bob, cy, dee):
        await guest.client.stream.aclose()
    return party


async def recorded(folder: Path) -> tuple[Party, list[Record]]:
    """The session with its capture, and what the log holds at the end of it."""
    async with serving_node(limits=LIMITS) as node:
        async with Capture(folder, "n.1", node.limits, node.node.wall).running(node.node) as capture:
            party = await session(node, capture)
        records = list(read_all([folder]))
        end = records.pop()
        assert isinstance(end, End)
        await read_log(node.log, sorted(followed(records)), end.t, records.append)
        return party, [*records, end]


async def test_a_lively_session_holds(tmp_path: Path) -> None:
    """Every guarantee that a capture can speak of was looked at, and none is broken."""
    _, records = await recorded(tmp_path)
    report = check(records)
    assert report.holds, report.findings[:3]
    assert not report.warnings
    for name in (
        "Ordered",
        "Unique",
        "Reliable-or-told",
        "Durable-ack",
        "Exactly-one-effect",
        "Tenant-wall",
        "Auth-fresh",
        "Latest-value",
        "Blast-radius-one",
        "Drain",
        "Clean-exit",
        "Epoch-honest",
    ):
        assert report.state(name) == "holds", name


async def test_everything_that_a_client_got_is_in_it(tmp_path: Path) -> None:
    """Frame by frame, in its order: events, answers, markers and signals, removals, drains."""
    party, records = await recorded(tmp_path)
    assert len(party.told) == 4 + TURNS
    for number, told in enumerate(party.told, 1):
        conn = f"n.1/{number}"
        mine = [record for record in records if getattr(record, "conn", "") == conn]
        kinds: dict[type[Record], Callable[[dict[str, Any]], object]] = {
            Took: lambda one: (one["stream"], one["seq"], one["key"], one["by"]),
            Told: lambda one: (one["stream"], one.get("kind", "mark"), one.get("by")),
            Unfollow: lambda one: (one["stream"], one["seq"]),
            DrainTold: lambda one: one["after_ms"] / 1000,
        }
        ops = {"event": Took, "mark": Told, "signal": Told, "unsub": Unfollow, "drain": DrainTold}
        got = [kinds[ops[one["op"]]](one) for one in told if one["op"] in ops]
        kept: list[object] = []
        for record in mine:
            if isinstance(record, Took):
                kept.append((record.stream, record.seq, record.key, record.by))
            elif isinstance(record, Told):
                kept.append((record.stream, record.kind, record.by))
            elif isinstance(record, Unfollow):
                kept.append((record.stream, record.seq))
            elif isinstance(record, DrainTold):
                kept.append(record.after_s)
        # Who was cut off has not read all that the kernel took for it.
        assert kept[: len(got)] == got, conn
        answers = [(one["id"], one["op"] == "ok") for one in told if one["op"] in ("ok", "error")]
        assert [(one.id, one.ok) for one in mine if isinstance(one, Answered)] == answers
    ends = {record.conn: record.by for record in records if isinstance(record, Ended)}
    assert [ends[f"n.1/{number}"] for number in range(1, 5 + TURNS)] == [
        *["server"] * 3, *["network"] * TURNS, "server",
    ]  # fmt: skip


def first_of_dee(records: list[Record]) -> int:
    """The place of an event in the middle of what the slow reader got."""
    mine = [at for at, one in enumerate(records) if isinstance(one, Took) and one.conn == "n.1/3"]
    return mine[len(mine) // 2]


def without(records: list[Record], at: int) -> list[Record]:
    return records[:at] + records[at + 1 :]


def twice(records: list[Record], at: int) -> list[Record]:
    return records[: at + 1] + records[at:]


def swapped(records: list[Record], at: int) -> list[Record]:
    later = next(
        other for other in range(at + 1, len(records)) if isinstance(records[other], Took) and records[other].conn == "n.1/3"  # type: ignore[union-attr]
    )  # fmt: skip
    found = list(records)
    found[at], found[later] = found[later], found[at]
    return found


def another(records: list[Record], at: int) -> list[Record]:
    return [replace(one, what="other") if number == at else one for number, one in enumerate(records)]  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("damage", "named"),
    [(without, "Reliable-or-told"), (twice, "Unique"), (swapped, "Ordered"), (another, "Ordered")],
)
async def test_damage_in_a_capture_is_named(
    tmp_path: Path, damage: Callable[[list[Record], int], list[Record]], named: str
) -> None:
    """One event of hundreds left out, given twice, out of its turn, or another."""
    _, records = await recorded(tmp_path)
    at = first_of_dee(records)
    report = check(damage(records, at))
    assert named in {finding.guarantee for finding in report.findings}
    assert any("n.1/3" in finding.where for finding in report.findings)


async def test_a_node_that_loses_an_event_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of one event never reach the slow reader's socket, though the node believes that they did."""
    lost: list[bytes] = []
    send = Tap.send

    def losing(tap: Tap, data: bytes) -> int:
        at = data.find(b'"seq":7,')
        if tap._name == "n.1/1" and at >= 0 and not lost and data.startswith((b"\x81\x7e", b"\x81\x7f")):
            size = 4 + int.from_bytes(data[2:4], "big")
            if data[4:size].startswith(b'{"op":"event"') and at < size:
                lost.append(data[:size])
                return size + (send(tap, data[size:]) if len(data) > size else 0)
        return send(tap, data)

    monkeypatch.setattr(Tap, "send", losing)
    async with serving_node(limits=LIMITS) as node:
        await node.stream(ROOM)
        async with Capture(tmp_path, "n.1", node.limits, node.node.wall).running(node.node):
            amy = await Party(node).join("user:amy", {ROOM: {}})
            for number in range(10):
                await amy.send(ROOM, "y" * 200 + str(number))
            await amy.client.stream.aclose()
    assert lost
    (finding,) = check(list(read_all([tmp_path]))).findings
    assert finding.guarantee == "Reliable-or-told"
    assert "7 was left out" in finding.detail


async def test_a_tap_that_misses_a_frame_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge is not told what it wants to hear by a tap that is wrong: that shows as a loss, too."""
    out = Tap._out
    monkeypatch.setattr(Tap, "_out", lambda tap, data: None if b'"seq":7,"type"' in data else out(tap, data))
    _, records = await recorded(tmp_path)
    assert "Reliable-or-told" in {finding.guarantee for finding in check(records).findings}


# -- as an operator does it -------------------------------------------------------------------------------------------------


def judged(folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """`readback check --history`: its status and its document."""
    command = [sys.executable, "-m", "gateway", "check", "--history", str(folder), "--json", *more]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


async def drained(served: Serving, *clients: WireClient) -> dict[str, Any]:
    """Ask the node to end, and see it out; what the first of its clients was told of it."""
    served.process.send_signal(signal.SIGTERM)
    told = await clients[0].next("drain")
    for client in clients:
        await client.closed()
    assert await served.end() == 0
    return told


async def test_serve_writes_a_capture_that_check_judges(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """Switched on by one variable; two starts of a node, one after the other, are one history with the log's truth in it."""
    captures = tmp_path / "captures"
    async with open_postgres_log(database.url) as log:
        await log.create_stream("demo", ROOM, open=True, members=[], by="service:test")
    environ = {
        "READBACK_DATABASE_URL": database.url,
        "READBACK_CAPTURE": str(captures),
        "READBACK_NODE": "gate",
        "READBACK_LIMIT_DRAIN_WINDOW_S": "1",
    }
    async with (
        serving(tmp_path / "a", environ=environ) as served,
        hello(served.url, "user:amy", {ROOM: {}}) as amy,
        hello(served.url, "user:bob", {ROOM: {}}) as bob,
    ):
        for number in range(5):
            await amy.send(ROOM, f"before {number}")
        await bob.events(ROOM, 5)
        told = await drained(served, bob, amy)
    async with serving(tmp_path / "b", environ=environ) as served, wire_client(served.url) as bob:
        again = await bob.ask("resume", resume=told["resume"], log=epoch_of(amy), streams={ROOM: 3})
        assert again["op"] == "welcome"
        await bob.events(ROOM, 5)
        await bob.send(ROOM, "after")
        await bob.events(ROOM, 6)
        await drained(served, bob)
    status, found = judged(captures, "--with-log", "--database-url", database.url)
    states = {one["guarantee"]: one["state"] for one in found["guarantees"]}
    assert (status, found["findings"], found["warnings"]) == (0, [], [])
    for name in ("Ordered", "Unique", "Reliable-or-told", "Durable-ack", "Epoch-honest", "Drain", "Clean-exit"):
        assert states[name] == "holds", name
    assert states["Resumable"] == "nothing seen", "that a client's token was good is not for a node to claim"
    assert {path.name.partition(".")[0] for path in files_of([captures])} == {"gate"}
    for path in files_of([captures]):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(line for line in lines if b'"k":"took"' not in line or b'"seq":3,' not in line))
    status, found = judged(captures)
    assert status == 1
    assert {one["guarantee"] for one in found["findings"]} == {"Reliable-or-told"}
    assert found["findings"][0]["where"].endswith(f"of demo), {ROOM}")


def epoch_of(client: WireClient) -> str:
    """The epoch of the log, which every welcome names."""
    epoch = client.seen[0]["log"]
    assert isinstance(epoch, str)
    return epoch


async def test_a_folder_that_cannot_be_used_ends_the_start(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """One sentence, and the status of a setting that cannot be used."""
    (tmp_path / "file").write_text("")
    environ = {"READBACK_DATABASE_URL": database.url, "READBACK_CAPTURE": str(tmp_path / "file")}
    async with serving(tmp_path / "n", environ=environ, wait=False) as served:
        assert await served.end() == 2
        (line,) = [line for line in served.words().splitlines() if line.startswith("readback: ")]
        assert "captures cannot be used" in line
        assert "Traceback" not in served.words()
