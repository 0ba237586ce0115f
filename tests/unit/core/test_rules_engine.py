"""core.rules.engine: each kind of trigger, event by event, and that the fold is one."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.flight import times
from core.flight.machine import BY_GATEWAY, Command, Recorded
from core.flight.registry import machine_of
from core.rules.engine import step
from core.rules.waits import pending
from tests.ruling import SAY, START, Told, ms, one, rules, text

LATER = SAY + '[[rule.do]]\nafter = "10m"\nmessage.text = "later"'
ABSENT = 'absent = { after = "a", no = "b", within = "10m" }'


def told(when: str, *, head: str = "", do: str = SAY) -> Told:
    return Told(rules(one(when, head=head, do=do)))


# -- events


def test_an_event_that_fits_fires() -> None:
    """By its type and by what its condition says; others say nothing and leave no memory."""
    flight = told('event = ["flight.*", "seat.held"]\nwhere = "event.body.n > 1 && flight.status == \'open\'"')
    flight.state = {"status": "open"}
    assert flight.event("seat.released", body={"n": 2}) == []
    assert flight.memory == {}
    assert flight.event("flight.delayed", body={"n": 1}) == []
    assert flight.memory == {}
    assert flight.event("flight.delayed", body={"n": 2}) == ["r fired"]
    assert flight.event("seat.held", body={"n": 2}) == ["r fired"]
    assert flight.memory["r"]["n"] == 2


def test_unless_holds_a_rule_back() -> None:
    """And that is kept; a failure of it is an error."""
    flight = told('event = "a"\nunless = "event.body.n > 1"')
    assert flight.event("a", body={"n": 2}) == ["r held"]
    assert flight.reason() == "its `unless` holds"
    assert flight.event("a", body={"n": 1}) == ["r fired"]
    assert flight.event("a") == ["r error"]
    assert flight.done() == []


def test_rules_fail_alone() -> None:
    """One that cannot be evaluated does not stop the next."""
    bad = one('event = "a"\nwhere = "event.body.no > 1"').replace('"r"', '"bad"')
    both = Told(rules(bad, one('event = "a"')))
    assert both.event("a") == ["bad error", "r fired"]


def test_a_stream_without_rules_costs_nothing() -> None:
    """Nothing is remembered, nothing said; so in streams that no rule is for."""
    other = Told(rules(one('event = "a"')), stream="chat:lobby")
    assert other.event("a") == []
    assert other.last == ({}, [], [])


def test_the_bookkeeping_of_rules_sets_no_rule_off() -> None:
    """Their timers' events are nobody's trigger; other timers are."""
    flight = told('event = "timer.*"')
    for type in ("timer.set", "timer.cancelled", "timer.fired"):
        assert flight.event(type, body={"name": "rule:x"}) == []
        assert flight.event(type, body={"name": "hold:12A"}) == ["r fired"]


def test_steps_are_called_off_when_unless_holds() -> None:
    """At any event, before their time or at it."""
    flight = told('event = "a"\nunless = "flight.done"', do=LATER)
    flight.state = {"done": False}
    assert flight.event("a") == ["r fired"]
    flight.state = {"done": True}
    assert flight.event("c", 30) == ["r held"]
    assert flight.done() == ["timer.cancel rule:r:1"]
    flight.state = {"done": False}
    assert flight.event("a", 60) == ["r fired"]
    flight.state = {"done": True}
    assert flight.fire("rule:r:1") == ["r held"]
    assert flight.done() == []
    flight.state = {"done": False}
    flight.event("a", 900)
    flight.state = {}
    assert flight.fire("rule:r:1") == ["r error"]
    assert flight.done() == []
    assert flight.waits() == {}


def test_a_version_with_fewer_steps_ends_those_there_were() -> None:
    """What it would have done is not written anywhere any more."""
    old = one('event = "a"', head="effective_until = 2026-11-21T06:05:00Z", do=LATER)
    new = one('event = "a"', head="effective_from = 2026-11-21T06:05:00Z").replace('version = "1"', 'version = "2"')
    flight = Told(rules(old, new))
    flight.event("a")
    assert flight.fire("rule:r:1") == ["r held"]
    assert flight.reason() == "this version of the rule has no such step"
    assert flight.last.firings[0].version == "2"


# -- absence


def test_what_does_not_come_in_time_fires() -> None:
    """With the event that began the wait at hand."""
    flight = told(ABSENT, do='[[rule.do]]\nmessage.text = "${trigger.type} ${trigger.body.n} ${due}"')
    assert flight.event("a", body={"n": 7}) == []
    assert flight.waits() == {"rule:r": 600}
    assert flight.fire(late_s=3) == ["r fired"]
    assert flight.last.actions[0].body["text"] == "a 7 2026-11-21T06:10:00.000Z"
    assert flight.last.firings[0].inputs["due"] == "2026-11-21T06:10:00.000Z"
    assert flight.waits() == {}


def test_what_comes_in_time_calls_it_off() -> None:
    """And the timer that was on its way says nothing."""
    flight = told(ABSENT)
    flight.event("a")
    assert flight.event("b", 600) == ["r held"]
    assert flight.reason() == "what it waited for came in time"
    assert flight.done() == ["timer.cancel rule:r"]
    assert flight.fire_at("rule:r", 600) == []


def test_what_comes_after_its_time_does_not() -> None:
    """However late the timer is: the event's own time counts. What was to follow is not needed any more."""
    flight = told(ABSENT, do=LATER)
    flight.event("a")
    assert flight.event("b", 601) == []
    assert flight.fire(late_s=5) == ["r fired"]
    assert flight.done() == ["message"]
    assert flight.waits() == {}


def test_what_comes_ends_the_steps() -> None:
    """An escalation is over when what was missed is there."""
    flight = told(ABSENT, do=LATER)
    flight.event("a")
    assert flight.fire() == ["r fired"]
    assert flight.event("b", 700) == ["r held"]
    assert flight.done() == ["timer.cancel rule:r:1"]


def test_what_a_rule_says_itself_is_not_what_it_waits_for() -> None:
    """A rule that waits for a word does not answer itself; what another rule says counts."""
    flight = told('absent = { after = "a", no = "message", within = "10m" }', do=LATER)
    flight.event("a")
    flight.fire()
    assert flight.event("message", 601, {"via": ["r"]}, BY_GATEWAY) == []
    assert flight.waits() == {"rule:r:1": 1_200}
    assert flight.event("message", 602, {"via": ["r", "other"]}, BY_GATEWAY) == ["r held"]


def test_a_wait_is_the_first_events_or_the_last() -> None:
    """`again` says which."""
    keep, restart = told(ABSENT), told(ABSENT.replace("}", ', again = "restart" }'))
    for flight in (keep, restart):
        flight.event("a")
        flight.event("a", 60)
    assert keep.waits() == {"rule:r": 600}
    assert restart.waits() == {"rule:r": 660}


def test_a_beat_that_stops_is_noticed() -> None:
    """After and no may be the same: each ends one wait and begins the next, without a word."""
    flight = told('absent = { after = "beat", no = "beat", within = "10m" }')
    for at in (0, 300, 600):
        assert flight.event("beat", at) == []
        assert flight.done() == ["timer.set rule:r"]
    assert flight.waits() == {"rule:r": 1_200}
    assert flight.fire() == ["r fired"]


def test_an_event_just_before_the_wait_counts_with_a_lookback() -> None:
    """Up to as long before; the rule does not wait then, and says why."""
    flight = told(ABSENT, head='lookback = "5m"')
    assert flight.event("b") == []
    assert flight.event("a", 300) == ["r held"]
    assert flight.reason() == "what it would wait for came just before, at seq 1"
    assert flight.waits() == {}
    assert flight.event("a", 301) == []
    assert flight.waits() == {"rule:r": 901}
    assert flight.event("b", 400) == ["r held"]
    assert flight.event("a", 500) == ["r held"]


def test_without_a_lookback_only_what_comes_after_counts() -> None:
    """Nothing is remembered of what came before."""
    flight = told(ABSENT)
    flight.event("b")
    assert flight.memory == {}
    flight.event("a", 1)
    assert flight.waits() == {"rule:r": 601}


def test_what_is_waited_for_may_depend_on_what_began_it() -> None:
    """`trigger` in the condition is the event before."""
    flight = told(
        'absent = { after = "a", no = { event = "b", where = "event.body.seat == trigger.body.seat" }, within = "10m" }'
    )
    flight.event("a", body={"seat": "12A"})
    assert flight.event("b", 1, body={"seat": "9C"}) == []
    assert flight.event("b", 2, body={"seat": "12A"}) == ["r held"]
    flight.event("a", 3, body={"seat": "12A"})
    assert flight.event("b", 4) == ["r error"]
    assert flight.waits() == {"rule:r": 603}


def test_a_wait_does_not_begin_where_unless_holds() -> None:
    """And ends where it begins to hold."""
    flight = told(f'{ABSENT}\nunless = "flight.done"')
    flight.state = {"done": True}
    flight.event("a")
    assert flight.waits() == {}
    flight.state = {"done": False}
    flight.event("a", 1)
    assert flight.waits() == {"rule:r": 601}
    flight.state = {"done": True}
    assert flight.event("c", 2) == ["r held"]
    assert flight.waits() == {}


def test_unless_may_look_at_what_began_the_wait() -> None:
    """At every event while it waits, when its timer fires, and at its steps."""
    flight = told(f'{ABSENT}\nunless = "trigger.body.n < event.seq"', do=LATER)
    flight.event("a", body={"n": 3})
    assert flight.event("c", 1) == []
    assert flight.event("c", 2) == []
    assert flight.event("c", 3) == ["r held"]
    flight.event("a", 4, body={"n": 6})
    assert flight.fire() == ["r fired"]
    assert flight.fire("rule:r:1") == ["r held"]
    flight.event("a", 5, body={"n": 8})
    assert flight.event("c", 6) == ["r held"]


def test_the_chain_of_rules_goes_through_a_wait() -> None:
    """What began it counts, though the timer's own event bears nothing."""
    flight = told(ABSENT)
    flight.event("a", body={"via": ["r", "r"]}, by=BY_GATEWAY)
    assert flight.fire() == ["r loop"]


def test_a_timer_that_somebody_cancelled_ends_the_wait() -> None:
    """A person may; the engine's own word about it is not heard twice."""
    flight = told(ABSENT)
    flight.event("a")
    assert flight.event("timer.cancelled", 1, {"name": "rule:r"}, BY_GATEWAY) == []
    assert flight.waits() == {"rule:r": 600}
    assert flight.event("timer.cancelled", 2, {"name": "rule:r"}) == ["r held"]
    assert flight.reason() == "its timer was cancelled by user:amy"
    assert flight.done() == []
    assert flight.event("timer.cancelled", 3, {"name": "rule:r"}) == []


def test_a_timer_that_somebody_moved_ends_the_wait() -> None:
    """It would fire at a time that is not the rule's, and the rule would wait for ever and say nothing."""
    flight = told(ABSENT)
    flight.event("a")
    set_so = {"name": "rule:r", "due": text(ms(START) + 600_000)}
    assert flight.event("timer.set", 1, set_so, BY_GATEWAY) == []
    assert flight.event("timer.set", 2, {**set_so, "do": {"type": "cancel"}}) == []
    assert flight.waits() == {"rule:r": 600}
    moved = {"name": "rule:r", "due": text(ms(START) + 86_400_000)}
    assert flight.event("timer.set", 3, moved) == ["r held"]
    assert flight.reason() == "its timer was set anew by user:amy"
    assert (flight.waits(), flight.done()) == ({}, ["timer.cancel rule:r"])
    assert flight.event("timer.set", 4, moved) == []


def test_a_timer_that_is_a_day_late_is_no_news() -> None:
    """As when rules are turned on where there is a past, or nobody worked for long."""
    flight = told(ABSENT, do=LATER)
    flight.event("a")
    assert flight.fire(late_s=86_401) == ["r held"]
    assert "too late" in flight.reason()
    assert flight.waits() == {}


def test_a_timer_of_another_time_says_nothing() -> None:
    """It was set before the wait was moved."""
    flight = told(ABSENT.replace("}", ', again = "restart" }'))
    flight.event("a")
    flight.event("a", 60)
    assert flight.fire_at("rule:r", 600) == []
    assert flight.fire_at("rule:r:1", 600) == []
    assert flight.waits() == {"rule:r": 660}
    assert flight.fire() == ["r fired"]


# -- thresholds


def test_a_threshold_fires_once_until_it_is_clear() -> None:
    """Above the one limit, clear below the other."""
    flight = told('threshold = { value = "event.body.n", above = 30, clear_below = 20 }')
    verdicts = [flight.event("x", body={"n": n}) for n in (30, 31, 40, 40, 25, 31, 19, 20, 31)]
    assert verdicts == [[], ["r fired"], ["r suppressed"], [], [], ["r suppressed"], [], [], ["r fired"]]
    assert flight.last.firings[0].inputs["value"] == 31


def test_a_threshold_may_be_below() -> None:
    """And clear at its limit where nothing else is said."""
    flight = told('threshold = { value = "event.body.n", below = 5.5 }')
    assert [flight.event("x", body={"n": n}) for n in (5.5, 5, 5.5, 5)] == [[], ["r fired"], [], ["r fired"]]


def test_no_reading_is_none() -> None:
    """A field that is not there, or null, says nothing; one that is no number is an error."""
    flight = told('threshold = { value = "event.body.n", above = 1, on = "x" }')
    assert flight.event("y", body={"n": 2}) == []
    assert flight.event("x") == []
    assert flight.event("x", body={"n": None}) == []
    assert flight.memory == {}
    assert flight.event("x", body={"n": "many"}) == ["r error"]
    assert "is no number" in flight.reason()
    assert flight.event("x", body={"n": True}) == []
    assert Told(rules(one('threshold = { value = "1 / event.body.n", above = 1 }'))).event("x", body={"n": 0}) == [
        "r error"
    ]


def test_a_threshold_that_is_clear_calls_off_its_steps() -> None:
    """What was too much is not any more."""
    flight = told('threshold = { value = "event.body.n", above = 30 }', do=LATER)
    flight.event("x", body={"n": 31})
    assert flight.waits() == {"rule:r:1": 600}
    assert flight.event("x", 1, body={"n": 30}) == ["r held"]
    assert flight.waits() == {}


def test_a_threshold_reads_at_its_own_events() -> None:
    """`on` says which; others change nothing."""
    flight = told('threshold = { value = "event.body.n", above = 30, on = "x" }', do=LATER)
    flight.event("x", body={"n": 31})
    assert flight.event("y", body={"n": 1}) == []
    assert flight.waits() == {"rule:r:1": 600}
    assert flight.event("x", body={"n": 32}) == ["r suppressed"]


def test_steps_are_taken_one_after_the_other() -> None:
    """The next ones wait on."""
    flight = told('event = "a"', do=LATER + '\n[[rule.do]]\nafter = "20m"\nmessage.text = "last"')
    flight.event("a")
    assert flight.fire("rule:r:1") == ["r fired"]
    assert flight.waits() == {"rule:r:2": 1_200}
    assert flight.event("c", 700) == []
    assert flight.fire("rule:r:2") == ["r fired"]
    assert flight.waits() == {}


def test_a_threshold_that_is_held_may_fire_later() -> None:
    """As soon as `unless` holds no more; a failure of it is an error."""
    flight = told('threshold = { value = "event.body.n", above = 30 }\nunless = "event.body.quiet"')
    assert flight.event("x", body={"n": 31, "quiet": True}) == ["r held"]
    assert flight.event("x", body={"n": 31, "quiet": True}) == []
    assert flight.event("x", body={"n": 31}) == ["r error"]
    assert flight.event("x", body={"n": 31, "quiet": False}) == ["r fired"]


# -- times of the flight


def due_at(at_s: float | None, kind: str = "best") -> dict[str, object]:
    return {"times": {"ON": {kind: None if at_s is None else text(ms(START) + int(at_s * 1000))}}, "down": False}


RELATIVE = 'relative = { milestone = "ON", offset = "+15m" }\nunless = "flight.down"'


def flight_due(at_s: float | None, when: str = RELATIVE, do: str = SAY) -> Told:
    flight = told(when, do=do)
    flight.state = due_at(at_s)
    return flight


def test_a_time_of_the_flight_is_waited_for() -> None:
    """With its offset; then it fires once."""
    flight = flight_due(3_600)
    assert flight.event("flight.milestone") == []
    assert flight.waits() == {"rule:r": 4_500}
    assert flight.fire() == ["r fired"]
    assert flight.event("flight.gate", 4_501) == []
    assert flight.waits() == {}


def test_the_wait_follows_the_time() -> None:
    """By a second or more; less is let be."""
    flight = flight_due(3_600)
    flight.event("flight.milestone")
    flight.state = due_at(3_600.999)
    flight.event("flight.milestone", 1)
    assert flight.done() == []
    flight.state = due_at(3_601)
    flight.event("flight.milestone", 2)
    assert flight.done() == ["timer.set rule:r"]
    assert flight.waits() == {"rule:r": 4_501}


def test_chat_changes_no_time() -> None:
    """What is said in the stream does not even make the rule look."""
    flight = flight_due(3_600)
    assert flight.event("message") == []
    assert flight.waits() == {}


def test_a_time_that_is_not_known_is_not_waited_for() -> None:
    """Nor one that is not known any more."""
    flight = flight_due(None)
    flight.event("flight.milestone")
    assert flight.memory == {}
    flight.state = {}
    flight.event("flight.milestone")
    flight.state = {"times": {"ON": None}}
    flight.event("flight.milestone")
    assert flight.memory == {}
    flight.state = due_at(3_600)
    flight.event("flight.milestone")
    flight.state = due_at(None)
    assert flight.event("flight.withdrawn", 1) == ["r held"]
    assert flight.done() == ["timer.cancel rule:r"]


def test_what_has_happened_calls_it_off() -> None:
    """`unless`, at any event."""
    flight = flight_due(3_600)
    flight.event("flight.milestone")
    flight.state = {**due_at(3_600), "down": True}
    assert flight.event("flight.milestone", 60) == ["r held"]
    assert flight.done() == ["timer.cancel rule:r"]
    assert flight.event("flight.gate", 61) == []
    assert flight.waits() == {}


def test_a_time_that_is_past_when_it_becomes_known_fires_at_once() -> None:
    """If that is news; if it was long ago it is told as such."""
    flight = flight_due(3_600)
    assert flight.event("flight.milestone", 4_500) == ["r fired"]
    assert flight.last.firings[0].inputs["due"] == "2026-11-21T07:15:00.000Z"
    assert flight.event("flight.gate", 4_501) == []
    old = flight_due(3_600)
    assert old.event("flight.milestone", 4_501 + 86_400) == ["r held"]
    assert "too long ago to be news" in old.reason()
    assert old.event("flight.gate", 4_502 + 86_400) == []


def test_a_time_that_is_past_waits_for_unless_to_end() -> None:
    """A flight that leaves after it was to land is overdue as it leaves, if nobody said when it is expected."""
    flight = flight_due(3_600)
    flight.state["down"] = True
    assert flight.event("flight.gate", 5_000) == []
    flight.state["down"] = False
    assert flight.event("flight.milestone", 5_001) == ["r fired"]


def test_a_wait_whose_time_moves_into_the_past_fires_now() -> None:
    """It was called off and it is due."""
    flight = flight_due(3_600)
    flight.event("flight.milestone")
    flight.state = due_at(60)
    assert flight.event("flight.milestone", 1_000) == ["r held", "r fired"]
    assert flight.done() == ["message", "timer.cancel rule:r"]


def test_a_time_that_moves_on_after_it_fired_is_waited_for_again() -> None:
    """What was to follow is called off; one that moves within the past is no news."""
    flight = flight_due(3_600, do=LATER)
    flight.event("flight.milestone")
    flight.fire()
    flight.state = due_at(3_500)
    assert flight.event("flight.milestone", 4_600) == []
    assert flight.waits() == {"rule:r:1": 5_100}
    flight.state = due_at(7_200)
    assert flight.event("flight.milestone", 4_700) == ["r held"]
    assert flight.waits() == {"rule:r": 8_100}
    assert flight.fire() == ["r fired"]


def test_a_time_that_moves_back_to_the_one_it_fired_for_is_done() -> None:
    """It is not waited for a second time."""
    flight = flight_due(3_600)
    flight.event("flight.milestone")
    flight.fire()
    flight.state = due_at(7_200)
    flight.event("flight.milestone", 4_600)
    flight.state = due_at(3_600)
    assert flight.event("flight.milestone", 4_700) == ["r held"]
    assert flight.waits() == {}


def test_a_time_may_be_what_an_expression_says() -> None:
    """A field that is not there is no time; what is no time is an error."""
    flight = told('relative = { at = "flight.eta", offset = "-5m" }')
    assert flight.event("flight.x") == []
    flight.state = {"eta": text(ms(START) + 600_000)}
    flight.event("flight.x")
    assert flight.waits() == {"rule:r": 300}
    flight.state = {"eta": "soon"}
    assert flight.event("flight.x") == ["r error", "r held"]
    assert told('relative = { at = "1 / 0" }').event("flight.x") == ["r error"]


def test_a_failure_of_unless_begins_no_wait() -> None:
    """And is tried again at the next event."""
    flight = told('relative = { milestone = "ON" }\nunless = "flight.nothing"')
    flight.state = due_at(60)
    assert flight.event("flight.x") == ["r error"]
    assert flight.event("flight.x", 61) == []
    assert "done" not in flight.memory["r"]


# -- schedules


def test_a_schedule_runs_from_the_streams_first_event_on() -> None:
    """At the zone's time of day, one after the other; those missed meanwhile are one."""
    flight = told('schedule = { cron = "0 18 * * *", zone = "Australia/Sydney" }', head='streams = "flight:QX12"')
    flight.event("a")
    assert flight.waits() == {"rule:r": 3_600}  # 18:00 in Sydney is 07:00 UTC in November
    assert flight.fire(late_s=2 * 86_400) == ["r fired"]
    assert flight.waits() == {"rule:r": 3_600 + 3 * 86_400}
    assert flight.done() == ["message", "timer.set rule:r"]


def test_a_schedule_ends_when_unless_holds() -> None:
    """And begins again when it does not."""
    flight = told('schedule = { cron = "@hourly", zone = "UTC" }\nunless = "flight.done"')
    flight.state = {"done": False}
    flight.event("a")
    assert flight.waits() == {"rule:r": 3_600}
    flight.state = {"done": True}
    assert flight.event("a", 1) == ["r held"]
    assert flight.waits() == {}
    flight.state = {"done": False}
    flight.event("a", 2)
    assert flight.waits() == {"rule:r": 3_600}
    flight.state = {"done": True}
    assert flight.fire() == ["r held"]
    assert flight.waits() == {}


def test_a_schedule_that_has_no_next_time_waits_no_more() -> None:
    """The calendar of the search is five years long."""
    flight = told('schedule = { cron = "0 0 29 2 *", zone = "UTC" }\nunless = "false"')
    flight.event("a", (ms("2096-03-01T00:00:00Z") - ms(START)) / 1000)
    assert flight.waits() == {}


# -- versions


def test_a_new_version_takes_over_what_the_old_one_waited_with() -> None:
    """From its time on; the firing names the one in force."""
    old = one(ABSENT, head="effective_until = 2026-11-21T06:05:00Z")
    new = one(ABSENT, head="effective_from = 2026-11-21T06:05:00Z").replace('version = "1"', 'version = "2"')
    flight = Told(rules(old, new))
    flight.event("a")
    assert flight.fire() == ["r fired"]
    assert flight.last.firings[0].version == "2"


def test_a_version_of_another_kind_begins_anew() -> None:
    """What was waited for means nothing to it."""
    old = one(ABSENT, head="effective_until = 2026-11-21T06:05:00Z")
    new = one('event = "z"', head="effective_from = 2026-11-21T06:05:00Z").replace('version = "1"', 'version = "2"')
    flight = Told(rules(old, new))
    flight.event("a")
    flight.event("c", 300)
    assert flight.done() == ["timer.cancel rule:r"]
    assert flight.waits() == {}


# -- the fold


@pytest.fixture(scope="module")
def many() -> Told:
    texts = [
        one('event = "a"', do=LATER),
        one(ABSENT, head='lookback = "1m"', do=LATER),
        one('absent = { after = "b", no = "b", within = "2m", again = "restart" }'),
        one('relative = { at = "flight.eta", offset = "+1m" }\nunless = "flight.down"', do=LATER),
        one('threshold = { value = "flight.n", above = 3, clear_below = 2 }', do=LATER),
        one('schedule = { cron = "*/5 * * * *", zone = "UTC" }\nunless = "flight.down"'),
    ]
    return Told(rules("\n".join(text.replace('"r"', f'"r{n}"') for n, text in enumerate(texts))))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "flight.x", "message", "wait"]),
            st.integers(0, 400),
            st.booleans(),
            st.integers(0, 5),
            st.integers(-300, 900),
        ),
        max_size=30,
    ),
    st.integers(0, 3),
)
def test_the_streams_timers_are_what_the_rules_wait_by(
    many: Told, told: list[tuple[str, int, bool, int, int]], lag: int
) -> None:
    """Whatever happens, and however far behind the rules are: when their commands have been given, a timer waits for each
    thing they wait for and no other, no command of theirs was malformed, and JSON in between changes nothing."""
    machine = machine_of("flight:QX12")
    assert machine is not None
    timers = machine.initial()
    log: list[tuple[Recorded, dict[str, object]]] = []
    state: dict[str, object] = {"eta": None, "down": False, "n": 0}
    memory: dict[str, object] = {}
    now, taken = ms(START), 0

    def record(type: str, by: str, body: dict[str, object]) -> None:
        nonlocal timers
        log.append((Recorded(len(log) + 1, type, by, now, body), state))
        timers = machine.evolve(timers, log[-1][0])

    def give(type: str, body: dict[str, object]) -> None:
        decision = machine.decide(timers, Command(type, body, BY_GATEWAY, "owner", ("r",)), now)
        assert isinstance(decision, list) or hasattr(decision, "reason"), decision
        if isinstance(decision, list):
            for fact in decision:
                record(fact.type, BY_GATEWAY, fact.body)

    def catch_up(behind: int) -> None:
        nonlocal memory, taken
        while taken < len(log) - behind:
            event, then = log[taken]
            taken += 1
            made = step(many.rules, memory, "demo", "flight:QX12", event, then)
            memory = orjson.loads(orjson.dumps(made.memory))
            assert memory == made.memory
            for action in made.actions:
                if action.type.startswith("timer."):
                    give(action.type, action.body)

    for type, later, down, n, eta in told:
        now += later * 1000
        for name, shown in machine.show(timers)["timers"].items():
            if times.read(shown["due"]).ms <= now:
                give("timer.fire", {"name": name, "fence": shown["fence"]})
        if type != "wait":
            state = {"eta": times.write(now + eta * 1000), "down": down, "n": n}
            record(type, "user:amy", {})
        catch_up(lag)
    catch_up(0)
    waiting = {name: times.read(shown["due"]).ms for name, shown in machine.show(timers)["timers"].items()}
    assert waiting == pending(memory)


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "due", "via", "n", "x"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "message", "timer.fired", "timer.set", "timer.cancelled", "flight.milestone"]),
            st.dictionaries(st.sampled_from(["name", "due", "via", "n", "x"]), ANY)
            | st.fixed_dictionaries({"name": st.sampled_from(["rule:r0:1", "rule:r1", "rule:r9"]), "due": ANY}),
            st.dictionaries(st.sampled_from(["eta", "down", "n", "times"]), ANY),
            st.sampled_from(["user:amy", BY_GATEWAY]),
        ),
        max_size=6,
    )
)
def test_any_event_is_taken(many: Told, told: list[tuple[str, dict[str, object], dict[str, object], str]]) -> None:
    """Whatever is in its body or in the state: nothing is raised, and all that comes out is JSON."""
    memory: dict[str, object] = {}
    for seq, (type, body, state, by) in enumerate(told, 1):
        made = step(many.rules, memory, "demo", "flight:QX12", Recorded(seq, type, by, ms(START) + seq, body), state)
        memory = orjson.loads(orjson.dumps(made.memory))
        assert orjson.loads(orjson.dumps([firing.inputs for firing in made.firings])) is not None
        assert orjson.dumps([action.json() for action in made.actions])
