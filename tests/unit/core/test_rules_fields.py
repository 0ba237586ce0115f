"""core.rules.fields: values of a rule's tables, each read or told about."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import pytest

from core.rules.expr import Text
from core.rules.fields import Fields


def fields() -> Fields:
    return Fields()


def said(read: Fields) -> list[str]:
    return [f"{field}: {message}" for field, message in read.problems]


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("90s", 90_000),
        ("10m", 600_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("+15m", 900_000),
        ("1d1h1m1s", 90_061_000),
    ],
)
def test_durations_are_read(value: str, ms: int) -> None:
    """Days, hours, minutes, seconds, in that order, each once."""
    read = fields()
    assert read.wait({"x": value}, "x", "") == ms
    assert not read.problems


def test_a_duration_may_be_negative_where_that_is_meant() -> None:
    """An offset before a milestone."""
    read = fields()
    assert read.wait({"x": "-30m"}, "x", "", least=-(10**12)) == -1_800_000
    assert read.wait({"x": "0s"}, "x", "", least=0) == 0
    assert read.wait({}, "x", "") is None
    assert not read.problems


@pytest.mark.parametrize(
    ("value", "least", "says"),
    [
        ("10", 1, 'p.x: is a time such as "90s"'),
        ("", 1, "such as"),
        ("+", 1, "such as"),
        ("5m1h", 1, "such as"),
        ("1.5h", 1, "such as"),
        (600, 1, "not 600"),
        ("0s", 1, "is more than 0 and at most 366d, not '0s'"),
        ("-5m", 1, "more than 0"),
        ("-5m", 0, "0 or more"),
        ("400d", 1, "at most 366d"),
        ("-400d", -366 * 86_400_000, "at most a year either way"),
    ],
)
def test_what_is_no_duration_is_told(value: object, least: int, says: str) -> None:
    """A window that is 0 or less would be over before it began."""
    read = fields()
    assert read.wait({"x": value}, "x", "p.", least=least) is None
    assert says in said(read)[0]


def test_a_duration_that_is_needed_is_missed() -> None:
    """Where there is no sensible default."""
    read = fields()
    read.wait({}, "within", "when.absent.", needed=True)
    assert said(read) == ['when.absent.within: say how long, such as "10m"']


def test_times_are_toml_times_or_texts() -> None:
    """A date alone is its first moment in UTC."""
    read = fields()
    at = 1_793_491_200_000
    table: dict[str, Any] = {
        "a": "2026-11-01T00:00:00Z",
        "b": datetime(2026, 11, 1, tzinfo=UTC),
        "c": date(2026, 11, 1),
        "d": "2026-11-01T11:00:00+11:00",
    }
    assert [read.instant(table, name) for name in ("a", "b", "c", "d", "e")] == [at, at, at, at, None]
    assert not read.problems
    read.instant({"x": "tomorrow"}, "x")
    read.instant({"x": datetime(2026, 11, 1)}, "x")
    assert "no RFC 3339 time" in said(read)[0]
    assert "give its offset" in said(read)[1]


def test_words_numbers_and_flags() -> None:
    """Each says what it would take."""
    read = fields()
    table = {"a": "x", "n": 1.5, "f": True, "t": {}}
    assert read.one_of(table, "a", "", ("x", "y")) == "x"
    assert read.one_of(table, "b", "", ("x", "y"), "y") == "y"
    assert read.number(1.5, "n") == 1.5
    assert read.flag(table, "f") is True
    assert read.flag(table, "g") is False
    assert read.table({"a": 1}, "t", "is a table") == {"a": 1}
    assert read.text("x", "a") == "x"
    assert read.matched(table, "a", "", re.compile("x"), "an x") == "x"
    assert not read.problems
    read.one_of(table, "n", "p.", ("x", "y"))
    read.one_of(table, "c", "p.", ("x", "y"))
    read.number(True, "n")
    read.number(float("inf"), "n")
    read.flag(table, "n")
    read.table(7, "t", "is a table")
    read.text(7, "a")
    read.matched(table, "c", "p.", re.compile("x"), "an x")
    read.matched(table, "n", "p.", re.compile("x"), "an x")
    read.known(table, ("a", "n"), "p.")
    assert said(read) == [
        "p.n: is one of x, y, not 1.5",
        "p.c: is one of x, y",
        "n: is a number, not True",
        "n: is a number, not inf",
        "n: is true or false, not 1.5",
        "t: is a table",
        "a: is a text",
        "p.c: is an x",
        "p.n: is an x, not 1.5",
        "p.f: unknown; here go a, n",
        "p.t: unknown; here go a, n",
    ]


def test_lists_of_names() -> None:
    """One or several; each is checked."""
    read = fields()
    assert read.listed("acme", "tenants", read.tenant, "names") == ["acme"]
    assert read.listed(["*", "acme"], "tenants", read.tenant, "names") == ["*", "acme"]
    assert read.listed("flight:*", "streams", read.stream, "names") == ["flight:*"]
    assert read.types(["flight.*", "*"], "event").patterns == ("flight.*", "*")
    assert not read.problems
    for wrong in ([], [7], 7, None):
        read.listed(wrong, "tenants", read.tenant, "names of tenants")
    read.listed("acme*", "tenants", read.tenant, "names")
    read.listed("flight:a b", "streams", read.stream, "names")
    read.types("Flight", "event")
    assert [message.partition(":")[0] for message in said(read)] == ["tenants"] * 5 + ["streams", "event"]
    assert "'acme*' is no tenant's name" in said(read)[4]


def test_expressions_and_templates_are_gathered() -> None:
    """So that it is known what of a flight a rule looks at."""
    read = fields()
    assert read.expr("flight.status == 'x'", "where") is not None
    body = read.templates({"a": "${flight.eta}", "b": ["${event.type}", 1, True, 2.5], "c": date(2026, 1, 1)}, "body")
    assert isinstance(body, dict)
    assert body["c"] == Text(("2026-01-01",))
    assert [expr.text for expr in read.exprs] == ["flight.status == 'x'", "flight.eta", "event.type"]
    assert not read.problems
    assert read.expr("1 +", "where") is None
    assert read.template("${1 +}", "text") is None
    assert read.template("", "text") is None
    assert read.template(7, "text") is None
    read.templates({"n": float("nan"), "m": 2**63, "o": "${", "p": [None]}, "body")
    assert [message.split(": ")[0] for message in said(read)] == [
        "where",
        "text",
        "text",
        "text",
        "body.n",
        "body.m",
        "body.o",
        "body.p",
    ]


@pytest.mark.parametrize(
    "url",
    ["https://ops.example/hook", "http://127.0.0.1:8000/x?y=1"],
)
def test_addresses(url: str) -> None:
    """Of the web, and complete."""
    read = fields()
    assert read.url(url, "url") == url
    assert not read.problems


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/y",
        "https://",
        "ops.example",
        "https://me:secret@ops.example/",
        "https://x:99999/",
        "https://x/ y",
        7,
        None,
        "https://[x",
    ],
)
def test_what_is_no_address_is_told(url: object) -> None:
    """A password does not belong into a file of rules."""
    read = fields()
    assert read.url(url, "url") == ""
    assert "without a name or password" in said(read)[0]


def test_an_address_has_no_values_in_it() -> None:
    """What a flight is called must not decide to whom it is told."""
    read = fields()
    read.url("https://ops.example/${event.body.x}", "url")
    assert "always the same address" in said(read)[0]
