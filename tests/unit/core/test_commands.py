"""core.commands: what a machine decided as what the log keeps, and what the log kept as what is answered."""

from __future__ import annotations

import orjson
import pytest

from core.commands import Answer, answer, as_recorded, derived_key, recorded, to_keep
from core.flight.machine import Command, Decision, Fact, Malformed, Recorded, Refusal
from core.model import KEY_RE, Decided, Event, Judged, Outcome

KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
LEAVE = Command("movement", {"out": "…"}, "user:amy", "owner")


def keep(decision: Decision) -> Decided:
    return to_keep(decision, LEAVE, tenant="demo", sid=7, key=KEY, state=3, expect=5, privileged=True)


def test_a_derived_key_is_a_uuid_of_its_parts() -> None:
    """The same parts give the same canonical UUID; other parts, or the same text parted otherwise, another."""
    key = derived_key("saga", 12, "step")
    assert key == derived_key("saga", "12", "step")
    assert KEY_RE.match(key)
    assert key[14] == "8"
    assert key[19] in "89ab"
    assert (
        len({key, derived_key("saga", 1, "2step"), derived_key("saga", 12), derived_key("saga", 12, "step", "")}) == 4
    )


def test_facts_are_kept_under_keys_made_from_the_command_s() -> None:
    """The first fact is under the command's own key; the others' keys are the same whenever it is repeated."""
    decided = keep([Fact("flight.milestone", {"n": 1}), Fact("flight.milestone", {"n": 2})])
    assert decided.facts == [
        (KEY, "flight.milestone", b'{"n":1}'),
        (derived_key(KEY, 1), "flight.milestone", b'{"n":2}'),
    ]
    assert (decided.tenant, decided.sid, decided.type, decided.by) == ("demo", 7, "movement", "user:amy")
    assert (decided.state, decided.expect, decided.privileged, decided.refusal) == (3, 5, True, None)
    assert decided.body == b'{"n":1}{"n":2}'


def test_a_refusal_is_kept_instead_of_facts() -> None:
    """With its reason, its words and the paragraph; that is what a repeat of the command is answered."""
    decided = keep(Refusal("over_duty", "13 h of duty, 12 are allowed", "CAO 48.1"))
    assert (decided.facts, decided.key) == ([], KEY)
    assert decided.refusal == decided.body
    judged = Judged(Outcome.DUP, 1, 0, 0, 0, 99, decided.refusal)
    told = answer(judged, dup=True)
    assert (list(told.seqs), told.at_ms, told.dup) == ([], 99, True)
    assert told.refusal == Refusal("over_duty", "13 h of duty, 12 are allowed", "CAO 48.1")
    assert told.facts() == {"reason": "over_duty", "cite": "CAO 48.1", "dup": True}


def test_a_refusal_tells_no_more_than_there_is() -> None:
    """Without a paragraph there is none to cite, and what is new is no repeat."""
    assert Answer((), 1, False, Refusal("closed", "…")).facts() == {"reason": "closed"}


def test_what_leaves_nothing_in_the_log_is_not_kept() -> None:
    """A command that could never be obeyed has no verdict to keep: whoever tries to has made a mistake."""
    with pytest.raises(AssertionError):
        keep(Malformed("`at` is a time"))


def test_a_kept_command_is_folded_as_its_events_will_be_read() -> None:
    """What the one who decided folds is what every other node reads from the log."""
    decided = keep([Fact("flight.milestone", {"at": ("a", "b")}), Fact("flight.delayed", {"minutes": 5})])
    judged = Judged(Outcome.OK, 1, 40, 8, 2, 1000, None)
    folded = as_recorded(decided, judged)
    read = [
        recorded(Event(1, 40 + n, 7, 8 + n, key, type, "user:amy", 1000, body))
        for n, (key, type, body) in enumerate(decided.facts)
    ]
    assert (
        folded
        == read
        == [
            Recorded(8, "flight.milestone", "user:amy", 1000, {"at": ["a", "b"]}),
            Recorded(9, "flight.delayed", "user:amy", 1000, {"minutes": 5}),
        ]
    )
    assert list(answer(judged, dup=False).seqs) == [8, 9]


def test_a_trimmed_or_odd_body_is_an_empty_one() -> None:
    """Machines see an object, whatever was sent, or is no longer kept."""
    bodies = (None, b"null", b"[1]", b'"text"', orjson.dumps({"a": 1}))
    seen = [recorded(Event(0, 1, 1, 1, KEY, "message", "user:amy", 1, body)).body for body in bodies]
    assert seen == [{}, {}, {}, {}, {"a": 1}]
