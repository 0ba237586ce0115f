"""core.rules.expr: conditions and texts in CEL, compiled with their mistakes named and evaluated without raising."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from core.rules import expr as module
from core.rules.expr import (
    BadExpr,
    Expr,
    Failed,
    Scope,
    Text,
    compile_expr,
    compile_text,
    exprs_of,
    render,
    time_text,
)

SCOPE = Scope(
    {
        "event": {"type": "flight.delayed", "body": {"minutes": 45, "to": "MEL", "list": [1, 2, 3], "none": None}},
        "now": datetime(2026, 11, 21, 6, tzinfo=UTC),
    },
    {"status": "boarding", "delayed": {"minutes": 45}},
)


def good(text: str) -> Expr:
    found = compile_expr(text)
    assert isinstance(found, Expr), found
    return found


def bad(text: object) -> str:
    found = compile_expr(text)
    assert isinstance(found, BadExpr)
    return found.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("event.body.minutes > 30", True),
        ("flight.status in ['boarding', 'scheduled']", True),
        ("flight['status']", "boarding"),
        ("event.body.none", None),
        ("event.body.minutes * 2", 90),
        ("double(event.body.minutes) / 2.0", 22.5),
        ("event.body.list.map(x, x * x)", [1, 4, 9]),
        ("{'a': [event.body.to]}", {"a": ["MEL"]}),
        ("timestamp('2026-11-21T06:00:00+11:00') + duration('90m')", "2026-11-20T20:30:00.000Z"),
        ("now - timestamp('2026-11-21T05:00:00Z')", "3600s"),
        ("has(event.body.other)", False),
    ],
)
def test_values_are_json(text: str, value: object) -> None:
    """Times come out as texts, durations in seconds, all else as it is."""
    assert good(text).value(SCOPE) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("event.body.other > 1", "there is no field other"),
        ("event.body.to + 1", "string + int"),
        ("1 / (event.body.minutes - 45)", "division by zero"),
        ("9223372036854775807 + event.body.minutes", "overflow"),
        ("timestamp(event.body.to)", "Function 'timestamp' error"),
        ("b'x'", "bytes, which JSON has not"),
        ("[b'x']", "bytes, which JSON has not"),
        ("{'a': b'x'}", "bytes, which JSON has not"),
        ("event.body.minutes > 1 ? double('NaN') : 1.0", "no finite number"),
    ],
)
def test_what_has_no_value_says_why(text: str, says: str) -> None:
    """Nothing is raised; the message names the expression."""
    found = good(text).value(SCOPE)
    assert isinstance(found, Failed)
    assert says in found.message
    assert text in found.message
    assert found.missing == ("no field" in says)


def test_numbers_beyond_64_bits_are_none() -> None:
    """A number that JSON readers elsewhere could not take is a failure here."""
    assert isinstance(module._json(2**64, "x"), Failed)
    assert module._json(2**64 - 1, "x") == 2**64 - 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [("event.body.to", "a text"), ("1", "a number"), ("[1]", "a list"), ("{'a': 1}", "an object"), ("null", "null")],
)
def test_a_condition_is_true_or_false(text: str, kind: str) -> None:
    """Anything else is a failure that says what it is."""
    assert good("event.body.minutes == 45").holds(SCOPE) is True
    found = good(text).holds(SCOPE)
    assert isinstance(found, Failed)
    assert f"is {kind}, and a condition" in found.message
    assert isinstance(good("event.nothing").holds(SCOPE), Failed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("event.body >", "column 13: Syntax error"),
        ("event.body ==\n== 1", "line 2, column 1: Syntax error"),
        ("event.?body", "unsupported syntax"),
        ("evnt.body.x == 1", "column 1: there is no evnt; an expression looks at event, flight"),
        ("true && toUpper(event.type)", "column 9: there is no function toUpper; there are"),
        ("event.body.x.y.zip()", "there is no function zip"),
        ("", "1 to 1000 characters"),
        ("   ", "1 to 1000 characters"),
        ("1 " * 600, "1 to 1000 characters"),
        (7, "a text, not 7"),
        ("event.a.all(x, x.all(y, y.all(z, z > 0)))", "3 of all, exists"),
    ],
)
def test_what_cannot_be_evaluated_is_found_when_it_is_compiled(text: object, says: str) -> None:
    """With its position, and what there is instead."""
    assert says in bad(text)


def test_a_message_without_position_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the parser says is one line."""

    def compile(text: str) -> None:
        raise ValueError("nested too deeply\nmore")

    monkeypatch.setattr("cel.compile", compile)
    assert bad("1") == "does not parse: nested too deeply"
    assert module._at("abc", "x") == ""


def test_only_what_is_looked_at_is_handed_in() -> None:
    """The fields that the text names, and of these the fields; all of it where it is passed whole or by a computed name."""
    looks = good("flight.status == 'x' && has(flight.times.ON.best) && flight.times.OUT.best != event.flight").looks
    assert looks == {
        "flight": {"status": None, "times": {"ON": {"best": None}, "OUT": {"best": None}}},
        "event": {"flight": None},
    }
    assert good("flight.times.ON.best.startsWith('2026')").looks == {"flight": {"times": {"ON": {"best": None}}}}
    assert good("flight.legs.exists(l, l.to == 'MEL')").looks == {"flight": {"legs": None}}
    assert good("flight.times.size() > 1 && flight.times.ON.best == null").looks == {"flight": {"times": None}}
    assert good("flight . gates\n.departure == null").looks == {"flight": {"gates": {"departure": None}}}
    assert good("flight.times['ON'].best == null").looks == {"flight": {"times": None}}
    assert good("flight[event.type] == 1").looks == {"flight": None, "event": {"type": None}}
    assert good("'flight' == event.type").looks["flight"] is None
    assert SCOPE.cut("flight", {"status": None, "nothing": None, "delayed": {"none": None}}) == {
        "status": "boarding",
        "delayed": {},
    }
    assert SCOPE.cut("flight", {"status": {"x": None}}) == {"status": "boarding"}
    assert SCOPE.cut("flight", None) == {"status": "boarding", "delayed": {"minutes": 45}}


def test_the_flight_is_asked_for_once_and_only_if_wanted() -> None:
    """What shows it costs something."""
    asked: list[int] = []

    def show() -> dict[str, Any]:
        asked.append(1)
        return {"status": "landed"}

    scope = Scope({"event": {"type": "x"}}, show)
    assert good("event.type == 'x'").value(scope) is True
    assert asked == []
    assert good("flight.status == 'landed'").value(scope) is True
    assert good("flight.status == 'landed'").value(scope) is True
    assert asked == [1]


def test_a_scope_can_be_widened() -> None:
    """Other names for one evaluation; the first scope stays."""
    wider = SCOPE.also(trigger={"seq": 3})
    assert good("trigger.seq").value(wider) == 3
    assert "trigger" not in SCOPE.names


def test_too_much_to_look_at_is_not_looked_at() -> None:
    """A list or a whole that is too long fails instead of taking long."""
    long = Scope({"event": {"list": [0] * 2_001}}, {})
    assert "more than" in good("event.list.exists(x, x > 0)").value(long).message
    wide = Scope({"event": {"list": [[0] * 1_000] * 21}}, {})
    assert "more than" in good("event.list.size() > 0").value(wide).message
    fits = Scope({"event": {"list": [{"a": 0}] * 2_000}}, {})
    assert good("event.list.exists(x, x.a > 0)").value(fits) is False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("${event.body.minutes}", 45),
        ("${event.body.list}", [1, 2, 3]),
        ("${event.body.minutes} minutes to ${event.body.to}", "45 minutes to MEL"),
        ("list ${event.body.list} and ${event.body.none}", "list [1,2,3] and null"),
        ("$${event.type} costs $5", "${event.type} costs $5"),
        ("${{'a': '}'}['a']}!", "}!"),
        ('${"\\"}" + event.body.to}', '"}MEL'),
    ],
)
def test_texts_have_values_in_them(text: str, value: object) -> None:
    """A text that is one expression keeps its type; in others numbers and lists are written as JSON."""
    found = compile_text(text)
    assert isinstance(found, Text)
    assert found.render(SCOPE) == value


def test_a_text_with_a_mistake_says_where() -> None:
    """Which ${ it is of, or that it is never closed."""
    unclosed, wrong = compile_text("at ${event.type"), compile_text("at ${event.type ==}")
    assert isinstance(unclosed, BadExpr)
    assert unclosed.message.startswith("the ${ at column 4 has no closing brace")
    assert isinstance(wrong, BadExpr)
    assert wrong.message.startswith("in the ${ at column 4: column")


def test_bodies_are_rendered_through_and_through() -> None:
    """Texts anywhere in them; one failure is the failure of the whole."""

    def made(text: str) -> Text:
        found = compile_text(text)
        assert isinstance(found, Text)
        return found

    template: Any = {"to": made("${event.body.to}"), "list": [made("x"), 1, True, None, 2.5]}
    assert render(template, SCOPE) == {"to": "MEL", "list": ["x", 1, True, None, 2.5]}
    assert [found.text for found in exprs_of(template)] == ["event.body.to"]
    assert isinstance(render({"a": made("${event.no}")}, SCOPE), Failed)
    assert isinstance(render([made("x ${event.no}")], SCOPE), Failed)


def test_times_are_written_in_utc_with_milliseconds() -> None:
    """As all times of bodies are."""
    assert time_text(0) == "1970-01-01T00:00:00.000Z"
    assert time_text(1_795_239_300_007) == "2026-11-21T05:35:00.007Z"


def test_a_fault_of_the_library_is_a_failure_of_the_expression() -> None:
    """It panics as something that Python does not take for an Exception; what ends the process still does."""

    class PanicException(BaseException):
        pass

    class Program:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def execute(self, names: object) -> None:
            raise self.error

    def expr(error: BaseException) -> Expr:
        program: Any = Program(error)
        return Expr("1", program, {})

    found = expr(PanicException("at line 7")).value(SCOPE)
    assert isinstance(found, Failed)
    assert "a fault of the CEL library" in found.message
    with pytest.raises(KeyboardInterrupt):
        expr(KeyboardInterrupt()).value(SCOPE)
