"""core.flight.delays: which codes there are, and the one form in which each is kept."""

from __future__ import annotations

import pytest

from core.flight.delays import CODES, GROUPS, parse


def test_a_number_and_its_letters_are_one_code() -> None:
    """Kept as the number, whichever was said; small letters do."""
    kept = parse("31")
    assert kept is not None
    assert kept == parse("GD") == parse("gd")
    assert (kept.code, kept.scheme, kept.group) == ("31", "AHM 730", "aircraft and ramp handling")


def test_a_subcode_keeps_its_letter_and_the_meaning_of_its_number() -> None:
    """AHM 731: what the letter means is the airline's."""
    code = parse("31c")
    assert code is not None
    assert (code.code, code.scheme) == ("31C", "AHM 731")
    assert code.meaning == CODES["31"][1]


def test_three_letters_are_taken_and_nothing_is_said_of_them() -> None:
    """AHM 732: process, reason, stakeholder."""
    code = parse("dbn")
    assert code is not None
    assert (code.code, code.scheme, code.group, code.meaning) == ("DBN", "AHM 732", "", "")


@pytest.mark.parametrize(
    "text", [None, 31, "", "3", "10", "60", "78", "ZZ", "310", "31CD", "ABCD", "31\n", "३१", [], "10A"]
)
def test_what_is_no_code_is_none(text: object) -> None:
    """Numbers that AHM 730 leaves without meaning are no codes either."""
    assert parse(text) is None


def test_letters_name_one_number_each_and_every_group_is_told() -> None:
    """The table is whole: 84 numbers, none of whose letters is another's, each with words of its own."""
    letters = [both[0] for both in CODES.values() if both[0]]
    assert len(letters) == len(set(letters)) == len(CODES) - 8
    assert {code[0] for code in CODES} == set(GROUPS)
    assert all(parse(code) and parse(code).meaning for code in CODES)  # type: ignore[union-attr]
