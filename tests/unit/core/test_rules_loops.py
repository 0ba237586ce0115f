"""core.rules.loops: rules that would set each other off for ever, found in their text."""

from __future__ import annotations

import tomllib

import pytest

from core.rules.loops import FACTS as ALL
from core.rules.loops import chain_of
from core.rules.read import Reader
from tests.ruling import one

FACTS = {"a": ("did.a",), "b": ("did.b",), "c": ("did.c",), "either": ("did.a", "other")}


def rule(name: str, on: str, gives: str, *, more: str = "", head: str = "") -> str:
    do = "[[rule.do]]\n" + ('message.text = "x"' if gives == "message" else f'command.type = "{gives}"')
    return one(f'event = "{on}"\n{more}', head=head, do=do).replace('"r"', f'"{name}"')


def chain(*texts: str) -> list[str]:
    rules = [Reader(tomllib.loads(text)["rule"][0]).rule("f.toml", 1) for text in texts]
    return [found.id for found in chain_of([rule for rule in rules if rule is not None], FACTS)]


def test_a_rule_that_sets_itself_off() -> None:
    """By a command, or by what it says."""
    assert chain(rule("x", "did.*", "a")) == ["x"]
    assert chain(rule("x", "message", "message")) == ["x"]


def test_a_ring_of_rules_is_named_from_its_first() -> None:
    """Rules that lead into it are not of it."""
    ring = [rule("x", "did.a", "b"), rule("y", "did.b", "c"), rule("z", "did.c", "a")]
    assert chain(*ring) == ["x", "y", "z"]
    assert chain(rule("in", "start", "a"), *ring) == ["x", "y", "z"]


def test_rules_that_meet_again_are_no_ring() -> None:
    """Two ways to the same rule."""
    assert (
        chain(rule("w", "start", "a"), rule("x", "did.a", "b"), rule("y", "did.a", "b"), rule("z", "did.b", "c")) == []
    )


@pytest.mark.parametrize(
    "text",
    [
        rule("x", "did.a", "a", more='where = "event.body.n > 1"'),
        rule("x", "did.a", "a", more='unless = "event.body.n > 1"'),
        rule("x", "did.a", "a", head="once = true"),
        rule("x", "did.a", "a", head='quiet = "1h"'),
        rule("x", "did.a", "either"),
        rule("x", "did.a", "unheard"),
        rule("x", "did.a", "b"),
        rule("x", "did.a", "a").replace('command.type = "a"', 'command = { type = "a", stream = "flight:other" }'),
        rule("x", "did.a", "a").replace('command.type = "a"', 'webhook.url = "https://x.example"'),
    ],
)
def test_what_may_end_is_let_be(text: str) -> None:
    """A condition, a bound, a command that may become something else, another stream."""
    assert chain(text) == []


def test_rules_that_never_meet_are_no_ring() -> None:
    """Of other tenants or streams, or of other times."""
    assert chain(rule("x", "did.a", "b"), rule("y", "did.b", "a").replace('"*"', '"acme"')) == []
    assert chain(rule("x", "did.a", "b"), rule("y", "did.b", "a", head='streams = "flight:X*"')) == []
    early = rule("x", "did.a", "b", head="effective_until = 2026-12-01")
    assert chain(early, rule("y", "did.b", "a", head="effective_from = 2026-12-01")) == []


def test_a_verb_of_several_machines_is_the_one_of_the_stream() -> None:
    """`cancel` and `return` are verbs of seats or crew as well; what a rule on a flight's events gives becomes a flight's."""
    rules = [rule("x", "flight.cancelled", "reinstate"), rule("y", "flight.reinstated", "cancel")]
    read = [Reader(tomllib.loads(text)["rule"][0]).rule("f.toml", 1) for text in rules]
    known = [found for found in read if found is not None]
    assert [found.id for found in chain_of(known, ALL)] == ["x", "y"]
    assert chain_of(known[:1], ALL) == []


def test_other_triggers_are_let_be() -> None:
    """What waits goes round slowly, and is stopped by the chain that events bear."""
    assert (
        chain(one('absent = { after = "did.a", no = "x", within = "1m" }', do='[[rule.do]]\ncommand.type = "a"')) == []
    )


def test_the_machines_say_what_their_commands_become() -> None:
    """Verbs that several machines have become what any of them makes of it."""
    assert "flight.delayed" in ALL["delay"]
    assert ALL["timer.set"] == ("timer.set",)
