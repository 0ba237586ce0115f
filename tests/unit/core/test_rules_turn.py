"""core.rules.turn: what a rule gives to do, and what is kept of it."""

from __future__ import annotations

import orjson
import pytest

from core.flight.machine import BY_GATEWAY, Recorded
from core.model import KEY_RE
from core.rules.limits import FIRING_BYTES_MAX, TEXT_CHARS_MAX
from core.rules.turn import remembered, via_of
from tests.ruling import Told, one, rules

ON_X = 'event = "x"'


def told(do: str, *, when: str = ON_X, head: str = "", stream: str = "flight:QX12") -> Told:
    return Told(rules(one(when, head=head, do=do)), stream)


def test_a_message_goes_into_the_flights_chat() -> None:
    """With the rule's name, version and severity, and the chain of rules in its body."""
    flight = told(
        '[[rule.do]]\nmessage.text = "${flight.name} is ${event.body.minutes} late"', head='severity = "warning"'
    )
    flight.state = {"name": "QX12"}
    assert flight.event("x", body={"minutes": 45}) == ["r fired"]
    (action,) = flight.last.actions
    assert (action.kind, action.stream, action.type) == ("message", "flight:QX12", "message")
    assert action.body == {
        "text": "QX12 is 45 late", "rule": "r", "version": "1", "severity": "warning", "via": ["r"],
    }  # fmt: skip
    assert KEY_RE.match(action.key)


def test_of_seats_the_flights_chat_is_told() -> None:
    """The seat map's own stream is no place to talk."""
    seats = told('[[rule.do]]\nmessage.text = "x"', stream="flight:QX12.seats")
    seats.event("x")
    assert seats.last.actions[0].stream == "flight:QX12"


def test_a_text_that_is_a_value_is_written_out() -> None:
    """A message is a text, whatever the expression is."""
    flight = told('[[rule.do]]\nmessage.text = "${event.body.n}"')
    flight.event("x", body={"n": 45})
    assert flight.last.actions[0].body["text"] == "45"


def test_a_command_goes_to_its_own_stream_or_another() -> None:
    """Its body keeps the types of what it is made of."""
    flight = told(
        '[[rule.do]]\ncommand = { type = "delay", body = { n = "${event.body.n}" } }\n'
        '[[rule.do]]\ncommand = { type = "gate", stream = "flight:${event.body.next}" }'
    )
    flight.event("x", body={"n": 45, "next": "QX13"})
    own, other = flight.last.actions
    assert (own.kind, own.stream, own.type, own.body, own.via) == ("command", "flight:QX12", "delay", {"n": 45}, ("r",))
    assert (other.stream, other.body) == ("flight:QX13", {})
    assert own.key != other.key


def test_a_notification_is_one_action_a_recipient() -> None:
    """Into each one's inbox; recipients may be values."""
    flight = told(
        '[[rule.do]]\nnotify = { to = ["user:bob", "${event.by}"], text = "look" }\n[[rule.do]]\nmessage.text = "x"'
    )
    flight.event("x")
    first, second, message = flight.last.actions
    assert [first.stream, second.stream] == ["user:bob", "user:amy"]
    assert (first.kind, first.type, first.body["stream"], first.body["seq"]) == (
        "notify",
        "notification",
        "flight:QX12",
        1,
    )
    assert len({first.key, second.key, message.key}) == 3


def test_a_webhook_tells_what_happened_unless_it_has_a_body() -> None:
    """The address is always the same."""
    flight = told(
        '[[rule.do]]\nwebhook.url = "https://ops.example/a"\n'
        '[[rule.do]]\nwebhook = { url = "https://ops.example/b", body = { who = "${event.by}" } }',
        head='says = "It is x"',
    )
    flight.event("x")
    plain, own = flight.last.actions
    assert (plain.url, own.url, own.body) == ("https://ops.example/a", "https://ops.example/b", {"who": "user:amy"})
    assert plain.body == {
        "rule": "r", "version": "1", "severity": "info", "says": "It is x", "tenant": "demo", "stream": "flight:QX12",
        "seq": 1, "type": "x", "at": "2026-11-21T06:00:00.000Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("do", "says"),
    [
        ('message.text = "${event.body.none}"', "there is no field none"),
        ('message = { text = "x", stream = "${event.body.none}" }', "there is no field none"),
        ('message = { text = "x", stream = "audit:log" }', "a message goes into a stream of flight:, trip:, chat:"),
        ('message = { text = "x", stream = "${event.seq}" }', "not 1"),
        ('command = { type = "delay", stream = "chat:ops" }', "a command goes into a stream of flight:, trip:, not"),
        ('command = { type = "delay", stream = "flight:a b" }', "a command goes into"),
        ('command = { type = "delay", body = { a = "${event.body.none}" } }', "there is no field none"),
        ('notify = { to = ["${event.body.none}"], text = "x" }', "there is no field none"),
        ('notify = { to = ["${event.body.big}"], text = "x" }', "a notification is to a user such as user:amy"),
        ('notify = { to = ["user:${event.body.big}"], text = "x" }', "a notification is to a user such as user:amy"),
        ('notify = { to = ["${event.seq}"], text = "x" }', "not 1"),
        ('message.text = "${event.body.big}"', f"at most {TEXT_CHARS_MAX} are sent"),
        (
            'webhook = { url = "https://x.example", body = { a = "${event.body.huge}" } }',
            "body of its webhook would have",
        ),
    ],
)
def test_an_action_that_cannot_be_made_makes_none(do: str, says: str) -> None:
    """All of a firing or nothing; the error says why, and does not count as having fired."""
    flight = told(f'[[rule.do]]\nmessage.text = "first"\n[[rule.do]]\n{do}')
    assert flight.event("x", body={"big": "x" * (TEXT_CHARS_MAX + 1), "huge": "x" * 20_000}) == ["r error"]
    assert says in flight.reason()
    assert flight.last.actions == []
    assert "n" not in flight.memory.get("r", {})


def test_a_firing_keeps_what_it_was_judged_by() -> None:
    """Version, inputs, verdict, actions; of the flight what the rule looks at."""
    flight = told('[[rule.do]]\nmessage.text = "x"', when='event = "x"\nwhere = "flight.status == \'boarding\'"')
    flight.state = {"status": "boarding", "crew": ["a"]}
    flight.event("x", body={"n": 1})
    (firing,) = flight.last.firings
    assert firing[:5] == ("demo", "r", "1", "flight:QX12", 1)
    assert firing.verdict == "fired"
    assert firing.inputs["flight"] == {"status": "boarding"}
    assert firing.inputs["event"]["body"] == {"n": 1}
    assert firing.inputs["severity"] == "info"
    assert firing.actions == [action.json() for action in flight.last.actions]
    assert orjson.loads(orjson.dumps(firing.inputs)) == firing.inputs


def test_what_is_too_large_is_left_out_of_a_firing() -> None:
    """And it says what."""
    flight = told('[[rule.do]]\nmessage.text = "x"', when='event = "x"\nwhere = "size(flight) > 0"')
    flight.state = {"list": ["x" * 1_000] * 17}
    flight.event("x")
    assert flight.last.firings[0].inputs["truncated"] == ["flight"]
    flight.event("x", body={"x": "y" * FIRING_BYTES_MAX})
    inputs = flight.last.firings[0].inputs
    assert inputs["truncated"] == ["flight", "event"]
    assert len(orjson.dumps(inputs)) <= FIRING_BYTES_MAX


def test_a_rule_that_fires_once() -> None:
    """The second time is suppressed."""
    flight = told('[[rule.do]]\nmessage.text = "x"', head="once = true")
    assert flight.event("x") == ["r fired"]
    assert flight.event("x", 9_999) == ["r suppressed"]
    assert "fires once" in flight.reason()


def test_a_rule_that_is_quiet_for_a_while() -> None:
    """From its last firing on."""
    flight = told('[[rule.do]]\nmessage.text = "x"', head='quiet = "10m"')
    assert flight.event("x") == ["r fired"]
    assert flight.event("x", 599) == ["r suppressed"]
    assert "quiet until 2026-11-21T06:10:00.000Z" in flight.reason()
    assert flight.event("x", 600) == ["r fired"]


def test_an_expression_knows_what_the_rule_remembers() -> None:
    """How often it fired, and when last."""
    flight = told('[[rule.do]]\nmessage.text = "${memory.fired} ${memory.fired_at} ${rule.id} ${now}"')
    flight.event("x", 1)
    flight.event("x", 2)
    assert flight.last.actions[0].body["text"] == "1 2026-11-21T06:00:01.000Z r 2026-11-21T06:00:02.000Z"


def test_an_error_is_kept_once_until_it_is_another() -> None:
    """Or until the rule fired in between."""
    flight = told('[[rule.do]]\nmessage.text = "x"', when='event = "x"\nwhere = "event.body.n > 1"')
    assert flight.event("x") == ["r error"]
    assert "there is no field n" in flight.reason()
    assert flight.event("x") == []
    assert flight.event("x", body={"n": "text"}) == ["r error"]
    assert flight.event("x", body={"n": 2}) == ["r fired"]
    assert flight.event("x", body={"n": "text"}) == ["r error"]


def test_a_chain_of_rules_ends() -> None:
    """A rule acts when it is in the chain once, not when it is there twice; and nobody acts on the eighth."""
    flight = told('[[rule.do]]\nmessage.text = "x"')
    assert flight.event("x", body={"via": ["a", "r"]}, by=BY_GATEWAY) == ["r fired"]
    assert flight.last.actions[0].via == ("a", "r", "r")
    assert flight.event("x", body={"via": ["r", "a", "r"]}, by=BY_GATEWAY) == ["r loop"]
    assert "r -> a -> r -> r" in flight.reason()
    assert flight.last.actions == []
    long = [f"a{n}" for n in range(8)]
    assert flight.event("x", body={"via": long[:7]}, by=BY_GATEWAY) == ["r fired"]
    assert flight.event("x", body={"via": long}, by=BY_GATEWAY) == ["r loop"]


def test_only_the_gateways_word_counts_for_the_chain() -> None:
    """Nobody silences a rule by what he writes."""
    assert via_of(Recorded(1, "x", "user:eve", 0, {"via": ["r", "r", "r"]})) == ()
    assert via_of(Recorded(1, "x", BY_GATEWAY, 0, {"via": "r"})) == ()
    assert via_of(Recorded(1, "x", BY_GATEWAY, 0, {"via": [1] * 99})) == ("1",) * 8


def test_an_event_is_remembered_without_a_body_that_is_too_large() -> None:
    """And bears that it was cut."""
    assert remembered({"seq": 1, "body": {"a": 1}}) == {"seq": 1, "body": {"a": 1}}
    assert remembered({"seq": 1, "body": {"a": "x" * 5_000}}) == {"seq": 1, "body": {}, "truncated": True}


def test_later_steps_follow_a_firing() -> None:
    """Each by its own timer, with the event that began it at hand; they know when they were due."""
    flight = told(
        '[[rule.do]]\nmessage.text = "now"\n[[rule.do]]\nafter = "10m"\nmessage.text = "later ${trigger.body.n} ${due}"\n'
        '[[rule.do]]\nafter = "30m"\nmessage.text = "last"'
    )
    assert flight.event("x", body={"n": 7}) == ["r fired"]
    assert flight.done() == ["message", "timer.set rule:r:1", "timer.set rule:r:2"]
    assert flight.waits() == {"rule:r:1": 600, "rule:r:2": 1_800}
    assert flight.event("x", 60) == ["r fired"]
    assert flight.done() == ["message"], "the first firing's steps are on their way"
    assert flight.fire("rule:r:1") == ["r fired"]
    assert flight.last.actions[0].body["text"] == "later 7 2026-11-21T06:10:00.000Z"
    assert flight.last.firings[0].inputs["step"] == 1
    assert flight.fire("rule:r:2") == ["r fired"]
    assert flight.waits() == {}
    assert flight.done() == ["message"]
