"""Devices from their QR code to their end: over the real HTTP API and real sockets, as a device's maker would do it."""

from __future__ import annotations

import time
import uuid
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import trio

from core.model import AUDITOR
from store.memory_bus import MemoryBroker
from tests.devices import BASE, Device, admin, audit_of, claim_for, http_of, names, new_key, onboarded
from tests.nodes import bus_away, serving_cluster, serving_node, token, until
from tests.wire_client import WireClient, wire_client


async def ended(client: WireClient, code: int = 4502) -> None:
    assert (await client.closed())[0] == code


async def test_a_device_is_onboarded_by_a_qr_code_and_serves_its_stream() -> None:
    """Claim, key, tokens, a call over HTTP, a socket: everything bound to the key that it made itself."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9", open=False, members={"device:truck-7": "member"})
        claim = await claim_for(http)
        assert "demo" not in claim["uri"]
        assert "truck" not in claim["uri"]
        device = Device(http, time.time)
        answer = await device.scan(claim["uri"])
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        got = answer.json()
        assert (got["tenant"], got["principal"], got["scope"]) == ("demo", "device:truck-7", "")
        assert (await device.get("/v1/me/streams")).json()["streams"][0]["stream"] == "trip:9"
        async with device.connected(node, {"trip:9": {}}) as client:
            assert client.seen[0]["principal"] == "device:truck-7"
            assert (await client.send("trip:9", "departed"))["seq"] == 1
        listed = (await http.get("/v1/devices", headers=admin("auditor"))).json()["devices"]
        assert [(each["device"], each["key"], each["revoked"]) for each in listed] == [
            ("device:truck-7", device.key.thumbprint, False)
        ]


async def test_its_token_is_nothing_without_the_key() -> None:
    """On the socket and over HTTP: without a proof, with another key's, as a bearer token."""
    async with serving_node() as node, http_of(node) as http:
        device = await onboarded(node, http)
        thief = Device(http, time.time)
        thief.access = device.access
        assert (await thief.get("/v1/me/streams")).status_code == 401
        bearer = {"authorization": f"Bearer {device.access}"}
        assert (await http.get("/v1/me/streams", headers=bearer)).status_code == 401
        for proof in (None, thief.over(node, device.access), device.over(node, "another token")):
            async with wire_client(node.url) as client:
                await client.say("hello", token=device.access, **({"dpop": proof} if proof else {}))
                await ended(client, 4501)


async def test_a_proof_may_name_the_url_as_it_was_sent() -> None:
    """Libraries encode the colon of a stream's name, as they may (RFC 3986), and sign what they send.

    The proof was compared with the path after decoding, so that such a device could read nothing over HTTP.
    """
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        for path in ("/v1/streams/trip:9/events", "/v1/streams/trip%3A9/events", "/v1/streams/trip%3a9/events?limit=1"):
            assert (await device.get(path)).status_code == 200
        elsewhere = device.proof(f"{BASE}/v1/streams/trip%3A9/events", device.access, method="GET")
        headers = {"authorization": f"DPoP {device.access}", "dpop": elsewhere}
        assert (await http.get("/v1/streams/trip%253A9/events", headers=headers)).status_code == 401


async def test_a_claim_is_good_once() -> None:
    """Whoever comes second, with whatever key, gets what a guesser gets."""
    async with serving_node() as node, http_of(node) as http:
        claim = (await claim_for(http))["claim"]
        assert (await Device(http, time.time).redeem(claim)).status_code == 200
        late, guess = Device(http, time.time), Device(http, time.time)
        answers = [await late.redeem(claim), await guess.redeem("x" * 43)]
        assert {(answer.status_code, answer.content) for answer in answers} == {(401, answers[0].content)}
        assert names(await audit_of(node)) == ["device.claim", "device.enrolled"]


async def test_of_two_that_redeem_at_once_one_wins() -> None:
    """At two nodes of a cluster; its key is the device's, and one event says so."""
    async with serving_cluster(2) as nodes, http_of(nodes[0]) as one, http_of(nodes[1]) as two:
        claim = (await claim_for(one))["claim"]
        devices = [Device(one, time.time), Device(two, time.time)]
        statuses = []

        async def redeem(device: Device) -> None:
            statuses.append((await device.redeem(claim)).status_code)

        async with trio.open_nursery() as nursery:
            for device in devices:
                nursery.start_soon(redeem, device)
        assert sorted(statuses) == [200, 401]
        [winner] = [device for device in devices if device.access]
        listed = (await one.get("/v1/devices", headers=admin())).json()["devices"]
        assert listed[0]["key"] == winner.key.thumbprint
        assert names(await audit_of(nodes[0])).count("device.enrolled") == 1


async def test_a_claim_ends_by_time_and_by_the_next_one() -> None:
    """Ten minutes; and only the newest of a device is good."""
    async with serving_node() as node, http_of(node) as http:
        first, second = await claim_for(http), await claim_for(http)
        device = Device(http, lambda: node.node.wall())
        assert (await device.redeem(first["claim"])).status_code == 401
        node.node.wall = lambda: time.time() + 600.5
        assert (await device.redeem(second["claim"])).status_code == 401


async def test_an_answer_that_was_lost_is_asked_for_again() -> None:
    """With the same Idempotency-Key and a new proof: the same refresh token, at another node too; and with another it is a
    second use."""
    async with serving_cluster(2) as nodes, http_of(nodes[0]) as one, http_of(nodes[1]) as two:
        claim, again = (await claim_for(one))["claim"], str(uuid.uuid4())
        device = Device(one, time.time)
        first = (await device.redeem(claim, again=again)).json()
        device.http = two
        assert (await device.redeem(claim, again=again.upper())).json()["refresh_token"] == first["refresh_token"]
        again = str(uuid.uuid4())
        lost = (await device.refresh(first["refresh_token"], again=again)).json()
        device.http = one
        answer = await device.refresh(first["refresh_token"], again=again)
        assert answer.json()["refresh_token"] == lost["refresh_token"] != first["refresh_token"]
        assert names(await audit_of(nodes[0])) == ["device.claim", "device.enrolled", "device.refreshed"]
        assert (await device.refresh(first["refresh_token"])).status_code == 400
        assert (await device.refresh(lost["refresh_token"])).status_code == 400


@pytest.mark.parametrize("what", ["replayed", "at another node", "url", "method", "over", "missing", "old"])
async def test_a_proof_is_for_one_request(what: str) -> None:
    """Used again (at another node too), for another URL, method or claim, missing, or old: no token, and the claim is still
    good."""
    async with serving_cluster(2) as nodes, http_of(nodes[0]) as one, http_of(nodes[1]) as two:
        device = Device(one, time.time)
        url, claim = f"{BASE}/v1/devices/redeem", (await claim_for(one, "device:van-1"))["claim"]
        proof: str | None = device.proof(url, claim)
        if what in ("replayed", "at another node"):
            used = {"dpop": device.proof(url, "spent")}
            await one.post("/v1/devices/redeem", json={"claim": "spent"}, headers=used)
            http = two if what == "at another node" else one
            answer = await http.post("/v1/devices/redeem", json={"claim": "spent"}, headers=used)
            assert answer.json()["detail"] == "the proof was used before"
        else:
            if what == "url":
                proof = device.proof(f"{BASE}/v1/devices/rotate", claim)
            elif what == "method":
                proof = device.proof(url, claim, method="PUT")
            elif what == "over":
                proof = device.proof(url, "another")
            elif what == "old":
                device.now = lambda: time.time() - 61.0
                proof = device.proof(url, claim)
                device.now = time.time
            headers = {} if what == "missing" else {"dpop": proof or ""}
            answer = await one.post("/v1/devices/redeem", json={"claim": claim}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert (await device.redeem(claim)).status_code == 200


async def test_refreshing_gives_a_new_pair_and_the_connection_goes_on() -> None:
    """Past the end of the first token."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        before = device.refresh_token
        async with device.connected(node, {"trip:9": {}}) as client:
            assert (await device.refresh()).status_code == 200
            assert device.refresh_token != before
            answer = await client.ask("refresh", token=device.access, dpop=device.over(node, device.access))
            assert (answer["op"], answer["streams"]) == ("ok", {})
            assert (await client.send("trip:9", "on we go"))["seq"] == 1


@pytest.mark.parametrize("with_bus", [True, False])
async def test_a_refresh_token_that_comes_twice_ends_everything_of_the_device_on_every_node(with_bus: bool) -> None:
    """Who of the two is the thief nobody knows: both are out until an admin onboards the device anew."""
    broker = MemoryBroker()
    async with serving_cluster(2, broker=broker) as nodes, http_of(nodes[0]) as http:
        device = await onboarded(nodes[0], http)
        stolen = device.refresh_token
        if not with_bus:
            await bus_away(broker, nodes)
        async with device.connected(nodes[1]) as client:
            assert (await device.refresh()).status_code == 200
            answer = await device.refresh(stolen)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
            await ended(client)
        assert (await device.refresh()).status_code == 400
        assert (await device.get("/v1/me/streams")).status_code == 401
        assert names(await audit_of(nodes[0]))[-2:] == ["device.refreshed", "device.reused"]
        again = await device.scan((await claim_for(http))["uri"])
        assert again.status_code == 200
        assert (await device.get("/v1/me/streams")).status_code == 200


async def test_two_refreshes_at_once_are_a_reuse() -> None:
    """No time of grace: one may win for a moment, and then nobody has anything."""
    async with serving_node() as node, http_of(node) as http:
        device = await onboarded(node, http)
        first = device.refresh_token
        statuses = []

        async def refresh() -> None:
            statuses.append((await device.refresh(first)).status_code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refresh)
            nursery.start_soon(refresh)
        assert sorted(statuses) == [200, 400]
        assert (await device.refresh()).status_code == 400
        assert (await device.get("/v1/me/streams")).status_code == 401


async def test_a_refresh_token_needs_the_key_and_its_time() -> None:
    """Another key's proof gets what a guess gets, and does the device no harm; after three months it is over."""
    async with serving_node() as node, http_of(node) as http:
        device = await onboarded(node, http)
        thief = Device(http, time.time)
        answers = [await thief.refresh(device.refresh_token), await thief.refresh("y" * 43)]
        assert {(answer.status_code, answer.content) for answer in answers} == {(400, answers[0].content)}
        assert (await device.refresh()).status_code == 200
        node.node.wall = lambda: time.time() + node.limits.refresh_ttl_s + 1.0
        device.now = node.node.wall
        assert (await device.refresh()).status_code == 400


async def test_the_key_is_rotated_and_no_stream_is_lost() -> None:
    """Events flow all the time, over one connection that began under the old key and goes on under the new one."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        old, old_key = device.access, device.key
        async with device.connected(node, {"trip:9": {}}) as client, wire_client(node.url) as other:
            await other.ask("hello", token=token("user:amy"), streams={})
            sending = trio.Event()

            async def keep_sending() -> None:
                number = 0
                while not sending.is_set():
                    number += 1
                    await other.send("trip:9", str(number))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_sending)
                await client.next("event", seq=3)
                assert (await device.rotate()).status_code == 200
                assert device.key is not old_key
                answer = await client.ask("refresh", token=device.access, dpop=device.over(node, device.access))
                assert (answer["op"], answer["streams"]) == ("ok", {})
                await client.next("event", seq=client.seen[-1].get("seq", 3) + 3)
                sending.set()
            last = (await other.send("trip:9", "the last one"))["seq"]
            await client.next("event", seq=last)
            seqs = [frame["seq"] for frame in client.seen if frame["op"] == "event"]
            assert seqs == list(range(1, last + 1))
            connection = next(c for c in node.node.shard.connections.values() if c.principal == device.principal)
            assert connection.bound_to == device.key.thumbprint
            resumed = answer["resume"]
        async with wire_client(node.url) as again:
            await again.say("resume", resume=resumed, dpop=device.over(node, resumed), streams={"trip:9": last})
            assert (await again.next("welcome"))["resumed"] is True
        with_old = device.proof(f"{BASE}/v1/oauth/token", key=old_key)
        assert (await device.refresh(proof=with_old)).status_code == 400
        assert (await device.refresh()).status_code == 200
        assert old != device.access


@pytest.mark.parametrize("what", ["not over the next", "not over the token", "same key", "no next", "stranger"])
async def test_a_rotation_needs_both_keys_about_each_other(what: str) -> None:
    """The old key signs the new one's proof, and that the refresh token: what is put together of other parts is refused, and
    the device goes on as it was."""
    async with serving_node() as node, http_of(node) as http:
        device = await onboarded(node, http)
        url, new = f"{BASE}/v1/devices/rotate", new_key()
        following = device.proof(url, device.refresh_token, key=new)
        mine = device.proof(url, following)
        if what == "not over the next":
            mine = device.proof(url, device.proof(url, device.refresh_token, key=new_key()))
        elif what == "not over the token":
            following = device.proof(url, "another token", key=new)
            mine = device.proof(url, following)
        elif what == "same key":
            following = device.proof(url, device.refresh_token)
            mine = device.proof(url, following)
        elif what == "no next":
            following = "x"
            mine = device.proof(url, following)
        else:
            mine = device.proof(url, following, key=new_key())
        body = {"refresh_token": device.refresh_token, "next_proof": following}
        answer = await http.post("/v1/devices/rotate", json=body, headers={"dpop": mine})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert (await device.refresh()).status_code == 200
        assert "device.rotated" not in names(await audit_of(node))


async def test_a_device_that_refreshes_while_it_is_revoked_is_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token that it gets meanwhile is dated after the admin's request, and ends all the same."""
    async with serving_node() as node, http_of(node) as http:
        device = await onboarded(node, http)
        assert node.directory is not None
        revoke_device = node.directory.revoke_device

        async def later(*args: Any, **fields: Any) -> None:
            await trio.sleep(0.002)
            assert (await device.refresh()).status_code == 200
            await revoke_device(*args, **fields)

        monkeypatch.setattr(node.directory, "revoke_device", later)
        assert (await http.delete(f"/v1/devices/{device.name}", headers=admin())).status_code == 204
        assert (await device.get("/v1/me/streams")).status_code == 401


@pytest.mark.parametrize("with_bus", [True, False])
async def test_a_lost_device_is_out_at_once_on_every_node(with_bus: bool) -> None:
    """Its connections, its tokens, its claim, and for good."""
    broker = MemoryBroker()
    async with serving_cluster(2, broker=broker) as nodes, http_of(nodes[0]) as http:
        device = await onboarded(nodes[0], http)
        claim = (await claim_for(http))["claim"]
        if not with_bus:
            await bus_away(broker, nodes)
        async with device.connected(nodes[0]) as here, device.connected(nodes[1]) as there:
            answer = await http.delete(f"/v1/devices/{quote(device.name)}", headers=admin())
            assert (answer.status_code, answer.content) == (204, b"")
            await ended(here)
            await ended(there)
        assert (await device.refresh()).status_code == 400
        assert (await device.redeem(claim)).status_code == 401
        async with wire_client(nodes[1].url) as client:
            await client.say("hello", token=device.access, dpop=device.over(nodes[1], device.access))
            await ended(client)
        listed = (await http.get("/v1/devices", headers=admin())).json()["devices"]
        assert listed[0]["revoked"] is True


async def test_each_change_is_one_audit_event_that_says_who_and_what() -> None:
    """And none of them, nor anything else that is written down, holds a secret."""
    async with serving_node() as node, http_of(node) as http:
        device = await onboarded(node, http)
        await device.refresh()
        await device.rotate()
        reused = device.refresh_token
        await device.refresh()
        await device.refresh(reused)
        await http.delete(f"/v1/devices/{device.name}", headers=admin())
        events = await audit_of(node)
        kinds = ["claim", "enrolled", "refreshed", "rotated", "refreshed", "reused", "revoked"]
        assert names(events) == [f"device.{kind}" for kind in kinds]
        by = [event.by for event in events]
        assert by == ["user:root", AUDITOR, AUDITOR, AUDITOR, AUDITOR, AUDITOR, "user:root"]
        bodies = [orjson.loads(event.body) for event in events]
        assert bodies[0]["device"] == bodies[-1]["device"] == "device:truck-7"
        assert bodies[0]["claim"] == bodies[1]["claim"]
        assert bodies[3]["next_key"] == bodies[4]["key"] == device.key.thumbprint
        everything = b"".join(event.body for event in events).decode()
        assert not [secret for secret in device.secrets if secret in everything]


async def test_a_stopped_directory_answers_so_and_loses_nothing() -> None:
    """Unavailable, to be repeated; the device's claim and tokens are as they were."""
    async with serving_node() as node, http_of(node) as http:
        claim, device = (await claim_for(http))["claim"], Device(http, time.time)
        node.log.fail_next("unavailable", "redeem_claim")  # type: ignore[attr-defined]
        assert (await device.redeem(claim)).status_code == 503
        assert (await device.redeem(claim)).status_code == 200
        node.log.fail_next("unavailable", "refresh")  # type: ignore[attr-defined]
        answer = await device.refresh()
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert (await device.refresh()).status_code == 200


async def test_another_tenants_admin_has_no_part_in_it() -> None:
    """It neither sees nor ends it, and its own device of that name is another."""
    async with serving_node() as node, http_of(node) as http:
        device = await onboarded(node, http)
        theirs = admin(tenant="other")
        assert (await http.get("/v1/devices", headers=theirs)).json() == {"devices": []}
        assert (await http.delete(f"/v1/devices/{device.name}", headers=theirs)).status_code == 404
        twin = Device(http, time.time)
        await twin.redeem((await claim_for(http, headers=theirs))["claim"])
        assert (twin.tenant, twin.principal) == ("other", device.principal)
        async with device.connected(node) as client:
            assert (await http.delete(f"/v1/devices/{device.name}", headers=theirs)).status_code == 204
            await until(lambda: node.node.gatekeeper.revocations.known("other", "principal", device.name))
            assert (await client.ask("ping"))["op"] == "pong"


async def test_a_node_that_is_started_again_knows_its_devices(caplog: pytest.LogCaptureFixture) -> None:
    """Tokens, keys and what was used; and no log line has a secret."""
    async with serving_node() as node, http_of(node) as http:
        device = await onboarded(node, http)
        used = device.refresh_token
        await device.refresh()
        await node.restart()
        async with http_of(node) as later:
            device.http = later
            assert (await device.get("/v1/me/streams")).status_code == 200
            async with device.connected(node) as client:
                assert (await client.ask("ping"))["op"] == "pong"
            assert (await device.refresh(used)).status_code == 400
        assert not [secret for secret in device.secrets if secret in caplog.text]
