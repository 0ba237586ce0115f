"""What the workers' store in Postgres has beside the contract: it stays fast, and nobody waits in a circle."""

from __future__ import annotations

from random import Random

import pytest
import trio

from core.ports import Unavailable
from core.work import Effects, Fenced, Held, Lease, Task, Work
from store.postgres import open_postgres_log
from store.postgres_work import _end_of
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.works import TTL, lease, park, row, task


async def test_plans_made_on_a_young_table_stay_good(database: Database) -> None:  # noqa: F811
    """A link that claimed, settled and read when there was next to nothing looks at few rows when there are thousands.

    The plan of a claim that was made so joined from all tasks of the kind: 12 ms beside 10,000 of them, and rising.
    """
    database.sql(
        "alter table readback.tasks set (autovacuum_enabled = off); alter table readback.rows set (autovacuum_enabled = off)"
    )

    async def use(work: Work, name: str) -> None:
        await work.add([task(f"{name}1"), task(f"{name}2", lane=name), task(f"{name}3", lane=name)])
        for _ in range(3):
            for claimed in await work.claim("w1", "timer", 10, TTL):
                await work.pulse(claimed, TTL)
                await work.settle(claimed, state="done", tasks=[task(f"{name}4", replace=True, due_ms=2**60)])
        await work.tasks("timer", state="parked")
        await work.next_due_ms("timer")
        await work.leave("w1")
        await work.clean(0, 10)
        await work.rows("board", "demo", limit=10)
        await work.rows_after("board", 0, 10**6, 10)
        held = await lease(work)
        await work.commit(held, held.pos + 1, Effects(rows=[row(name, {}, model="board", tenant="other")]))

    def fetched() -> int:
        return int(
            database.sql(
                "select sum(idx_tup_fetch + seq_tup_read) from pg_stat_user_tables "
                "where schemaname = 'readback' and relname in ('tasks', 'rows')"
            )
        )

    async with open_postgres_log(database.url) as log:
        await use(log.work, "a")
        await log.work.add([task(f"later{n}", due_ms=2**60) for n in range(1_500)])
        await log.work.add([task(f"lane{n}", due_ms=2**60, lane="x") for n in range(1_500)])
        rows = [row(f"r{n}", {}, model="board", tenant=f"t{n % 7}", pos=n) for n in range(3_000)]
        held = await lease(log.work)
        await log.work.commit(held, 3_000, Effects(rows=rows))
        before = fetched()
        for name in "bcdef":
            await use(log.work, name)
    assert fetched() - before < 1_500, "five uses look at some rows each, and at none of the thousands"


async def live(work: Work, holder: str, random: Random, rounds: int) -> None:
    """One worker that does everything, in no good order."""
    leases: list[Lease] = []
    tasks: list[Task] = []

    def some_tasks() -> list[object]:
        return [
            task(f"k{random.randrange(12)}", lane=random.choice(("", "x", "y")), replace=random.random() < 0.5)
            for _ in range(random.randrange(6))
        ]

    for _ in range(rounds):
        try:
            match random.randrange(9):
                case 0 | 1:
                    leases = await work.beat(holder, random.sample(["views", "rules", "rebuild"], 2), 5_000)
                case 2 | 3 if leases:
                    number = random.randrange(len(leases))
                    held = leases[number]
                    effects = Effects(
                        rows=[
                            row(
                                f"r{random.randrange(9)}", {}, partition=held.partition, model=random.choice(("a", "b"))
                            )
                            for _ in range(6)
                        ],
                        tasks=some_tasks(),  # type: ignore[arg-type]
                        untasks=[("timer", "demo", f"k{random.randrange(12)}") for _ in range(3)],
                        parks=[park(held.partition, partition=held.partition, consumer=held.consumer)],
                    )
                    leases[number] = await work.commit(held, held.pos + 1, effects)
                case 4:
                    tasks += await work.claim(holder, "timer", 4, random.choice((1, 5_000)))
                case 5 if tasks:
                    await work.settle(tasks.pop(), state="done", tasks=some_tasks())  # type: ignore[arg-type]
                case 6:
                    await work.begin_rebuild(random.choice(("a", "b")), random.choice(("rebuild", "rules")))
                case 7:
                    await work.forget(random.choice(("views", "rules", "rebuild")))
                    for found in await work.tasks("timer", limit=3):
                        await work.tell(found.id, random.choice(("retry", "drop", "cancel")))
                case 8:
                    await work.swap("a", (await work.generations()).get("a", 0), "rebuild", "views")
                    await work.leave(holder)
        except (Fenced, Held):
            pass


async def test_workers_never_wait_in_a_circle(database: Database) -> None:  # noqa: F811
    """Whatever several do at once: Postgres finds no deadlock, and each lane has its first to be seen, and no other."""
    async with open_postgres_log(database.url) as one, open_postgres_log(database.url) as two:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(6):
                    work = (one, two)[number % 2].work
                    nursery.start_soon(live, work, f"w{number % 4}", Random(number), 60)
    assert database.sql("select deadlocks from pg_stat_database where datname = current_database()") == "0"
    assert (
        database.sql(
            "select lane from readback.tasks where lane <> '' and state in ('waiting', 'claimed', 'parked') group by lane "
            "having count(*) filter (where not behind) <> 1 or min(id) <> min(id) filter (where not behind)"
        )
        == ""
    )


async def test_a_commit_of_a_lost_link_is_unknown(database: Database) -> None:  # noqa: F811
    """`Unavailable`, and whoever asks where the cursor is finds out; nothing is repeated by itself."""
    async with open_postgres_log(database.url) as log:
        held = await lease(log.work)
        database.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'readback_gateway' "
            "and datname = current_database()"
        )
        with pytest.raises(Unavailable):
            await log.work.commit(held, 5, Effects())
        [again, *_] = await log.work.beat("w1", ["views"], TTL)
        assert again == held


@pytest.mark.parametrize(
    ("prefix", "end"),
    [("", None), ("a", "b"), ("ab", "ac"), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("\ud7ff", "\ue000")],
)
def test_where_the_keys_with_a_prefix_end(prefix: str, end: str | None) -> None:
    """At the first text after all of them, if there is any."""
    assert _end_of(prefix) == end
