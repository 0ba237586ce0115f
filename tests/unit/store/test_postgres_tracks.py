"""What the store of tracks in Postgres has beside the contract: days come and go under those who write, reads stay narrow."""

from __future__ import annotations

import contextlib
from random import Random

import pytest
import trio

from core.ports import Refused, Unavailable
from core.tracks import FENCES_MAX, PUSHES_MAX, Tracks
from store import migrations, postgres_tracks
from store.embedded import EmbeddedPostgres
from store.links import Connector, Links, StoreLimits, asyncio_loop
from store.migrations import load_migrations
from store.postgres import migrate_database, open_postgres_log
from tests.servers import GATEWAY_USER, Database, database, postgres_server, run_sql  # noqa: F401
from tests.tracks import DAY, NOW, TRUCK, VAN, fence, key, last, places, push, sample, secret, whole

TODAY = NOW // DAY


def days_of(at: Database) -> list[int]:
    return [int(day) - TODAY for day in at.sql("select readback.position_days()").split()]


# Plans


def rows_read(at: Database) -> dict[int, int]:
    """Of each day, counted from today, by all links that were: they say so when they end."""
    there = "select count(*) from pg_stat_activity where usename = 'readback_gateway' and datname = current_database()"
    while at.sql(there) != "0":
        pass
    found = at.sql(
        "select substr(relname, 5) || ' ' || coalesce(idx_tup_fetch, 0) + seq_tup_read from pg_stat_user_tables "
        "where schemaname = 'readback_days' and relname like 'day%'"
    )
    return {int(day) - TODAY: int(rows) for day, rows in (line.split() for line in found.splitlines())}


async def test_a_read_opens_the_days_it_asks_for(database: Database) -> None:  # noqa: F811
    """By the index, and of each only the rows of the stream within the time: also by a plan that was made on empty tables."""
    async with open_postgres_log(database.url) as log:
        for newest in (False, True):
            assert await whole(log.tracks, newest=newest) == []
        for day in range(8):
            moments = [NOW + day * DAY + n for n in range(500)]
            await log.tracks.keep([sample(at_ms, at_ms, stream=f"trip:{at_ms % 20}") for at_ms in moments], [])
        stream = f"trip:{NOW % 20 + 9}"
        for newest in (False, True):
            from_ms = NOW + 3 * DAY + 100
            found = await whole(log.tracks, stream=stream, newest=newest, from_ms=from_ms, to_ms=from_ms + 100)
            assert [each.at_ms - from_ms for each in found] == [9, 29, 49, 69, 89]
            assert len(await whole(log.tracks, stream=stream, newest=newest, from_ms=NOW + 6 * DAY, limit=3)) == 3
    rows = rows_read(database)
    assert rows[3] == 10
    assert 3 <= rows[6] <= 40, "the first day has enough"
    assert 3 <= rows[7] <= 40, "and so has the last"
    assert [rows[day] for day in (0, 1, 2, 4, 5)] == [0] * 5


async def test_a_page_costs_what_it_shows(database: Database) -> None:  # noqa: F811
    """Not what there is: a hundred of a long track are found without reading the rest."""
    async with open_postgres_log(database.url) as log:
        for part in range(3):
            await log.tracks.keep([sample(NOW + n, n) for n in range(part * 5_000, part * 5_000 + 5_000)], [])
        assert len(await whole(log.tracks, limit=100)) == 100
        assert len(await whole(log.tracks, limit=100, after=(NOW + 7_000, TRUCK, 7_000))) == 100
        assert len(await whole(log.tracks, limit=100, newest=True)) == 100
    assert 300 <= rows_read(database)[0] < 1_000


# Days


async def test_there_is_room_for_the_days_to_come(database: Database) -> None:  # noqa: F811
    """Today and two more, made before anybody needs them; and none for "all other times", where rows would gather unseen."""
    async with open_postgres_log(database.url) as log:
        assert await log.tracks.retain({}, 30, NOW + 5) == 0
        assert days_of(database) == [0, 1, 2]
        await log.tracks.keep([sample(NOW - 7 * DAY, taken_ms=NOW)], [])
    assert days_of(database) == [-7, 0, 1, 2]
    assert database.sql("select count(*) from pg_partitioned_table where partdefid <> 0") == "0"


async def test_days_have_a_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Whatever devices say of their clocks: past it nothing is made or written, and those that are there go on."""
    monkeypatch.setattr(postgres_tracks, "DAYS_MAX", 5)
    async with open_postgres_log(database.url) as log:
        await log.tracks.keep([sample(NOW - n * DAY, taken_ms=NOW) for n in range(4)], [])
        with pytest.raises(Unavailable, match="positions of 5 days are kept already"):
            await log.tracks.keep([sample(NOW - n * DAY, 9, taken_ms=NOW) for n in (0, 10, 11)], [last()])
        assert days_of(database) == [-3, -2, -1, 0]
        await log.tracks.keep([sample(NOW - 10 * DAY, taken_ms=NOW), sample(NOW, 2)], [])
        assert len(await whole(log.tracks)) == 6
        assert await log.tracks.lasts("demo", [TRUCK]) == {}


async def test_a_day_in_use_is_left_for_the_next_time(database: Database) -> None:  # noqa: F811
    """Who reads it for long holds up neither `retain` nor, behind that, who writes."""
    async with asyncio_loop(), open_postgres_log(database.url) as log:
        await log.tracks.keep([sample(NOW - 5 * DAY, taken_ms=NOW), sample(NOW)], [])
        limits = StoreLimits()
        links = Links(Connector(database.admin_url, limits), limits)
        async with links.borrow() as reader:
            await links.on_loop(reader.execute, "begin; select count(*) from readback.positions")
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(log.tracks.keep, [sample(NOW, 2)], [])
                    assert await log.tracks.retain({}, 1, NOW) == 0
                await log.tracks.keep([sample(NOW - 5 * DAY, 3, taken_ms=NOW)], [])
            await links.on_loop(reader.execute, "rollback")
        links.close()
        assert await log.tracks.retain({}, 1, NOW) == 1
        assert places(await whole(log.tracks)) == [(NOW, TRUCK, 1), (NOW, TRUCK, 2)]


async def test_rows_go_some_at_a_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """So that no transaction lasts; all are gone when `retain` returns."""
    monkeypatch.setattr(postgres_tracks, "FORGOTTEN_PER_COMMIT", 7)
    async with open_postgres_log(database.url) as log:
        kept = [sample(NOW + n, n, tenant=f"t{n % 5}") for n in range(100)]
        await log.tracks.keep(kept, [])
        assert await log.tracks.retain({"t0": 1, "t1": 1, "t3": 1, "t4": 9}, 5, NOW + 2 * DAY) == 60
        left = {f"t{n}": len(await whole(log.tracks, f"t{n}")) for n in range(5)}
    assert left == {"t0": 0, "t1": 0, "t2": 20, "t3": 0, "t4": 20}


async def test_all_at_once_nothing_is_lost(database: Database) -> None:  # noqa: F811
    """Nodes that keep, make days, drop them and read, in no good order: no deadlock, and every sample that is young enough is
    there, every last position the highest."""
    kept: set[tuple[int, str, int]] = set()
    highest: dict[str, int] = {}

    async def keep(tracks: Tracks, number: int) -> None:
        random = Random(number)
        for turn in range(12):
            batch = [
                sample(NOW - random.choice((0, 0, 1, 8, 9)) * DAY + turn, number * 1_000 + turn * 20 + n, taken_ms=NOW)
                for n in range(15)
            ]
            lasts = [last(NOW + random.randrange(10**6), subject=subject) for subject in random.sample((TRUCK, VAN), 2)]
            while True:
                try:
                    await tracks.keep(batch, lasts)
                    break
                except Unavailable:  # its days went five times while it came, which nobody but this test makes happen
                    pass
            kept.update(place for place in places(batch) if place[0] >= NOW - 3 * DAY)
            for each in lasts:
                highest[each.subject] = max(highest.get(each.subject, 0), each.at_ms)

    async def forget(tracks: Tracks) -> None:
        for _ in range(10):
            await tracks.retain({"demo": 3}, 5, NOW)
            await whole(tracks)

    async with open_postgres_log(database.url) as one, open_postgres_log(database.url) as two:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(keep, (one, two)[number % 2].tracks, number)
                nursery.start_soon(forget, one.tracks)
                nursery.start_soon(forget, two.tracks)
        await one.tracks.retain({"demo": 3}, 5, NOW)
        assert places(await whole(two.tracks)) == sorted(kept)
        assert {who: each.at_ms for who, each in (await one.tracks.lasts("demo", [TRUCK, VAN])).items()} == highest
    assert database.sql("select deadlocks from pg_stat_database where datname = current_database()") == "0"


# Links


async def test_a_link_that_died_is_replaced(database: Database) -> None:  # noqa: F811
    """While it was idle: the call that meets it goes through, or says so and may be repeated at once, as any of this port."""
    async with open_postgres_log(database.url) as log:
        await log.tracks.keep([sample()], [last()])
        database.sql(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'readback_gateway' "
            "and datname = current_database()"
        )
        for number in (2, 3):
            with contextlib.suppress(Unavailable):
                await log.tracks.keep([sample(NOW, number)], [last(NOW + number)])
        assert places(await whole(log.tracks))[-1] == (NOW, TRUCK, 3)
        assert (await log.tracks.lasts("demo", [TRUCK]))[TRUCK] == last(NOW + 3)


async def test_a_batch_is_kept_whole_or_not_at_all(database: Database) -> None:  # noqa: F811
    """Samples and last positions are one commit: where the database refuses one of them the others are not there either."""
    database.sql("alter table readback.last_positions add constraint never check (subject <> 'device:van-1')")
    async with open_postgres_log(database.url) as log:
        with pytest.raises(Unavailable):
            await log.tracks.keep([sample()], [last(), last(subject=VAN)])
        assert await whole(log.tracks) == []
        assert await log.tracks.lasts("demo", [TRUCK, VAN]) == {}
        await log.tracks.keep([sample()], [last()])
        assert await whole(log.tracks) == [sample()]


# At once


async def test_last_positions_are_raised_in_one_order(database: Database) -> None:  # noqa: F811
    """Whatever order they come in: who waits for one holds none that comes after it, so that nobody waits in a circle."""
    raised = (
        "select readback.keep_lasts(array['demo'], array['{}'], array['trip:9'], array[1]::bigint[], array[1], array[1], "
        "array[1], array[1], array[1], array[1], array['accepted'], array[1]::bigint[], array['{{}}'])"
    )
    waiting = "select count(*) from pg_locks where not granted"
    kept = trio.Event()

    async def keep(tracks: Tracks) -> None:
        await tracks.keep([], [last(NOW, subject=VAN), last(NOW, subject=TRUCK)])
        kept.set()

    async with asyncio_loop(), open_postgres_log(database.url) as log:
        limits = StoreLimits()
        links = Links(Connector(database.url, limits), limits)
        async with links.borrow() as first:
            await links.on_loop(first.execute, f"begin; {raised.format(TRUCK)}")
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(keep, log.tracks)
                    while await trio.to_thread.run_sync(database.sql, waiting) == "0":
                        assert not kept.is_set()
                    await links.on_loop(first.execute, f"{raised.format(VAN)}; commit")
        links.close()
        assert {each.at_ms for each in (await log.tracks.lasts("demo", [TRUCK, VAN])).values()} == {NOW}


async def test_the_last_place_is_given_once(database: Database) -> None:  # noqa: F811
    """Who asks for a fence while another's is not committed yet waits for it, and finds no place left."""
    fill = (
        "insert into readback.geofences select 'demo', 'f' || n, 'f', '{1,2}', 1, 0, '{}' from generate_series(2, $1) n"
    )
    database.sql(fill.replace("$1", str(FENCES_MAX)))
    outcomes: list[object] = []

    async def put(tracks: Tracks) -> None:
        try:
            outcomes.append(await tracks.put_fence("demo", fence("second")))
        except Refused as refused:
            outcomes.append(refused.code)

    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    async with asyncio_loop(), open_postgres_log(database.url) as log:
        limits = StoreLimits()
        links = Links(Connector(database.url, limits), limits)
        async with links.borrow() as first:
            first_put = "begin; select readback.put_geofence('demo', 'first', 'f', '{1,2}', 1, 0, '{}', 1000)"
            await links.on_loop(first.execute, first_put)
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(put, log.tracks)
                    while not outcomes and await trio.to_thread.run_sync(database.sql, waiting) == "0":
                        pass
                    await links.on_loop(first.execute, "commit")
        links.close()
        assert outcomes == ["conflict"]
        assert len(await log.tracks.fences("demo")) == FENCES_MAX


async def test_phones_that_come_at_once(database: Database) -> None:  # noqa: F811
    """Of one principal, and one phone of several: so many stay, each with one, and nobody waits in a circle."""

    async def put(tracks: Tracks, number: int) -> None:
        await tracks.add_push("demo", "user:amy", push(f"t{number}", NOW + number))
        await tracks.add_push("demo", f"user:u{number % 3}", push(f"shared{number % 2}", NOW + number))

    async with open_postgres_log(database.url) as one, open_postgres_log(database.url) as two:
        async with trio.open_nursery() as nursery:
            for number in range(2 * PUSHES_MAX):
                nursery.start_soon(put, (one, two)[number % 2].tracks, number)
        assert len(await one.tracks.pushes("demo", "user:amy")) == PUSHES_MAX
        moved = [each.token for n in range(3) for each in await one.tracks.pushes("demo", f"user:u{n}")]
        assert sorted(moved) == ["shared0", "shared1"]
    assert database.sql("select deadlocks from pg_stat_database where datname = current_database()") == "0"


# Migrating


async def test_a_log_in_use_is_migrated(postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """From the version before: what was there stays, and positions are kept from then on."""
    admin = postgres_server.url(database="postgres")
    run_sql(admin, "create database before_tracks", postgres_server)
    older = Database(postgres_server, "before_tracks")
    try:
        known = load_migrations()
        with monkeypatch.context() as patched:
            patched.setattr(migrations, "load_migrations", lambda: known[:11])
            await migrate_database(older.admin_url, partitions=2)
        older.sql(
            "select readback.create_stream('demo', 'trip:9', true, array['user:amy'], array['owner'])",
            user=GATEWAY_USER,
        )
        assert (await migrate_database(older.admin_url))[0] == "0012_tracks"
        async with open_postgres_log(older.url) as log:
            assert await log.members("demo", "trip:9")
            await log.tracks.keep([sample()], [last()])
            await log.tracks.put_app_key(key(), secret("a"))
            assert await whole(log.tracks) == [sample()]
    finally:
        run_sql(admin, "drop database before_tracks with (force)", postgres_server)
