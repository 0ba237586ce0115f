"""Writer links: against a scripted peer on a socket pair, and the asyncpg way against the socket's own way."""

from __future__ import annotations

import gc
import socket
import struct
import uuid
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from core.model import Entry, Outcome
from core.ports import Unavailable
from store.appender import Appender
from store.links import Connector, StoreLimits, asyncio_loop
from store.pgwire import AppendCodec, Malformed, ProtocolError, ServerError
from store.postgres import open_postgres_log
from store.writer import SocketWriter, TlsWriter, Writer, open_writer
from tests.cancelling import at_every_moment
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.unit.store.pgbytes import REPLY, VERDICTS, message


def entries(count: int, body: bytes = b"{}") -> list[Entry]:
    return [Entry("demo", 1, str(uuid.uuid4()), "message", "user:amy", body) for _ in range(count)]


class Pair:
    """A writer and the other end of its socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.writer = SocketWriter(ours, AppendCodec())
        self.peer = trio.socket.from_stdlib_socket(theirs)

    async def reply(self, *parts: bytes) -> None:
        """Wait for a request, then send these, each in its own turn."""
        await self.peer.recv(65_536)
        for part in parts:
            await self.peer.send(part)
            await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    made.writer.close()
    made.peer.close()


async def test_a_reply_in_pieces(pair: Pair) -> None:
    """Is put together, and the link is good for the next."""
    for cut in (1, 6, 30, len(REPLY) - 1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.reply, REPLY[:cut], REPLY[cut:])
            assert await pair.writer.append(entries(2)) == VERDICTS
        assert pair.writer.is_alive()


async def test_a_request_larger_than_the_socket_takes(pair: Pair) -> None:
    """Is sent as the peer reads."""
    batch = entries(40, b'"' + b"x" * 48_000 + b'"')

    async def read_all() -> None:
        data = bytearray()
        while not data.endswith(b"S\0\0\0\x04"):
            data += await pair.peer.recv(65_536)
        (length,) = struct.unpack_from("!i", data, 1)
        assert len(data) == 1 + length + 15
        await pair.peer.send(REPLY)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all)
        with pytest.raises(ProtocolError):  # verdicts for 2, and 40 were sent
            await pair.writer.append(batch)
    assert pair.writer.closed


async def test_an_error_leaves_the_link_usable(pair: Pair) -> None:
    """Unless it is fatal."""
    error = message(b"E", b"SERROR\0VERROR\0C22021\0Mbad\0\0") + message(b"Z", b"I")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.reply, error)
        with pytest.raises(ServerError) as raised:
            await pair.writer.append(entries(1))
    assert raised.value.sqlstate == "22021"
    assert pair.writer.is_alive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.reply, message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mgoing\0\0"))
        with pytest.raises(ServerError):
            await pair.writer.append(entries(1))
    assert pair.writer.closed


@pytest.mark.parametrize("answer", [b"", REPLY[:20], b"\0" * 40, REPLY + REPLY, message(b"Z", b"I")])
async def test_no_sense_is_made_of_what_makes_none(pair: Pair, answer: bytes) -> None:
    """Closed, cut off, garbage, two replies, none: the link is closed and nobody gets a verdict."""

    async def answer_and_go() -> None:
        await pair.reply(answer) if answer else await pair.peer.recv(65_536)
        pair.peer.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_and_go)
        with pytest.raises((ProtocolError, Unavailable)):
            await pair.writer.append(entries(2))
    assert pair.writer.closed
    assert not pair.writer.is_alive()


async def test_a_cancelled_append_closes_its_link(pair: Pair) -> None:
    """Its reply would be the next one's."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.writer.append, entries(2))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert pair.writer.closed


async def test_a_malformed_entry_costs_no_link(pair: Pair) -> None:
    """It is noticed before anything is sent."""
    batch = entries(2)
    batch[1].key = "x"
    with pytest.raises(Malformed):
        await pair.writer.append(batch)
    assert pair.writer.is_alive()


async def test_what_arrives_unasked_ends_a_link(pair: Pair) -> None:
    """Most often a goodbye: the link is not lent again."""
    assert pair.writer.is_alive()
    await pair.peer.send(b"E")
    assert not pair.writer.is_alive()


async def test_a_reply_that_makes_no_sense_is_unavailable_to_the_caller(
    database: Database,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The port knows no protocol errors; repeating with the same key is right."""
    async with asyncio_loop():
        appender = Appender(Connector(database.url, StoreLimits()), StoreLimits())
        monkeypatch.setattr(
            "store.writer.decode_verdicts", lambda row, count: (_ for _ in ()).throw(ProtocolError("x"))
        )
        with pytest.raises(Unavailable):
            await appender.append(entries(1))
        monkeypatch.undo()
        assert [verdict.outcome for verdict in await appender.append(entries(1))] == [Outcome.NOT_FOUND]
        appender.close()


async def test_a_link_that_nobody_wants_any_more_while_it_opens(database: Database) -> None:  # noqa: F811
    """Whoever is cancelled between asyncpg's login and our first word leaves no socket. Two were left: asyncpg's, which
    had not yet been told to let go, and its copy, which nobody had yet; the session stayed at the server for as long."""
    async with asyncio_loop():
        connector = Connector(database.url, StoreLimits())
        made: list[Writer] = []

        async def open_one() -> None:
            made.append(await open_writer(connector, AppendCodec()))

        async def then(after: str) -> None:
            while made:
                made.pop().close()

        assert await at_every_moment(open_one, then) > 20
        gc.collect()  # a socket that was left open says so now: warnings are errors
        count = (
            "select count(*) from pg_stat_activity where usename = 'readback_gateway' and datname = current_database()"
        )
        with trio.fail_after(20):
            while await trio.to_thread.run_sync(database.sql, count) != "0":  # noqa: ASYNC110
                await trio.sleep(0.02)


async def test_asyncpg_s_way_gives_the_same_answers(database: Database) -> None:  # noqa: F811
    """What TLS links use: verdicts, errors, and malformed entries alike."""
    async with open_postgres_log(database.url) as log:
        await log.create_stream("demo", "chat:ops", open=True, members=[], by="user:amy")
        connector = Connector(database.url, StoreLimits())
        writer = TlsWriter(connector, await connector.connect())
        other = await open_writer(connector, AppendCodec())
        assert isinstance(other, SocketWriter)
        batch = entries(3)
        batch[1].by, batch[2].expect = "user:bob", 7
        first = await writer.append(batch)
        assert [verdict.outcome for verdict in first] == [Outcome.OK, Outcome.OK, Outcome.CONFLICT]
        again = await other.append(batch)
        assert again == await writer.append(batch)
        assert [(verdict.outcome, verdict.seq) for verdict in again[:2]] == [(Outcome.DUP, 1), (Outcome.DUP, 2)]
        for bad in (b"\xff", b"a\0b"):
            with pytest.raises((Malformed, ServerError)):
                await writer.append(entries(1, bad))
        assert writer.is_alive()
        batch[0].type = "member.left"
        with pytest.raises(Malformed):
            await writer.append(batch)
        assert writer.is_alive()
        writer.close()
        assert not writer.is_alive()
        other.close()
