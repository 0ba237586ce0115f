"""core.rules.read: every key of a rule, and every mistake in it told by its field."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.rules.model import Absent, OnEvent, Relative, Rule, Schedule, Threshold
from core.rules.read import Reader
from tests.ruling import HEAD, SAY, ms, one


def read(text: str) -> Rule:
    reader = Reader(tomllib.loads(text)["rule"][0])
    rule = reader.rule("f.toml", 7)
    assert rule is not None, reader.problems
    return rule


def wrong(text: str) -> list[str]:
    reader = Reader(tomllib.loads(text)["rule"][0])
    assert reader.rule("f.toml", 7) is None
    return [f"{field}: {message}" for field, message in reader.problems]


def test_a_rule_with_all_that_is_common() -> None:
    """What is left out has its default."""
    rule = read(
        """
[[rule]]
id = "late"
version = "2026-11-01"
says = "It is late"
severity = "warning"
effective_from = 2026-11-01T00:00:00Z
effective_until = "2027-11-01T00:00:00Z"
tenants = ["acme", "zeta"]
streams = ["flight:QX*", "flight:QY*"]
once = true
quiet = "1h"
[rule.when]
event = ["flight.delayed", "seat.*"]
where = "event.body.minutes > 30"
unless = "flight.status == 'cancelled'"
[[rule.do]]
message.text = "${flight.flight}"
"""
    )
    assert (rule.id, rule.version, rule.says, rule.severity) == ("late", "2026-11-01", "It is late", "warning")
    assert (rule.file, rule.line) == ("f.toml", 7)
    assert (rule.from_ms, rule.until_ms) == (ms("2026-11-01T00:00:00Z"), ms("2027-11-01T00:00:00Z"))
    assert rule.tenants == ("acme", "zeta")
    assert rule.streams.match("flight:QX1")
    assert rule.once
    assert rule.quiet_ms == 3_600_000
    assert isinstance(rule.when, OnEvent)
    assert rule.when.pattern.types.match("seat.held")
    assert rule.looks == {"status": None, "flight": None}
    plain = read(one('event = "x"'))
    assert (plain.severity, plain.from_ms, plain.until_ms, plain.says) == ("info", 0, None, "")
    assert plain.streams.match("flight:any")
    assert not plain.streams.match("chat:any")
    assert not plain.waits
    assert plain.looks == {}


def test_a_rule_that_looks_at_the_whole_flight_says_so() -> None:
    """Then all of it is kept of a firing."""
    assert read(one('event = "x"\nwhere = "size(flight) > 0"')).looks is None


def test_absence() -> None:
    """Types alone or with a condition; what is left out has its default."""
    rule = read(
        one('absent = { after = "a", no = { event = ["b", "c"], where = "event.by == trigger.by" }, within = "10m" }')
    )
    assert isinstance(rule.when, Absent)
    assert (rule.when.within_ms, rule.when.lookback_ms, rule.when.again) == (600_000, 0, "keep")
    assert rule.when.no.where is not None
    assert rule.waits
    rule = read(one('absent = { after = "a", no = "b", within = "10m", again = "restart" }', head='lookback = "5m"'))
    assert isinstance(rule.when, Absent)
    assert (rule.when.lookback_ms, rule.when.again) == (300_000, "restart")


def test_times_relative_to_the_flight() -> None:
    """A milestone's, or what an expression says."""
    rule = read(one('relative = { milestone = "ON", kind = "estimated", offset = "+15m" }'))
    assert rule.when == Relative("ON", "estimated", None, 900_000)
    assert read(one('relative = { milestone = "OUT" }')).when == Relative("OUT", "best", None, 0)
    when = read(one('relative = { at = "flight.eta", offset = "-1h" }')).when
    assert isinstance(when, Relative)
    assert when.at is not None
    assert when.offset_ms == -3_600_000


def test_thresholds() -> None:
    """Above or below; clear again at the limit unless it is said where."""
    when = read(one('threshold = { value = "event.body.x", above = 30 }')).when
    assert isinstance(when, Threshold)
    assert (when.limit, when.clear, when.rising) == (30, 30, True)
    when = read(one('threshold = { value = "event.body.x", below = 5, clear_above = 7.5, on = "fuel.*" }')).when
    assert isinstance(when, Threshold)
    assert (when.limit, when.clear, when.rising) == (5, 7.5, False)
    assert when.types.match("fuel.read")


def test_schedules() -> None:
    """In a zone, with what happens to hours that are skipped or doubled."""
    rule = read(HEAD + 'streams = "flight:desk"\n[rule.when]\nschedule = { cron = "0 6 * * *", zone = "UTC" }' + SAY)
    assert isinstance(rule.when, Schedule)
    assert (rule.when.zone, rule.when.skipped, rule.when.doubled) == ("UTC", "run_after", "first")
    when = read(
        one('schedule = { cron = "@daily", zone = "UTC", skipped = "skip", doubled = "both" }\nunless = "false"')
    ).when
    assert isinstance(when, Schedule)
    assert (when.skipped, when.doubled) == ("skip", "both")


def test_actions() -> None:
    """Of each kind, at once and later."""
    rule = read(
        one(
            'event = "x"',
            do="""
[[rule.do]]
command = { type = "delay", body = { reasons = [{ code = "93", minutes = "${event.body.minutes}" }] } }
[[rule.do]]
command = { type = "gate", stream = "flight:${event.body.next}" }
[[rule.do]]
after = "10m"
message = { text = "hello", stream = "chat:ops" }
[[rule.do]]
after = "30m"
notify = { to = ["user:amy", "${event.by}"], text = "hello" }
[[rule.do]]
after = "10m"
webhook = { url = "https://ops.example/x" }
[[rule.do]]
webhook = { url = "https://ops.example/x", body = { a = 1 } }
""",
        )
    )
    assert [do.kind for do in rule.do] == ["command", "command", "message", "notify", "webhook", "webhook"]
    assert rule.delays == (600_000, 1_800_000)
    assert rule.waits
    assert rule.do[1].body == {}
    assert rule.do[4].body is None
    assert rule.do[5].body == {"a": 1}
    assert len(rule.do[3].to) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[rule]]", "id: is 1 to 48"),
        ("[[rule]]", "version: is a text"),
        ("[[rule]]", "tenants: is names of tenants"),
        ("[[rule]]", "when: say when it fires"),
        ("[[rule]]", "do: say what it does"),
        ('[[rule]]\nid = "Over Due"', "not 'Over Due'"),
        ("[[rule]]\nwhenn = 1", "whenn: unknown; here go id, version"),
        (one('event = "x"', head='severity = "mild"'), "severity: is one of info, warning, critical, not 'mild'"),
        (
            one('event = "x"', head='effective_from = "2026-01-02"\neffective_until = 2026-01-01'),
            "effective_from: is no RFC 3339 time",
        ),
        (
            one('event = "x"', head="effective_from = 2026-01-02\neffective_until = 2026-01-02"),
            "effective_until: is not after effective_from",
        ),
        (one('event = "x"', head='lookback = "5m"'), "lookback: is of rules that wait"),
        (one('event = "x"', head='once = "yes"'), "once: is true or false"),
        (one('where = "true"'), "when: has one of event, absent, relative, threshold, schedule; found none"),
        (one('event = "x"\nthreshold = { value = "1", above = 1 }'), "found event and threshold"),
        (one("absent = 7"), "when.absent: is a table"),
        (one('event = "x"\nwhat = 1'), "when.what: unknown; here go event, unless, where"),
        (one('absent = { after = "a", no = "b", within = "1m" }\nwhere = "true"'), "when.where: unknown"),
        (one('event = "x"\nwhere = "evnt.x"'), "when.where: column 1: there is no evnt"),
        (one('event = "x"\nunless = "1 +"'), "when.unless: column 4"),
        (one('absent = { after = "a", no = "b", within = "0s" }'), "when.absent.within: is more than 0"),
        (one('absent = { after = "a", no = "b" }'), "when.absent.within: say how long"),
        (one('absent = { no = "b", within = "1m" }'), "when.absent.after: is a type of events"),
        (one('absent = { after = { wher = 1 }, no = "b", within = "1m" }'), "when.absent.after.wher: unknown"),
        (
            one('absent = { after = "a", no = "b", within = "1m", again = "no" }'),
            "when.absent.again: is one of keep, restart",
        ),
        (
            one('absent = { after = { event = "a", where = "trigger.seq > 1" }, no = "b", within = "1m" }'),
            "when.absent.after.where: nothing has begun",
        ),
        (
            one(
                'absent = { after = "a", no = { event = "b", where = "trigger.seq > 1" }, within = "1m" }',
                head='lookback = "1m"',
            ),
            "when.absent.no.where: with a lookback",
        ),
        (one('relative = { milestone = "TOUCH" }'), "when.relative.milestone: is one of OUT, OFF, ON, IN, not 'TOUCH'"),
        (one('relative = { milestone = "ON", kind = "guess" }'), "when.relative.kind: is one of scheduled"),
        (
            one('relative = { at = "flight.eta", milestone = "ON" }'),
            "when.relative.milestone: is not for a time that `at`",
        ),
        (one('relative = { at = "flight.eta +" }'), "when.relative.at: column"),
        (one('threshold = { value = "1" }'), "when.threshold.above: a threshold has one of above and below"),
        (one('threshold = { value = "1", above = 1, below = 2 }'), "one of above and below"),
        (one("threshold = { above = 1 }"), "when.threshold.value: an expression is a text"),
        (one('threshold = { value = "1", above = "x" }'), "when.threshold.above: is a number"),
        (
            one('threshold = { value = "1", above = 30, clear_below = 40 }'),
            "when.threshold.clear_below: is on the wrong side",
        ),
        (
            one('threshold = { value = "1", below = 30, clear_above = 20 }'),
            "when.threshold.clear_above: is on the wrong side",
        ),
        (
            one('threshold = { value = "1", above = 30, clear_above = 20 }'),
            "when.threshold.clear_above: a threshold that is above",
        ),
        (
            one('schedule = { cron = "0 6 * *", zone = "UTC" }\nunless = "true"'),
            "when.schedule.cron: a cron expression has five",
        ),
        (one('schedule = { zone = "UTC" }\nunless = "true"'), "when.schedule.cron: a text with five fields"),
        (one('schedule = { cron = "0 0 30 2 *", zone = "UTC" }\nunless = "true"'), "never comes"),
        (
            one('schedule = { cron = "@daily", zone = "Mars" }\nunless = "true"'),
            "when.schedule.zone: 'Mars' is no time zone",
        ),
        (one('schedule = { cron = "@daily" }\nunless = "true"'), "when.schedule.zone: say in which zone"),
        (one('schedule = { cron = "@daily", zone = "UTC", skipped = "no" }'), "when.schedule.skipped: is one of"),
        (one('schedule = { cron = "@daily", zone = "UTC" }'), "when.unless: a schedule over a pattern"),
        (
            one('relative = { milestone = "ON" }', head='streams = ["flight:*", "chat:ops"]'),
            "streams: this rule waits, and only flight: streams",
        ),
        (one('event = "x"', do="do = []"), "when.do: unknown"),
        (
            one('event = "x"', do='[[rule.do]]\nafter = "1m"'),
            "do[1]: has one of command, message, notify, webhook; found none",
        ),
        (one('event = "x"', do=SAY + "[[rule.do]]\nmessage = 7"), "do[2].message: is a table"),
        (
            one('event = "x"', do='[[rule.do]]\nmessage = { txt = "x" }'),
            "do[1].message.txt: unknown; here go text, stream",
        ),
        (one('event = "x"', do="[[rule.do]]\nmessage = {}"), "do[1].message.text: is a text"),
        (
            one('event = "x"', do='[[rule.do]]\nmessage.text = "x"\nwhen = 1'),
            "do[1].when: unknown; here go message, after",
        ),
        (one('event = "x"', do="[[rule.do]]\ncommand = {}"), "do[1].command.type: is a command's type"),
        (one('event = "x"', do='[[rule.do]]\ncommand = { type = "x", body = 7 }'), "do[1].command.body: is a table"),
        (one('event = "x"', do='[[rule.do]]\nnotify = { text = "x" }'), "do[1].notify.to: is such as"),
        (
            one('event = "x"', do='[[rule.do]]\nnotify = { text = "x", to = ["device:truck"] }'),
            "do[1].notify.to: 'device:truck' has no inbox",
        ),
        (one('event = "x"', do='[[rule.do]]\nnotify = { text = "x", to = ["${1 +}"] }'), "do[1].notify.to: in the ${"),
        (one('event = "x"', do='[[rule.do]]\nwebhook = { url = "x" }'), "do[1].webhook.url: is an address"),
        (one('event = "x"', do=SAY * 17), "do: at most 16 actions"),
    ],
)
def test_a_mistake_is_told_by_its_field(text: str, says: str) -> None:
    """With what would be taken instead."""
    assert any(says in message for message in wrong(text)), wrong(text)


def test_all_mistakes_are_told_at_once() -> None:
    """Whoever mends a file need not run it again for each."""
    found = wrong(one('event = "x"\nwhere = "1 +"', head='severity = "mild"\nquiet = "0s"'))
    assert [message.partition(":")[0] for message in found] == ["severity", "quiet", "when.where"]


TABLES = [
    table
    for path in sorted((Path(__file__).parents[3] / "docs/examples/rules").glob("*.toml"))
    for table in tomllib.loads(path.read_text())["rule"]
]
OTHER = st.sampled_from(
    [None, True, -1, 2**70, 0.5, float("nan"), "", "x", "${", "1 +", "10m", "*", [], [1], ["x"], {}, {"x": 1}]
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(TABLES), st.data())
def test_any_table_is_read_or_told_about(table: dict[str, Any], data: st.DataObject) -> None:
    """A good rule in which anything is something else: a rule or problems, and nothing is raised."""

    def changed(value: Any, depth: int) -> Any:
        if data.draw(st.integers(0, 4)) == 0:
            return data.draw(OTHER)
        if isinstance(value, dict):
            return {key: changed(item, depth + 1) for key, item in value.items()}
        return [changed(item, depth + 1) for item in value] if isinstance(value, list) else value

    reader = Reader({key: changed(value, 0) for key, value in table.items()})
    assert (reader.rule("f.toml", 1) is None) == bool(reader.problems)
