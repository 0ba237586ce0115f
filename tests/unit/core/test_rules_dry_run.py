"""core.rules.dry_run: what rules would have done, over histories; and the examples of the documentation, tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from core.flight.machine import BY_GATEWAY, Command, Recorded
from core.flight.registry import machine_of
from core.rules import dry_run as module
from core.rules.dry_run import DryRun, History, Report, dry_run
from core.rules.load import load
from core.rules.loops import FACTS
from core.rules.model import RuleSet
from tests.ruling import START, ms, one, rules

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "docs/examples/rules").glob("*.toml"))
END = ms(START) + 86_400_000
ABSENT = 'absent = { after = "a", no = "b", within = "10m" }'
LATER = '[[rule.do]]\nmessage.text = "x"\n[[rule.do]]\nafter = "10m"\nnotify = { to = ["user:bob"], text = "x" }'


def history(*told: tuple[Any, ...], stream: str = "flight:QX12") -> History:
    """Events of (minutes since `START`, type, body)."""
    events = [
        Recorded(seq, type, by[0] if by else "user:ops", ms(START) + minute * 60_000, body)
        for seq, (minute, type, body, *by) in enumerate(told, 1)
    ]
    return History("demo", stream, events)


def ran(text: str, *histories: History, until_ms: int = END, **options: Any) -> Report:
    return dry_run(rules(text), histories, until_ms, **options)


def test_timers_fire_between_the_events_when_they_are_due() -> None:
    """What came in time, what did not, and what still waits when the history ends."""
    report = ran(
        one(ABSENT, do=LATER),
        history((0, "a", {}), (9, "b", {})),
        history((0, "a", {}), (15, "b", {}), stream="flight:QX13"),
        history((0, "a", {}), stream="flight:QX14"),
        until_ms=ms(START) + 15 * 60_000,
    )
    rule = report.rules["r"]
    assert rule.verdicts == {"held": 2, "fired": 2}
    assert rule.streams == {("demo", "flight:QX13"), ("demo", "flight:QX14")}
    assert rule.actions == {"message": 2}
    assert rule.waiting == 1
    assert [firing.at_ms for firing in rule.first] == [ms(START) + 600_000] * 2
    assert (report.streams, report.events) == (3, 5)


def test_later_steps_are_counted_by_themselves() -> None:
    """A rule that fired once and went two steps has fired once."""
    report = ran(one(ABSENT, do=LATER), history((0, "a", {})))
    rule = report.rules["r"]
    assert (rule.verdicts["fired"], rule.later, rule.waiting) == (1, 1, 0)
    assert rule.actions == {"message": 1, "notify": 1}


def test_dates_do_not_count_unless_they_are_to() -> None:
    """A rule of next month can be tried on the last."""
    text = one('event = "a"', head="effective_from = 2030-01-01")
    assert ran(text, history((0, "a", {}))).rules["r"].verdicts["fired"] == 1
    assert ran(text, history((0, "a", {})), dated=True).rules["r"].verdicts["fired"] == 0


def test_a_part_of_the_time_can_be_asked_about() -> None:
    """What was waited for before counts; what fired before does not; nothing happens after."""
    told = history((0, "a", {}), (60, "a", {}), (120, "a", {}))
    report = ran(one(ABSENT), told, since_ms=ms(START) + 10 * 60_000, until_ms=ms(START) + 61 * 60_000)
    assert report.rules["r"].verdicts["fired"] == 1
    assert report.rules["r"].waiting == 1
    assert report.events == 2
    late = ran(one(ABSENT), told, since_ms=ms(START) + 11 * 60_000)
    assert late.rules["r"].verdicts["fired"] == 2


def test_the_state_is_what_the_machine_makes_of_the_events() -> None:
    """And empty where no machine decides."""
    scheduled = {"flight": "QX12", "from": "SYD", "to": "MEL", "out": START, "in": "2026-11-21T07:30:00.000Z"}
    text = one('event = "*"\nwhere = "has(flight.status) && flight.status == \'scheduled\'"', head='streams = "*"')
    report = ran(text, history((0, "flight.scheduled", scheduled)), history((0, "a", {}), stream="chat:ops"))
    assert report.rules["r"].streams == {("demo", "flight:QX12")}


def test_timers_of_the_rules_in_force_are_left_out() -> None:
    """They are simulated anew; other timers are part of the history."""
    body = {"name": "rule:r", "due": "2026-11-21T06:10:00.000Z", "late_ms": 0}
    report = ran(one(ABSENT), history((0, "a", {}), (1, "timer.set", body), (10, "timer.fired", body, BY_GATEWAY)))
    assert report.rules["r"].verdicts == {"fired": 1}
    report = ran(one('event = "timer.fired"'), history((0, "timer.fired", {"name": "hold:12A"})))
    assert report.rules["r"].verdicts == {"fired": 1}


def test_streams_may_be_told_of_side_by_side() -> None:
    """As a file has them; each ends when it is said to, not when an event of another comes."""
    run = DryRun(rules(one(ABSENT)))
    streams = [run.begin("demo", f"flight:X{n}") for n in (1, 2)]
    for stream in streams:
        stream.event(Recorded(1, "a", "user:ops", ms(START), {}))
    streams[0].end(ms(START) + 600_000)
    streams[1].end(ms(START) + 599_999)
    assert run.report.rules["r"].verdicts == {"fired": 1}
    assert run.report.rules["r"].waiting == 1


def test_errors_are_told_each_once() -> None:
    """And the first firings are kept whole."""
    events = [(n, "a", {"n": n} if n % 2 else {}) for n in range(8)]
    report = ran(one('event = "a"\nwhere = "event.body.n > 2"'), history(*events), first=3)
    rule = report.rules["r"]
    assert rule.verdicts == {"error": 3, "fired": 3}
    assert rule.errors == ["'event.body.n > 2': there is no field n"]
    assert [firing.seq for firing in rule.first] == [1, 4, 5]


def test_a_stream_with_endless_timers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the report says which."""
    monkeypatch.setattr(module, "TIMERS_MAX", 10)
    text = one('schedule = { cron = "* * * * *", zone = "UTC" }', head='streams = "flight:QX12"')
    report = ran(text, history((0, "a", {})))
    assert report.rules["r"].verdicts == {"fired": 10}
    assert report.cut == ["flight:QX12"]


def test_a_report_is_json() -> None:
    """Every rule, also those that did nothing."""
    report = ran(one('event = "a"'), history((0, "a", {})))
    shown = orjson.loads(orjson.dumps(report.json()))
    assert shown["first"] == shown["last"] == START
    assert shown["rules"][0]["fired"] == 1
    assert shown["rules"][0]["first"][0]["actions"][0]["body"]["text"] == "said"
    assert ran(one('event = "a"')).json()["first"] is None


# -- the examples


def example(*names: str) -> RuleSet:
    found = load([(path.name, path.read_text()) for path in EXAMPLES if path.stem in names or not names])
    assert isinstance(found, RuleSet), found
    return found


def page() -> list[str]:
    """The rules that docs/rules.md shows, each block by itself."""
    return re.findall(r"```toml\n(.*?)```", (ROOT / "docs/rules.md").read_text(), re.DOTALL)


def flown(*more: tuple[Any, ...], stream: str = "flight:QX12-20261121") -> History:
    """QX12 from Sydney (OUT 06:30, IN 08:00), and what happened to it; minutes from 06:00."""
    planned = {"flight": "QX12", "registration": "VH-ABC", "from": "SYD", "to": "MEL"}
    planned |= {"out": "2026-11-21T06:30:00.000Z", "in": "2026-11-21T08:00:00.000Z"}
    return history((-300, "flight.scheduled", planned), *more, stream=stream)


def said(minute: int, milestone: str, kind: str, at: str, source: str = "ops") -> tuple[Any, ...]:
    body = {"milestone": milestone, "kind": kind, "at": f"2026-11-21T{at}:00.000Z", "source": source}
    return (minute, "flight.milestone", body)


def at(report: Report, rule: str) -> list[str]:
    """When it fired or went on, as times of day, with the kinds of its actions."""
    return [
        f"{(firing.at_ms // 60_000 // 60) % 24:02}:{firing.at_ms // 60_000 % 60:02} "
        + " ".join(action["kind"] for action in firing.actions)
        for firing in report.rules[rule].first
    ]


def test_the_examples_load_together() -> None:
    """In one set, as they are, with commands that there are."""
    assert isinstance(load([(path.name, path.read_text()) for path in EXAMPLES], FACTS), RuleSet)
    assert {path.stem for path in EXAMPLES} == {"overdue", "delays", "departure", "desk"}
    assert len(example().rules) == 7


def test_every_example_of_the_page_loads() -> None:
    """Each block is a file of its own."""
    blocks = page()
    assert len(blocks) >= 6
    for number, block in enumerate(blocks):
        found = load([(f"docs/rules.md#{number}", block)], FACTS)
        assert isinstance(found, RuleSet), [str(problem) for problem in found]


def test_an_overdue_aircraft_is_told_of_step_by_step() -> None:
    """Its estimate and a quarter of an hour; ten minutes later; thirty minutes later: message, notifications, webhook."""
    report = dry_run(
        example("overdue"), [flown(said(32, "OUT", "actual", "06:31"), said(60, "ON", "estimated", "07:50"))], END
    )
    assert at(report, "overdue") == ["08:05 message notify", "08:15 notify", "08:35 message webhook"]
    first, second, third = report.rules["overdue"].first
    assert first.actions[0]["body"]["text"].startswith(
        "QX12 (VH-ABC) is overdue: no landing is known by 2026-11-21T08:05"
    )
    assert first.actions[0]["stream"] == "flight:QX12-20261121"
    assert second.actions[0]["stream"] == "user:duty-manager"
    assert third.actions[1]["body"] == {
        "flight": "QX12", "registration": "VH-ABC", "from": "SYD", "to": "MEL", "expected": "2026-11-21T07:50:00.000Z",
    }  # fmt: skip


def test_a_landing_ends_the_escalation() -> None:
    """Whenever it is known; before the time nothing is said at all."""
    late = flown(said(32, "OUT", "actual", "06:31"), said(130, "ON", "actual", "08:09"))
    assert at(dry_run(example("overdue"), [late], END), "overdue") == []
    later = flown(said(32, "OUT", "actual", "06:31"), said(140, "ON", "actual", "08:19"))
    assert at(dry_run(example("overdue"), [later], END), "overdue") == ["08:16 message notify"]


def test_an_aircraft_that_never_left_is_not_overdue() -> None:
    """One that left late without a new estimate is expected as much later; a diversion has an estimate of its own."""
    assert at(dry_run(example("overdue"), [flown()], END), "overdue") == []
    late = flown(said(122, "OUT", "actual", "08:00"))
    assert at(dry_run(example("overdue"), [late], END), "overdue")[0] == "09:45 message notify"
    diverted = flown(
        said(32, "OUT", "actual", "06:31"),
        (90, "flight.diverted", {"to": "CBR", "at": "2026-11-21T07:30:00.000Z", "eta": "2026-11-21T08:30:00.000Z"}),
    )
    report = dry_run(example("overdue"), [diverted], END)
    assert at(report, "overdue")[0] == "08:45 message notify"
    assert report.rules["overdue"].first[2].actions[1]["body"]["to"] == "CBR"


def test_delays_are_told_once_and_technical_ones_to_those_who_care() -> None:
    """More than half an hour; again only after it was nearly on time."""
    report = dry_run(
        example("delays"),
        [
            flown(
                said(0, "OUT", "estimated", "07:05"),
                said(1, "OUT", "estimated", "07:10"),
                said(2, "OUT", "estimated", "06:40"),
                said(3, "OUT", "estimated", "07:20"),
                (4, "flight.delayed", {"reasons": [{"code": "41", "minutes": 20}]}),
                (5, "flight.delayed", {"reasons": [{"code": "71", "minutes": 20}]}),
            )
        ],
        END,
    )
    assert at(report, "late-departure") == ["06:00 message", "06:03 message"]
    assert at(report, "technical-delay") == ["06:04 notify notify"]
    assert report.rules["late-departure"].verdicts["suppressed"] == 1


def test_departures_are_watched() -> None:
    """Boarding that has not begun, a gate that is not left, a return."""
    rules = example("departure")
    assert at(dry_run(rules, [flown()], END), "no-boarding") == ["06:05 message"]
    boarding = (4, "flight.boarding", {"at": "2026-11-21T06:04:00.000Z"})
    report = dry_run(rules, [flown(boarding)], END)
    assert at(report, "no-boarding") == []
    assert at(report, "still-at-gate") == ["06:49 message"]
    left = dry_run(rules, [flown(boarding, said(30, "OUT", "actual", "06:29"))], END)
    assert at(left, "still-at-gate") == []
    returned = (50, "flight.returned", {"to": "gate", "at": "2026-11-21T06:50:00.000Z"})
    back = dry_run(rules, [flown(boarding, said(30, "OUT", "actual", "06:29"), returned)], END)
    assert at(back, "reopened") == ["06:50 command"]
    given = back.rules["reopened"].first[0].actions[0]
    machine = machine_of(given["stream"])
    assert machine is not None
    state = machine.initial()
    for event in flown(boarding, said(30, "OUT", "actual", "06:29"), returned).events:
        state = machine.evolve(state, event)
    decided = machine.decide(state, Command(given["type"], given["body"], BY_GATEWAY, "owner"), ms(START) + 3_600_000)
    assert isinstance(decided, list), decided


def test_the_desk_is_greeted_every_morning() -> None:
    """Six in Sydney, in its own stream."""
    report = dry_run(example("desk"), [history((0, "message", {"text": "hello"}), stream="flight:desk")], END)
    assert at(report, "morning") == ["19:00 message"]
