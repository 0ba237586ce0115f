"""From a note of the node to a proof that an auditor checks: the audit stream on a real Postgres."""

from __future__ import annotations

from pathlib import Path

import orjson
import trio

from core.model import AUDIT_STREAM, AUDITOR
from gateway.anchoring import write_anchor
from gateway.audit import Audit
from store.anchor_places import FilePlace
from store.postgres import open_postgres_log
from store.proofs import check
from store.proving import make_proof, prover_of
from tests.nodes import serving_node
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.tampering import KEY, verify


async def test_what_was_noted_can_be_proven(database: Database, tmp_path: Path) -> None:  # noqa: F811
    """Admissions and an act are in the tenant's stream, in one chain with everything else; anchored, each has its proof; a
    superuser who takes one back is found."""
    place = FilePlace(tmp_path / "anchors.jsonl")
    async with open_postgres_log(database.url) as log, serving_node(log) as node:
        audit = Audit(node.node)
        for n in range(300):
            audit.note("demo", "admitted", principal=f"user:{n}", session="s1", resumed=False, address="192.0.2.1")
        audit.note("other", "refused", code="unauthorized", reason="expired", principal="user:zoe")
        seq = await audit.noted("demo", "member.removed", stream="chat:ops", principal="user:bob", by="user:amy")
        assert await audit.flush(trio.current_time() + 20) == 0
        assert audit.lost == 0
        (facts,) = await log.open_streams([("demo", AUDIT_STREAM, AUDITOR)])
        assert facts is not None
        assert (facts.open, facts.role) == (False, None)
        bodies = {event.type: event.body for event in await log.read("demo", facts.sid, 0, 100)}
        assert len(orjson.loads(bodies["admitted"] or b"")["many"]) == 300
        prover = prover_of(log)
        assert prover is not None
        anchor = await write_anchor(prover, place, KEY, wall=lambda: 1_700_000_000.0)
        data = await make_proof(prover, "demo", AUDIT_STREAM, seq, place=place, made_ms=1, key=KEY)
    proven = check(data, trusted=[KEY.thumbprint], anchors=await place.lines())
    assert proven.anchor == anchor
    assert proven.event["type"] == "membership.removed"
    assert orjson.loads(proven.event["body"])["principal"] == "user:bob"
    assert b"zoe" not in data
    assert anchor is not None
    assert await verify(database, [anchor]) == []
    database.sql(
        "update readback.events set body = replace(body, 'user:bob', 'user:eve') where type like 'membership.%'"
    )
    (finding,) = await verify(database, [anchor])
    assert f"{AUDIT_STREAM} seq {seq} of demo: altered" in finding
