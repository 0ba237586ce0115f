"""proof.committed: the log's part of a history."""

from __future__ import annotations

import orjson

from core.model import Entry
from core.wire import event_json
from proof import history
from proof.committed import followed, read_log
from proof.history import Committed, Open, Record, Took, Trimmed
from proof.watched import Watched
from store.memory import MemoryLog
from tests.nodes import memory_log

KEYS = [f"0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f{number:02x}" for number in range(10)]


async def filled(*names: str) -> MemoryLog:
    log = memory_log()
    for name in names:
        facts = await log.create_stream("demo", name, open=True, members=[], by="service:test")
        for key in KEYS[:3]:
            entry = Entry("demo", facts.sid, key, "message", "user:amy", b'{"text":"hi"}', privileged=True, ticket=None)
            await log.append([entry])
    return log


async def test_every_event_of_the_streams_is_there_in_order() -> None:
    """With its place, its key and its sender; and where each stream ends."""
    log = await filled("chat:a", "chat:b")
    records: list[Record] = []
    heads = await read_log(log, [("demo", "chat:a"), ("demo", "chat:none")], 9.0, records.append)
    assert heads == {("demo", "chat:a"): 3}
    assert [(one.stream, one.seq, one.key, one.by) for one in records if isinstance(one, Committed)] == [
        ("chat:a", seq + 1, KEYS[seq], "user:amy") for seq in range(3)
    ]


async def test_an_event_of_the_log_is_the_one_that_a_client_took() -> None:
    """Both have the same digest, though one is made of columns and the other of a frame."""
    log = await filled("chat:a")
    (facts,) = await log.open_streams([("demo", "chat:a", "user:amy")])
    assert facts is not None
    event = (await log.read("demo", facts.sid, 0, 1))[0]
    assert event.body is not None
    frame = event_json(b"chat:a", event.seq, event.type, event.key, event.by, event.at_ms, event.body)
    seen: list[Record] = []
    watched = Watched("c", "n", seen.append, lambda: 1.0)
    watched.said(orjson.dumps({"op": "hello", "id": 1, "token": "t", "streams": {}}))
    watched.told(frame)
    took = next(one for one in seen if isinstance(one, Took))
    records: list[Record] = []
    await read_log(log, [("demo", "chat:a")], 9.0, records.append)
    committed = next(one for one in records if isinstance(one, Committed))
    assert (took.stream, took.seq, took.key, took.by, took.what) == (
        committed.stream, committed.seq, committed.key, committed.by, committed.what,
    )  # fmt: skip


async def test_what_is_kept_no_more_is_said() -> None:
    """And a change of membership has its place."""
    log = await filled("chat:a")
    await log.put_member("demo", "chat:a", "user:bob", "reader", "user:amy")
    await log.trim("demo", "chat:a", 3)
    records: list[Record] = []
    heads = await read_log(log, [("demo", "chat:a")], 9.0, records.append)
    assert heads == {("demo", "chat:a"): 4}
    assert records[0] == Trimmed(9.0, "demo", "chat:a", 3)
    assert records[-1] == history.Member(9.0, "demo", "chat:a", "user:bob", "reader", 4, True)


def test_a_history_names_its_streams_with_their_tenant() -> None:
    """Records of a connection have it from its opening; others of their own."""
    found = followed(
        [
            Open(1.0, "c1", "c1", "demo", "user:amy", "n"),
            Took(2.0, "c1", "chat:a", 1, "k", "u"),
            Took(3.0, "c2", "chat:b", 1, "k", "u"),
            history.Member(4.0, "other", "chat:c", "user:amy", None, 4),
        ]
    )
    assert found == {("demo", "chat:a"), ("other", "chat:c")}
