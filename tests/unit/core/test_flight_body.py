"""core.flight.body: what a command says is read once, and the first thing that is wrong with it is what is told."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.body import Fields, read_instant, read_seat, stray
from core.flight.machine import Malformed


def test_times_with_any_offset_are_one_instant() -> None:
    """UTC is inside, whatever was written."""
    assert read_instant("2026-11-21T06:30:00.000Z") == read_instant("2026-11-21T16:30:00+10:00") == 1_795_242_600_000


@pytest.mark.parametrize("text", ["", 7, None, "2026-11-21T06:30:00", "1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z"])
def test_what_is_no_instant(text: object) -> None:
    """Times without an offset and times of other centuries are none."""
    assert read_instant(text) is None


@pytest.mark.parametrize(
    ("text", "seat"), [("12A", "12A"), ("12a", "12A"), ("007C", "7C"), ("0A", ""), ("A12", ""), ("1234A", ""), (12, "")]
)
def test_a_seat_has_one_name(text: object, seat: str) -> None:
    """However it is written."""
    assert read_seat(text) == seat


def test_the_first_problem_is_told() -> None:
    """And what comes after it changes nothing."""
    fields = Fields({"n": "seven"})
    assert fields.whole("n", 1, 9) == 1
    assert fields.identity("id") == ""
    assert fields.problem == "`n` must be a whole number from 1 to 9"


GOOD: list[tuple[str, tuple[Any, ...], Any, Any]] = [
    ("identity", (), "P-1", "P-1"),
    ("identity", ("x",), None, "x"),
    ("text", (), "Ann Ó", "Ann Ó"),
    ("text", ("",), None, ""),
    ("one_of", (("a", "b"),), "b", "b"),
    ("one_of", (("a", "b"), "a"), None, "a"),
    ("flag", (), True, True),
    ("flag", (), None, False),
    ("whole", (0, 5), 5, 5),
    ("whole", (0, 5, 3), None, 3),
    ("instant", (), "2026-11-21T06:30:00Z", 1_795_242_600_000),
    ("instant", (5,), None, 5),
    ("seat", (), "1a", "1A"),
    ("seat", ("",), None, ""),
    ("seats", (3,), ["1A", "1a", "2B"], ["1A", "2B"]),
    ("seats", (3,), "1A", ["1A"]),
    ("identities", (2,), ["a", "b", "a"][:2], ["a", "b"]),
    ("identities", (2,), None, []),
]
BAD: list[tuple[str, tuple[Any, ...], Any]] = [
    ("identity", (), "a b"),
    ("identity", (), "x" * 65),
    ("identity", (), None),
    ("text", (), ""),
    ("text", (), "two\nlines"),
    ("text", (), "x" * 201),
    ("one_of", (("a",),), "b"),
    ("one_of", (("a",),), ["a"]),
    ("flag", (), 1),
    ("whole", (0, 5), 6),
    ("whole", (0, 5), True),
    ("instant", (), "noon"),
    ("instant", (), None),
    ("seat", (), "A"),
    ("seats", (1,), ["1A", "1B"]),
    ("seats", (3,), []),
    ("seats", (3,), ["1A", 2]),
    ("identities", (1,), ["a", "b"]),
    ("identities", (2,), ["a b"]),
    ("identities", (2,), "a"),
]


@pytest.mark.parametrize(("kind", "args", "value", "read"), GOOD)
def test_fields_that_are_well(kind: str, args: tuple[Any, ...], value: Any, read: Any) -> None:
    """Null is the same as not there: the default, where there is one."""
    fields = Fields({"f": value})
    assert getattr(fields, kind)("f", *args) == read
    assert fields.problem == ""


@pytest.mark.parametrize(("kind", "args", "value"), BAD)
def test_fields_that_are_not(kind: str, args: tuple[Any, ...], value: Any) -> None:
    """The field is named, and what it should be."""
    fields = Fields({"f": value})
    getattr(fields, kind)("f", *args)
    assert fields.problem.startswith("`f` must be ")


def test_whether_a_field_is_there() -> None:
    """And what it is, whatever it is."""
    fields = Fields({"a": {"b": 1}, "n": None})
    assert (fields.has("a"), fields.has("n"), fields.has("x"), fields.raw("a")) == (True, False, False, {"b": 1})


def test_a_field_that_the_verb_has_not_is_named() -> None:
    """With those that there are, so that a slip is not obeyed in silence."""
    assert stray({"at": 1}, frozenset(("at", "why")), "off") is None
    assert stray({"colour": 1, "at": 1}, frozenset(("why", "at")), "off") == Malformed(
        "off has no `colour`; its fields are at, why"
    )
    assert stray({"why": 1}, frozenset(), "close") == Malformed("close has no `why`; its body is empty")
