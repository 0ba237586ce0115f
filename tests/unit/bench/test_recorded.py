"""bench.gen.recorded and bench.history: what clients see goes to disk as it is seen, and the parts become one history."""

from __future__ import annotations

import asyncio
import socket
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.gen import crowd, jitter
from bench.gen.link import monotonic_ns
from bench.gen.raw import CLOSE, OPENING, TEXT, Swarm
from bench.gen.recorded import Recorded, Tape, claims_of
from bench.history import Kept, timed
from bench.servers import Server
from core.limits import Limits
from proof import history
from proof.history import Ended, Fault, Follow, Heal, Open, Record, Stand, Took

TOKEN = "h." + urlsafe_b64encode(b'{"tenant":"bench","sub":"user:b0"}').decode().rstrip("=") + ".s"
JOB = {"ports": [1, 2], "payload": 40, "return_s": 1.0, "seed": 1, "connections": 1}


def played(tmp_path: Path, script: Callable[[crowd.Client], None]) -> list[Record]:
    """What a client of the crowd wrote down. Somebody listens, and the rest of the server is the script."""
    path = tmp_path / "part"

    async def play() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            swarm = Swarm(port)
            made = crowd.Crowd({**JOB, "ports": [port]}, swarm)
            made.later = lambda *_: None  # type: ignore[method-assign]  # nobody comes back
            made.tape = Tape({"path": str(path), "began_ns": monotonic_ns()})
            client = crowd.recorded(made, 0, TOKEN, ["chat:a"])
            client.connect()
            client.state = OPENING
            client.send(client.first_frame)
            place = {"head": 2, "after": 2}
            told(
                client, op="welcome", id=1, session="s", log="e", resume="r1", principal="u", streams={"chat:a": place}
            )
            script(client)
            made.tape.close()
            swarm.close()

    asyncio.run(play())
    return list(history.read(path))


def told(client: crowd.Client, **message: Any) -> None:
    client._frame(0x80 | TEXT, orjson.dumps(message))


def test_a_client_writes_down_both_directions(tmp_path: Path) -> None:
    """From its opening to where it stands."""

    def script(client: crowd.Client) -> None:
        body = {"t": 1, "text": ""}
        told(client, op="event", stream="chat:a", seq=3, type="message", key="k3", by="u", at="x", body=body)
        client.say(7, b"key", b"{}")
        told(client, op="ok", id=7, stream="chat:a", seq=4, at="x", dup=False)
        assert isinstance(client, crowd.RecordedClient)
        client.stand({"chat:a": 3})

    found = played(tmp_path, script)
    kinds = [type(record).__name__ for record in found]
    assert kinds == ["Open", "Welcome", "Follow", "Took", "Asked", "Answered", "Stand"]
    opened, took, stand = found[0], found[3], found[-1]
    assert isinstance(opened, Open)
    assert (opened.conn, opened.client, opened.tenant, opened.who) == ("c0.1", "c0", "bench", "user:b0")
    assert isinstance(took, Took)
    assert (took.seq, took.key) == (3, "k3")
    assert stand == Stand(stand.t, "c0", "bench", "chat:a", 3, -1, True)
    assert [record.t for record in found] == sorted(record.t for record in found)


@pytest.mark.parametrize(
    ("end", "by", "code"),
    [
        (lambda client: client.cut(reset=True), "client", 0),
        (lambda client: client._gone("closed by the server"), "network", 0),
        (lambda client: client._frame(0x80 | CLOSE, (4001).to_bytes(2, "big") + b"away"), "server", 4001),
    ],
)
def test_an_end_has_its_author(tmp_path: Path, end: Callable[[crowd.Client], None], by: str, code: int) -> None:
    """Its own, the server's in words, or the network's."""
    (ended,) = (one for one in played(tmp_path, end) if isinstance(one, Ended))
    assert (ended.conn, ended.by, ended.code) == ("c0.1", by, code)


def test_a_client_that_is_not_asked_to_writes_nothing() -> None:
    """The class that a measurement uses has none of it."""
    assert not issubclass(crowd.Client, Recorded)
    assert not issubclass(jitter.Client, Recorded)
    assert {"send", "_frame", "connect"}.isdisjoint(vars(crowd.Client))


def test_the_tenant_and_principal_of_a_token_are_read_from_it() -> None:
    """Unchecked: the server is who checks it."""
    assert claims_of(TOKEN) == ("bench", "user:b0")


def test_a_merge_keeps_the_order_of_time_and_names_the_node(tmp_path: Path) -> None:
    """The start of a node that a connection reached is the one that served its port then; heads come from the log."""
    server = Server("readback", 8400, 1)
    kept = Kept(tmp_path / "out" / "h.jsonl", "a test", server, [], Limits())
    spec = kept.job()
    kept._starts = [(0.0, "8400", "node-1.11"), (5.0, "8400", "node-1.12")]
    records: list[Record] = [
        Open(1.0, "c0.1", "c0", "bench", "user:b0", "8400"),
        Follow(1.5, "c0.1", "chat:a", 0),
        Open(6.0, "c0.2", "c0", "bench", "user:b0", "8400"),
        Stand(7.0, "c0", "bench", "chat:a", 3, -1),
    ]
    history.write(Path(spec["path"]), records)
    kept._own.write(history.encode(Fault(1.2, "a cut")) + b"\n")
    kept._own.write(history.encode(Heal(6.5)) + b"\n")

    async def read_log(emit: Any) -> dict[tuple[str, str], int]:
        emit(history.Committed(8.0, "bench", "chat:a", 3, "k", "user:b0"))
        return {("bench", "chat:a"): 3}

    kept._read_log = read_log  # type: ignore[method-assign]
    kept.now = lambda: 9.0  # type: ignore[method-assign]
    count = kept.finish()
    found = list(history.read(tmp_path / "out" / "h.jsonl"))
    assert count == len(found)
    kinds = [type(record).__name__ for record in found]
    assert kinds == ["Run", "Open", "Fault", "Follow", "Open", "Heal", "Stand", "Committed", "End"]
    assert [one.node for one in found if isinstance(one, Open)] == ["node-1.11", "node-1.12"]
    assert [one.head for one in found if isinstance(one, Stand)] == [3]
    assert not kept.folder.exists(), "the parts are gone"


def test_a_generator_that_was_killed_leaves_whole_lines(tmp_path: Path) -> None:
    """The half of its last one is left out."""
    part = tmp_path / "part"
    part.write_bytes(history.encode(Heal(1.0)) + b"\n" + b'{"k":"heal","t":2')
    assert [t for t, _ in timed(part)] == [1.0]
    assert list(timed(tmp_path / "none")) == []


def test_what_is_written_after_the_end_is_not_of_the_run(tmp_path: Path) -> None:
    """A generator closes its sockets when all is told; nobody should take that for what happened."""
    tape = Tape({"path": str(tmp_path / "part"), "began_ns": monotonic_ns()})
    tape.write(Heal(tape.now()))
    tape.close()
    tape.write(Heal(tape.now()))
    assert len(list(history.read(tmp_path / "part"))) == 1
