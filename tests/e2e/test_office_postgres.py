"""The office over a real Postgres: a device's life, a client's, positions, and the proof of an event."""

from __future__ import annotations

import orjson
import pytest

from gateway.cli_run import new_key
from store.postgres import open_postgres_log
from store.proofs import ProofError, check
from tests.devices import admin, audit_of, claim_for, http_of, names, onboarded, verdicts
from tests.nodes import serving_node
from tests.servers import Database, database, postgres_server  # noqa: F401


async def test_everything_of_the_office_is_so_in_postgres_too(database: Database) -> None:  # noqa: F811
    """Onboarding, refresh, rotation, positions, reuse; a client; revocations: the same answers, an event each."""
    async with (
        open_postgres_log(database.url, new_key=new_key) as log,
        serving_node(log) as node,
        http_of(node) as http,
    ):
        await node.stream("trip:9")
        device = await onboarded(node, http)
        first, first_fixes = device.refresh_token, [device.fix(), device.fix()]
        async with device.connected(node, {"trip:9": {}}) as client:
            assert (await device.position(client, first_fixes))["accepted"] == 2
            assert (await device.refresh()).status_code == 200
            assert (await device.rotate()).status_code == 200
            proof = device.over(node, device.access)
            assert (await client.ask("refresh", token=device.access, dpop=proof))["op"] == "ok"
            replayed = await device.position(client, [*first_fixes, device.fix()])
            assert [verdict for _, verdict, _ in verdicts(replayed)] == ["duplicate", "duplicate", "accepted"]
            again = device.refresh_token
            assert (await device.refresh()).status_code == 200
            assert (await device.refresh(again)).status_code == 400
            assert (await client.closed())[0] == 4502
        assert (await device.refresh(first)).status_code == 400
        made = (await http.post("/v1/clients", json={"principal": "service:x"}, headers=admin())).json()
        form = {"grant_type": "client_credentials", "client_id": made["client_id"]}
        answer = await http.post("/v1/oauth/token", data={**form, "client_secret": made["client_secret"]})
        assert answer.status_code == 200
        for wrong in ("x", "\0", "ü"):
            for client_id in (made["client_id"], "client-none", "\0", "ü"):
                body = {**form, "client_id": client_id, "client_secret": wrong}
                assert (await http.post("/v1/oauth/token", data=body)).status_code == 401
        assert (await http.delete(f"/v1/clients/{made['client_id']}", headers=admin())).status_code == 204
        body = {"scope": "token", "value": "t1"}
        assert (await http.post("/v1/revocations", json=body, headers=admin())).status_code == 201
        assert (await http.delete("/v1/revocations", params=body, headers=admin())).status_code == 200
        listed = (await http.get("/v1/revocations", headers=admin())).json()["revocations"]
        assert {each["value"] for each in listed} == {"device:truck-7", "service:x"}
        kinds = ["claim", "enrolled", "refreshed", "rotated", "refreshed", "reused"]
        office = ["client.added", "client.removed", "revoked", "revocation.lifted"]
        assert names(await audit_of(node)) == [*(f"device.{kind}" for kind in kinds), *office]


async def test_an_event_is_proven(database: Database) -> None:  # noqa: F811
    """For auditors; signed by the gateway; with the body where the caller may read it, and for other streams without."""
    async with (
        open_postgres_log(database.url, new_key=new_key) as log,
        serving_node(log) as node,
        http_of(node) as http,
    ):
        await claim_for(http)
        await node.stream("chat:ops")
        auditor = admin("auditor", principal="user:auditor")
        headers = {**admin("service"), "idempotency-key": new_key()}
        await http.post("/v1/streams/chat:ops/events", json={"body": {"text": "hi"}}, headers=headers)
        signer = node.node.proving.signer
        assert signer is not None
        answer = await http.get("/v1/audit/proof", params={"stream": "audit:log", "seq": 1}, headers=auditor)
        assert answer.headers["content-disposition"] == 'attachment; filename="readback-proof.json"'
        proven = check(answer.content, trusted=[signer.thumbprint])
        assert proven.event["type"] == "device.claim"
        assert orjson.loads(answer.content)["event"]["body"] is not None
        with pytest.raises(ProofError):
            check(answer.content.replace(b"device.claim", b"device.clown"), trusted=[signer.thumbprint])
        params: dict[str, str | int] = {"stream": "chat:ops", "seq": 1}
        for who, shown in ((auditor, False), (admin(), True)):
            document = orjson.loads((await http.get("/v1/audit/proof", params=params, headers=who)).content)
            assert (document["event"]["body"] is not None) is shown
        assert (await http.get("/v1/audit/proof", params=params, headers=admin(tenant="other"))).status_code == 404
        assert (await http.get("/v1/audit/proof", params={**params, "seq": 9}, headers=auditor)).status_code == 404
        node.office._anchors = Broken()
        answer = await http.get("/v1/audit/proof", params=params, headers=auditor)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


class Broken:
    """A place for anchors that cannot be read."""

    name = "broken"

    async def append(self, next: object) -> None:
        raise OSError("gone")

    async def lines(self) -> list[bytes]:
        raise OSError("gone")

    async def find(self, epoch: str, partition: int, pos: int) -> None:
        raise OSError("gone")
