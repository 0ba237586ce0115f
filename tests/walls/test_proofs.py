"""A proof shows a batch's digests, and a batch may hold several tenants' events: nothing of the others can be read there."""

from __future__ import annotations

import secrets
import uuid

from core.model import Entry
from store.postgres import open_postgres_log
from tests.nodes import token
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.walls.stage import OWN, TWIN, world

STREAMS = [f"chat:r{n}" for n in range(12)]


async def test_a_proof_tells_nothing_of_whom_it_shares_a_batch_with(database: Database) -> None:  # noqa: F811
    """Events of two tenants, alternating, in one commit: each proof names its own event and the others' hashes alone."""
    mark = secrets.token_hex(6)
    async with open_postgres_log(database.url) as log, world(log) as made:
        entries = []
        for name in STREAMS:
            for tenant in (OWN, TWIN):
                facts = await log.create_stream(tenant, name, open=True, members=[], by="service:test")
                body = f'{{"mark":"{mark}"}}' if tenant == OWN else '{"plain":true}'
                by = f"user:amy-{mark}" if tenant == OWN else "user:eve"
                key = f"{uuid.uuid4()!s:.24}{mark}" if tenant == OWN else str(uuid.uuid4())
                entries.append(Entry(tenant, facts.sid, key, f"t.{mark}" if tenant == OWN else "t", by, body.encode()))
        verdicts = await log.append(entries)
        assert len({verdict.partition for verdict in verdicts}) < len(STREAMS)
        for roles in (["admin"], ["auditor"]):
            access = {"authorization": f"Bearer {token('user:eve', tenant=TWIN, roles=roles)}"}
            for name in STREAMS:
                answer = await made.http.get("/v1/audit/proof", headers=access, params={"stream": name, "seq": 1})
                assert answer.status_code == 200, answer.text
                assert TWIN in answer.text
                assert mark not in answer.text
                assert OWN not in answer.text
        own = {"authorization": f"Bearer {token('user:root', tenant=OWN, roles=['admin'])}"}
        answer = await made.http.get("/v1/audit/proof", headers=own, params={"stream": STREAMS[0], "seq": 1})
        assert mark in answer.text
        eve = {"authorization": f"Bearer {token('user:eve', tenant=TWIN, roles=['auditor'])}"}
        hidden = await made.http.get("/v1/audit/proof", headers=eve, params={"stream": STREAMS[0], "seq": 1})
        assert "plain" not in hidden.text, "an auditor reads no bodies but the audit's"
