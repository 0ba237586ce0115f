"""Links to a real Postgres, and everything that goes wrong with them: each becomes `Unavailable`, and recovers alone."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import trio

from core.model import Entry, Outcome, StreamFacts
from core.ports import CorruptLog, Unavailable
from store.embedded import UNSAFE_SETTINGS, EmbeddedPostgres
from store.links import Backoff, Connector, StoreLimits
from store.pgerrors import from_asyncpg, is_entrys_fault, to_store_error
from store.postgres import PostgresLog, migrate_database, open_postgres_log
from tests.servers import GATEWAY_USER, Database, database, postgres_server  # noqa: F401


def message(facts: StreamFacts, key: str | None = None) -> Entry:
    return Entry("demo", facts.sid, key or str(uuid.uuid4()), "message", "user:amy", b"{}")


async def lobby(log: PostgresLog) -> StreamFacts:
    return await log.create_stream("demo", "chat:lobby", open=True, members=[], by="user:amy")


async def until_ok(attempt: Callable[[], object], *args: object) -> object:
    """Repeat as a gateway would: as often as `Unavailable` says so, for at most 20 s."""
    with trio.fail_after(20):
        while True:
            try:
                return await attempt(*args)  # type: ignore[misc]
            except Unavailable as unavailable:
                await trio.sleep(min(unavailable.retry_after_s, 0.05))


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="readback-test-") as made:
        yield Path(made)


@pytest.fixture
async def log(database: Database) -> AsyncIterator[PostgresLog]:  # noqa: F811
    async with open_postgres_log(database.url, limits=StoreLimits(writers=2, readers=2)) as opened:
        yield opened


def in_thread(database: Database, script: str) -> Callable[[], object]:  # noqa: F811
    """psql from a test that also runs Trio tasks."""
    return partial(trio.to_thread.run_sync, partial(database.sql, script))


def kill_links(name: str) -> str:
    mine = f"usename = '{GATEWAY_USER}' and datname = '{name}'"
    return f"select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where {mine}"


async def test_killed_links_are_replaced(database: Database, log: PostgresLog) -> None:  # noqa: F811
    """Links that die while idle are noticed before they are used: no call fails."""
    facts = await lobby(log)
    await log.append([message(facts)])
    killed = await in_thread(database, kill_links(database.name))()
    assert int(str(killed)) >= 2
    assert [verdict.outcome for verdict in await log.append([message(facts)])] == [Outcome.OK]
    assert sum(await log.heads()) == 2
    assert len(await log.read("demo", facts.sid, 0, 10)) == 2


async def test_a_link_killed_in_mid_append(database: Database, log: PostgresLog) -> None:  # noqa: F811
    """The caller gets Unavailable; the same key afterwards lands exactly once."""
    facts = await lobby(log)
    await log.append([message(facts)])
    blocker = "begin; select from readback.partitions for update; select pg_sleep(0.3); " + kill_links(database.name)
    key = str(uuid.uuid4())
    failed: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_thread(database, blocker))
        while not int(
            str(await in_thread(database, "select count(*) from pg_stat_activity where wait_event = 'PgSleep'")())
        ):
            pass
        try:
            await log.append([message(facts, key)])
        except Unavailable as unavailable:
            failed.append(str(unavailable))
    assert failed
    verdicts = await until_ok(log.append, [message(facts, key)])
    assert [verdict.seq for verdict in verdicts] == [2]  # type: ignore[attr-defined]


async def test_a_database_that_does_not_answer(database: Database) -> None:  # noqa: F811
    """A call ends at its deadline, its link is closed, and the next call is answered by its own reply."""
    limits = StoreLimits(writers=1, readers=1, query_timeout_s=0.3)
    async with open_postgres_log(database.url, limits=limits) as log:
        facts = await lobby(log)
        async with SuperuserLink(database) as holder:
            await holder("begin")
            await holder("lock table readback.partitions, readback.streams in access exclusive mode")
            with pytest.raises(Unavailable, match="took too long"):
                await log.append([message(facts)])
            with pytest.raises(Unavailable, match="took too long"):
                await log.read("demo", facts.sid, 0, 10)
            await holder("rollback")
        [verdict] = await log.append([message(facts)])  # type: ignore[misc]
        events = await log.read("demo", facts.sid, 0, 10)
        assert events[-1].seq == verdict.seq


async def test_a_cancelled_call_s_reply_reaches_nobody_else(database: Database) -> None:  # noqa: F811
    """Cancelled at any point, an append leaves no half-read link behind: every verdict is its own entry's."""
    async with open_postgres_log(database.url, limits=StoreLimits(writers=1, readers=1)) as log:
        facts = await lobby(log)
        sent: dict[str, int] = {}
        for n in range(60):
            doomed = [message(facts) for _ in range(n % 5 + 1)]
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(log.append, doomed)
                    nursery.start_soon(log.read, "demo", facts.sid, 0, 10)
                    for _ in range(n % 12):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            kept = message(facts)
            [verdict] = await log.append([kept])
            sent[kept.key] = verdict.seq
        events = {event.key: event.seq for event in await log.read("demo", facts.sid, 0, 1_000)}
        assert {key: events[key] for key in sent} == sent
        assert sorted(events.values()) == list(range(1, len(events) + 1))


async def test_a_read_only_database(database: Database, log: PostgresLog) -> None:  # noqa: F811
    """Sends are answered unavailable with the reason; reading goes on; all recovers."""
    facts = await lobby(log)
    await log.append([message(facts)])
    await in_thread(database, f"alter database {database.name} set default_transaction_read_only = on")()
    await in_thread(database, kill_links(database.name))()
    with pytest.raises(Unavailable, match="read-only"):
        await log.append([message(facts)])
    with pytest.raises(Unavailable, match="read-only"):
        await log.put_member("demo", "chat:lobby", "user:bob", "member", "user:amy")
    assert len(await log.read("demo", facts.sid, 0, 10)) == 1
    reset = f"set transaction_read_only = off; alter database {database.name} reset default_transaction_read_only"
    await in_thread(database, f"begin; {reset}; commit")()
    await in_thread(database, kill_links(database.name))()
    await until_ok(log.append, [message(facts)])


async def test_no_connection_left(database: Database) -> None:  # noqa: F811
    """A server that is full is unavailable with the reason, and the next attempts cost it nothing until they are due."""
    async with open_postgres_log(database.url, limits=StoreLimits(writers=1, readers=1)) as log:
        facts = await lobby(log)
        await in_thread(database, f"alter database {database.name} connection limit 0")()
        with pytest.raises(Unavailable, match="no connection left"):
            await log.append([message(facts)])
        with pytest.raises(Unavailable, match="no connection left") as refused:
            await log.append([message(facts)])
        assert refused.value.retry_after_s > 0
        await in_thread(database, f"alter database {database.name} connection limit -1")()
        await until_ok(log.append, [message(facts)])


async def test_a_restarted_database(scratch: Path) -> None:
    """Down: unavailable, at once. Up again: works, with nothing done here."""

    def start() -> EmbeddedPostgres:
        server = EmbeddedPostgres(scratch / "postgres", settings=UNSAFE_SETTINGS)
        server.start()
        return server

    server = start()
    try:
        await migrate_database(server.url(), partitions=2)
        async with open_postgres_log(server.url(user=GATEWAY_USER)) as log:
            facts = await lobby(log)
            await log.append([message(facts)])
            await trio.to_thread.run_sync(server.stop)
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await log.append([message(facts)])
                with pytest.raises(Unavailable):
                    await log.heads()
            server = await trio.to_thread.run_sync(start)
            await until_ok(log.append, [message(facts)])
            assert len(await log.read("demo", facts.sid, 0, 10)) == 2
    finally:
        await trio.to_thread.run_sync(server.stop)


async def test_more_callers_than_links(database: Database) -> None:  # noqa: F811
    """They wait their turn, and all are served."""
    async with open_postgres_log(database.url, limits=StoreLimits(writers=1, readers=1)) as log:
        facts = await lobby(log)
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(log.append, [message(facts)])
                nursery.start_soon(log.heads)
        assert sum(await log.heads()) == 30


async def test_a_closed_log_says_so(database: Database) -> None:  # noqa: F811
    """And leaves no link behind on the server."""
    async with open_postgres_log(database.url) as log:
        facts = await lobby(log)
        await log.append([message(facts)])
    with pytest.raises(Unavailable, match="closed"):
        await log.heads()
    with pytest.raises(Unavailable, match="closed"):
        await log.append([message(facts)])
    with trio.fail_after(10):
        links = (
            f"select count(*) from pg_stat_activity where usename = '{GATEWAY_USER}' and datname = '{database.name}'"
        )
        while await in_thread(database, links)() != "0":
            pass


async def test_what_the_block_raises_comes_out_as_it_is(database: Database) -> None:  # noqa: F811
    """Not wrapped in the asyncio loop's exception group."""
    with pytest.raises(ValueError, match="mine"):
        async with open_postgres_log(database.url):
            raise ValueError("mine")


class SuperuserLink:
    """A plain link of the test's own, as superuser, in the running loop."""

    def __init__(self, database: Database) -> None:  # noqa: F811
        self._url = database.admin_url

    async def __aenter__(self) -> Callable[[str], object]:
        self._connector = Connector(self._url, StoreLimits())
        self._link = await self._connector.connect()
        return partial(self._connector.call, self._link.execute)

    async def __aexit__(self, *_: object) -> None:
        self._connector.terminate(self._link)


def test_backoff_doubles_to_a_second_and_forgets() -> None:
    """Nothing is tried before its time; success starts over."""
    backoff = Backoff()
    assert backoff.refusal(0.0) is None
    now, waits = 0.0, []
    for _ in range(7):
        backoff.failed(now, "down")
        refusal = backoff.refusal(now)
        assert refusal is not None
        assert str(refusal) == "down"
        waits.append(refusal.retry_after_s)
        now += refusal.retry_after_s
        assert backoff.refusal(now + 1e-9) is None
    assert waits == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.succeeded()
    assert backoff.refusal(now) is None


@pytest.mark.parametrize(
    ("sqlstate", "reason"),
    [
        ("53100", "disk is full"),
        ("53300", "no connection left"),
        ("57P01", "shutting down"),
        ("57P03", "starting up"),
        ("25006", "read-only"),
        ("57014", "too long"),
        ("58030", "machine reports an error"),
        ("08006", "cannot be reached"),
        ("42P01", "unexpected error"),
    ],
)
def test_an_error_s_reason_is_plain(sqlstate: str, reason: str) -> None:
    """Fit for a client: no SQL, no names."""
    error = to_store_error(sqlstate)
    assert isinstance(error, Unavailable)
    assert reason in str(error)
    assert not is_entrys_fault(sqlstate)


def test_damage_is_not_unavailability() -> None:
    """Postgres saying that its data is damaged is a reason to stop."""
    assert isinstance(to_store_error("XX001"), CorruptLog)


def test_whose_fault_an_error_is() -> None:
    """Data and constraints are an entry's; a mistake of ours is nobody's to retry."""
    assert is_entrys_fault("22021")
    assert is_entrys_fault("23505")
    assert from_asyncpg(ZeroDivisionError()) is None
    assert isinstance(from_asyncpg(asyncpg.InterfaceError("x")), Unavailable)
    assert isinstance(from_asyncpg(ConnectionResetError()), Unavailable)
