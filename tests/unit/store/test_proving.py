"""store.proving: proofs of events in a real Postgres, made with the gateway's own login, checked without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from core.anchors import Anchor
from core.ports import CorruptLog, Refused, StoreError
from store import proving
from store.anchor_places import FilePlace
from store.postgres import open_postgres_log
from store.proofs import ProofError, Proven, check
from store.proving import make_proof, open_prover, prover_of
from tests.nodes import memory_log
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.tampering import KEY, REWRITE, Filled, entry, fill


@pytest.fixture
async def filled(database: Database) -> Filled:  # noqa: F811
    return await fill(database)


def keep(path: Path, anchors: list[Anchor]) -> FilePlace:
    path.write_bytes(b"".join(anchor.line + b"\n" for anchor in anchors))
    return FilePlace(path)


async def prove(database: Database, stream: str, seq: int, tenant: str = "demo", **options: Any) -> bytes:  # noqa: F811
    options = {"place": None, "made_ms": 1_700_000_100_000, "key": KEY, **options}
    async with open_prover(database.url) as prover:
        return await make_proof(prover, tenant, stream, seq, **options)


async def checked(data: bytes, place: FilePlace | None = None) -> Proven:
    return check(data, trusted=[KEY.thumbprint], anchors=None if place is None else await place.lines())


async def test_every_event_can_be_proven_up_to_the_next_anchor(
    database: Database,  # noqa: F811
    filled: Filled,
    tmp_path: Path,
) -> None:
    """By the first one past it; trimmed ones by their digest."""
    place = keep(tmp_path / "anchors", filled.anchors)
    for tenant, stream, seqs in (
        ("demo", filled.one.stream, {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2}),
        ("demo", filled.two.stream, {1: 1, 2: 2, 3: 2}),
        ("other", filled.three.stream, {1: 1, 2: 2, 3: 2}),
    ):
        for seq, number in seqs.items():
            proven = await checked(await prove(database, stream, seq, tenant, place=place), place)
            assert proven.anchor is not None
            assert (proven.anchor.number, proven.event["seq"], proven.event["tenant"]) == (number, seq, tenant)
            assert (proven.event["body"] is None) == (stream == filled.one.stream and seq == 1)


async def test_past_the_last_anchor_the_head_stands_in(
    database: Database,  # noqa: F811
    filled: Filled,
    tmp_path: Path,
) -> None:
    """And it is said that no anchor holds it."""
    async with open_postgres_log(database.url) as log:
        await log.append([entry(filled.two)])
        assert prover_of(log) is not None
    assert prover_of(memory_log()) is None
    place = keep(tmp_path / "anchors", filled.anchors)
    proven = await checked(await prove(database, filled.two.stream, 4, place=place), place)
    assert proven.anchor is None
    assert any("no anchor lies past the event" in line for line in proven.unproven)


async def test_a_proof_holds_nothing_of_other_tenants(
    database: Database,  # noqa: F811
    filled: Filled,
) -> None:
    """Its batches are full of others' events: only their digests are in it."""
    async with open_postgres_log(database.url) as log:
        await log.append([entry(filled.three, '{"t":"marker-of-the-other"}'), entry(filled.two), entry(filled.three)])
    data = await prove(database, filled.two.stream, 4)
    assert b"marker" not in data
    assert b"other" not in data
    assert filled.three.stream.encode() not in data


async def test_the_body_can_be_left_out(database: Database, filled: Filled) -> None:  # noqa: F811
    """And brought again by who has it."""
    data = await prove(database, filled.two.stream, 1, with_body=False)
    assert orjson.loads(data)["event"]["body"] is None
    assert check(data, body=b'{"n":2}').event["body"] == '{"n":2}'
    with pytest.raises(ProofError):
        check(data, body=b'{"n":3}')


@pytest.mark.parametrize(("tenant", "seq"), [("demo", 99), ("demo", 0), ("demo", 2**70), ("other", 1), ("a\0", 1)])
async def test_what_is_not_there_is_not_found(
    database: Database,  # noqa: F811
    filled: Filled,
    tenant: str,
    seq: int,
) -> None:
    """No such seq, and another tenant's stream all the same."""
    with pytest.raises(Refused, match="there is no event"):
        await prove(database, filled.two.stream, seq, tenant)


async def test_a_log_that_was_tampered_with_proves_nothing(
    database: Database,  # noqa: F811
    filled: Filled,
    tmp_path: Path,
) -> None:
    """A row altered: the document does not hold. The tail rewritten: it is not even made. A batch gone: likewise."""
    place = keep(tmp_path / "anchors", filled.anchors)
    database.sql("update readback.events set body = '{}' where pos = 7")
    with pytest.raises(ProofError):
        await checked(await prove(database, filled.two.stream, 2, place=place), place)
    database.sql(REWRITE.replace("{p}", str(filled.partition)))
    with pytest.raises(CorruptLog, match="contradicts anchor 2"):
        await prove(database, filled.two.stream, 2, place=place)
    database.sql("delete from readback.batches where first_pos = 10")
    with pytest.raises(CorruptLog, match="no batch of pos 10"):
        await prove(database, filled.two.stream, 2)
    database.sql("delete from readback.batches where first_pos = 5")
    with pytest.raises(CorruptLog, match="no batch of pos 5"):
        await prove(database, filled.one.stream, 3)
    database.sql("delete from readback.batches where first_pos < 6")
    async with open_prover(database.url) as prover:
        with pytest.raises(CorruptLog, match="no batch before pos 6"):
            await prover.batches(filled.partition, 7, 9)


async def test_a_proof_is_bounded(
    database: Database,  # noqa: F811
    filled: Filled,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Too many events before the next anchor: refused, and what to do about it; however the batches are paged."""
    monkeypatch.setattr(proving, "BATCHES_A_QUERY", 1)
    assert (await checked(await prove(database, filled.one.stream, 1))).event["seq"] == 1
    monkeypatch.setattr(proving, "DIGESTS_MAX", 5)
    with pytest.raises(Refused, match="anchor more often"):
        await prove(database, filled.one.stream, 1)


async def test_a_login_that_sees_nothing_is_told_so(database: Database) -> None:  # noqa: F811
    """Rather than given an anchor of nothing."""
    database.sql("update readback.meta set epoch = epoch; delete from readback.partitions")
    with pytest.raises(StoreError, match="sees no partition"):
        async with open_prover(database.url) as prover:
            await prover.heads()
