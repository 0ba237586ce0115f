"""core.flight.fields: a field is as it should be, or the answer names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from core.flight import fields, times
from core.flight.fields import No
from core.flight.machine import Malformed, Refusal

WORD = re.compile(r"[a-z]+\Z")


def _no(read: Callable[[], object]) -> Malformed | Refusal:
    with pytest.raises(No) as raised:
        read()
    decision = raised.value.decision
    assert isinstance(decision, Malformed | Refusal)
    return decision


def test_a_field_that_is_none_of_the_verbs_is_named() -> None:
    """A slip is not obeyed in silence."""
    fields.only({"at": 1}, frozenset(("at", "zone")), "depart")
    assert _no(lambda: fields.only({"at": 1, "zome": 2}, frozenset(("at", "zone")), "depart")) == Malformed(
        "depart has no `zome`; its fields are at, zone"
    )


def test_words_and_prose() -> None:
    """What is left out is the default, where there is one; prose loses its outer spaces."""
    assert fields.word({"a": "bc"}, "a", WORD, "small") == "bc"
    assert fields.word({}, "a", WORD, "small", "x") == "x"
    assert fields.prose({"a": " why not "}, "a", "why") == "why not"
    assert fields.prose({}, "a", "why", "") == ""


@pytest.mark.parametrize("value", [None, 5, "", "B", "b\n", ["b"]])
def test_a_wrong_word_is_named(value: object) -> None:
    """And what it should be is said."""
    assert _no(lambda: fields.word({"a": value}, "a", WORD, "small letters")) == Malformed("`a` is small letters")


@pytest.mark.parametrize("value", [None, 5, "", "   ", "x" * (fields.TEXT_MAX + 1), {}])
def test_prose_is_neither_empty_nor_endless(value: object) -> None:
    """Up to a paragraph."""
    assert isinstance(_no(lambda: fields.prose({"a": value}, "a", "why")), Malformed)


@pytest.mark.parametrize("value", [None, -1, 11, 1.0, True, "1"])
def test_a_number_is_whole_and_bounded(value: object) -> None:
    """True is no number, whatever Python says."""
    assert fields.number({"n": 10}, "n", "a count", 10) == 10
    assert "`n`" in _no(lambda: fields.number({"n": value}, "n", "a count", 10)).message


@pytest.mark.parametrize("value", [None, "up", ["gate"]])
def test_a_choice_is_one_of_those(value: object) -> None:
    """Which are named."""
    assert fields.one_of({"to": "gate"}, "to", ("gate", "field")) == "gate"
    assert "gate, field" in _no(lambda: fields.one_of({"to": value}, "to", ("gate", "field"))).message


@pytest.mark.parametrize("value", [None, "mel", "MELB0", "ZZZ9", "QQQ"])
def test_an_airport_is_one_that_is_known(value: object) -> None:
    """A slip of a letter is found here and not on a board."""
    assert fields.airport({"to": "MEL"}, "to") == "MEL"
    assert fields.airport({"to": "YMML"}, "to") == "YMML"
    assert fields.airport({}, "to", "SYD") == "SYD"
    assert "`to`" in _no(lambda: fields.airport({"to": value}, "to")).message


def test_an_instant_or_why_it_is_none() -> None:
    """A local hour that is not, or is twice, is a refusal: on another day it would be a time."""
    melbourne = "Australia/Melbourne"
    assert times.write(fields.instant("2026-11-21T20:30", "at", melbourne)) == "2026-11-21T09:30:00.000Z"
    skipped = _no(lambda: fields.instant("2026-10-04T02:30", "at", melbourne))
    doubled = _no(lambda: fields.instant("2026-04-05T02:30", "at", melbourne))
    assert isinstance(skipped, Refusal)
    assert isinstance(doubled, Refusal)
    assert (skipped.reason, doubled.reason) == ("skipped_time", "doubled_time")
    assert isinstance(_no(lambda: fields.instant("2026-11-21T20:30", "at", None)), Malformed)
    assert _no(lambda: fields.instant("noon", "at", None)).message.startswith("`at` is no ")


@pytest.mark.parametrize(
    ("body", "at_arrival", "zone"),
    [
        ({}, False, None),
        ({"zone": "departure"}, True, "Australia/Perth"),
        ({"zone": "arrival"}, False, "Australia/Sydney"),
        ({"zone": "local"}, False, "Australia/Perth"),
        ({"zone": "local"}, True, "Australia/Sydney"),
        ({"zone": "AKL"}, True, "Pacific/Auckland"),
        ({"zone": "NZAA"}, True, "Pacific/Auckland"),
    ],
)
def test_a_zone_by_end_or_by_airport(body: dict[str, Any], at_arrival: bool, zone: str | None) -> None:
    """Local is where the milestone is."""
    assert fields.zone(body, "PER", "SYD", at_arrival=at_arrival) == zone


@pytest.mark.parametrize("value", [None, 5, "", "Australia/Perth", "QQQ", ["PER"]])
def test_what_is_no_zone_is_said(value: object) -> None:
    """Names of the tz database are none: an airport says more."""
    assert "`zone`" in _no(lambda: fields.zone({"zone": value}, "PER", "SYD", at_arrival=False)).message


def test_reasons_of_a_delay_are_kept_in_one_form() -> None:
    """Codes as numbers, notes only where there are some."""
    said = [{"code": "RA", "minutes": 20}, {"code": "31c", "minutes": 0, "note": " late sheet "}]
    assert fields.reasons({"reasons": said}) == [
        {"code": "93", "minutes": 20},
        {"code": "31C", "minutes": 0, "note": "late sheet"},
    ]
    assert fields.reasons({"reasons": []}) == []


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, "reasons"),
        ({"code": "93"}, "reasons"),
        ([{"code": "93", "minutes": 1}] * 9, "reasons"),
        (["93"], "reasons[0]"),
        ([{"code": "93", "minutes": 1, "who": "me"}], "reasons[0]"),
        ([{"code": "93", "minutes": 1}, {"code": "10", "minutes": 1}], "reasons[1].code"),
        ([{"code": "93", "minutes": 1}, {"code": "RA", "minutes": 1}], "reasons[1].code"),
        ([{"code": "93"}], "minutes"),
        ([{"code": "93", "minutes": 6_000}], "minutes"),
        ([{"code": "93", "minutes": 1, "note": ""}], "note"),
    ],
)
def test_wrong_reasons_are_named_by_their_place(value: object, field: str) -> None:
    """The one that is wrong, and what of it."""
    assert f"`{field}`" in _no(lambda: fields.reasons({"reasons": value})).message
