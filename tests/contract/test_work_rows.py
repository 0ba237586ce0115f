"""Read models in the workers' store, sentence by sentence, in memory and in Postgres: rows, generations, rebuilds."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from core.work import Effects, Fenced, Work
from tests.works import TTL, Bench, at_once, keys, lease, row, write

BOARD = "flight_board"


async def test_a_row_is_kept_as_it_was_written(work: Work) -> None:
    """With the event that it was last changed by, and whatever JSON holds."""
    doc = {"text": 'ü\0 " 中', "deep": [1.5, {"n": None}], "big": 2**63 - 1}
    one = row("QX12", doc, partition=2, pos=8, seq=3, at_ms=5)
    await write(work, one)
    assert await work.row(BOARD, "demo", "QX12") == one
    assert await work.rows(BOARD, "demo") == [one]
    assert await work.rows_after(BOARD, 2, 0, 10) == [one]


async def test_a_row_is_changed_and_goes(work: Work) -> None:
    """Of one key the last counts, in one commit too; one that is gone is there for those who follow changes only."""
    await write(work, row("a", {"n": 1}), row("b", {"n": 1}), row("a", {"n": 2}, pos=2))
    assert [each.doc for each in await work.rows(BOARD, "demo")] == [{"n": 2}, {"n": 1}]
    gone = row("a", None, pos=3)
    await write(work, gone)
    assert keys(await work.rows(BOARD, "demo")) == ["b"]
    assert await work.row(BOARD, "demo", "a") is None
    assert (await work.rows_after(BOARD, 0, 0, 10))[-1] == gone
    await write(work, row("a", {"n": 4}, pos=4))
    assert keys(await work.rows(BOARD, "demo")) == ["a", "b"]


async def test_rows_are_of_one_tenant_and_model(work: Work) -> None:
    """The same key in two tenants, and in two models, is two rows."""
    await write(
        work, row("a", {"n": 1}), row("a", {"n": 2}, tenant="other"), row("a", {"n": 3}, model="manifest"), to_pos=5
    )
    assert [each.doc for each in await work.rows(BOARD, "demo")] == [{"n": 1}]
    assert [each.doc for each in await work.rows(BOARD, "other")] == [{"n": 2}]
    assert [each.doc for each in await work.rows("manifest", "demo")] == [{"n": 3}]
    for tenant in ("", "no", "demo\0", "demo' or true --"):
        assert await work.rows(BOARD, tenant) == []
        assert await work.row(BOARD, tenant, "a") is None
    for model in ("", "no", "\0"):
        assert await work.rows(model, "demo") == await work.rows_after(model, 0, 0, 10) == []
        assert await work.row(model, "demo", "a") is None


async def test_rows_are_asked_for_by_key(work: Work) -> None:
    """In the order of their keys' characters, those with a prefix, past a key, at most so many."""
    names = ["A", "a", "a%", "a%1", "a/1", "a/2", "a_1", "b", "ž"]
    await write(work, *(row(name, {}) for name in reversed(names)))

    async def found(**kwargs: object) -> list[str]:
        return keys(await work.rows(BOARD, "demo", **kwargs))  # type: ignore[arg-type]

    assert await found() == names
    assert await found(limit=2) == ["A", "a"]
    assert await found(after="a", limit=3) == ["a%", "a%1", "a/1"]
    assert await found(prefix="a") == ["a", "a%", "a%1", "a/1", "a/2", "a_1"]
    assert await found(prefix="a%") == ["a%", "a%1"]
    assert await found(prefix="a_") == ["a_1"]
    assert await found(prefix="a/", after="a/1") == ["a/2"]
    assert await found(prefix="a", after="A", limit=1) == ["a"]
    assert await found(prefix="ž") == ["ž"]
    assert await found(prefix="a", after="b") == await found(limit=0) == await found(prefix="x") == []
    assert await found(prefix="\0") == await found(after="ž\0") == []


# Following changes


async def test_changes_of_a_partition_are_followed(work: Work) -> None:
    """Past a position, by position then tenant and key, of all tenants; of other partitions nothing."""
    rows = [
        row("b", {}, pos=3),
        row("a", {}, pos=3),
        row("a", {}, pos=3, tenant="aaa"),
        row("z", {}, pos=2),
        row("c", None, pos=5),
    ]
    await write(work, *rows)
    await write(work, row("other", {}, partition=1, pos=4))
    every = await work.rows_after(BOARD, 0, 0, 100)
    assert [(each.pos, each.tenant, each.key) for each in every] == [
        (2, "demo", "z"),
        (3, "aaa", "a"),
        (3, "demo", "a"),
        (3, "demo", "b"),
        (5, "demo", "c"),
    ]
    assert await work.rows_after(BOARD, 0, 2, 100) == every[1:]
    assert await work.rows_after(BOARD, 0, 5, 100) == []
    assert keys(await work.rows_after(BOARD, 1, 0, 100)) == ["other"]
    assert await work.rows_after(BOARD, -1, 0, 100) == await work.rows_after(BOARD, 10**10, 0, 100) == []


async def test_a_position_is_never_split(work: Work) -> None:
    """Where the limit falls among the rows of one position, all of that one come."""
    rows = [row(f"k{n}", {}, pos=1 + n // 3, tenant=f"t{n % 2}") for n in range(9)]
    await write(work, *rows)
    for limit, expected in ((0, 0), (-1, 0), (1, 3), (2, 3), (3, 3), (4, 6), (9, 9), (100, 9)):
        found = await work.rows_after(BOARD, 0, 0, limit)
        assert len(found) == expected
    pos, seen = 0, 0
    while found := await work.rows_after(BOARD, 0, pos, 1):
        assert {each.pos for each in found} == {pos + 1}
        pos, seen = pos + 1, seen + len(found)
    assert seen == 9


async def test_what_changes_behind_the_cursor_is_told(work: Work) -> None:
    """A parked stream that is taken at last: who follows by position cannot find it, and is told to read all anew."""
    held = await write(work, row("a", {"n": 1}, pos=5), row("m", {}, model="manifest", pos=5))
    before = await work.generations()
    held = await work.commit(held, 9, Effects(rows=[row("a", {"n": 2}, pos=6)]))
    assert await work.generations() == before
    await work.commit(held, 9, Effects(rows=[row("b", {"n": 3}, pos=4)], unparks=[7]))
    after = await work.generations()
    assert after["manifest"] == before["manifest"]
    assert after[BOARD] > before[BOARD]
    assert keys(await work.rows(BOARD, "demo")) == ["a", "b"]


# Generations


async def test_a_rebuild_takes_the_place_of_the_old_at_once(work: Work) -> None:
    """Built beside it, unseen, by a consumer of its own; then all that anybody sees is the new one."""
    await write(work, row("old", {"n": 1}), row("both", {"n": 1}))
    before = await work.generations()
    generation = await work.begin_rebuild(BOARD, "rebuild")
    assert generation > before[BOARD]
    assert await work.generations() == before
    await write(work, row("both", {"n": 2}), row("new", {"n": 2}), consumer="rebuild")
    assert keys(await work.rows(BOARD, "demo")) == ["both", "old"]
    assert keys(await work.rows_after(BOARD, 0, 0, 9)) == ["both", "old"]
    assert await work.swap(BOARD, generation, "rebuild", "views")
    assert [(each.key, each.doc) for each in await work.rows(BOARD, "demo")] == [("both", {"n": 2}), ("new", {"n": 2})]
    assert keys(await work.rows_after(BOARD, 0, 0, 9)) == ["both", "new"]
    assert await work.generations() == {BOARD: generation}
    assert await work.cursors("rebuild") == []
    await write(work, row("later", {}, pos=2))
    assert keys(await work.rows(BOARD, "demo")) == ["both", "later", "new"]


async def test_a_rebuild_writes_only_what_it_builds(work: Work) -> None:
    """Rows of other models that it brings are live; and nothing tells its readers of what changes behind its cursor."""
    await write(work, row("a", {}), row("m", {"n": 1}, model="manifest"))
    generation = await work.begin_rebuild(BOARD, "rebuild")
    held = await write(work, row("a", {}), row("m", {"n": 2}, model="manifest"), consumer="rebuild")
    before = await work.generations()
    await work.commit(held, 1, Effects(rows=[row("b", {})]))
    assert await work.generations() == before
    assert [each.doc for each in await work.rows("manifest", "demo")] == [{"n": 2}]
    assert keys(await work.rows(BOARD, "demo")) == ["a"]
    assert await work.swap(BOARD, generation, "rebuild", "views")
    assert keys(await work.rows(BOARD, "demo")) == ["a", "b"]


async def test_a_swap_waits_for_the_cursors_to_meet(work: Work) -> None:
    """In every partition; until then nothing changes."""
    await write(work, row("old", {}, pos=4))
    await write(work, row("old", {}, pos=7, partition=3))
    generation = await work.begin_rebuild(BOARD, "rebuild")
    assert not await work.swap(BOARD, generation, "rebuild", "views"), "it has no cursor yet"
    await write(work, row("new", {}, pos=4), consumer="rebuild")
    for to_pos in (6, 7):
        assert keys(await work.rows(BOARD, "demo")) == ["old"]
        assert not await work.swap(BOARD, generation, "rebuild", "views")
        assert not await work.swap(BOARD, generation, "rebuild", "nobody")
        await write(work, row("new", {}, pos=1, partition=3), consumer="rebuild", to_pos=to_pos)
    assert not await work.swap(BOARD, generation + 1, "rebuild", "views")
    assert not await work.swap("manifest", generation, "rebuild", "views")
    assert not await work.swap(BOARD, generation, "views", "rebuild")
    await write(work, row("old", {}, pos=8, partition=3))
    assert not await work.swap(BOARD, generation, "rebuild", "views"), "the live one went on"
    await write(work, row("new", {}, pos=8, partition=3), consumer="rebuild")
    assert await work.swap(BOARD, generation, "rebuild", "views")
    assert not await work.swap(BOARD, generation, "rebuild", "views")
    assert keys(await work.rows(BOARD, "demo")) == ["new"]


async def test_a_new_rebuild_ends_the_one_before(work: Work) -> None:
    """Its consumer is fenced, so that nothing that it brings late is taken for live."""
    await write(work, row("live", {}))
    first = await work.begin_rebuild(BOARD, "one")
    held = await write(work, row("lost", {}), consumer="one")
    second = await work.begin_rebuild(BOARD, "two")
    assert second > first
    with pytest.raises(Fenced):
        await work.commit(held, 5, Effects(rows=[row("late", {})]))
    await write(work, row("new", {}), consumer="two")
    assert not await work.swap(BOARD, first, "one", "views")
    assert await work.swap(BOARD, second, "two", "views")
    assert keys(await work.rows(BOARD, "demo")) == ["new"]


async def test_a_rebuild_begun_again_begins_anew(work: Work) -> None:
    """By the same consumer: at position 0, in an empty generation."""
    await write(work, row("live", {}))
    await work.begin_rebuild(BOARD, "rebuild")
    held = await write(work, row("lost", {}), consumer="rebuild")
    generation = await work.begin_rebuild(BOARD, "rebuild")
    with pytest.raises(Fenced):
        await work.commit(held, 5, Effects())
    assert (await lease(work, consumer="rebuild")).pos == 0
    await write(work, row("new", {}), consumer="rebuild")
    assert await work.swap(BOARD, generation, "rebuild", "views")
    assert keys(await work.rows(BOARD, "demo")) == ["new"]


async def test_a_forgotten_rebuild_is_over(work: Work) -> None:
    """What its consumer writes later, beginning anew, is live: nobody builds."""
    await write(work, row("live", {}))
    generation = await work.begin_rebuild(BOARD, "rebuild")
    await write(work, row("lost", {}), consumer="rebuild")
    await work.forget("rebuild")
    await write(work, row("more", {}), consumer="rebuild")
    assert not await work.swap(BOARD, generation, "rebuild", "views")
    assert keys(await work.rows(BOARD, "demo")) == ["live", "more"]


async def test_a_consumer_may_build_several_models(work: Work) -> None:
    """It is forgotten with the last of them."""
    await write(work, row("old", {}), row("old", {}, model="manifest"))
    board = await work.begin_rebuild(BOARD, "rebuild")
    manifest = await work.begin_rebuild("manifest", "rebuild")
    await write(work, row("new", {}), row("new", {}, model="manifest"), consumer="rebuild")
    assert await work.swap(BOARD, board, "rebuild", "views")
    assert keys(await work.rows(BOARD, "demo")) == ["new"]
    assert keys(await work.rows("manifest", "demo")) == ["old"]
    assert await work.swap("manifest", manifest, "rebuild", "views")
    assert keys(await work.rows("manifest", "demo")) == ["new"]
    assert await work.cursors("rebuild") == []


async def test_a_model_that_never_was_is_rebuilt(work: Work) -> None:
    """There is nothing to take the place of."""
    assert await work.generations() == {}
    generation = await work.begin_rebuild(BOARD, "rebuild")
    await lease(work)
    await lease(work, consumer="rebuild")
    assert await work.swap(BOARD, generation, "rebuild", "views")
    assert await work.generations() == {BOARD: generation}
    assert await work.rows(BOARD, "demo") == []


async def test_commits_and_swaps_at_once(bench: Bench) -> None:
    """The live consumer goes on meanwhile: whatever was committed before the swap is in both, and nothing is lost."""
    await write(bench.one, row("k0", {}, pos=1))
    generation = await bench.one.begin_rebuild(BOARD, "rebuild")
    await lease(bench.one, consumer="rebuild")
    swapped = trio.Event()
    live = await lease(bench.one)
    building = await lease(bench.two, consumer="rebuild")
    wrote = 1

    async def go_on() -> None:
        nonlocal live, wrote
        while not swapped.is_set() or wrote < 10:
            rows = [row(f"k{live.pos}", {}, pos=live.pos + 1)]
            live = await bench.one.commit(live, live.pos + 1, Effects(rows=rows))
            wrote += 1
            if not wrote % 4:
                await bench.one.hold("views", TTL)
                while not swapped.is_set() and building.pos < live.pos:
                    await trio.lowlevel.checkpoint()
                await bench.one.hold("views", 0)

    async def catch_up() -> None:
        nonlocal building
        while not swapped.is_set():
            [cursor, *_] = await bench.two.cursors("views")
            rows = [row(f"k{n}", {}, pos=n + 1) for n in range(building.pos, cursor.pos)]
            building = await bench.two.commit(building, cursor.pos, Effects(rows=rows))
            if await bench.two.swap(BOARD, generation, "rebuild", "views"):
                swapped.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            nursery.start_soon(catch_up)
    assert len(await bench.one.rows(BOARD, "demo")) == wrote == live.pos


async def test_of_two_that_swap_at_once_one_does(bench: Bench) -> None:
    """And of two that begin at once, the last one builds."""
    await write(bench.one, row("old", {}))
    begun = await at_once(*(partial(store.begin_rebuild, BOARD, "rebuild") for store in (bench.one, bench.two)))
    assert len(set(begun)) == 2
    await write(bench.one, row("new", {}), consumer="rebuild")
    swapped = await at_once(
        *(partial(store.swap, BOARD, max(begun), "rebuild", "views") for store in (bench.one, bench.two))
    )
    assert sorted(swapped) == [False, True]
    assert keys(await bench.one.rows(BOARD, "demo")) == ["new"]


async def test_rows_that_nobody_sees_are_cleaned_away(bench: Bench) -> None:
    """Those gone since before then, and all of generations that are no more; at most so many."""
    work = bench.one
    now = await bench.now_ms()
    rows = [row(f"k{n}", None, at_ms=now - 1_000 * n) for n in range(4)]
    await write(work, *rows, row("live", {}, at_ms=1))
    assert await work.clean(now - 1_500, 100) == 2
    assert keys(await work.rows_after(BOARD, 0, 0, 9)) == ["k0", "k1", "live"]
    generation = await work.begin_rebuild(BOARD, "rebuild")
    await write(work, row("new", {}, at_ms=1), row("gone", None, at_ms=now), consumer="rebuild")
    assert await work.clean(2, 100) == 0, "what is being built is not over"
    assert await work.swap(BOARD, generation, "rebuild", "views")
    assert await work.clean(2, 0) == 0
    assert await work.clean(2, 2) == 2
    assert await work.clean(2, 2) == 1
    assert keys(await work.rows_after(BOARD, 0, 0, 9)) == ["gone", "new"]
    await work.begin_rebuild(BOARD, "rebuild")
    await write(work, row("lost", {}), consumer="rebuild")
    await work.forget("rebuild")
    assert await work.clean(2, 9) == 1
