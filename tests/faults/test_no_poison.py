"""No poison: whatever moment a borrower of a link is cancelled at, the next one gets its own answer, from a real
Postgres and a real Redis. What cannot be known is asked: a cancelled append is in the log once or not at all, and saying
it again makes it once.

The pools hold one link, so that the next borrower gets the last one's unless the pool gave that one up.
"""

from __future__ import annotations

import gc
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import trio
import trio.testing

from core.model import Entry, Outcome, StreamFacts
from core.ports import Unavailable
from store.bus import RedisBus
from store.embedded_redis import EmbeddedRedis
from store.links import Connector, Links, StoreLimits, asyncio_loop
from store.postgres import PostgresLog, open_postgres_log
from store.writer import TlsWriter
from tests.buses import PATIENT, RedisStage, Seen, module_redis, plain, redis_server  # noqa: F401
from tests.cancelling import CALL_S, Ledger, at_every_moment
from tests.faults.pieces import Pieces, pieces_of_port, pieces_of_socket
from tests.servers import Database, database, postgres_server  # noqa: F401

ONE = StoreLimits(writers=1, readers=1)
QUIET = replace(PATIENT, canary_every_s=3600.0, canary_timeout_s=3600.0, probe_every_s=3600.0)
"""A bus that says nothing by itself, so that every byte that comes is the answer to a question."""

Call = Callable[[], Awaitable[object]]


def new_key() -> str:
    return str(uuid.uuid4())


def backends(database: Database) -> int:  # noqa: F811
    """Sessions of the gateway in the database."""
    return int(
        database.sql(
            f"select count(*) from pg_stat_activity where usename = 'readback_gateway' and datname = '{database.name}'"
        )
    )


async def until_backends(database: Database, most: int) -> None:  # noqa: F811
    """Links that were given up are gone at the server too: it notices when it next reads from them."""
    with trio.fail_after(CALL_S):
        while await trio.to_thread.run_sync(backends, database) > most:  # noqa: ASYNC110
            await trio.sleep(0.02)


# The pool of asyncpg links


class Reader:
    """A pool of one link, and the questions whose answers tell who asked."""

    def __init__(self, url: str, name: str) -> None:
        self.ledger = Ledger(name)
        self._connector = Connector(url, ONE)
        self.links = Links(self._connector, ONE)

    async def fresh(self) -> None:
        """A pool that has to connect first."""
        self.links.close()
        self.links = Links(self._connector, ONE)

    async def short(self) -> None:
        await self.links.fetch("select $1::bigint", self.ledger.number())

    async def long(self) -> None:
        """An answer that takes several reads."""
        await self.links.fetch("select $1::bigint, n from generate_series(1, 5000) n", self.ledger.number())

    async def slow(self) -> None:
        """Postgres is still at it when it ends."""
        await self.links.fetch("select $1::bigint, pg_sleep(0.002)::text", self.ledger.number())

    async def refused(self) -> None:
        with pytest.raises(Unavailable):
            await self.links.fetch("select $1::bigint / 0", self.ledger.number())

    async def transaction(self) -> None:
        async with self.links.borrow() as link:
            for sql in ("begin", "set local search_path to nowhere", "select 7", "rollback"):
                await self.links.on_loop(link.fetch, sql)

    async def next(self, after: str) -> None:
        """Asks for a number of its own, and whether somebody else's transaction is open around it."""
        number = self.ledger.number()
        own = "current_setting('search_path') <> 'nowhere'"
        rows = await self.links.fetch(f"select case when {own} then $1::bigint else -1 end", number)
        self.ledger.lent(number, rows[0][0], after)

    async def three(self, after: str) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(self.next, after)


@asynccontextmanager
async def reader_of(url: str, name: str) -> AsyncIterator[Reader]:
    async with asyncio_loop():
        reader = Reader(url, name)
        try:
            yield reader
        finally:
            reader.links.close()


@pytest.mark.parametrize("kind", ["short", "long", "slow", "refused", "transaction"])
async def test_a_read_cancelled_at_every_moment(database: Database, kind: str) -> None:  # noqa: F811
    """The pool's next borrower gets its own rows, outside of any transaction, and no session is left at the server."""
    async with reader_of(database.url, f"reader, {kind}") as reader:
        await reader.short()
        moments = await at_every_moment(getattr(reader, kind), reader.next)
        reader.ledger.judge(moments)
        assert moments > 6
        await until_backends(database, 1)


async def test_a_read_cancelled_while_it_connects(database: Database) -> None:  # noqa: F811
    """The pool is whole, and no half-made link is left, neither here nor at the server."""
    async with reader_of(database.url, "reader, connecting") as reader:
        moments = await at_every_moment(reader.short, reader.next, reader.fresh)
        reader.ledger.judge(moments)
        assert moments > 20
        await until_backends(database, 1)


async def test_those_who_wait_for_the_link_of_one_who_is_cancelled(database: Database) -> None:  # noqa: F811
    """Borrowers already in the queue get their own answers too, whichever of them had the link at that moment."""
    async with reader_of(database.url, "reader, in a queue") as reader:
        await reader.short()

        async def crowd() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(reader.short)

        moments = await at_every_moment(crowd, reader.three)
        reader.ledger.judge(3 * moments)
        assert moments > 20


async def test_the_neighbours_of_a_reader_who_is_cancelled(database: Database) -> None:  # noqa: F811
    """Those who came before and after it on the same link, and stay, get their own answers at every moment of it."""
    async with reader_of(database.url, "reader, beside others") as reader, trio.open_nursery() as others:

        async def amid() -> None:
            others.start_soon(reader.next, "a neighbour was cancelled")
            await trio.lowlevel.checkpoint()
            others.start_soon(reader.next, "a neighbour was cancelled")
            await reader.short()

        moments = await at_every_moment(amid, reader.next)
        with trio.fail_after(CALL_S):
            while others.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.001)
        assert moments > 6
        reader.ledger.judge(2 * moments)


async def test_a_read_cancelled_amid_its_answer(database: Database) -> None:  # noqa: F811
    """The answer stops behind each of its bytes, the borrower is cancelled there, and the rest comes late: to nobody."""
    async with through_pieces(database) as (pieces, url), reader_of(url, "reader, in pieces") as reader:
        cuts = await at_every_byte(pieces, reader.short, reader.next)
        reader.ledger.judge(cuts)
        assert cuts > 20


# Appending


class Sender:
    """A log with one link for appending, a stream, and what its senders were told."""

    def __init__(self, log: PostgresLog, facts: StreamFacts, name: str) -> None:
        self.ledger = Ledger(name)
        self._log = log
        self._facts = facts
        self._doubtful: list[str] = []
        """Keys of the send that is cancelled next."""
        self._told: list[tuple[str, int, str]] = []

    def entry(self, key: str | None = None, body: bytes = b"{}") -> Entry:
        return Entry("demo", self._facts.sid, key or new_key(), "message", "user:amy", body)

    async def one(self) -> None:
        self._doubtful = [new_key()]
        await self._log.append([self.entry(self._doubtful[0])])

    async def many(self) -> None:
        """More than a socket takes at once, so that half a request can be out."""
        self._doubtful = [new_key() for _ in range(30)]
        body = b'"' + b"x" * 40_000 + b'"'
        await self._log.append([self.entry(key, body) for key in self._doubtful])

    async def halved(self) -> None:
        """A batch that Postgres refuses because of its last entry, so that it goes out in parts, a commit each."""
        self._doubtful = [new_key() for _ in range(3)]
        await self._log.append([*map(self.entry, self._doubtful), self.entry(body=b"\xff")])

    async def after_a_close(self) -> None:
        """The link has to be made first."""
        self._log._appender.close()
        self._log._appender._closed = False
        await self.one()

    async def plain(self, after: str) -> None:
        """Two events, whose places only Postgres knows."""
        entries = [self.entry(), self.entry()]
        for entry, verdict in zip(entries, await self._log.append(entries), strict=True):
            assert verdict.outcome is Outcome.OK
            self._told.append((entry.key, verdict.seq, after))

    async def next(self, after: str) -> None:
        """Two events of one's own; then what was cancelled is said again."""
        await self.plain(after)
        repeated = [self.entry(key) for key in self._doubtful]
        for entry, verdict in zip(repeated, await self._log.append(repeated), strict=True):
            assert verdict.outcome in (Outcome.OK, Outcome.DUP)
            self._told.append((entry.key, verdict.seq, f"{after}, said again"))

    async def judge(self, at_least: int) -> None:
        """Every event is in the log once, in the place that its sender was told."""
        keys: list[str] = []
        while page := await self._log.read("demo", self._facts.sid, len(keys), 1_000):
            keys += [event.key for event in page]
        assert len(set(keys)) == len(keys)
        assert set(keys) == {key for key, _, _ in self._told}
        for key, seq, after in self._told:
            self.ledger.lent(key, keys[seq - 1] if 0 < seq <= len(keys) else "nothing", after)
        self.ledger.judge(at_least)


@asynccontextmanager
async def sender_of(url: str, name: str) -> AsyncIterator[Sender]:
    async with open_postgres_log(url, limits=ONE) as log:
        facts = await log.create_stream("demo", "chat:lobby", open=True, members=[], by="user:amy")
        sender = Sender(log, facts, name)
        await sender.one()
        await sender.next("nothing")
        yield sender


@pytest.mark.parametrize("kind", ["one", "many", "halved"])
async def test_an_append_cancelled_at_every_moment(database: Database, kind: str) -> None:  # noqa: F811
    """The next sender is told its own places, and a key whose fate is unknown is in the log once when it is said again."""
    async with sender_of(database.url, f"writer, {kind}") as sender:
        moments = await at_every_moment(getattr(sender, kind), sender.next)
        await sender.judge(3 * moments)
        assert moments >= 2
        await until_backends(database, 2)


async def test_the_neighbours_of_a_sender_who_is_cancelled(database: Database) -> None:  # noqa: F811
    """Those who wait for the same link, before and after it, are told their own places at every moment of it."""
    async with sender_of(database.url, "writer, beside others") as sender, trio.open_nursery() as others:

        async def amid() -> None:
            others.start_soon(sender.plain, "a neighbour was cancelled")
            await trio.lowlevel.checkpoint()
            others.start_soon(sender.plain, "a neighbour was cancelled")
            await sender.one()

        moments = await at_every_moment(amid, sender.next)
        with trio.fail_after(CALL_S):
            while others.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.001)
        assert moments >= 4
        await sender.judge(5 * moments)


async def test_an_append_cancelled_while_its_link_is_made(database: Database) -> None:  # noqa: F811
    """The same from the first byte of the login on, and no link is left half made: neither a socket here nor a session
    at the server."""
    async with sender_of(database.url, "writer, connecting") as sender:
        moments = await at_every_moment(sender.after_a_close, sender.next)
        await sender.judge(3 * moments)
        assert moments > 20
        await until_backends(database, 2)


async def test_an_append_cancelled_amid_its_answer(database: Database) -> None:  # noqa: F811
    """Verdicts stop behind each of their bytes, the sender is cancelled there, and the rest comes late: to nobody."""
    async with through_pieces(database) as (pieces, url), sender_of(url, "writer, in pieces") as sender:
        cuts = await at_every_byte(pieces, sender.one, sender.next)
        await sender.judge(3 * cuts)
        assert cuts > 150


async def test_an_append_over_tls_cancelled_at_every_moment(database: Database) -> None:  # noqa: F811
    """asyncpg's way of appending keeps the same promise: the link is closed, or it answers the next."""
    ledger = Ledger("writer, asyncpg's way")
    told: list[tuple[str, int, str]] = []
    async with open_postgres_log(database.url, limits=ONE) as log:
        facts = await log.create_stream("demo", "chat:lobby", open=True, members=[], by="user:amy")
        connector = Connector(database.url, ONE)
        writer: list[TlsWriter] = []

        async def append(key: str) -> int:
            if not writer or not writer[0].is_alive():
                writer[:] = [TlsWriter(connector, await connector.connect())]
            [verdict] = await writer[0].append([Entry("demo", facts.sid, key, "message", "user:amy", b"{}")])
            return verdict.seq

        async def then(after: str) -> None:
            key = new_key()
            told.append((key, await append(key), after))

        await then("nothing")
        moments = await at_every_moment(lambda: append(new_key()), then)
        keys = [event.key for event in await log.read("demo", facts.sid, 0, 1_000)]
        for key, seq, after in told:
            ledger.lent(key, keys[seq - 1], after)
        ledger.judge(moments)
        assert moments > 6
        writer[0].close()


# Bytes


@asynccontextmanager
async def through_pieces(database: Database) -> AsyncIterator[tuple[Pieces, str]]:  # noqa: F811
    """A proxy before Postgres, and the database's URL through it."""
    folder = database.server.socket_dir
    assert folder is not None
    (target,) = folder.glob(".s.PGSQL.[0-9]*[0-9]")
    with tempfile.TemporaryDirectory(prefix="rb-") as made:
        async with pieces_of_socket(target, Path(made)) as pieces:
            yield pieces, database.url.replace(quote(str(folder), safe=""), quote(made, safe=""))


async def at_every_byte(pieces: Pieces, call: Call, then: Callable[[str], Awaitable[object]]) -> int:
    """``call`` cancelled when so many bytes of its answer have come, for every number of them; what is left comes while
    ``then`` asks. How many numbers there were."""

    async def watch(scope: trio.CancelScope) -> None:
        await pieces.held.wait()
        await trio.testing.wait_all_tasks_blocked()  # it has taken what came, and waits for more
        scope.cancel()

    count = 0
    while True:
        pieces.hold_after(count)
        with trio.fail_after(CALL_S):
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    nursery.start_soon(watch, scope)
                    await call()
                nursery.cancel_scope.cancel()
            pieces.release()
            await then(f"byte {count}")
        if not scope.cancelled_caught:
            return count
        count += 1


# Redis


class Asker:
    """A bus's link for commands, and numbers that were put into Redis beforehand, each under a key of its own."""

    def __init__(self, bus: RedisBus, stage: RedisStage, theirs: redis.Redis, name: str) -> None:
        self.ledger = Ledger(name)
        self._bus = bus
        self._stage = stage
        self._theirs = theirs
        self._ready: list[int] = []

    def number(self) -> int:
        """One that Redis keeps under its own name."""
        if not self._ready:
            self._ready = [self.ledger.number() for _ in range(1_000)]
            self._theirs.mset({self._stage.name(f"n:{number}"): number for number in self._ready})
        return self._ready.pop()

    async def ask(self) -> tuple[int, int]:
        number = self.number()
        return number, await self._bus.raise_number(str(number), number + 1, 60.0)

    async def five(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(self.ask)

    async def amid_publishing(self) -> None:
        """Its reply comes behind others for which nobody waits."""
        self._bus.publish("a", b"1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.ask)
            await trio.lowlevel.checkpoint()
            self._bus.publish("a", b"2")

    async def unknown_script(self) -> None:
        """Redis has forgotten the script, so that it is asked twice."""
        self._theirs.script_flush()
        await self.ask()

    async def next(self, after: str) -> None:
        """Three at once, the middle one behind something published."""

        async def one() -> None:
            self.ledger.lent(*await self.ask(), after)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await trio.lowlevel.checkpoint()
            self._bus.publish("a", b"3")
            nursery.start_soon(one)
            nursery.start_soon(one)


@asynccontextmanager
async def asker_of(stage: RedisStage, theirs: redis.Redis, name: str, *, url: str = "") -> AsyncIterator[Asker]:
    bus = stage.bus(url=url, limits=QUIET)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.run)
        await Seen(bus, "a").well()
        asker = Asker(bus, stage, theirs, name)
        await asker.ask()
        yield asker
        assert (bus.trouble, bus.errors) == (None, 0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["ask", "five", "amid_publishing", "unknown_script"])
async def test_a_question_to_redis_cancelled_at_every_moment(
    redis_server: EmbeddedRedis,  # noqa: F811
    plain: redis.Redis,  # noqa: F811
    kind: str,
) -> None:
    """Replies come in the order of the commands: one whose asker has gone is passed over, and no other is mistaken for it."""
    async with asker_of(RedisStage(redis_server), plain, f"redis, {kind}") as asker:
        moments = await at_every_moment(getattr(asker, kind), asker.next)
        asker.ledger.judge(3 * moments)
        assert moments >= 4


async def test_the_neighbours_of_an_asker_who_is_cancelled(redis_server: EmbeddedRedis, plain: redis.Redis) -> None:  # noqa: F811
    """Commands before and after it in the pipeline keep their own replies at every moment of it."""
    async with (
        asker_of(RedisStage(redis_server), plain, "redis, beside others") as asker,
        trio.open_nursery() as others,
    ):

        async def amid() -> None:
            others.start_soon(asker.next, "a neighbour was cancelled")
            await trio.lowlevel.checkpoint()
            others.start_soon(asker.next, "a neighbour was cancelled")
            await asker.ask()

        moments = await at_every_moment(amid, asker.next)
        with trio.fail_after(CALL_S):
            while others.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.001)
        assert moments > 10
        asker.ledger.judge(6 * moments)


async def test_questions_to_redis_cancelled_amid_their_answers(redis_server: EmbeddedRedis, plain: redis.Redis) -> None:  # noqa: F811
    """Five replies stop behind each of their bytes; all who wait are cancelled there, others ask on the same link, and
    the rest comes then."""
    async with pieces_of_port(int(redis_server.url.rpartition(":")[2].partition("/")[0])) as pieces:
        url = redis_server.url.replace(redis_server.url.rpartition(":")[2].partition("/")[0], str(pieces.port))
        async with asker_of(RedisStage(redis_server), plain, "redis, in pieces", url=url) as asker:
            cuts = await at_every_byte(pieces, asker.five, asker.next)
            asker.ledger.judge(3 * cuts)
            assert cuts == 5 * len(b"$7\r\n1000001\r\n")


async def test_a_bus_cancelled_at_every_moment_of_its_opening(redis_server: EmbeddedRedis) -> None:  # noqa: F811
    """No socket is left behind, and another bus of the same name opens as if there had been none."""
    stage = RedisStage(redis_server, QUIET)

    async def open_one() -> None:
        bus, well = stage.bus(), trio.Event()
        bus.on_change = well.set  # the first change of a bus is that it is well
        bus.listen("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bus.run)
            await well.wait()  # not `until`: looking again and again would be moments too
            nursery.cancel_scope.cancel()

    async def then(after: str) -> None:
        await open_one()

    assert await at_every_moment(open_one, then) > 20
    gc.collect()  # a socket that was left open says so now: warnings are errors


async def test_a_poisoned_link_would_be_seen() -> None:
    """The judge of these walks knows an answer of somebody else's, and a walk that went nowhere."""
    ledger = Ledger("a link that answers one too late")
    ledger.lent(7, 7, "nothing")
    ledger.judge(1)
    with pytest.raises(AssertionError):
        ledger.judge(2)
    ledger.lent(8, 7, "before step 3")
    with pytest.raises(AssertionError, match="asked 8, got the answer to 7 after before step 3"):
        ledger.judge(2)
