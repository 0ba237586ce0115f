"""gateway.capture: what passes on a node's connections, written down as it passes, within bounds, and nothing secret."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from core.frames import CLOSE, TEXT, masked_frame
from core.limits import Limits
from core.wire import Close
from gateway import capture as capturing
from gateway.capture import Capture, Part
from gateway.config import ConfigError
from proof import history
from proof.files import read_all
from proof.guarantees import check
from proof.history import (
    Answered,
    Asked,
    Drained,
    Draining,
    End,
    Ended,
    Open,
    Record,
    Rejected,
    Run,
    Took,
    Welcome,
)
from tests.nodes import TestNode, serving_node, token, until
from tests.raw_client import MASK, UPGRADE, RawClient

ROOM = "chat:ops"
KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"


class Stage:
    """A node with a room, all its connections captured, and the clients of a test."""

    def __init__(self, node: TestNode, capture: Capture) -> None:
        self.node = node.node
        self.capture = capture
        self._clients: list[RawClient] = []

    def client(self, buffer_bytes: int | None = None) -> RawClient:
        self._clients.append(RawClient(self.node, buffer_bytes))
        return self._clients[-1]

    async def close(self) -> None:
        for client in self._clients:
            await client.stream.aclose()


@asynccontextmanager
async def captured(folder: Path, limits: Limits | None = None) -> AsyncIterator[Stage]:
    async with serving_node(limits=limits) as node:
        await node.stream(ROOM)
        async with Capture(folder, "n.1", node.limits, node.node.wall).running(node.node) as capture:
            stage = Stage(node, capture)
            yield stage
        await stage.close()


def records(folder: Path) -> list[Record]:
    return list(read_all([folder]))


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def of(found: list[Record], kind: type[Record]) -> list[Any]:
    return [record for record in found if isinstance(record, kind)]


async def send(client: RawClient, ident: int, text: str, key: str = KEY) -> None:
    await client.say("send", id=ident, stream=ROOM, key=key, type="message", body={"text": text})


async def test_a_session_is_written_down_from_its_opening_to_its_end(tmp_path: Path) -> None:
    """Who, where from, what was asked and answered, what was given; and it stands every guarantee."""
    async with captured(tmp_path) as stage:
        client = stage.client()
        await client.hello(streams={ROOM: {}})
        await send(client, 2, "hi")
        await client.message()
        await client.message()
        await client.write(masked_frame(CLOSE, b"", MASK))
        await client.ended()
    found = records(tmp_path)
    assert [type(record).__name__ for record in found if not isinstance(record, history.Told)] == [
        "Run", "Open", "Welcome", "Follow", "Asked", "Took", "Answered", "Ended", "Exit", "End",
    ]  # fmt: skip
    (opened,), (took,), (answered,), (ended,) = (of(found, kind) for kind in (Open, Took, Answered, Ended))
    assert (opened.tenant, opened.who, opened.node, opened.asked) == ("demo", "user:amy", "n.1", {ROOM: None})
    assert opened.expires_t is not None
    assert opened.credential
    assert (took.stream, took.seq, took.key, took.by) == (ROOM, 1, KEY, "user:amy")
    assert (answered.id, answered.seq, answered.key) == (2, 1, KEY)
    assert ended.by == "client"
    assert {one.conn for one in (opened, took, answered, ended)} == {"n.1/1"}
    assert check(found).holds


async def test_bodies_and_tokens_are_not_in_it(tmp_path: Path) -> None:
    """Nor is the folder open to others."""
    folder = tmp_path / "captures"
    async with captured(folder) as stage:
        client = stage.client()
        welcome = await client.hello(streams={ROOM: {}})
        await send(client, 2, "hidden words")
        await client.message()
        await client.say("signal", stream=ROOM, kind="typing", value=True)
        await client.message()
    (path,) = files(folder)
    written = path.read_text()
    for secret in ("hidden", welcome["resume"], token("user:amy")):
        assert secret not in written
    assert path.stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0


async def test_only_what_the_kernel_took_was_given(tmp_path: Path) -> None:
    """A reader that stalls: what is cut amid a frame counts when its last byte is taken, and nothing comes twice."""
    events = 60
    async with captured(tmp_path) as stage:
        slow, other = stage.client(4_096), stage.client()
        await slow.hello("user:bob", streams={ROOM: {}})
        await other.hello(streams={ROOM: {}})
        for number in range(events):
            await send(other, number + 2, "x" * 700, f"0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f{number:02x}")
        await until(lambda: slow.connection.blocked)
        await until(lambda: stage.node.hub.by_name["demo", ROOM].head == events)
        sent = sum(b'"took"' in line and b"n.1/1" in line for line in stage.capture.part.lines)
        assert sent < events
        got: list[int] = []
        while len(got) < events:
            message = await slow.message()
            if message["op"] == "event":
                got.append(message["seq"])
        assert got == list(range(1, events + 1))
    found = records(tmp_path)
    assert [one.seq for one in of(found, Took) if one.conn == "n.1/1"] == got
    assert check(found).holds


@pytest.mark.parametrize("pieces", [1, 3, 100])
async def test_frames_are_put_together_from_whatever_pieces(tmp_path: Path, pieces: int) -> None:
    """A kernel that takes a few bytes at a time."""
    async with captured(tmp_path) as stage:
        client = stage.client()
        connection = client.connection
        socket_send = connection.send.__self__._send  # type: ignore[attr-defined]

        def sparing(data: bytes) -> int:
            return int(socket_send(data[:pieces]))

        connection.send.__self__._send = sparing  # type: ignore[attr-defined]
        await client.hello(streams={ROOM: {}})
        await send(client, 2, "y" * 300)
        seen = [await client.message() for _ in range(2)]
        while not {"ok", "event"} <= {one["op"] for one in seen}:
            seen.append(await client.message())
    found = records(tmp_path)
    assert len(of(found, Took)) == len(of(found, Answered)) == len(of(found, Welcome)) == 1
    assert check(found).holds


async def test_requests_before_the_welcome_wait_for_it(tmp_path: Path) -> None:
    """A client may send all at once: its opening comes first, and what it subscribed to is known when events come."""
    async with captured(tmp_path) as stage:
        client = stage.client()
        await client.write(
            UPGRADE
            + masked_frame(TEXT, b'{"op":"hello","id":1,"token":"%b","streams":{}}' % token("user:amy").encode(), MASK)
            + masked_frame(TEXT, b'{"op":"sub","id":2,"stream":"chat:ops","after":0}', MASK)
            + masked_frame(TEXT, b'{"op":"send","id":3,"stream":"chat:ops","key":"%b","body":1}' % KEY.encode(), MASK)
        )
        while b'"op":"event"' not in client.received:
            assert await client._more()
    found = records(tmp_path)
    kinds = [type(record).__name__ for record in found]
    assert kinds[:2] == ["Run", "Open"]
    assert kinds.index("Follow") < kinds.index("Took")
    assert [one.op for one in of(found, Asked)] == ["sub", "send"]
    assert check(found).holds


async def test_a_refused_opening_and_a_second_try(tmp_path: Path) -> None:
    """A resume with what is no token, then a hello on the same connection."""
    async with captured(tmp_path) as stage:
        client = stage.client()
        await client.upgrade()
        await client.say("resume", id=1, resume="nonsense", streams={})
        assert (await client.message())["code"] == "resume_rejected"
        await client.say("hello", id=2, token=token("user:amy"), streams={})
        await client.message()
    found = records(tmp_path)
    assert [type(record).__name__ for record in found] == [
        "Run", "Open", "Rejected", "Open", "Welcome", "Ended", "Exit", "End",
    ]  # fmt: skip
    assert [one.who for one in of(found, Open)] == ["", "user:amy"]
    assert of(found, Rejected)[0].code == "resume_rejected"
    assert {one.standing for one in of(found, Open)} == {"spent"}, "a node cannot know what a client knows of its token"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked_frame(TEXT, b"{", MASK), 4500),
        (masked_frame(TEXT, b"[]", MASK), 4500),
        (masked_frame(TEXT, b'{"op":"x","y":' + b"[" * 99 + b"]" * 99 + b"}", MASK), 4500),
        (masked_frame(2, b"binary", MASK), 1003),
        (masked_frame(TEXT, b"\xff", MASK), 1007),
    ],
)
async def test_who_breaks_a_rule_ends_its_own_connection(tmp_path: Path, frame: bytes, code: int) -> None:
    """The node's word for it is in the history, and it is nobody's fault but the client's."""
    async with captured(tmp_path) as stage:
        client = stage.client()
        await client.hello()
        await client.write(frame)
        assert await client.close_code() == code
    found = records(tmp_path)
    (ended,) = of(found, Ended)
    assert (ended.by, ended.code) == ("client", code)
    assert check(found).holds


async def test_an_innocent_who_is_ended_shows(tmp_path: Path) -> None:
    """The node blames a client that did nothing: the guarantee names it."""
    async with captured(tmp_path) as stage:
        client = stage.client()
        await client.hello()
        stage.node.shard.bye(client.connection, Close.BAD_FRAME, "made up")
        await client.ended()
    (finding,) = check(records(tmp_path)).findings
    assert finding.guarantee == "Blast-radius-one"
    assert "n.1/1" in finding.where


async def test_a_drain_is_in_it(tmp_path: Path) -> None:
    """When it began, whom it told, and that nothing was left unanswered."""
    async with captured(tmp_path, replace(Limits(), drain_window_s=0.5)) as stage:
        client = stage.client()
        await client.hello(streams={ROOM: {}})
        stage.capture.draining(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.ended)
            await stage.node.drain()
        stage.capture.drained(stage.node.drained.unanswered)
    found = records(tmp_path)
    kinds = [type(record).__name__ for record in found if not isinstance(record, history.Told)]
    assert kinds == [
        "Run", "Open", "Welcome", "Follow", "Draining", "DrainTold", "Ended", "Drained", "Exit", "End",
    ]  # fmt: skip
    (ended,), (draining,), (drained,) = of(found, Ended), of(found, Draining), of(found, Drained)
    assert (ended.by, ended.code, ended.bye) == ("server", 4001, "draining")
    assert (draining.window_s, draining.clients, drained.unanswered) == (0.5, 1, 0)
    report = check(found)
    assert report.holds
    assert report.state("Drain") == "holds"


async def test_a_drain_that_is_hurried_is_no_broken_promise(tmp_path: Path) -> None:
    """Whoever sends the second signal kills the node, as far as its clients are concerned."""
    async with captured(tmp_path) as stage:
        await stage.client().hello(streams={ROOM: {}})
        stage.capture.draining(1)
    found = records(tmp_path)
    assert [type(record).__name__ for record in found[-4:]] == ["Ended", "Fault", "Exit", "End"]
    assert not of(found, history.Exit)[0].wanted
    assert check(found).holds


async def test_a_full_part_gives_way_to_another_that_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections go on in it under another name; the oldest is removed; what is left is a history."""
    monkeypatch.setattr(capturing, "FLUSH_S", 0.001)
    limits = replace(Limits(), capture_bytes_max=12_000)
    async with captured(tmp_path, limits) as stage:
        client = stage.client()
        await client.hello(streams={ROOM: {}})
        seqs: list[int] = []
        for number in range(80):
            await send(client, number + 2, "x", f"0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f{number:02x}")
            for _ in range(2):
                message = await client.message()
                if message["op"] == "event":
                    seqs.append(message["seq"])
            # However slow the disk is, a part is a few messages larger than its quarter, and two have room.
            await until(lambda: not stage.capture.part.lines)
        assert seqs == list(range(1, 81))
        assert stage.capture._number > 3
    paths = files(tmp_path)
    assert sum(path.stat().st_size for path in paths) <= limits.capture_bytes_max
    assert paths[0].name != "n.1-00001.jsonl"
    for path in paths:
        part = records(path)
        assert isinstance(part[0], Run)
        assert isinstance(part[-1], End)
        assert check(part).holds, path
    whole = records(tmp_path)
    assert check(whole).holds
    kept = [one.seq for one in of(whole, Took)]
    assert kept == list(range(kept[0], 81)), "nothing is missing from where it begins to the end"
    assert len({one.conn for one in of(whole, Took)}) > 1
    assert {one.by for one in of(whole, Ended)} == {"unseen", "server"}


async def test_an_end_amid_a_page_turned_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node ends while the disk takes its time over a part that is full by then: all parts are whole."""
    monkeypatch.setattr(capturing, "PARTS", 1_000)  # of 100 bytes: each time that something is written, it is full
    begun: list[int] = []
    write = Part.write

    def slowly(part: Part, data: bytes) -> None:
        begun.append(len(data))
        time.sleep(0.1)
        write(part, data)

    async with captured(tmp_path, replace(Limits(), capture_bytes_max=100_000)) as stage:
        client = stage.client()
        await client.hello(streams={ROOM: {}})
        monkeypatch.setattr(Part, "write", slowly)
        begun.clear()
        await send(client, 2, "x")
        await client.message()
        await until(lambda: begun)
        await send(client, 3, "x", KEY.replace("0", "1"))
        await client.message()
    found = [records(path) for path in files(tmp_path)]
    for part in found:
        assert isinstance(part[-1], End)
        assert check(part).holds
    assert len(of(list(read_all([tmp_path])), Took)) == 2


async def test_parts_of_an_earlier_start_count_too(tmp_path: Path) -> None:
    """A node that is started every day does not fill the disk; other files are none of its business."""
    for name in ("n.0-00001.jsonl", "n.0-00002.jsonl", "other.0-00001.jsonl", "notes.txt"):
        (tmp_path / name).write_bytes(b"\n" * 5_000)
        os.utime(tmp_path / name, (1, 1))
    async with captured(tmp_path, replace(Limits(), capture_bytes_max=9_000)):
        pass
    assert [path.name for path in files(tmp_path)] == [
        "n.0-00002.jsonl", "n.1-00001.jsonl", "notes.txt", "other.0-00001.jsonl",
    ]  # fmt: skip


async def test_without_room_a_connection_is_recorded_no_further_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not known is no loss: the history holds, and names who was recorded in part."""
    async with captured(tmp_path) as stage:
        client = stage.client()
        await client.hello(streams={ROOM: {}})
        monkeypatch.setattr(capturing, "BUFFER_BYTES", 0)
        await send(client, 2, "one")
        assert [(await client.message())["op"] for _ in range(2)]
        monkeypatch.undo()
        await send(client, 3, "two", KEY.replace("0", "1"))
        assert [(await client.message())["op"] for _ in range(2)]
        assert stage.capture.dropped == 1
    found = records(tmp_path)
    (ended,) = of(found, Ended)
    assert ended.by == "unseen"
    assert "not recorded from here on" in ended.reason
    assert not of(found, Took)
    assert check(found).holds
    assert "1 connections were recorded in part" in caplog.text


async def test_a_disk_that_takes_no_more_ends_the_capture_and_not_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once; connections go on with their own sockets, and new ones meet nothing."""
    async with captured(tmp_path) as stage:
        client = stage.client()
        await client.hello(streams={ROOM: {}})

        def full(data: bytes) -> None:
            raise OSError(28, "No space left on device")

        stage.capture.part.write = full  # type: ignore[method-assign]
        await send(client, 2, "one")
        await until(lambda: stage.capture.failed)
        await send(client, 3, "two", KEY.replace("0", "1"))
        seen = [await client.message() for _ in range(4)]
        assert sorted(one["op"] for one in seen) == ["event", "event", "ok", "ok"]
        assert client.connection.send == client.connection.sock.send
        late = stage.client()
        await late.hello("user:bob")
        assert late.connection.send == late.connection.sock.send
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "the capture ends here: [Errno 28] No space left on device"
    ]


async def test_a_bug_in_the_capture_harms_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the record of that connection ends."""

    def broken(message: Any) -> Any:
        raise KeyError("what")

    monkeypatch.setattr(capturing, "event_of", broken)
    async with captured(tmp_path) as stage:
        client = stage.client()
        await client.hello(streams={ROOM: {}})
        await send(client, 2, "one")
        assert {(await client.message())["op"] for _ in range(2)} == {"event", "ok"}
    (ended,) = of(records(tmp_path), Ended)
    assert (ended.by, ended.reason) == ("unseen", "an internal error: not recorded from here on")
    assert "a connection is not recorded any further" in caplog.text


async def test_time_never_falls(tmp_path: Path) -> None:
    """Whatever the machine's clock does."""
    clock = [100.0]
    capture = Capture(tmp_path, "n.1", Limits(), lambda: clock[0])
    times = [capture.now()]
    for at in (101.0, 50.0, 102.0):
        clock[0] = at
        times.append(capture.now())
    assert times == [100.0, 101.0, 101.0, 102.0]
    capture.close()


def test_a_folder_that_cannot_be_used_is_said_at_the_start(tmp_path: Path) -> None:
    """In one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        Capture(tmp_path / "file", "n.1", Limits(), lambda: 1.0)


async def test_without_a_capture_a_connection_is_its_sockets_own() -> None:
    """Nothing is between them: the same code path as if there were no captures at all."""
    async with serving_node() as node:
        client = RawClient(node.node)
        await client.hello()
        connection = client.connection
        assert connection.send == connection.sock.send
        assert connection.recv == connection.sock.recv
        assert type(connection.reader).__name__ == "FrameReader"
        await client.stream.aclose()
