"""core.sagas: whatever is refused, lost or called off, a saga ends all done or all undone, or says why it stands still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.flight.machine import Refusal
from core.sagas import (
    AGAIN_MAX,
    Got,
    Kind,
    Learned,
    Move,
    Never,
    Obeyed,
    Saga,
    Step,
    Then,
    dump,
    ended,
    load,
    next_move,
    passed_by,
    resumed,
    take,
    turned,
    turned_at_once,
    wish,
)

DEADLINE_MS = 1_000_000


def command(name: str) -> dict[str, Any]:
    return {"do": "command", "stream": "flight:x", "type": name, "body": {}}


def step(name: str, **more: Any) -> Step:
    more = {
        "undo": command(f"un{name}"),
        "on": {"there": "met", "full": "skip", "busy": "again", "ours": "done"},
    } | more
    return Step(name, more.pop("act", command(name)), undo_on={"gone": "met", "busy": "again"}, **more)


STEPS = (
    step(
        "look",
        act={"do": "look", "stream": "flight:x"},
        undo=None,
        on={},
        learn=lambda data, got: {**data, **got.shown},
    ),
    step("a"),
    step("b", needs="a"),
    step("instead", unless="a"),
    step("memo", act=None, needs="a"),
    step("tell", act={"do": "notify", "to": "user:amy"}, undo={"do": "notify", "to": "user:amy"}, optional=True),
    step("last"),
)
KIND = Kind("test", "A saga for tests.", lambda data: "", lambda key, data: STEPS)


def new(**more: Any) -> Saga:
    return Saga("test", "k", {}, DEADLINE_MS, **more)


def at(saga: Saga) -> tuple[Saga, Move]:
    saga, move = next_move(KIND, "demo", saga)
    assert move is not None
    return saga, move


def refused(reason: str) -> Refusal:
    return Refusal(reason, f"it is {reason}")


def through(saga: Saga, answers: Mapping[str, Got] | None = None) -> tuple[Saga, list[str]]:
    """All moves, each obeyed unless said otherwise; the orders' names as they were given."""
    given: list[str] = []
    while True:
        saga, move = next_move(KIND, "demo", saga)
        if move is None:
            return saga, given
        name = ("un" if move.undo else "") + move.step.name
        given.append(name)
        saga, then = take(saga, move, (answers or {}).get(name, Obeyed()))
        if then.what != "next":
            return saga, given


def test_all_steps_in_their_order() -> None:
    """A saga that nothing hinders does each of its steps once, in order, and is done."""
    saga, given_ = through(new())
    assert given_ == ["look", "a", "b", "tell", "last"]
    assert ended(saga) == "done"
    assert saga.marks["instead"] == "skipped"
    assert saga.marks["memo"] == "done"


def test_what_a_step_learns_is_kept() -> None:
    """What an answer brings goes into the data, and only when the step did not go back."""
    saga, move = at(new())
    saga, _ = take(saga, move, Obeyed(Learned(shown={"seat": "12A"})))
    assert saga.data == {"seat": "12A"}


@pytest.mark.parametrize(("reason", "mark"), [("there", "met"), ("full", "skipped"), ("ours", "done")])
def test_refusals_that_say_the_way_goes_on(reason: str, mark: str) -> None:
    """A refusal that the step's table names is as good as an answer; what follows depends on it."""
    saga, given_ = through(new(), {"a": refused(reason)})
    assert saga.marks["a"] == mark
    assert ("b" in given_, "instead" in given_) == ((False, True) if mark == "skipped" else (True, False))


def test_a_refusal_that_nobody_foresaw_turns_it_back() -> None:
    """What was done is undone in the reverse order, and the saga says which refusal it was."""
    saga, given_ = through(new(), {"last": refused("not_open")})
    assert given_ == ["look", "a", "b", "tell", "last", "untell", "unmemo", "unb", "una"]
    assert ended(saga) == "undone"
    assert saga.why == "step 'last': not_open: it is not_open"


def test_what_had_nothing_to_do_is_undone_with_what_it_is_for() -> None:
    """Also where the saga turned back before it came to it; and not where the step that it needs was never done."""
    for marks, undone in (({"a": "done"}, ["unmemo", "una"]), ({"a": "met"}, []), ({}, [])):
        assert through(turned(new(marks=marks), "no"))[1] == undone


def test_what_was_met_is_not_undone() -> None:
    """What somebody else had done before stays as it is."""
    saga, given_ = through(new(), {"a": refused("there"), "last": refused("not_open")})
    assert "una" not in given_
    assert saga.marks["a"] == "met"


def test_tries_have_keys_of_their_own_and_an_end() -> None:
    """A refusal that may pass is tried again under a new key; after so many it parks, and a resumed one has as many again."""
    saga, keys = new(marks={"look": "done"}), set()
    for n in range(1, 2 * AGAIN_MAX + 1):
        saga, move = at(load(orjson.loads(orjson.dumps(dump(saga)))))
        keys.add(move.key)
        saga, then = take(saga, move, refused("busy"))
        assert then == Then("park" if n % AGAIN_MAX == 0 else "again", "step 'a': busy: it is busy")
    assert len(keys) == 2 * AGAIN_MAX
    saga, move = at(saga)
    saga, _ = take(saga, move, Obeyed())
    assert (saga.tries, saga.reason) == (0, "")


def test_keys_are_the_same_when_asked_again_and_for_nothing_else() -> None:
    """The key of a move is made from tenant, kind, saga, step and direction."""
    saga = new(marks={"look": "done"})
    keys = {at(saga)[1].key, at(replace(saga, key="other"))[1].key, at(replace(saga, kind="other"))[1].key}
    other = next_move(KIND, "acme", saga)[1]
    back = at(turned(replace(saga, marks={"a": "done"}), "no"))[1]
    assert other is not None
    assert len(keys | {other.key, back.key}) == 5
    assert at(saga)[1].key == at(saga)[1].key


def test_what_can_never_be_done_parks() -> None:
    """Where no way of going on is known an operator is asked; a step that is optional is left out instead."""
    saga, _ = through(new(), {"a": Never("there is no such stream"), "tell": Never("no inbox")})
    assert saga.reason == "there is no such stream"
    assert "a" not in saga.marks
    saga, _ = through(new(), {"tell": Never("no inbox")})
    assert (saga.marks["tell"], ended(saga)) == ("skipped", "done")


def test_a_step_back_that_fails_parks_where_it_is() -> None:
    """Nobody else can know how to undo it; refusals that say it is undone already do not count as failures."""
    for answer, what in ((refused("strange"), "park"), (refused("busy"), "again"), (Never("gone"), "park")):
        saga, move = at(turned(new(marks={"a": "done", "memo": "undone"}), "no"))
        saga, then = take(saga, move, answer)
        assert (then.what, saga.marks["a"]) == (what, "done")
        assert then.reason.startswith("undoing step 'a': ")
    saga, move = at(turned(new(marks={"a": "done", "memo": "undone"}), "no"))
    saga, then = take(saga, move, refused("gone"))
    assert (then.what, saga.marks["a"], next_move(KIND, "demo", saga)[1]) == ("next", "undone", None)
    saga, move = at(turned(new(marks={"tell": "done"}), "no"))
    assert take(saga, move, Never("no inbox"))[0].marks["tell"] == "undone"


def test_when_it_should_turn_back() -> None:
    """By its deadline, or an operator's word; one that is going back has heard."""
    assert wish(new(), DEADLINE_MS - 1) == ""
    assert wish(new(), DEADLINE_MS) == "its deadline has passed"
    assert wish(new(aborted=True), 0) == "aborted by an operator"
    assert wish(new(aborted=True, compensating=True), DEADLINE_MS) == ""


def test_a_command_is_asked_for_before_turning_back() -> None:
    """It may have been kept without anybody hearing of it, so that its answer decides what is to be undone."""
    saga, move = at(new(marks={"look": "done"}))
    assert turned_at_once(saga, move, "late") is None
    for got, mark in ((Obeyed(), "done"), (refused("there"), "met"), (refused("strange"), None), (Never("no"), None)):
        after, then = take(saga, move, got, "late")
        assert (after.compensating, after.why, then.what, after.marks.get("a")) == (True, "late", "next", mark)
    assert take(saga, move, refused("busy"), "late")[0].compensating


def test_anything_else_counts_as_done_when_turning_back() -> None:
    """Whether a note went out nobody can ask, so that it is taken back; looking did nothing."""
    saga, move = at(new(marks=dict.fromkeys(("look", "a", "b"), "done")))
    after = turned_at_once(saga, move, "late")
    assert after is not None
    assert (move.step.name, after.marks["tell"], at(after)[1].step.name) == ("tell", "done", "tell")
    saga, move = at(new())
    after = turned_at_once(saga, move, "late")
    assert after is not None
    assert next_move(KIND, "demo", after)[1] is None
    assert turned_at_once(saga, move, "") is None


def test_an_operator_can_pass_a_step_by() -> None:
    """What was seen to by hand is met on the way forward, and undone on the way back; one that has ended stays so."""
    saga = passed_by(KIND, "demo", new(marks={"look": "done"}, tries=3, reason="no"))
    assert (saga.marks["a"], saga.tries, saga.reason) == ("met", 0, "")
    saga = passed_by(KIND, "demo", turned(new(marks={"a": "done", "memo": "undone"}), "no"))
    assert saga.marks["a"] == "undone"
    assert passed_by(KIND, "demo", saga) == saga
    assert passed_by(KIND, "demo", turned(new(), "no")) == turned(new(), "no")


def test_resuming_gives_it_time() -> None:
    """One that stood too long does not turn back at once, and one that has longer keeps it."""
    assert resumed(new(reason="no"), DEADLINE_MS + 5).deadline_ms == DEADLINE_MS + 5
    assert resumed(new(), 5) == new()


class Streets:
    """A world outside: what was kept by key, and what stands because of it."""

    def __init__(self, draws: Sequence[int]) -> None:
        self._draws = list(draws)
        self.kept: dict[str, Got] = {}
        self.stands: dict[str, int] = {}

    def draw(self, most: int) -> int:
        return self._draws.pop() % most if self._draws else 0

    def do(self, move: Move) -> Got:
        """Under one key once. What is undone without having been done is `gone`."""
        if move.key in self.kept and move.order["do"] != "look":
            return self.kept[move.key]
        reasons = ("gone", "busy", "strange") if move.undo else ("there", "full", "busy", "strange", "ours")
        name, choice = move.step.name, self.draw(12)
        got: Got = Obeyed()
        if choice == 11:
            return Never("no such stream")  # no verdict is kept
        if choice >= 6 and not (move.undo and choice == 6):
            got = refused(reasons[(choice - 6) % len(reasons)])
        is_a_command = move.order["do"] == "command"
        if not is_a_command:
            got = Obeyed()
        if isinstance(got, Refusal):
            if got.reason == "ours" and not self.stands.get(name):
                got = refused("there")  # it says so of what we did only
            if got.reason == "gone" and self.stands.get(name):
                got = Obeyed()
        if isinstance(got, Obeyed) and move.order["do"] != "look":
            self.stands[name] = 0 if move.undo else 1
        self.kept[move.key] = got
        return got


@given(st.lists(st.integers(0, 1_000), max_size=120))
def test_all_or_nothing_or_parked_with_a_reason(draws: list[int]) -> None:
    """Whatever fails in whatever order, also unheard, aborted or late, with an operator who now resumes and now aborts."""
    streets, now_ms, then = Streets(draws), 0, Then("next")
    saga = new()
    for _ in range(400):
        saga = load(orjson.loads(orjson.dumps(dump(saga))))
        if then.what == "park":
            assert then.reason
            saga = resumed(saga, now_ms + 10)
            if streets.draw(3) == 2:
                saga = replace(saga, aborted=True)
        before, move = next_move(KIND, "demo", saga)
        if move is None:
            saga = before
            break
        now_ms += streets.draw(40) * 10_000
        wanted = wish(before, now_ms)
        if streets.draw(15) == 14:
            wanted = wanted or ("" if before.compensating else "asked")
        at_once = turned_at_once(before, move, wanted)
        if at_once is not None:
            saga, then = at_once, Then("next")
            continue
        got = streets.do(move)
        if streets.draw(5) == 4:
            continue  # the worker died before it was written
        saga, then = take(before, move, got, wanted)
    else:
        raise AssertionError("it neither ended nor parked for good")
    if ended(saga) == "done":
        assert set(saga.marks) == {each.name for each in STEPS}
        assert all(saga.marks[name] == "done" for name, stands in streets.stands.items() if stands)
    else:
        left = {each.name for each in STEPS if each.undo is not None and streets.stands.get(each.name)}
        assert not left
        assert not [each.name for each in STEPS if each.undo is not None and saga.marks.get(each.name) == "done"]
