"""core.flight.timers: a timer fires once in effect, however often it is fired; facts say the rules that they came of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from core.flight import timers, times
from core.flight.machine import BY_GATEWAY, Command, Decision, Fact, Malformed, Recorded, Refusal, Rule, Unallowed
from core.flight.timers import DO_BYTES_MAX, TIMERS_MAX, Timed, TimedState, timers_of

NOW_MS = times.read("2026-11-21T12:00Z").ms
DUE = "2026-11-21T12:30:00.000Z"
DUE_MS = times.read(DUE).ms


class Notes:
    """A machine of one verb, whose state is how often it was given."""

    name = "notes"
    table: Mapping[str, Rule] = {"note": Rule("note", "Notes.", ("note.made",))}

    def initial(self) -> int:
        return 0

    def decide(self, state: int, command: Command, now_ms: int) -> Decision:
        return [Fact("note.made", dict(command.body))] if command.body else Refusal("unchanged", "nothing to note")

    def evolve(self, state: int, event: Recorded) -> int:
        return state + (event.type == "note.made")

    def show(self, state: int) -> dict[str, Any]:
        return {"notes": state}


MACHINE = Timed(Notes())
State = TimedState[int]


def _give(
    state: State, verb: str, now_ms: int = NOW_MS, *, seq: int = 1, by: str = "user:amy", **body: Any
) -> tuple[State, Decision]:
    decision = MACHINE.decide(state, Command(verb, body, by, "owner"), now_ms)
    for fact in decision if isinstance(decision, list) else ():
        state = MACHINE.evolve(state, Recorded(seq, fact.type, by, now_ms, fact.body))
    return state, decision


def _set(state: State, name: str = "t", *, seq: int = 1, due: str = DUE, **more: Any) -> State:
    state, decision = _give(state, "timer.set", seq=seq, name=name, due=due, **more)
    assert isinstance(decision, list), decision
    return state


def _fire(state: State, now_ms: int, fence: object = 1, name: str = "t") -> tuple[State, Decision]:
    return _give(state, "timer.fire", now_ms, seq=9, by=BY_GATEWAY, name=name, fence=fence)


def test_a_timer_fires_once_and_says_how_late() -> None:
    """The second who fires finds none; nobody who fires too early changes anything."""
    state = _set(MACHINE.initial(), do={"type": "note", "body": {"a": 1}})
    assert timers_of(state)["t"].due_ms == DUE_MS
    same, early = _fire(state, DUE_MS - 1)
    assert isinstance(early, Refusal)
    assert (early.reason, same) == ("too_early", state)
    state, fired = _fire(state, DUE_MS + 1_500)
    do = {"type": "note", "body": {"a": 1}}
    assert fired == [Fact("timer.fired", {"name": "t", "due": DUE, "late_ms": 1_500, "fence": 1, "do": do})]
    _, again = _fire(state, DUE_MS + 2_000)
    assert isinstance(again, Refusal)
    assert again.reason == "timer_gone"


def test_a_timer_that_was_moved_fires_under_its_new_fence_alone() -> None:
    """A worker that still has the old one is told so."""
    state = _set(_set(MACHINE.initial()), seq=2, due="2026-11-21T13:00Z")
    _, old = _fire(state, DUE_MS + 3_600_000, fence=1)
    assert isinstance(old, Refusal)
    assert (old.reason, "seq 2" in old.message) == ("timer_gone", True)
    state, fired = _fire(state, DUE_MS + 3_600_000, fence=2)
    assert isinstance(fired, list)
    assert fired[0].body == {"name": "t", "due": "2026-11-21T13:00:00.000Z", "late_ms": 1_800_000, "fence": 2}
    assert timers_of(state) == {}


def test_a_timer_that_was_cancelled_is_gone() -> None:
    """And is not cancelled twice."""
    state, cancelled = _give(_set(MACHINE.initial()), "timer.cancel", name="t")
    assert cancelled == [Fact("timer.cancelled", {"name": "t"})]
    _, again = _give(state, "timer.cancel", name="t")
    assert isinstance(again, Refusal)
    assert again.reason == "timer_gone"


def test_setting_it_as_it_is_changes_nothing() -> None:
    """The same due and the same command; another command is a change."""
    state = _set(MACHINE.initial(), do={"type": "note"})
    _, same = _give(state, "timer.set", name="t", due="2026-11-21T12:30Z", do={"type": "note"})
    assert isinstance(same, Refusal)
    assert same.reason == "unchanged"
    assert timers_of(_set(state, seq=5, do={"type": "timer.cancel", "body": {"name": "u"}}))["t"].fence == 5


def test_timers_are_bounded_in_number_and_in_time() -> None:
    """One that is there can still be moved where no other fits."""
    state = MACHINE.initial()
    for number in range(TIMERS_MAX):
        state = _set(state, f"t{number}")
    _, more = _give(state, "timer.set", name="more", due=DUE)
    assert isinstance(more, Refusal)
    assert more.reason == "too_many_timers"
    assert len(timers_of(_set(state, "t0", seq=99, due="2026-11-21T14:00Z"))) == TIMERS_MAX
    _, far = _give(MACHINE.initial(), "timer.set", name="t", due="2028-01-01T00:00Z")
    assert isinstance(far, Refusal)
    assert far.reason == "too_far"


def test_what_is_to_follow_has_a_bound() -> None:
    """The event of its firing has all of it and more: set as large as an event may be, it could never fire."""
    do = {"type": "note", "body": {"text": "ü" * (DO_BYTES_MAX // 2), "n": 2**70, "half": "\ud800"}}
    state, decision = _give(MACHINE.initial(), "timer.set", name="eta", due=DUE, do=do)
    assert decision == Malformed(f"`do` has at most {DO_BYTES_MAX} bytes as JSON")
    assert not timers_of(state)
    do = {"type": "note", "body": {"text": "ü" * (DO_BYTES_MAX // 2 - 40)}}
    state, _ = _give(state, "timer.set", name="eta", due=DUE, do=do)
    assert timers_of(state)["eta"].do == do


def test_a_timer_of_a_time_that_has_passed_is_due_at_once() -> None:
    """Late from the first."""
    state = _set(MACHINE.initial(), due="2026-11-21T11:59Z")
    _, fired = _fire(state, NOW_MS)
    assert isinstance(fired, list)
    assert fired[0].body["late_ms"] == 60_000


@pytest.mark.parametrize("verb", list(timers.TABLE))
def test_timers_are_for_owners(verb: str) -> None:
    """A member who could set one would give commands as the gateway."""
    command = Command(verb, {"name": "t", "due": DUE, "fence": 1}, "user:bob", "member")
    assert isinstance(MACHINE.decide(_set(MACHINE.initial()), command, NOW_MS), Unallowed)


def test_nobody_but_the_gateway_fires() -> None:
    """Not an owner either."""
    _, decision = _give(_set(MACHINE.initial()), "timer.fire", DUE_MS, name="t", fence=1)
    assert isinstance(decision, Unallowed)


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("timer.set", {"due": DUE}, "name"),
        ("timer.set", {"name": "", "due": DUE}, "name"),
        ("timer.set", {"name": "x" * 65, "due": DUE}, "name"),
        ("timer.set", {"name": 5, "due": DUE}, "name"),
        ("timer.cancel", {}, "name"),
        ("timer.set", {"name": "t"}, "due"),
        ("timer.set", {"name": "t", "due": "2026-11-21T12:30"}, "due"),
        ("timer.set", {"name": "t", "due": DUE, "do": "note"}, "do"),
        ("timer.set", {"name": "t", "due": DUE, "do": {}}, "do"),
        ("timer.set", {"name": "t", "due": DUE, "do": {"type": "note", "in": "flight:X"}}, "do"),
        ("timer.set", {"name": "t", "due": DUE, "do": {"type": "note", "body": []}}, "do"),
        ("timer.set", {"name": "t", "due": DUE, "do": {"type": "fly"}}, "do.type"),
        ("timer.set", {"name": "t", "due": DUE, "do": {"type": ["note"]}}, "do.type"),
        ("timer.set", {"name": "t", "due": DUE, "do": {"type": "timer.fire"}}, "do.type"),
    ],
)
def test_a_body_of_the_wrong_shape_names_the_field(verb: str, body: dict[str, Any], field: str) -> None:
    """No verdict is kept of such."""
    decision = MACHINE.decide(MACHINE.initial(), Command(verb, body, "user:amy", "owner"), NOW_MS)
    assert isinstance(decision, Malformed)
    assert decision.message.startswith(f"`{field}`")


@pytest.mark.parametrize(
    ("verb", "body"),
    [("timer.set", {"name": "t", "due": DUE, "doo": {"type": "note"}}), ("timer.cancel", []), ("timer.set", None)],
)
def test_a_body_has_no_other_fields(verb: str, body: Any) -> None:
    """A timer whose `do` was misspelt would fire and do nothing."""
    decision = MACHINE.decide(MACHINE.initial(), Command(verb, body, "user:amy", "owner"), NOW_MS)
    assert isinstance(decision, Malformed)
    assert "name" in decision.message


@pytest.mark.parametrize("fence", [None, "1", 1.0, True])
def test_a_fence_is_a_whole_number(fence: object) -> None:
    """Nothing that only looks like it."""
    _, decision = _fire(_set(MACHINE.initial()), DUE_MS, fence)
    assert isinstance(decision, Malformed)


def test_an_unknown_verb_names_those_there_are() -> None:
    """The machine's and the timers'."""
    _, decision = _give(MACHINE.initial(), "fly")
    assert isinstance(decision, Malformed)
    assert "note, timer.set, timer.cancel, timer.fire" in decision.message


def test_facts_say_the_rules_they_came_of_and_nobody_can_claim_others() -> None:
    """Of the machine and of timers alike; a refusal stays as it is."""
    state = MACHINE.initial()
    ruled = Command("note", {"a": 1, "via": ["forged"]}, BY_GATEWAY, "owner", ("late", "very-late"))
    assert MACHINE.decide(state, ruled, NOW_MS) == [Fact("note.made", {"a": 1, "via": ["late", "very-late"]})]
    assert MACHINE.decide(state, ruled._replace(via=()), NOW_MS) == [Fact("note.made", {"a": 1})]
    timer = MACHINE.decide(state, Command("timer.set", {"name": "t", "due": DUE}, BY_GATEWAY, "owner", ("late",)), 0)
    assert isinstance(timer, Refusal)
    timer = MACHINE.decide(
        state, Command("timer.set", {"name": "t", "due": DUE}, BY_GATEWAY, "owner", ("late",)), NOW_MS
    )
    assert timer == [Fact("timer.set", {"name": "t", "due": DUE, "via": ["late"]})]
    assert MACHINE.decide(state, Command("note", {}, BY_GATEWAY, "owner", ("late",)), NOW_MS) == Refusal(
        "unchanged", "nothing to note"
    )


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("timer.set", {}),
        ("timer.set", {"name": "t"}),
        ("timer.set", {"name": "t", "due": 5}),
        ("timer.set", {"name": ["t"], "due": DUE}),
        ("chat.message", {"name": "t"}),
    ],
)
def test_events_that_say_nothing_change_nothing(type: str, body: dict[str, Any]) -> None:
    """Of another version, trimmed, or not a timer's at all."""
    state = MACHINE.initial()
    assert MACHINE.evolve(state, Recorded(1, type, "user:amy", NOW_MS, body)) is state


def test_events_of_types_to_come_and_strange_commands_are_taken() -> None:
    """The timer is kept with what is known of it."""
    state = _set(MACHINE.initial())
    assert MACHINE.evolve(state, Recorded(2, "timer.paused", "user:amy", NOW_MS, {"name": "t"})) == state
    odd = MACHINE.evolve(state, Recorded(2, "timer.set", "user:amy", NOW_MS, {"name": "t", "due": DUE, "do": "x"}))
    assert timers_of(odd)["t"].do is None


def test_a_state_shows_the_machines_and_the_timers() -> None:
    """And states are values: the earlier one is as it was."""
    first = MACHINE.initial()
    state, _ = _give(_set(_set(first, do={"type": "note"}), "u", seq=2), "note", a=1)
    assert MACHINE.show(state) == {
        "notes": 1,
        "timers": {"t": {"due": DUE, "fence": 1, "do": {"type": "note"}}, "u": {"due": DUE, "fence": 2}},
    }
    assert MACHINE.show(first) == {"notes": 0, "timers": {}}
