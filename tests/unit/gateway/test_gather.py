"""gateway.gather: who shares a port answers for all, whoever of them is asked and whoever is silent."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from gateway.gather import ANSWER_BYTES_MAX, ASK_TIMEOUT_S, Gather, gather_in, merge
from gateway.service import Health

TEXT = (
    "# HELP readback_connections WebSocket connections now.\n"
    "# TYPE readback_connections gauge\n"
    "readback_connections 3\n"
    "# HELP readback_x_total Things.\n"
    "# TYPE readback_x_total counter\n"
    'readback_x_total{reason="a b"} 1\n'
)


def health(*reasons: str) -> Health:
    return Health(live=True, ready=not reasons, reasons=list(reasons), draining=False, facts={})


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def member(folder: Path, name: str, *reasons: str) -> Gather:
    return Gather(folder, name, metrics=TEXT.encode, health=lambda: health(*reasons))


def test_one_text_of_many() -> None:
    """Families once, samples of all with their worker, and who was silent."""
    text = merge({"1": TEXT.encode(), "2": TEXT.replace(" 3", " 4").encode(), "3": None}).decode()
    lines = text.splitlines()
    assert lines[:4] == [
        "# HELP readback_connections WebSocket connections now.",
        "# TYPE readback_connections gauge",
        'readback_connections{worker="1"} 3',
        'readback_connections{worker="2"} 4',
    ]
    assert 'readback_x_total{worker="2",reason="a b"} 1' in lines
    assert [line for line in lines if line.startswith("readback_worker_up")] == [
        'readback_worker_up{worker="1"} 1',
        'readback_worker_up{worker="2"} 1',
        'readback_worker_up{worker="3"} 0',
    ]
    assert len(lines) == len(set(lines))
    assert text.endswith("\n")


async def test_all_answer_for_all(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Asking any gives the same; numbers sort as numbers; the sockets are their owner's alone."""
    members = [member(tmp_path, name) for name in ("10", "9", "x")]
    for one in members:
        await nursery.start(one.run)
    texts = [await one.metrics() for one in members]
    assert len(set(texts)) == 1
    ups = [line for line in texts[0].decode().splitlines() if line.startswith("readback_worker_up")]
    assert [line.split('"')[1] for line in ups] == ["9", "10", "x"]
    assert names_in(tmp_path) == ["10.sock", "9.sock", "x.sock"]
    assert stat.S_IMODE((tmp_path / "9.sock").stat().st_mode) == 0o600


async def test_readiness_of_all(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Who is not ready is named, with its reasons."""
    first, second = member(tmp_path, "1"), member(tmp_path, "2", "draining", "the log cannot be reached")
    for one in (first, second):
        await nursery.start(one.run)
    assert await first.facts() == {
        "worker": "1",
        "workers": 2,
        "workers_ready": 1,
        "workers_not_ready": "2: draining, the log cannot be reached",
    }
    assert (await second.facts())["worker"] == "2"


async def test_one_that_crashed(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Its socket is still there and nobody behind it: it is told as silent, at once."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "2.sock"))
    alive = member(tmp_path, "1")
    await nursery.start(alive.run)
    assert b'readback_worker_up{worker="2"} 0' in await alive.metrics()
    assert (await alive.facts())["workers_not_ready"] == "2: does not answer"


async def test_one_that_hangs_or_floods(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Neither holds the answer up for longer than the time-out, nor fills memory."""
    alive = member(tmp_path, "1")
    await nursery.start(alive.run)

    async def flood(stream: trio.SocketStream) -> None:
        try:
            while True:
                await stream.send_all(bytes(1_048_576))
        except trio.BrokenResourceError:
            pass

    hanging, flooding = trio.socket.socket(socket.AF_UNIX), trio.socket.socket(socket.AF_UNIX)
    for name, sock in (("2", hanging), ("3", flooding)):
        await sock.bind(str(tmp_path / f"{name}.sock"))
        sock.listen(1)
    nursery.start_soon(trio.serve_listeners, flood, [trio.SocketListener(flooding)])
    assert ANSWER_BYTES_MAX < 16 * 1_048_576
    began_s = trio.current_time()
    text = await alive.metrics()
    assert trio.current_time() - began_s <= 2 * ASK_TIMEOUT_S
    assert b'worker="2"} 0' in text
    assert b'worker="3"} 0' in text
    hanging.close()


@pytest.mark.parametrize("question", [b"", b"x\n", b"metrics", b"a" * 100])
async def test_questions_nobody_answers(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, question: bytes
) -> None:
    """Nonsense, and silence, get a closed connection."""
    await nursery.start(member(tmp_path, "1").run)
    async with await trio.open_unix_socket(str(tmp_path / "1.sock")) as stream:
        await stream.send_all(question)
        try:
            assert await stream.receive_some() == b""
        except trio.BrokenResourceError:
            pass  # reset, for what it had not read


async def test_a_successor_takes_the_place(tmp_path: Path) -> None:
    """During a replacement two have one name: the newer is asked, and the older leaves its place alone when it ends."""
    old, new = member(tmp_path, "1", "draining"), member(tmp_path, "1")
    asker = member(tmp_path, "2")
    async with trio.open_nursery() as nursery:
        leaving = await nursery.start(old.run)
        await nursery.start(new.run)
        assert (await asker.facts())["workers_ready"] == 2
        leaving.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (await asker.facts())["workers_ready"] == 2
        nursery.cancel_scope.cancel()
    assert names_in(tmp_path) == []


def test_the_folder() -> None:
    """The unit's own runtime folder, where there is one."""
    assert gather_in({"RUNTIME_DIRECTORY": "/run/readback:/run/other"}) == Path("/run/readback")
    assert gather_in({}) is None
    assert os.environ.get("RUNTIME_DIRECTORY") is None
