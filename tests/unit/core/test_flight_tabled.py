"""core.flight.tabled: a table says by verb who may, which fields there are, and what decides."""

from __future__ import annotations

from core.flight.machine import Command, Decision, Fact, Malformed, Refusal, Rule, Unallowed
from core.flight.tabled import SLACK_MS, Asked, Tabled
from core.flight.times import write

NOW = 1_795_242_600_000


class Ask(Asked):
    def __init__(self, state: str, command: Command, now_ms: int) -> None:
        super().__init__(command, now_ms)
        self.state = state


def note(ask: Ask) -> Decision:
    return [Fact("crew.noted", {"text": ask.fields.text("text", ""), "state": ask.state, "at": write(ask.now_ms)})]


RULES = (
    (Rule("note", "Notes it.", ("crew.noted",)), note),
    (Rule("seal", "Seals it.", ("crew.noted",), roles=frozenset(("owner",))), note),
)
MACHINE: Tabled[str, Ask] = Tabled(RULES, {"note": frozenset(("text",)), "seal": frozenset()}, Ask)


def decided(verb: str, role: str = "member", **body: object) -> Decision:
    return MACHINE.decide("new", Command(verb, body, "user:amy", role), NOW)


def test_a_verb_is_decided_by_its_function() -> None:
    """It is given the state, what the command says, and when."""
    assert list(MACHINE.table) == ["note", "seal"]
    assert decided("note", text="hi") == [Fact("crew.noted", {"text": "hi", "state": "new", "at": write(NOW)})]


def test_what_the_table_does_not_say_is_answered() -> None:
    """A verb that is not there names those that are; a role that may not, and a field that the verb has not, are told."""
    assert decided("sing") == Malformed("no command 'sing' here; there are note, seal")
    assert decided("seal") == Unallowed("seal is for owners of the stream")
    assert isinstance(decided("seal", "owner"), list)
    assert decided("note", words="hi") == Malformed("note has no `words`; its fields are text")


def test_what_happened_has_happened() -> None:
    """Others' clocks may be ahead a little, and no more."""
    ask = Asked(Command("note", {}, "user:amy", "member"), NOW)
    assert ask.happened(NOW + SLACK_MS) is None
    refused = ask.happened(NOW + SLACK_MS + 1)
    assert isinstance(refused, Refusal)
    assert refused.reason == "impossible_time"
    assert write(NOW + SLACK_MS + 1) in refused.message
