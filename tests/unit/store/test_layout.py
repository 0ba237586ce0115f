"""Where a stream lives, and which names are let in."""

from __future__ import annotations

import pytest

from core.model import Entry, Member
from core.ports import Refused
from store import layout
from store.layout import (
    Wellformed,
    check_members,
    check_principal,
    check_role,
    check_stream,
    is_wellformed,
    partition_of,
)
from tests.servers import Database, database, postgres_server  # noqa: F401

KEY = "00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("tenant", "stream", "expected"), [("demo", "chat:lobby", 2), ("demo", "user:amy", 15), ("other", "chat:lobby", 14)]
)
def test_a_partition_never_changes(tenant: str, stream: str, expected: int) -> None:
    """These numbers are on disks already."""
    assert partition_of(tenant, stream, 16) == expected


def test_streams_spread_over_all_partitions() -> None:
    """A thousand names leave none of 16 empty or twice as full as fair."""
    counts = [0] * 16
    for n in range(1_000):
        counts[partition_of("demo", f"chat:room-{n}", 16)] += 1
    assert 30 < min(counts) <= max(counts) < 125


def test_postgres_computes_the_same(database: Database) -> None:  # noqa: F811
    """One formula in two languages."""
    names = [f"chat:room-{n}" for n in range(50)]
    values = ", ".join(f"('{name}')" for name in names)
    rows = database.sql(f"select readback.partition_of('demo', v, 1000) from (values {values}) t(v)").split()
    assert [int(row) for row in rows] == [partition_of("demo", name, 1000) for name in names]


@pytest.mark.parametrize("tenant", ["", "Demo", "a b", "x" * 64, "-a", "a\n"])
def test_tenants_that_cannot_be(tenant: str) -> None:
    """Refused as a bad request, in words."""
    with pytest.raises(Refused, match="a tenant is"):
        check_stream(tenant, "chat:ops")
    assert not is_wellformed(tenant, "chat:ops", "user:amy")


@pytest.mark.parametrize("stream", ["", "chat", "chat:", "room:x", "chat:a/b", "chat:" + "x" * 129, "chat:a\n"])
def test_streams_that_cannot_be(stream: str) -> None:
    """Refused as a bad request, in words."""
    with pytest.raises(Refused, match="a stream is"):
        check_stream("demo", stream)
    assert not is_wellformed("demo", stream, "user:amy")


def test_principals_and_roles_that_cannot_be() -> None:
    """Refused as a bad request, in words."""
    with pytest.raises(Refused, match="a principal is"):
        check_principal("amy")
    with pytest.raises(Refused, match="a role is one of owner, member, reader"):
        check_role("admin")
    with pytest.raises(Refused, match="user:amy is named twice"):
        check_members([Member("user:amy", "owner"), Member("user:amy", "member")])
    assert not is_wellformed("demo", "chat:ops", "amy")
    assert is_wellformed("demo", "chat:ops", "user:amy")


@pytest.mark.parametrize(
    "change",
    [
        {"key": KEY.replace("-", "")},
        {"key": KEY + "\n"},
        {"type": "Message"},
        {"type": "member.joined"},
        {"by": "amy"},
        {"body": b"\xc3"},
        {"body": b"a\0b"},
    ],
)
def test_what_cannot_be_stored(change: dict[str, str | bytes]) -> None:
    """Each field that the log would choke on."""
    fields: dict[str, object] = {
        "tenant": "demo",
        "sid": 1,
        "key": KEY,
        "type": "message",
        "by": "user:amy",
        "body": b"{}",
    }
    wellformed = Wellformed()
    assert wellformed(Entry(**fields))  # type: ignore[arg-type]
    assert not wellformed(Entry(**(fields | change)))  # type: ignore[arg-type]


def test_names_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many principals do not grow the memory for ever."""
    monkeypatch.setattr(layout, "REMEMBERED_MAX", 10)
    wellformed = Wellformed()
    for n in range(100):
        assert wellformed(Entry("demo", 1, KEY, f"type{n}", f"user:u{n}", b"{}"))
    assert len(wellformed._types) <= 10
    assert len(wellformed._principals) <= 10
