"""core.model: which names there are, and values that stay as they were made."""

from __future__ import annotations

import dataclasses
import re

import pytest

from core.model import (
    FACTS_MAX,
    KEY_RE,
    PRINCIPAL_RE,
    ROLES,
    STREAM_RE,
    TENANT_RE,
    TENANT_ROLES,
    TYPE_RE,
    Decided,
    Entry,
    Epoch,
    Event,
    Judged,
    Mark,
    Member,
    MyStream,
    Outcome,
    StreamFacts,
    Verdict,
)

KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (
            STREAM_RE,
            ["chat:a", "flight:LH-400", "trip:~._", "user:" + "x" * 128],
            ["chat:", "Chat:a", "room:a", "chat:a b"],
        ),
        (STREAM_RE, ["chat:0"], ["chat:" + "x" * 129, "chat:é", "chat:a\n", "chat:a:b", " chat:a", "chat:a@b"]),
        (PRINCIPAL_RE, ["user:amy", "device:truck-7", "service:a@b+c"], ["amy", "user:", "admin:amy", "user:a\n"]),
        (PRINCIPAL_RE, ["user:" + "x" * 128], ["user:" + "x" * 129, 'user:"', "user:a b", "user:\\"]),
        (TENANT_RE, ["demo", "0", "a" * 63, "a.b_c-d"], ["", "Demo", "-a", "a" * 64, "a b", "demo\n", ".a"]),
        (TYPE_RE, ["message", "member.left", "a" * 64, "a-b_c.0"], ["", "Message", "0a", ".a", "a" * 65, "a\n"]),
        (KEY_RE, [KEY], [KEY.upper(), KEY[:-1], KEY + "0", KEY + "\n", KEY.replace("-", ""), "g" + KEY[1:]]),
    ],
)
def test_names(pattern: re.Pattern[str], good: list[str], bad: list[str]) -> None:
    """What may be a name, to the character: none holds anything that JSON would escape or a channel would split."""
    assert [name for name in good if not pattern.match(name)] == []
    assert [name for name in bad if pattern.match(name)] == []


def test_an_entry_is_plain_until_told_otherwise() -> None:
    """No expectation, no reference, no privilege; what the caller hangs on it is left alone."""
    entry = Entry("demo", 7, KEY, "message", "user:amy", b"{}")
    assert (entry.tenant, entry.sid, entry.key, entry.type, entry.by) == ("demo", 7, KEY, "message", "user:amy")
    assert (entry.body, entry.expect, entry.ref, entry.privileged) == (b"{}", None, None, False)
    assert (entry.ticket, entry.at_s) == (None, 0.0)
    ticket = object()
    entry = Entry("demo", 7, KEY, "edit", "user:amy", b"{}", expect=3, ref=2, privileged=True, ticket=ticket)
    assert (entry.expect, entry.ref, entry.privileged, entry.ticket) == (3, 2, True, ticket)
    with pytest.raises(AttributeError):
        entry.seq = 1  # type: ignore[attr-defined]


def test_values_do_not_change_under_those_who_share_them() -> None:
    """Facts, markers, members and epochs are frozen and equal by value."""
    makers = (
        lambda: StreamFacts(1, "demo", "chat:a", 0, 9, 1, True, None),
        lambda: Mark(1, "user:amy", 2, 1),
        lambda: MyStream("chat:a", "owner", 9, 1, 2, 1),
        lambda: Member("user:amy", "owner"),
        lambda: Epoch("log", 16),
    )
    for make in makers:
        value = make()
        assert value == make()
        assert hash(value) == hash(make())
        field = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, 0)


def test_a_decided_command_is_facts_or_a_refusal() -> None:
    """Never both and never neither; the first fact is under the command's key, and there are so many at most."""
    key = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
    facts = [(key, "flight.gate", b"{}"), ("b", "flight.delayed", b"[1]")]
    decided = Decided("demo", 1, key, "movement", "user:amy", 3, facts, expect=4)
    assert (decided.body, decided.expect, decided.refusal, decided.privileged) == (b"{}[1]", 4, None, False)
    assert Decided("demo", 1, key, "gate", "user:amy", 3, facts[:1]).body == b"{}"
    assert Decided("demo", 1, key, "gate", "user:amy", 3, [], refusal=b"{}").body == b"{}"
    for wrong, refusal in (([], None), (facts, b"{}"), (facts[1:], None), (facts[:1] * (FACTS_MAX + 1), None)):
        with pytest.raises(AssertionError):
            Decided("demo", 1, key, "gate", "user:amy", 3, wrong, refusal=refusal)
    assert Judged._fields == ("outcome", "partition", "pos", "seq", "events", "at_ms", "refusal")


def test_events_and_verdicts_are_tuples_in_the_order_of_the_log() -> None:
    """The fields that the store fills by position."""
    assert Event._fields == ("partition", "pos", "sid", "seq", "key", "type", "by", "at_ms", "body")
    assert Verdict._fields == ("outcome", "partition", "pos", "seq", "at_ms")


def test_numbers_and_words_that_are_stored_or_sent() -> None:
    """The SQL function answers these numbers; the strongest role stands first."""
    assert [(outcome.name, int(outcome)) for outcome in Outcome] == [
        ("OK", 0),
        ("DUP", 1),
        ("FORBIDDEN", 2),
        ("NOT_FOUND", 3),
        ("CONFLICT", 4),
        ("STALE", 5),
    ]
    assert (ROLES, TENANT_ROLES) == (("owner", "member", "reader"), ("admin", "service", "auditor"))
