"""core.audit: notes become few events, none is lost silently, and none holds what it must not."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest

from core import audit
from core.audit import Draft, Gathered, clean, pack, stored_as
from core.limits import Limits
from core.model import TYPE_RE

AT_MS = 1_700_000_000_123
AT = "2023-11-14T22:13:20.123Z"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c2VyOmFteSJ9.c2lnbmF0dXJl"
RESUME = "r1.k1.WyJkZW1vIiwidXNlcjphbXkiXQ.bWFjbWFjbWFj"


def gathered(**bounds: int) -> Gathered:
    return Gathered(replace(Limits(), **bounds))  # type: ignore[arg-type]


def told(drafts: list[Draft]) -> list[dict[str, Any]]:
    """The notes in these events, one by one."""
    notes = []
    for draft in drafts:
        body = orjson.loads(draft.body)
        notes += body.get("many", [body])
    return notes


def drain(some: Gathered) -> list[Draft]:
    drafts = []
    while some:
        for draft in some.take(3, AT_MS):
            some.settle(draft)
            drafts.append(draft)
    return drafts


def test_every_type_can_be_stored() -> None:
    """Each is an event's type of the log, and none passes for a change of membership there."""
    for type in audit.TYPES:
        assert TYPE_RE.match(stored_as(type))
        assert not stored_as(type).startswith("member.")
    assert stored_as("member.removed") == "membership.removed"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("user:amy", "user:amy"),
        ("x" * 300, "x" * 256),
        ("Jos\u00e9", "Jos\u00e9"),
        ("\ud800", "?"),
        (True, True),
        (7, 7),
        (1 << 70, str(1 << 70)),
        (0.12345, 0.123),
        (float("nan"), None),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({"b", "a"}, ["a", "b"]),
        (["a", 1, None, object()], ["a", 1]),
        (("a",), ["a"]),
        ({"admitted": 3, "bad": "x"}, {"admitted": 3}),
        (object(), None),
        (b"bytes", None),
        (f"bad token {JWT}", "(a token, not shown)"),
        (RESUME, "(a token, not shown)"),
        ([JWT], ["(a token, not shown)"]),
    ],
)
def test_facts_are_short_plain_and_no_tokens(value: object, written: object) -> None:
    """Whatever is handed over: what cannot be written is left out, what looks like a token is not shown."""
    assert clean(value) == written


def test_a_note_holds_what_the_table_names_and_nothing_else() -> None:
    """A body, a header or a token handed over by mistake is not written, since no name is for it."""
    note = pack(
        {"principal": "user:amy", "body": {"text": "hi"}, "token_text": JWT, "session": None, "why": b""}, AT_MS
    )
    assert orjson.loads(note) == {"at": AT, "principal": "user:amy"}


def test_a_note_is_bounded() -> None:
    """The facts that fit are kept, and it says that others were left out."""
    note = pack({"roles": ["r" * 250] * 64, "principal": "user:amy"}, AT_MS)
    assert orjson.loads(note) == {"at": AT, "cut": True, "principal": "user:amy"}


def test_a_single_note_is_a_body_as_it_stands() -> None:
    """One note, one event, with its own time; then nothing is left."""
    some = gathered()
    assert not some
    assert some.add("demo", "member.put", pack({"by": "user:amy"}, AT_MS), AT_MS)
    (draft,) = drain(some)
    assert (draft.tenant, draft.type, draft.count) == ("demo", "membership.put", 1)
    assert orjson.loads(draft.body) == {"at": AT, "by": "user:amy"}
    assert (some.size, some.waiting, bool(some)) == (0, 0, False)


def test_a_storm_is_few_events() -> None:
    """5,000 admissions of a tenant within a moment: each named with its own time, in some tens of events."""
    some = gathered()
    for n in range(5_000):
        facts = {"principal": f"user:p{n}", "session": "s" * 16, "resumed": True, "address": "2001:db8::1", "node": "a"}
        assert some.add("demo", "admitted", pack(facts, AT_MS + n), AT_MS + n)
    drafts = drain(some)
    assert len(drafts) < 30
    assert all(len(draft.body) <= Limits().body_bytes_max for draft in drafts)
    assert [note["principal"] for note in told(drafts)] == [f"user:p{n}" for n in range(5_000)]
    assert told(drafts)[1]["at"] == "2023-11-14T22:13:20.124Z"


def test_small_notes_are_at_most_so_many_an_event() -> None:
    """The number is bounded too, for whoever reads them."""
    some = gathered()
    for _ in range(audit.MANY_MAX + 1):
        some.add("demo", "left", b"{}", AT_MS)
    assert [draft.count for draft in drain(some)] == [audit.MANY_MAX, 1]


def test_tenants_take_turns_and_so_do_types() -> None:
    """One with much to tell does not make the others wait for all of it."""
    some = gathered()
    for _ in range(1_000):
        some.add("a", "left", pack({"why": "x" * 200}, AT_MS), AT_MS)
    some.add("a", "refused", b"{}", AT_MS)
    some.add("b", "left", b"{}", AT_MS)
    assert [(draft.tenant, draft.type) for draft in some.take(4, AT_MS)] == [
        ("a", "left"),
        ("b", "left"),
        ("a", "refused"),
        ("a", "left"),
    ]


def test_what_is_too_much_for_a_tenant_is_counted_and_told() -> None:
    """How many of which type, since when; what was kept comes whole."""
    some = gathered(audit_tenant_bytes_max=1_000)
    kept = [some.add("demo", "left", b"x" * 136, AT_MS + n) for n in range(7)]
    assert kept == [True] * 5 + [False] * 2
    assert not some.add("demo", "refused", b"x" * 136, AT_MS + 9)
    drafts = drain(some)
    assert [draft.type for draft in drafts] == ["suppressed", "left"]
    assert orjson.loads(drafts[0].body) == {
        "at": AT,
        "since": "2023-11-14T22:13:20.128Z",
        "counts": {"left": 2, "refused": 1},
    }
    assert (drafts[1].count, some.suppressed, some.size) == (5, 3, 0)


def test_what_is_on_its_way_counts() -> None:
    """While the log is away the bound fills, and is free again once the log has it."""
    some = gathered(audit_tenant_bytes_max=1_000)
    for _ in range(5):
        some.add("demo", "left", b"x" * 136, AT_MS)
    (draft,) = some.take(9, AT_MS)
    assert not some.add("demo", "left", b"x" * 136, AT_MS)
    some.settle(draft)
    assert some.add("demo", "left", b"x" * 136, AT_MS)
    assert Counter(draft.type for draft in drain(some)) == {"suppressed": 1, "left": 1}


def test_a_flood_displaces_nobody_else() -> None:
    """All room is taken by one tenant: another's notes are kept, and the first one's newest go."""
    some = gathered(audit_bytes_max=20_000)
    while some.add("flood", "left", b"x" * 136, AT_MS):
        some.add("flood", "refused", b"x" * 36, AT_MS)
    suppressed = some.suppressed
    assert not some.add("flood", "left", b"x" * 136, AT_MS)
    for _ in range(20):
        assert some.add("calm", "left", b"x" * 136, AT_MS)
    drafts = drain(some)
    calm = [draft for draft in drafts if draft.tenant == "calm"]
    assert sum(draft.count for draft in calm) == 20
    assert {draft.type for draft in calm} == {"left"}
    assert some.suppressed > suppressed + 1
    (told_flood,) = (orjson.loads(draft.body) for draft in drafts if draft.type == "suppressed")
    assert sum(told_flood["counts"].values()) == some.suppressed
    assert told_flood["since"] == AT


def test_a_cut_may_take_all_of_a_type() -> None:
    """A few large notes: as many go as make room."""
    some = gathered(audit_bytes_max=4_000)
    some.add("flood", "left", b"x" * 1_000, AT_MS)
    some.add("flood", "refused", b"x" * 1_000, AT_MS)
    assert some.add("calm", "left", b"x" * 400, AT_MS)
    assert [(d.tenant, d.type) for d in drain(some)] == [
        ("flood", "suppressed"),
        ("calm", "left"),
        ("flood", "refused"),
    ]


def test_no_room_even_for_a_tenant_s_name() -> None:
    """Everything is on its way and nothing can be cut: a newcomer's note is counted without a name."""
    some = gathered(audit_bytes_max=2_000)
    some.add("a", "left", b"x" * 500, AT_MS)
    (draft,) = some.take(1, AT_MS)
    assert not some.add("b", "left", b"{}", AT_MS)
    assert (some.nameless, some.suppressed) == (1, 1)
    some.settle(draft)
    assert some.add("b", "left", b"{}", AT_MS)
    empty = gathered(audit_bytes_max=100)
    assert not empty.add("a", "left", b"{}", AT_MS)
    assert empty.nameless == 1


def test_a_name_that_is_none_is_a_mistake_of_ours() -> None:
    """`ValueError`, and nothing is kept of it."""
    some = gathered()
    with pytest.raises(ValueError, match="tenant"):
        some.add("No Tenant", "left", b"{}", AT_MS)
    with pytest.raises(ValueError, match="type"):
        some.add("demo", "No Type", b"{}", AT_MS)
    assert (some.size, bool(some)) == (0, False)
    for n in range(audit.TYPES_MAX):
        some.add("demo", f"t{n}", b"{}", AT_MS)
    with pytest.raises(ValueError, match="type"):
        some.add("demo", "one-more", b"{}", AT_MS)
    assert some.waiting == audit.TYPES_MAX


def test_too_many_types_to_name_are_counted_together() -> None:
    """The counts of a `suppressed` event are bounded as well."""
    some = gathered(audit_tenant_bytes_max=1)
    for n in range(audit.TYPES_MAX + 3):
        some.add("demo", f"t{n}", b"{}", AT_MS)
    some.add("demo", "t1", b"{}", AT_MS)
    (draft,) = drain(some)
    counts = orjson.loads(draft.body)["counts"]
    assert (counts["others"], counts["t1"], len(counts)) == (3, 2, audit.TYPES_MAX + 1)


def test_whatever_happens_each_note_is_written_or_counted() -> None:
    """Random tenants, sizes, takings and settlings: kept or counted once, the sum of sizes right, within the bounds."""
    rng = random.Random(5)
    some = gathered(audit_bytes_max=60_000, audit_tenant_bytes_max=20_000, body_bytes_max=4_000)
    noted, flying, written = 0, [], 0
    counted: Counter[str] = Counter()

    def settle(draft: Draft) -> None:
        nonlocal written
        some.settle(draft)
        written += draft.count
        if draft.type == "suppressed":
            counted[draft.tenant] += sum(orjson.loads(draft.body)["counts"].values())

    for _ in range(20_000):
        tenant = rng.choice("aaaaabbbcd")
        some.add(tenant, rng.choice(("left", "refused", "admitted")), b"x" * rng.randrange(2, 600), AT_MS)
        noted += 1
        assert some.size <= 60_000
        if rng.random() < 0.02:
            flying += some.take(rng.randrange(1, 6), AT_MS)
        if flying and rng.random() < 0.04:
            settle(flying.pop(rng.randrange(len(flying))))
    for draft in flying + some.take(1_000_000, AT_MS):
        settle(draft)
    assert written + sum(counted.values()) + some.nameless == noted
    assert sum(counted.values()) + some.nameless == some.suppressed > 0
    assert (some.size, some.waiting) == (0, 0)
