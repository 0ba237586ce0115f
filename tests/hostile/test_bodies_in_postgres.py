"""Whatever JSON can say survives Postgres byte for byte: live, replayed from the log, and in the history."""

from __future__ import annotations

import uuid

from store.postgres import open_postgres_log
from tests.hostile.peer import Peer, connected, text
from tests.hostile.scene import ROOM
from tests.hostile.test_messages import BODIES
from tests.nodes import serving_node
from tests.servers import Database, database, postgres_server

__all__ = ["database", "postgres_server"]


async def test_every_odd_body_is_stored_and_read_as_it_was_sent(database: Database) -> None:
    """NUL, control characters, no-characters, the largest numbers: the event that is read back from Postgres by a node
    that has never seen it carries the very bytes that the sender's own event carried."""
    kept = [body for _, body in BODIES.values()]
    async with open_postgres_log(database.url) as log, serving_node(log) as node:
        await node.stream(ROOM)
        async with connected(node.port) as peer:
            await peer.upgrade()
            await peer.hello("user:amy", {ROOM: {"after": 0}})
            for sent, _ in BODIES.values():
                key = str(uuid.uuid4()).encode()
                await peer.put(text(b'{"op":"send","id":5,"stream":"chat:ops","key":"%b","body":%b}' % (key, sent)))
                assert (await peer.next(id=5))["op"] == "ok"
            await has_events(peer, kept)
        await node.restart()
        async with connected(node.port) as peer:
            await peer.upgrade()
            await peer.hello("user:bob", {ROOM: {"after": 0}})
            await has_events(peer, kept)
            history = await peer.ask("history", stream=ROOM, limit=100)
            assert [event["seq"] for event in history["events"]] == list(range(1, len(kept) + 1))
            for body in kept:
                assert peer.raw.count(b'"body":' + body + b"}") >= 2


async def has_events(peer: Peer, kept: list[bytes]) -> None:
    for seq, body in enumerate(kept, 1):
        assert (await peer.next("event"))["seq"] == seq
        assert b'"body":' + body + b"}" in peer.raw
