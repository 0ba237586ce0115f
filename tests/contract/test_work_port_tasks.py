"""The workers' tasks, sentence by sentence, in memory and in Postgres."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import pytest
import trio

from core.work import Effects, Fenced, Task, Work
from store.work_input import RAN_OUT
from tests.works import TTL, Bench, at_once, keys, lease, task

# Adding


async def test_a_task_is_kept_as_it_was_made(bench: Bench) -> None:
    """It waits, with its time of making by the store's clock, and nothing tried so far."""
    body = {"text": 'ü\0 " 中', "deep": [1, {"n": None}]}
    await bench.one.add([task("a", due_ms=5, kind="saga", lane="flight:QX12", body=body)])
    [found] = await bench.two.tasks("saga")
    assert found == Task(
        id=found.id,
        kind="saga",
        tenant="demo",
        key="a",
        lane="flight:QX12",
        due_ms=5,
        state="waiting",
        fence=0,
        attempts=0,
        reason="",
        body=body,
        progress={},
        cancel=False,
        made_ms=found.made_ms,
    )
    assert abs(found.made_ms - await bench.now_ms()) < 60_000


async def test_there_is_one_of_a_kind_tenant_and_key(work: Work) -> None:
    """What is there stays, waiting or done; of another kind or tenant it is another."""
    await work.add([task("a", body={"n": 1})])
    await work.add([task("a", body={"n": 2}, due_ms=9), task("a", kind="job"), task("a", tenant="other")])
    assert [(each.tenant, each.body) for each in await work.tasks("timer")] == [
        ("demo", {"n": 1}),
        ("other", {"of": "a"}),
    ]
    assert keys(await work.tasks("job")) == ["a"]
    for each in await work.claim("w1", "timer", 10, TTL):
        await work.settle(each, state="done")
    await work.add([task("a", body={"n": 3})])
    assert [each.state for each in await work.tasks("timer")] == ["done", "done"]
    await work.add([])


async def test_a_task_is_found_by_its_key(bench: Bench) -> None:
    """In whatever state it is; not by another kind, tenant or key, nor by what can be none."""
    await bench.one.add([task("a"), task("a", tenant="other"), task("b")])
    [waiting, _, _] = await bench.one.tasks("timer")
    assert await bench.two.task("timer", "demo", "a") == waiting
    for each in await bench.one.claim("w1", "timer", 1, TTL):
        await bench.one.settle(each, state="done")
    done = await bench.two.task("timer", "demo", "a")
    assert done is not None
    assert (done.id, done.state) == (waiting.id, "done")
    for other in (("job", "demo", "a"), ("timer", "demo", "c"), ("timer", "nobody", "a"), ("timer", "demo", "a\0")):
        assert await bench.one.task(*other) is None


async def test_of_one_key_the_last_counts(work: Work) -> None:
    """In one call, also where others are between."""
    await work.add([task("a", body={"n": 1}), task("b"), task("a", body={"n": 2})])
    assert [(each.key, each.body) for each in await work.tasks("timer")] == [("b", {"of": "b"}), ("a", {"n": 2})]


@pytest.mark.parametrize("state", ["waiting", "parked", "done", "dropped"])
async def test_a_replaced_task_is_new_in_its_lane(work: Work, state: str) -> None:
    """Whatever became of the one before: it waits, at the end of its lane, with no attempts."""
    await work.add([task("a", lane="x", body={"n": 1}), task("b", lane="x")])
    if state in ("parked", "done"):
        [claimed] = await work.claim("w1", "timer", 10, TTL)
        await work.settle(claimed, state=state, reason="so", failed=True)  # type: ignore[arg-type]
    elif state == "dropped":
        [first, _] = await work.tasks("timer")
        assert await work.tell(first.id, "drop")
    await work.add([task("a", lane="x", body={"n": 2}, due_ms=7, replace=True)])
    second, found = await work.tasks("timer")
    assert second.key == "b"
    assert (found.key, found.state, found.attempts, found.reason) == ("a", "waiting", 0, "")
    assert (found.body, found.due_ms, found.lane) == ({"n": 2}, 7, "x")
    assert keys(await work.claim("w1", "timer", 10, TTL)) == ["b"]


async def test_who_has_a_replaced_task_finds_it_fenced(work: Work) -> None:
    """The new one waits for its own time, and is claimed under a higher fence."""
    await work.add([task("a")])
    [claimed] = await work.claim("w1", "timer", 1, TTL)
    await work.add([task("a", body={"n": 2}, replace=True)])
    with pytest.raises(Fenced):
        await work.pulse(claimed, TTL)
    with pytest.raises(Fenced):
        await work.settle(claimed, state="done")
    [again] = await work.claim("w1", "timer", 1, TTL)
    assert again.body == {"n": 2}
    assert again.fence > claimed.fence
    assert again.id > claimed.id


async def test_a_task_is_taken_away_again(work: Work) -> None:
    """One that waits or is parked; one that is claimed or done stays. Before what the same commit adds."""
    await work.add([task(key) for key in ("waits", "parked", "claimed", "done", "other")])
    for each in await work.claim("w1", "timer", 4, TTL):
        if each.key in ("parked", "done"):
            await work.settle(each, state=each.key)  # type: ignore[arg-type]
        elif each.key == "waits":
            await work.settle(each, state="waiting", after_ms=5)
    untasks = [("timer", "demo", key) for key in ("waits", "parked", "claimed", "done", "nothing", "again")]
    untasks += [("job", "demo", "other"), ("timer", "no", "other")]
    await work.add([task("again", body={"n": 1})])
    effects = Effects(untasks=untasks, tasks=[task("again", body={"n": 2}, replace=True)])
    await work.commit(await lease(work), 1, effects)
    found = {each.key: each.state for each in await work.tasks("timer")}
    assert found == {
        "waits": "dropped",
        "parked": "dropped",
        "claimed": "claimed",
        "done": "done",
        "other": "waiting",
        "again": "waiting",
    }


async def test_a_commit_adds_tasks(work: Work) -> None:
    """As `add` does."""
    await work.commit(await lease(work), 1, Effects(tasks=[task("a"), task("b"), task("a", body={"n": 2})]))
    assert [(each.key, each.body) for each in await work.tasks("timer")] == [("b", {"of": "b"}), ("a", {"n": 2})]


# Claiming


async def test_the_longest_due_are_claimed_first(bench: Bench) -> None:
    """Of the kind, of any tenant, at most so many, none before its time; and nobody else gets them."""
    now = await bench.now_ms()
    await bench.one.add(
        [
            task("later", due_ms=now + 10_000),
            task("third", due_ms=now - 1_000),
            task("first", due_ms=now - 3_000, tenant="other"),
            task("job", kind="job"),
            task("second", due_ms=now - 2_000),
        ]
    )
    claimed = await bench.one.claim("w1", "timer", 2, TTL)
    assert [(each.key, each.state, each.fence) for each in claimed] == [
        ("first", "claimed", 1),
        ("second", "claimed", 1),
    ]
    assert keys(await bench.two.claim("w2", "timer", 10, TTL)) == ["third"]
    assert await bench.one.claim("w1", "timer", 10, TTL) == await bench.one.claim("w1", "job", 0, TTL) == []
    await bench.later(10_000)
    assert keys(await bench.two.claim("w2", "timer", 10, TTL)) == ["later"]


async def test_of_those_due_at_once_the_oldest_is_first(work: Work) -> None:
    """By number."""
    await work.add([task(key, due_ms=5) for key in "cab"])
    assert keys(await work.claim("w1", "timer", 2, TTL)) == ["c", "a"]


async def test_workers_that_claim_at_once_share(bench: Bench) -> None:
    """No task is claimed twice, and none is left."""
    await bench.one.add([task(f"k{n}") for n in range(60)])
    calls = [partial(store.claim, f"w{n}", "timer", 10, TTL) for n, store in enumerate((bench.one, bench.two) * 3)]
    counted: Counter[str] = Counter()
    while found := [each for answer in await at_once(*calls) for each in answer]:
        counted.update(keys(found))
    assert counted == Counter({f"k{n}": 1 for n in range(60)})


async def test_a_claim_that_ran_out_is_an_attempt(bench: Bench) -> None:
    """Another claims it, under a higher fence, with the reason; the first is refused from then on."""
    await bench.one.add([task("a")])
    [first] = await bench.one.claim("w1", "timer", 1, TTL)
    await bench.later(TTL - 20_000)
    assert await bench.two.claim("w2", "timer", 1, TTL) == []
    await bench.later(20_000)
    [second] = await bench.two.claim("w2", "timer", 1, TTL)
    assert (second.id, second.fence, second.attempts, second.reason) == (first.id, first.fence + 1, 1, RAN_OUT)
    with pytest.raises(Fenced):
        await bench.one.settle(first, state="done", tasks=[task("b")])
    with pytest.raises(Fenced):
        await bench.one.pulse(first, TTL)
    assert keys(await bench.one.tasks("timer")) == ["a"]
    await bench.two.settle(second, state="done")


async def test_a_late_worker_may_still_settle(bench: Bench) -> None:
    """As long as nobody noticed that its claim ran out; once somebody did, not, though it waits only."""
    await bench.one.add([task("a"), task("b")])
    a, b = await bench.one.claim("w1", "timer", 2, TTL)
    await bench.later(TTL)
    await bench.one.settle(a, state="done")
    assert await bench.two.claim("w2", "timer", 0, TTL) == []
    with pytest.raises(Fenced):
        await bench.one.settle(b, state="done")
    assert [(each.state, each.attempts) for each in await bench.one.tasks("timer")] == [("done", 0), ("waiting", 1)]


async def test_a_worker_that_leaves_gives_its_tasks_back(bench: Bench) -> None:
    """At once, and that is no attempt."""
    await bench.one.add([task("a"), task("b")])
    [a] = await bench.one.claim("w1", "timer", 1, TTL)
    [b] = await bench.two.claim("w2", "timer", 1, TTL)
    await bench.one.leave("w1")
    with pytest.raises(Fenced):
        await bench.one.settle(a, state="done")
    [again] = await bench.two.claim("w2", "timer", 5, TTL)
    assert (again.key, again.attempts, again.reason) == ("a", 0, "")
    await bench.two.settle(b, state="done")


# Lanes


async def test_a_lane_is_taken_one_after_the_other(work: Work) -> None:
    """In the order of numbers, whatever they are due at; those of other lanes, and of none, do not wait."""
    await work.add([task("x1", lane="x", due_ms=3), task("x2", lane="x", due_ms=1), task("y1", lane="y", due_ms=4)])
    await work.add([task("n1"), task("n2"), task("z", lane="x", tenant="other", due_ms=5)])
    assert keys(await work.claim("w1", "timer", 10, TTL)) == ["n1", "n2", "x1", "y1", "z"]
    assert await work.claim("w1", "timer", 10, TTL) == []
    [x1] = [each for each in await work.tasks("timer") if each.key == "x1"]
    await work.settle(x1, state="done")
    assert keys(await work.claim("w1", "timer", 10, TTL)) == ["x2"]


async def test_a_lane_waits_for_its_first(bench: Bench) -> None:
    """Where that is due later, or to be tried again later."""
    now = await bench.now_ms()
    await bench.one.add([task("x1", lane="x", due_ms=now + 10_000), task("x2", lane="x")])
    assert await bench.one.claim("w1", "timer", 10, TTL) == []
    await bench.later(10_000)
    [x1] = await bench.one.claim("w1", "timer", 10, TTL)
    await bench.one.settle(x1, state="waiting", after_ms=10_000, failed=True)
    assert await bench.one.claim("w1", "timer", 10, TTL) == []
    await bench.later(10_000)
    assert keys(await bench.one.claim("w1", "timer", 10, TTL)) == ["x1"]


async def test_a_parked_task_stops_its_lane_and_nothing_else(work: Work) -> None:
    """Until an operator drops it or has it tried again."""
    await work.add([task("x1", lane="x"), task("x2", lane="x"), task("y1", lane="y"), task("x1", lane="x", kind="job")])
    for each in await work.claim("w1", "timer", 10, TTL):
        await work.settle(each, state="parked" if each.key == "x1" else "done", reason="so", failed=True)
    await work.add([task("y2", lane="y")])
    assert keys(await work.claim("w1", "timer", 10, TTL)) == ["y2"]
    assert keys(await work.claim("w1", "job", 10, TTL)) == ["x1"]
    [parked] = await work.tasks("timer", state="parked")
    assert (parked.key, parked.reason, parked.attempts) == ("x1", "so", 1)
    assert await work.tell(parked.id, "drop")
    assert keys(await work.claim("w1", "timer", 10, TTL)) == ["x2"]


async def test_a_parked_task_that_is_tried_again_is_first_still(work: Work) -> None:
    """What is behind it waits on, until it is done; so does one that comes anew under the key of one that is done."""
    await work.add([task("x1", lane="x"), task("x2", lane="x"), task("x3", lane="x")])
    [x1] = await work.claim("w1", "timer", 1, TTL)
    await work.settle(x1, state="parked")
    assert await work.tell(x1.id, "retry")
    [x1] = await work.claim("w1", "timer", 10, TTL)
    assert x1.key == "x1"
    assert await work.claim("w1", "timer", 10, TTL) == []
    await work.settle(x1, state="done", tasks=[task("x1", lane="x", replace=True)])
    for key in ("x2", "x3", "x1"):
        [claimed] = await work.claim("w1", "timer", 10, TTL)
        assert claimed.key == key
        await work.settle(claimed, state="done")


async def test_whatever_ends_a_task_lets_its_lane_go_on(work: Work) -> None:
    """An operator's word, a commit that takes it away, another in its place in another lane."""
    ends: list[Callable[[Task], Awaitable[object]]] = [
        lambda first: work.tell(first.id, "drop"),
        lambda first: work.tell(first.id, "cancel"),
        lambda first: work.add([task(first.key, lane="z", due_ms=10**15, replace=True)]),
        lambda first: work.add([task(first.key, lane="", due_ms=10**15, replace=True)]),
    ]
    for number, end in enumerate(ends):
        lane = f"x{number}"
        await work.add([task(f"{lane}/1", lane=lane, due_ms=10**15), task(f"{lane}/2", lane=lane)])
        [first] = [each for each in await work.tasks("timer") if each.key == f"{lane}/1"]
        assert await work.claim("w1", "timer", 10, TTL) == []
        await end(first)
        assert keys(await work.claim("w1", "timer", 10, TTL)) == [f"{lane}/2"]
    await work.add([task("y1", lane="y", due_ms=10**15), task("y2", lane="y"), task("y3", lane="y")])
    untasks = [("timer", "demo", "y1"), ("timer", "demo", "y2")]
    await work.commit(await lease(work), 1, Effects(untasks=untasks, tasks=[task("y4", lane="y")]))
    assert keys(await work.claim("w1", "timer", 10, TTL)) == ["y3"]


async def test_a_lane_that_is_added_to_while_it_ends_goes_on(bench: Bench) -> None:
    """However the two meet, what is added is claimed at last."""
    for number in range(10):
        await bench.one.add([task(f"{number}a", lane="x")])
        [claimed] = await bench.one.claim("w1", "timer", 1, TTL)
        await at_once(
            partial(bench.one.settle, claimed, state="done"),
            partial(bench.two.add, [task(f"{number}b", lane="x")]),
        )
        [claimed] = await bench.one.claim("w1", "timer", 1, TTL)
        assert claimed.key == f"{number}b"
        await bench.one.settle(claimed, state="done")


async def test_many_that_a_lane_holds_back_do_not_slow_others(bench: Bench) -> None:
    """A claim, and when to look again, say nothing of them."""
    await bench.one.add([task(f"x{n}", lane="x") for n in range(500)])
    [first] = await bench.one.claim("w1", "timer", 10, TTL)
    await bench.one.settle(first, state="parked")
    assert await bench.one.next_due_ms("timer") is None
    await bench.one.add([task("y", due_ms=5, lane="y")])
    assert await bench.one.next_due_ms("timer") == 5
    assert keys(await bench.one.claim("w1", "timer", 10, TTL)) == ["y"]


async def test_lanes_hold_among_many_workers(bench: Bench) -> None:
    """Claiming and settling at once: at any time one task of a lane at most is out, and each lane is in order."""
    lanes = [f"l{n}" for n in range(5)]
    await bench.one.add([task(f"{lane}/{n:02}", lane=lane) for n in range(6) for lane in lanes])
    out: dict[str, str] = {}
    done: dict[str, list[str]] = {lane: [] for lane in lanes}

    async def live(store: Work, holder: str) -> None:
        while sum(map(len, done.values())) < 30:
            for each in await store.claim(holder, "timer", 3, TTL):
                assert out.setdefault(each.lane, each.key) == each.key
                await trio.lowlevel.checkpoint()
                del out[each.lane]
                done[each.lane].append(each.key)
                await store.settle(each, state="done")
            await trio.lowlevel.checkpoint()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number, store in enumerate((bench.one, bench.two) * 2):
                nursery.start_soon(live, store, f"w{number}")
    assert done == {lane: [f"{lane}/{n:02}" for n in range(6)] for lane in lanes}


# Settling


async def test_a_task_that_failed_is_tried_again(bench: Bench) -> None:
    """At its time, with the reason and the number of attempts; well once, they begin at 0 again."""
    await bench.one.add([task("a", kind="job")])
    for attempts in (1, 2):
        [claimed] = await bench.one.claim("w1", "job", 1, TTL)
        before = await bench.now_ms()
        await bench.one.settle(claimed, state="waiting", after_ms=5_000, reason="no answer", failed=True)
        after = await bench.now_ms()
        assert await bench.one.claim("w1", "job", 1, TTL) == []
        [waits] = await bench.one.tasks("job")
        assert (waits.state, waits.attempts, waits.reason) == ("waiting", attempts, "no answer")
        assert before + 5_000 <= waits.due_ms <= after + 5_000, "by the store's clock"
        await bench.later(5_000)
    [claimed] = await bench.one.claim("w1", "job", 1, TTL)
    assert claimed.fence == 3
    await bench.one.settle(claimed, state="waiting", body={"step": 2})
    [waits] = await bench.one.tasks("job")
    assert (waits.attempts, waits.reason, waits.body) == (0, "", {"step": 2})
    assert (waits.due_ms, waits.state) == (claimed.due_ms, "waiting"), "at once"


async def test_what_a_settled_task_leads_to_is_one_commit_with_it(work: Work) -> None:
    """Its new body and the tasks after it; and no second word about it is taken."""
    await work.add([task("a", kind="saga")])
    [claimed] = await work.claim("w1", "saga", 1, TTL)
    await work.settle(claimed, state="done", body={"end": True}, tasks=[task("b"), task("a", kind="saga")], reason="ok")
    [done] = await work.tasks("saga")
    assert (done.state, done.body, done.reason, done.fence) == ("done", {"end": True}, "ok", 1)
    assert keys(await work.tasks("timer")) == ["b"]
    for state in ("done", "waiting", "parked"):
        with pytest.raises(Fenced):
            await work.settle(claimed, state=state, tasks=[task("c")])
    assert keys(await work.tasks("timer")) == ["b"]


async def test_a_task_may_put_itself_anew(work: Work) -> None:
    """Settled with another of its own key that replaces it: what comes is the new one."""
    await work.add([task("cron")])
    [claimed] = await work.claim("w1", "timer", 1, TTL)
    await work.settle(claimed, state="done", tasks=[task("cron", due_ms=77, replace=True)])
    [found] = await work.tasks("timer")
    assert (found.state, found.due_ms) == ("waiting", 77)


async def test_of_two_that_settle_at_once_one_does(bench: Bench) -> None:
    """The other is fenced."""
    await bench.one.add([task("a")])
    [claimed] = await bench.one.claim("w1", "timer", 1, TTL)
    answers = await at_once(
        *(
            partial(store.settle, claimed, state="done", tasks=[task(f"after{n}")])
            for n, store in enumerate((bench.one, bench.two))
        )
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Fenced", "NoneType"]
    assert len(await bench.one.tasks("timer", state="waiting")) == 1


WRONG: list[Callable[[Work, Task], Awaitable[object]]] = [
    lambda work, claimed: work.settle(claimed, state="done", reason="\0"),
    lambda work, claimed: work.settle(claimed, state="done", tasks=[task("\0")]),
    lambda work, claimed: work.settle(claimed, state="done", tasks=[task(kind="tune")]),
    lambda work, claimed: work.settle(claimed, state="done", tasks=[task(), task(body={"n": 2**70})]),
    lambda work, claimed: work.settle(claimed, state="done", body={"n": 2**70}),
    lambda work, claimed: work.pulse(claimed, TTL, {"n": 2**70}),
    lambda work, _: work.add([task(), task(body={"n": 2**70})]),
    lambda work, _: work.add([task(), task(tenant="")]),
    lambda work, _: work.claim("w1", "tune", 1, TTL),
    lambda work, _: work.claim("", "timer", 1, TTL),
    lambda work, _: work.claim("\0", "timer", 1, TTL),
    lambda work, _: work.next_due_ms("tune"),
]


@pytest.mark.parametrize("call", WRONG)
async def test_what_cannot_be_kept_changes_nothing(work: Work, call: Callable[[Work, Task], Awaitable[object]]) -> None:
    """An error of ours, and a claim goes on."""
    await work.add([task("a")])
    [claimed] = await work.claim("w1", "timer", 1, TTL)
    with pytest.raises((ValueError, TypeError)):
        await call(work, claimed)
    assert await work.tasks("timer") == [claimed]
    await work.settle(claimed, state="done")


# Long ones, and an operator's word


async def test_a_pulse_keeps_a_claim_and_tells_how_far_it_is(bench: Bench) -> None:
    """For its ttl from then; without progress what was said stays."""
    await bench.one.add([task("a", kind="long")])
    [claimed] = await bench.one.claim("w1", "long", 1, TTL)
    await bench.later(TTL - 20_000)
    assert await bench.one.pulse(claimed, TTL, {"done": 5}) is False
    await bench.later(TTL - 20_000)
    assert await bench.one.pulse(claimed, TTL) is False
    assert await bench.two.claim("w2", "long", 1, TTL) == []
    [found] = await bench.two.tasks("long")
    assert found == claimed._replace(progress={"done": 5}, made_ms=found.made_ms, due_ms=found.due_ms)
    await bench.one.settle(claimed, state="done")
    with pytest.raises(Fenced):
        await bench.one.pulse(claimed, TTL)


async def test_a_long_task_is_asked_to_stop(bench: Bench) -> None:
    """It is told at its next pulse, or whoever claims it after a crash finds it so."""
    await bench.one.add([task("a", kind="long")])
    [claimed] = await bench.one.claim("w1", "long", 1, TTL)
    assert await bench.two.tell(claimed.id, "cancel")
    assert await bench.one.pulse(claimed, TTL) is True
    await bench.later(TTL)
    [again] = await bench.two.claim("w2", "long", 1, TTL)
    assert again.cancel
    await bench.two.settle(again, state="done", reason="it was asked to stop")
    assert not await bench.two.tell(claimed.id, "cancel")


WORDS: list[tuple[str, Literal["retry", "drop", "cancel"], str | None]] = [
    ("waiting", "retry", None),
    ("waiting", "drop", "dropped"),
    ("waiting", "cancel", "dropped"),
    ("claimed", "retry", None),
    ("claimed", "drop", None),
    ("claimed", "cancel", "claimed"),
    ("parked", "retry", "waiting"),
    ("parked", "drop", "dropped"),
    ("parked", "cancel", None),
    ("done", "retry", None),
    ("done", "drop", None),
    ("done", "cancel", None),
]


@pytest.mark.parametrize(("state", "word", "after"), WORDS)
async def test_an_operator_s_word(
    work: Work, state: str, word: Literal["retry", "drop", "cancel"], after: str | None
) -> None:
    """What each does in each state; it says nothing to others, and changes nothing there."""
    await work.add([task("a", due_ms=1)])
    if state != "waiting":
        [claimed] = await work.claim("w1", "timer", 1, TTL)
        if state != "claimed":
            await work.settle(claimed, state=state, failed=True, reason="so")  # type: ignore[arg-type]
    [before] = await work.tasks("timer")
    assert await work.tell(before.id, word) == (after is not None)
    [found] = await work.tasks("timer")
    assert found.state == (after or state)
    if after == "waiting":
        assert found.attempts == 0
        assert keys(await work.claim("w1", "timer", 1, TTL)) == ["a"]
    if after is None:
        assert found == before
    assert not await work.tell(10**9, word)


# Asking


async def test_tasks_are_asked_for(work: Work) -> None:
    """By number, after one, at most so many; of a kind, a tenant, a state."""
    await work.add([task("a"), task("b", tenant="other"), task("c"), task("d", kind="job")])
    every = await work.tasks("timer")
    assert keys(every) == ["a", "b", "c"]
    assert [each.id for each in every] == sorted(each.id for each in every)
    assert await work.tasks("timer", limit=2) == every[:2]
    assert await work.tasks("timer", after=every[0].id) == every[1:]
    assert keys(await work.tasks("timer", tenant="demo")) == ["a", "c"]
    assert keys(await work.tasks("timer", tenant="demo", after=every[0].id, limit=1)) == ["c"]
    [claimed] = await work.claim("w1", "timer", 1, TTL)
    assert await work.tasks("timer", state="claimed") == [claimed]
    assert keys(await work.tasks("timer", state="waiting", tenant="other")) == ["b"]
    assert await work.tasks("timer", tenant="demo\0") == await work.tasks("timer", state="no") == []
    assert await work.tasks("tune") == await work.tasks("timer", limit=0) == []


async def test_when_to_look_again(bench: Bench) -> None:
    """When the first that waits is due and its lane lets it through, or a claim runs out."""
    work = bench.one
    assert await work.next_due_ms("timer") is None
    now = await bench.now_ms()
    await work.add([task("b", due_ms=now + 90_000), task("a", due_ms=now + 80_000), task("j", kind="job")])
    assert await work.next_due_ms("timer") == now + 80_000
    await work.add([task("x1", lane="x", due_ms=now - 5), task("x2", lane="x", due_ms=now - 10)])
    assert await work.next_due_ms("timer") == now - 5
    [x1] = await work.claim("w1", "timer", 5, TTL)
    due = await work.next_due_ms("timer")
    assert due is not None
    assert now + TTL <= due < now + TTL + 20_000
    await work.settle(x1, state="parked")
    assert await work.next_due_ms("timer") == now + 80_000, "nobody need look for what a parked one stops"


# Cleaning


async def test_finished_tasks_are_cleaned_away(bench: Bench) -> None:
    """Those done or dropped before then, at most so many; others stay, and a key that is gone may come again."""
    work = bench.one
    await work.add([task(f"k{n}") for n in range(6)])
    for each in await work.claim("w1", "timer", 4, TTL):
        await work.settle(each, state="parked" if each.key == "k3" else "done")
    last = (await work.tasks("timer"))[-1]
    assert await work.tell(last.id, "drop")
    before = await bench.now_ms() - 10_000
    assert await work.clean(before, 100) == 0
    await bench.later(20_000)
    before = await bench.now_ms() - 10_000
    assert await work.clean(before, 0) == 0
    assert await work.clean(before, 3) == 3
    assert await work.clean(before, 3) == 1
    assert [(each.key, each.state) for each in await work.tasks("timer")] == [("k3", "parked"), ("k4", "waiting")]
    await work.add([task("k0")])
    assert keys(await work.tasks("timer", state="waiting")) == ["k4", "k0"]
