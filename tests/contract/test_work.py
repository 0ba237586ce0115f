"""The workers' port, sentence by sentence, in memory and in Postgres: sharing partitions, committing, parked streams, firings.

Tasks and read models have files of their own beside this one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from core.work import Cursor, Effects, Fenced, Held, Lease, Work
from tests.works import ALL, TTL, Bench, at_once, firing, keys, lease, park, partitions, row, task, write

# Fair shares


async def test_one_worker_has_it_all(work: Work) -> None:
    """Cursors are made where they are first asked for, at the beginning, for each consumer in the order that it is named."""
    leases = await work.beat("w1", ["views", "rules"], TTL)
    assert [each[:2] for each in leases] == [*(("views", p) for p in ALL), *(("rules", p) for p in ALL)]
    assert {each.pos for each in leases} == {0}
    assert all(each.fence > 0 for each in leases)


async def test_a_lease_kept_keeps_its_fence(work: Work) -> None:
    """However often it is renewed."""
    first = await work.beat("w1", ["views"], TTL)
    assert await work.beat("w1", ["views"], TTL) == first
    assert await work.beat("w1", ["views", "views"], TTL) == first


async def test_two_workers_share(bench: Bench) -> None:
    """The first gives up half at its next beat, and the second takes that under higher fences."""
    before = await bench.one.beat("w1", ["views"], TTL)
    assert await bench.two.beat("w2", ["views"], TTL) == [], "nothing is taken from one that lives"
    kept = await bench.one.beat("w1", ["views"], TTL)
    assert kept == before[:2]
    taken = await bench.two.beat("w2", ["views"], TTL)
    assert partitions(taken) == [2, 3]
    assert min(each.fence for each in taken) > max(each.fence for each in before)


async def test_three_workers_share_four_partitions(bench: Bench) -> None:
    """The first by name has the one that is left over; nobody has none, and together they have all."""
    for _ in range(3):
        shares = {holder: await bench.one.beat(holder, ["views"], TTL) for holder in ("w3", "w1", "w2")}
    assert {holder: len(leases) for holder, leases in shares.items()} == {"w1": 2, "w2": 1, "w3": 1}
    assert sorted(p for leases in shares.values() for p in partitions(leases)) == ALL


async def test_more_workers_than_partitions(bench: Bench) -> None:
    """One each, and the last by name have none."""
    for _ in range(3):
        shares = {f"w{n}": await bench.one.beat(f"w{n}", ["views"], TTL) for n in range(6)}
    assert [len(leases) for leases in shares.values()] == [1, 1, 1, 1, 0, 0]


async def test_only_workers_of_a_consumer_share_it(bench: Bench) -> None:
    """One that is ready for another consumer takes none of this one's from anybody."""
    await bench.one.beat("w1", ["views"], TTL)
    assert partitions(await bench.two.beat("w2", ["rules"], TTL), "rules") == ALL
    assert partitions(await bench.one.beat("w1", ["views"], TTL)) == ALL


async def test_a_consumer_that_is_not_named_is_given_up(bench: Bench) -> None:
    """Others take it at once; it is named again, and counts again."""
    await bench.one.beat("w1", ["views", "rules"], TTL)
    assert partitions(await bench.one.beat("w1", ["rules"], TTL), "rules") == ALL
    assert partitions(await bench.two.beat("w2", ["views"], TTL)) == ALL
    assert await bench.one.beat("w1", [], TTL) == []
    assert {cursor.holder for cursor in await bench.one.cursors("rules")} == {""}


async def test_a_worker_that_stops_beating_loses_its_leases(bench: Bench) -> None:
    """After its ttl, to whoever beats; and its fence is refused from then on."""
    [lost, *_] = await bench.one.beat("w1", ["views"], TTL)
    await bench.later(TTL - 20_000)
    assert await bench.two.beat("w2", ["views"], TTL) == []
    await bench.later(20_000)
    taken = await bench.two.beat("w2", ["views"], TTL)
    assert partitions(taken) == ALL
    with pytest.raises(Fenced):
        await bench.one.commit(lost, 1, Effects(rows=[row(doc={})], tasks=[task()]))
    assert await bench.one.row("flight_board", "demo", "QX12") is None
    assert await bench.one.tasks("timer") == []
    assert await bench.two.commit(taken[0], 1, Effects()) == taken[0]._replace(pos=1)


async def test_a_lease_that_nobody_took_is_as_good_as_any(bench: Bench) -> None:
    """It ran out, or was given up; and its worker takes up where it was."""
    first, *_, last = await bench.one.beat("w1", ["views"], TTL)
    await bench.later(TTL)
    assert {cursor.holder for cursor in await bench.one.cursors()} == {""}
    moved = await bench.one.commit(first, 5, Effects())
    assert (await bench.one.beat("w1", ["views"], TTL))[0] == moved
    await bench.two.beat("w2", ["views"], TTL)
    await bench.one.beat("w1", ["views"], TTL)
    await bench.one.commit(last, 3, Effects())
    taken = await bench.two.beat("w2", ["views"], TTL)
    assert (taken[-1].partition, taken[-1].pos) == (last.partition, 3)


async def test_a_worker_that_leaves_is_gone_at_once(bench: Bench) -> None:
    """Its partitions are free, and it counts no more; that it leaves twice, or never was, is no error."""
    await bench.one.beat("w1", ["views", "rules"], TTL)
    for _ in range(2):
        await bench.one.leave("w1")
    assert len(await bench.two.beat("w2", ["views", "rules"], TTL)) == 2 * len(ALL)
    await bench.one.leave("nobody")


async def test_workers_that_beat_at_once_never_hold_the_same(bench: Bench) -> None:
    """Many, over and over: in the end each partition is held by one, and no two leases had the same fence."""
    seen: dict[int, tuple[str, int]] = {}

    async def live(store: Work, holder: str) -> None:
        for _ in range(6):
            for each in await store.beat(holder, ["views", "rules"], TTL):
                place = (f"{holder} {each.consumer}", each.partition)
                assert seen.setdefault(each.fence, place) == place
        await store.leave(holder)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number, store in enumerate((bench.one, bench.two) * 3):
                nursery.start_soon(live, store, f"w{number}")
    assert len(await bench.one.beat("last", ["views", "rules"], TTL)) == 2 * len(ALL)


# Commits


async def test_a_commit_moves_the_cursor(work: Work) -> None:
    """From where the lease says to where it is told; the lease after it goes on from there, and others see it."""
    held = await lease(work)
    moved = await work.commit(held, 10, Effects())
    assert moved == held._replace(pos=10)
    assert await work.commit(moved, 10, Effects()) == moved
    assert await work.commit(moved, 12, Effects()) == moved._replace(pos=12)
    assert await lease(work) == moved._replace(pos=12)
    assert [each.pos for each in await work.beat("w1", ["views"], TTL)] == [12, 0, 0, 0]


@pytest.mark.parametrize("wrong", [{"pos": 9}, {"fence": 10**9}, {"consumer": "nobody"}, {"partition": 99}])
async def test_a_commit_from_elsewhere_is_fenced(work: Work, wrong: dict[str, Any]) -> None:
    """The cursor is not there, the fence is another, there is no such cursor: nothing is written."""
    held = await work.commit(await lease(work), 10, Effects())
    bad = held._replace(**wrong)
    effects = Effects(
        rows=[row(doc={}, partition=bad.partition)],
        tasks=[task()],
        memories=[("demo", 7, {"n": 1})],
        firings=[firing()],
        parks=[park(partition=bad.partition, consumer=bad.consumer)],
    )
    with pytest.raises(Fenced):
        await work.commit(bad, 100, effects)
    assert (await lease(work)).pos == 10
    assert await work.rows("flight_board", "demo") == []
    assert await work.tasks("timer") == []
    assert await work.parked() == []
    assert await work.memories(bad.consumer, [7]) == {}
    assert await work.firings("demo") == []


async def test_a_commit_that_was_repeated_has_its_effect_once(work: Work) -> None:
    """A worker that does not know whether the first arrived finds itself fenced, and asks where it is."""
    held = await lease(work)
    await work.commit(held, 10, Effects(firings=[firing()]))
    with pytest.raises(Fenced):
        await work.commit(held, 10, Effects(firings=[firing()]))
    assert len(await work.firings("demo")) == 1


async def test_of_two_that_commit_at_once_one_does(bench: Bench) -> None:
    """Under the same lease, as where a worker repeats too soon: one set of effects."""
    held = await lease(bench.one)
    for number in range(5):
        answers = await at_once(
            *(
                partial(store.commit, held, held.pos + 1, Effects(firings=[firing()]))
                for store in (bench.one, bench.two)
            )
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["Fenced", "Lease"]
        assert len(await bench.one.firings("demo")) == number + 1
        held = held._replace(pos=held.pos + 1)


async def test_commits_of_many_partitions_at_once(bench: Bench) -> None:
    """All write the same row, task, model: none waits for another in a circle, and all are in."""
    leases = await bench.one.beat("w1", ["views"], TTL)

    async def commit(held: Lease, store: Work) -> None:
        names = ["a", "b", "c"] if held.partition % 2 else ["c", "b", "a"]
        for _ in range(8):
            effects = Effects(
                rows=[row(name, {"n": 1}, partition=held.partition, model=f"m{name}") for name in names],
                tasks=[task(name, replace=True) for name in names],
                untasks=[("timer", "demo", name) for name in reversed(names)],
                memories=[("demo", sid, {}) for sid in (1, 2, 3)],
                parks=[park(sid, partition=held.partition) for sid in (1, 2, 3)],
                unparks=[3, 2, 1],
            )
            held = await store.commit(held, held.pos + 1, effects)

    async def claim(store: Work) -> None:
        for _ in range(8):
            for each in await store.claim("w1", "timer", 10, TTL):
                try:
                    await store.settle(each, state="done", tasks=[task(name) for name in "cab"])
                except Fenced:
                    pass

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number, held in enumerate(leases):
                nursery.start_soon(commit, held, (bench.one, bench.two)[number % 2])
            nursery.start_soon(claim, bench.one)
            nursery.start_soon(claim, bench.two)
    assert {each.pos for each in await bench.one.beat("w1", ["views"], TTL)} == {8}
    assert [len(await bench.one.rows(f"m{name}", "demo")) for name in "abc"] == [1, 1, 1]


async def test_cursors_say_how_far_behind_they_are(bench: Bench) -> None:
    """By consumer, then partition: where each is, where its partition ends, who has it, when it last moved."""
    stream = await bench.stream("flight:QX12")
    for _ in range(3):
        await bench.event(stream)
    held = await lease(bench.one, stream.partition)
    await bench.later(1_000)
    await bench.one.commit(held, 2, Effects())
    await bench.one.beat("w1", ["rules", "views"], TTL)
    found = await bench.one.cursors()
    assert [each[:2] for each in found] == [*(("rules", p) for p in ALL), *(("views", p) for p in ALL)]
    assert await bench.one.cursors("views") == found[len(ALL) :]
    mine = found[len(ALL) + stream.partition]
    assert mine == Cursor("views", stream.partition, 2, 3, "w1", held.fence, mine.at_ms)
    others = [each for each in found[len(ALL) :] if each is not mine]
    assert all(each.at_ms < mine.at_ms for each in others)
    assert {(each.pos, each.head) for each in others} == {(0, 0)}
    assert await bench.one.cursors("nobody") == []


@pytest.mark.parametrize(
    "effects",
    [
        Effects(rows=[row(doc={}, partition=1)]),
        Effects(rows=[row(doc={}, tenant="De mo")]),
        Effects(rows=[row("a\0b", {})]),
        Effects(rows=[row("a", {}, model="")]),
        Effects(parks=[park(partition=1)]),
        Effects(parks=[park(consumer="rules")]),
        Effects(parks=[park(reason="\ud800")]),
        Effects(tasks=[task(kind="tune")]),
        Effects(tasks=[task("a\0")]),
        Effects(tasks=[task(lane="\0")]),
        Effects(tasks=[task(due_ms=2**63)]),
        Effects(untasks=[("timer", "demo", "\0")]),
        Effects(memories=[("", 7, {})]),
        Effects(firings=[firing("\0")]),
    ],
)
async def test_what_cannot_be_kept_is_an_error_of_ours(work: Work, effects: Effects) -> None:
    """In a commit as it would be alone: nothing is written, and the lease goes on."""
    held = await lease(work)
    with pytest.raises(ValueError):
        await work.commit(held, 5, effects)
    with pytest.raises(ValueError, match="goes on"):
        await work.commit(held, -1, Effects())
    assert await work.commit(held, 5, Effects()) == held._replace(pos=5)


async def test_json_that_cannot_be_written_writes_nothing(work: Work) -> None:
    """Wherever it is in a commit."""
    held = await lease(work)
    bad = {"n": 2**70}
    for effects in (
        Effects(rows=[row("good", {}), row("bad", bad)]),
        Effects(rows=[row("good", {})], tasks=[task(body=bad)]),
        Effects(rows=[row("good", {})], memories=[("demo", 7, bad)]),
        Effects(rows=[row("good", {})], firings=[firing(inputs=bad)]),
    ):
        with pytest.raises(TypeError):
            await work.commit(held, 5, effects)
    assert await work.rows("flight_board", "demo") == []
    assert (await lease(work)).pos == 0


# Holding, forgetting, remembering


async def test_a_held_consumer_stands_still(bench: Bench) -> None:
    """Nothing of it is written for so long; other consumers go on."""
    held = await lease(bench.one)
    await bench.one.hold("views", 10_000)
    with pytest.raises(Held):
        await bench.one.commit(held, 5, Effects(firings=[firing()]))
    assert await bench.one.firings("demo") == []
    other = await lease(bench.one, consumer="rules")
    await bench.one.commit(other, 5, Effects())
    await bench.later(10_000)
    assert (await bench.one.commit(held, 5, Effects())).pos == 5


async def test_a_hold_is_ended_by_word(work: Work) -> None:
    """With 0; a hold of what is not there is no error, and says nothing to cursors made later."""
    await work.hold("views", 10_000)
    held = await work.commit(await lease(work), 5, Effects())
    await work.hold("views", 10_000)
    assert (await lease(work)) == held, "holding takes nobody's lease"
    await work.hold("views", 0)
    assert (await work.commit(held, 6, Effects())).pos == 6


async def test_a_stale_fence_is_said_before_a_hold(work: Work) -> None:
    """Waiting would be in vain."""
    held = await lease(work)
    await work.hold("views", 10_000)
    with pytest.raises(Fenced):
        await work.commit(held._replace(pos=3), 5, Effects())


async def test_forgetting_a_consumer(work: Work) -> None:
    """Its cursors, memories and parked streams are gone, others' are not; it begins anew, and old leases are fenced."""
    held = await lease(work)
    effects = Effects(memories=[("demo", 7, {"n": 1})], parks=[park()], rows=[row("kept", {})])
    old = await work.commit(held, 5, effects)
    other = await lease(work, consumer="rules")
    await work.commit(other, 5, Effects(memories=[("demo", 7, {"n": 2})], parks=[park(consumer="rules")]))
    await work.forget("views")
    assert await work.cursors("views") == []
    assert await work.memories("views", [7]) == {}
    assert await work.memories("rules", [7]) == {7: {"n": 2}}
    assert [each.consumer for each in await work.parked()] == ["rules"]
    assert keys(await work.rows("flight_board", "demo")) == ["kept"]
    anew = await lease(work)
    assert anew.pos == 0
    assert anew.fence > held.fence
    for stale in (held, old):
        with pytest.raises(Fenced):
            await work.commit(stale, 9, Effects())
    await work.forget("nobody")


async def test_what_a_consumer_remembers(work: Work) -> None:
    """The last that it said of each stream, until it forgets it; each consumer for itself, whatever the tenant."""
    held = await lease(work)
    memories = [
        ("demo", 7, {"n": 1}),
        ("demo", 7, {"deep": {"ü\0": [1, None]}}),
        ("other", 8, {}),
        ("demo", 9, {"n": 9}),
    ]
    held = await work.commit(held, 1, Effects(memories=memories))  # type: ignore[arg-type]
    expected = {7: {"deep": {"ü\0": [1, None]}}, 8: {}, 9: {"n": 9}}
    assert await work.memories("views", [9, 8, 7, 7, 6]) == expected
    assert await work.memories("views", []) == await work.memories("rules", [7]) == {}
    await work.commit(
        held, 2, Effects(memories=[("demo", 7, None), ("demo", 9, {}), ("demo", 9, None), ("demo", 5, None)])
    )
    assert await work.memories("views", [5, 7, 8, 9]) == {8: {}}


# Parked streams


async def test_a_stream_is_parked_and_taken_back(bench: Bench) -> None:
    """Oldest first, with its time by the store's clock; parked again it is updated, and keeps that time."""
    work = bench.one
    held = await work.commit(await lease(work), 1, Effects(parks=[park(7), park(8, tenant="other")]))
    await bench.later(1_000)
    held = await work.commit(held, 2, Effects(parks=[park(6)]))
    found = await work.parked()
    assert [each.sid for each in found] == [7, 8, 6]
    assert found[0] == park(7, since_ms=found[0].since_ms)
    assert 0 < found[0].since_ms < found[2].since_ms
    again = park(7, seq=5, pos=2, reason="it still does not", attempts=6, retry=True)
    held = await work.commit(held, 3, Effects(parks=[again]))
    assert (await work.parked())[0] == again._replace(since_ms=found[0].since_ms)
    await work.commit(held, 4, Effects(unparks=[7, 99]))
    assert [each.sid for each in await work.parked()] == [8, 6]


async def test_parked_streams_are_asked_for(work: Work) -> None:
    """Of one consumer, of one tenant, at most so many."""
    await work.commit(await lease(work), 1, Effects(parks=[park(7), park(8, tenant="other"), park(9)]))
    other = await lease(work, consumer="rules")
    await work.commit(other, 1, Effects(parks=[park(7, consumer="rules")]))

    async def sids(*args: str, **kwargs: object) -> list[int]:
        return [each.sid for each in await work.parked(*args, **kwargs)]  # type: ignore[arg-type]

    assert sorted(await sids()) == [7, 7, 8, 9]
    assert await sids("rules") == [7]
    assert await sids("views", tenant="demo") == [7, 9]
    assert await sids(tenant="other") == [8]
    assert await sids("nobody") == await sids(tenant="no") == await sids(limit=0) == []
    assert await sids("views", limit=2) == [7, 8]


async def test_an_operator_has_a_parked_stream_tried_again(work: Work) -> None:
    """From the event that it stopped at, or from after it; there must be one."""
    held = await work.commit(await lease(work), 1, Effects(parks=[park(7), park(8)]))
    assert await work.ask_retry("views", 7, skip=False)
    assert await work.ask_retry("views", 8, skip=True)
    seven, eight = await work.parked()
    assert seven == park(7, retry=True, attempts=0, since_ms=seven.since_ms)
    assert eight == park(8, retry=True, attempts=0, since_ms=eight.since_ms, seq=4)
    assert not await work.ask_retry("views", 9, skip=False)
    assert not await work.ask_retry("rules", 7, skip=False)
    await work.commit(held, 1, Effects(parks=[park(7)]))
    assert not (await work.parked())[0].retry


# What rules did


async def test_what_rules_did_is_kept_in_order(work: Work) -> None:
    """The newest first; of one rule, of one stream, of one tenant."""
    held = await lease(work)
    done = [
        firing("overdue", seq=1),
        firing("delay", seq=2, inputs={}, actions=[]),
        firing("overdue", seq=3, stream="flight:QX13", verdict="refused"),
        firing("overdue", seq=4, tenant="other"),
    ]
    held = await work.commit(held, 1, Effects(firings=done[:2]))
    await work.commit(held, 2, Effects(firings=done[2:]))
    one, two, three, other = done
    assert await work.firings("demo") == [three, two, one]
    assert await work.firings("demo", limit=2) == [three, two]
    assert await work.firings("demo", rule="overdue") == [three, one]
    assert await work.firings("demo", stream="flight:QX12") == [two, one]
    assert await work.firings("demo", rule="overdue", stream="flight:QX12", limit=5) == [one]
    assert await work.firings("other") == [other]
    assert await work.firings("demo", limit=0) == await work.firings("") == await work.firings("demo\0") == []


async def test_the_effects_of_one_commit_are_there_together(bench: Bench) -> None:
    """Whoever looks sees all of it or none."""
    held = await lease(bench.one)
    seen: set[int] = set()

    async def look() -> None:
        for _ in range(20):
            seen.add(len(await bench.two.rows("flight_board", "demo")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await bench.one.commit(held, 50, Effects(rows=[row(f"k{n}", {"n": n}, pos=n) for n in range(50)]))
    assert seen <= {0, 50}


async def test_effects_are_merged_in_order() -> None:
    """What two events led to is what one commit may bring."""
    both = Effects(rows=[row("a")], unparks=[1])
    both.merge(Effects(rows=[row("b")], tasks=[task()], unparks=[2]))
    assert (keys(both.rows), both.unparks, len(both.tasks)) == (["a", "b"], [1, 2], 1)


async def test_a_commit_is_on_record_when_it_returns(bench: Bench) -> None:
    """Another worker sees it at once."""
    await write(bench.one, row("a", {"n": 1}, pos=3))
    assert keys(await bench.two.rows("flight_board", "demo")) == ["a"]
    assert (await bench.two.cursors("views"))[0].pos == 3
