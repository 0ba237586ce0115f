"""core.flight.machine: the nouns of every machine are plain values."""

from __future__ import annotations

from core.flight.machine import BY_GATEWAY, Command, Fact, Malformed, Recorded, Refusal, Rule, Unallowed
from core.model import AUDITOR, PRINCIPAL_RE


def test_a_rule_is_for_owners_and_members_and_obeyed_always_unless_it_says_otherwise() -> None:
    """What a line of a table leaves out."""
    rule = Rule("depart", "It has left.", ("flight.milestone",))
    assert (rule.roles, rule.when, rule.refusals) == (frozenset(("owner", "member")), (), ())


def test_a_command_came_of_no_rule_unless_it_says_so() -> None:
    """And a refusal breaks no paragraph."""
    assert Command("depart", {}, "user:amy", "owner").via == ()
    assert Refusal("unchanged", "it is so already").cite == ""


def test_answers_of_different_kinds_are_told_apart_by_their_class() -> None:
    """Malformed and Unallowed of the same words are not the same answer to whoever looks at the class."""
    assert not isinstance(Malformed("no"), Unallowed)
    assert Fact("a", {}) == ("a", {})
    assert Recorded(1, "a", "user:amy", 2, {}).at_ms == 2


def test_the_gateway_has_a_name_that_the_audit_knows() -> None:
    """It is a principal by its form, and the one that no token may be of."""
    assert PRINCIPAL_RE.match(BY_GATEWAY)
    assert BY_GATEWAY == AUDITOR
