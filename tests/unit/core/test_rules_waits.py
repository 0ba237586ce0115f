"""core.rules.waits: timers that rules wait by, and the bounds of what they remember."""

from __future__ import annotations

from typing import Any

from core.rules import waits
from core.rules.limits import WAITS_MAX
from core.rules.waits import due_of, pending
from tests.ruling import SAY, Told, one, rules

WAIT = 'absent = { after = "a", no = "b", within = "10m" }'


def many(count: int, when: str = WAIT) -> Told:
    return Told(rules("\n".join(one(when).replace('"r"', f'"r{n:02}"') for n in range(count))))


def test_a_memory_stands_for_timers() -> None:
    """Of the wait and of each later step."""
    memory: dict[str, Any] = {"r": {"wait": {"due": 5}, "steps": {"due": {"1": 7, "2": 9}}}, "s": {"n": 1}}
    assert pending(memory) == {"rule:r": 5, "rule:r:1": 7, "rule:r:2": 9}
    assert [due_of(memory["r"], step) for step in (0, 1, 2, 3)] == [5, 7, 9, None]
    assert due_of(memory["s"], 0) is None
    assert due_of(memory["s"], 1) is None


def test_timers_are_set_moved_and_cancelled_as_the_memory_changes() -> None:
    """From the difference, so that one event is at most one command a timer."""
    told = Told(rules(one('absent = { after = "a", no = "b", within = "10m", again = "restart" }')))
    told.event("a")
    assert told.done() == ["timer.set rule:r"]
    assert told.last.actions[0].body == {"name": "rule:r", "due": "2026-11-21T06:10:00.000Z"}
    assert told.last.actions[0].via == ("r",)
    told.event("a", 60)
    assert told.done() == ["timer.set rule:r"]
    told.event("c", 61)
    assert told.done() == []
    told.event("b", 62)
    assert told.done() == ["timer.cancel rule:r"]


def test_a_timer_that_fired_is_not_cancelled() -> None:
    """It is gone by itself."""
    told = Told(rules(one(WAIT)))
    told.event("a")
    assert told.fire() == ["r fired"]
    assert told.done() == ["message"]


def test_a_step_that_was_taken_leaves_the_others_timers() -> None:
    """Nothing is set or cancelled for those that wait on."""
    do = SAY + '[[rule.do]]\nafter = "10m"\nmessage.text = "x"\n[[rule.do]]\nafter = "20m"\nmessage.text = "x"'
    told = Told(rules(one('event = "a"', do=do)))
    told.event("a")
    told.fire("rule:r:1")
    assert told.done() == ["message"]
    assert told.waits() == {"rule:r:2": 1_200}


def test_rules_wait_with_a_bounded_number_of_timers() -> None:
    """Those past the bound do not wait, and say so; when there is room they do."""
    told = many(WAITS_MAX + 2)
    verdicts = told.event("a")
    assert len(told.waits()) == WAITS_MAX
    assert verdicts == [f"r{WAITS_MAX:02} error", f"r{WAITS_MAX + 1:02} error"]
    assert "48 timers of rules wait in this stream already" in told.reason()
    assert told.fire("rule:r00") == ["r00 fired"]
    told.event("a", 601)
    assert len(told.waits()) == WAITS_MAX


def test_rules_remember_a_bounded_amount() -> None:
    """A rule for whose wait there is no room acts all the same, and does not wait."""
    told = many(30)
    body = {"x": "y" * 4_000}
    verdicts = told.event("a", body=body)
    assert verdicts
    assert all(verdict.endswith("error") for verdict in verdicts)
    assert "rules remember 65536 bytes of this stream" in told.reason()
    assert len(told.waits()) + len(verdicts) == 30
    assert 10 <= len(told.waits()) <= 16


def test_a_firing_without_room_for_its_steps_still_fires() -> None:
    """The alarm goes out; what was to follow does not, and that is said."""
    do = SAY + '[[rule.do]]\nafter = "10m"\nmessage.text = "later"'
    text = one('event = "a"', do=do).replace('"r"', '"z"')
    told = Told(rules("\n".join(one(WAIT).replace('"r"', f'"r{n:02}"') for n in range(WAITS_MAX)) + "\n" + text))
    verdicts = told.event("a")
    assert verdicts == ["z fired", "z error"]
    assert [kind for kind in told.done() if kind == "message"] == ["message"]
    assert told.memory["z"]["n"] == 1
    assert len(told.waits()) == WAITS_MAX


def test_what_was_waited_for_stays_where_there_is_no_room_for_more() -> None:
    """A wait that is not its rule's first is kept as it was."""
    told = many(WAITS_MAX, WAIT)
    told.event("a")
    before = dict(told.memory)
    turn: Any = type("Turn", (), {})()
    turn.memory = {**before["r00"], "steps": {"due": {"1": 1}, "trigger": {}, "via": []}}
    turn.rule = told.rules.rules[0]
    said: list[str] = []
    turn.error = said.append
    kept = waits.fitting(turn, before, before["r00"])
    assert kept["wait"] == before["r00"]["wait"]
    assert "steps" not in kept
    assert said


def test_a_rule_that_ends_gives_back_its_timers() -> None:
    """At the stream's next event, whatever that is; what it remembered is forgotten."""
    text = one(WAIT, head="effective_until = 2026-11-21T06:05:00Z")
    told = Told(rules(text))
    told.event("a")
    assert told.event("c", 299) == []
    assert told.event("c", 300) == ["r not_effective"]
    assert told.last.firings[0].inputs["waited"] == ["rule:r"]
    assert told.last.firings[0].version == "1"
    assert told.done() == ["timer.cancel rule:r"]
    assert told.memory == {}


def test_a_rule_that_is_not_there_any_more_says_so_when_its_timer_fires() -> None:
    """And gives back its other timers."""
    do = SAY + '[[rule.do]]\nafter = "10m"\nmessage.text = "x"\n[[rule.do]]\nafter = "20m"\nmessage.text = "x"'
    told = Told(rules(one('event = "a"', do=do)))
    told.event("a")
    told.rules = rules(one('event = "a"').replace('"r"', '"other"'))
    assert told.fire("rule:r:1") == ["r not_effective"]
    assert told.done() == ["timer.cancel rule:r:2"]
    assert told.memory == {}
    told.event("a")
    assert told.waits() == {}


def test_a_rule_that_ends_without_a_wait_is_forgotten_silently() -> None:
    """There is nothing to say."""
    told = Told(rules(one('event = "a"', head="effective_until = 2026-11-21T06:05:00Z")))
    assert told.event("a") == ["r fired"]
    assert told.event("a", 300) == []
    assert told.memory == {}


def test_a_rule_that_had_nothing_to_do_remembers_nothing() -> None:
    """Its looking at an event leaves no trace."""
    told = Told(rules(one('event = "a"\nwhere = "event.body.n > 1"')))
    assert told.event("a", body={"n": 1}) == []
    assert told.memory == {}
