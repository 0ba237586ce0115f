"""Service clients, revocations, keys and proofs over the real HTTP API: who may, what a guesser learns, what is written."""

from __future__ import annotations

import logging
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

from core.directory import ServiceClient
from core.dpop import make_proof
from core.jws import read
from core.keys import SigningKey, parse_jwks
from core.tenants import Tenants
from gateway.http import make_app
from gateway.office_service import Caller, Claim, Grant, NewClient
from gateway.service import Credentials
from tests.devices import BASE, Device, admin, audit_of, claim_for, http_of, names, new_key
from tests.nodes import TestNode, serving_cluster, serving_node, until
from tests.wire_client import hello, wire_client

FORM = {"grant_type": "client_credentials"}
URL = f"{BASE}/v1/oauth/token"


async def client_of(http: httpx.AsyncClient, *roles: str, principal: str = "service:eta") -> tuple[str, str]:
    """A new service client: its id and secret."""
    answer = await http.post("/v1/clients", json={"principal": principal, "roles": list(roles)}, headers=admin())
    assert answer.status_code == 201, answer.text
    return answer.json()["client_id"], answer.json()["client_secret"]


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{client_id}:{secret}".encode()).decode()}


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[TestNode, httpx.AsyncClient]]:
    async with serving_node() as node, http_of(node) as http:
        yield node, http


# Service clients


async def test_a_service_gets_tokens_with_its_secret() -> None:
    """By HTTP Basic or in the form; signed with a key of the gateway's key set; good on the socket and over HTTP."""
    async with serving() as (node, http):
        client_id, secret = await client_of(http, "service")
        for extra, headers in (
            ({}, basic(client_id, secret)),
            ({"client_id": client_id, "client_secret": secret}, {}),
        ):
            answer = await http.post("/v1/oauth/token", data={**FORM, **extra}, headers=headers)
            assert (answer.status_code, answer.headers.get_list("cache-control")) == (200, ["no-store"])
            got = answer.json()
            assert {name: got[name] for name in ("token_type", "expires_in", "scope", "tenant", "principal")} == {
                "token_type": "Bearer",
                "expires_in": 600,
                "scope": "service",
                "tenant": "demo",
                "principal": "service:eta",
            }
            assert "refresh_token" not in got
            keys, _ = parse_jwks((await http.get("/v1/jwks.json")).content, ("EdDSA",))
            jws = read(got["access_token"])
            assert keys[jws.header["kid"]].verify(jws.signed, jws.signature)  # type: ignore[union-attr,index]
            bearer = {"authorization": f"Bearer {got['access_token']}"}
            stream = f"chat:{jws.claims['jti']}"  # type: ignore[union-attr]
            assert (await http.post("/v1/streams", json={"stream": stream}, headers=bearer)).status_code == 201
            async with wire_client(node.url) as client:
                assert (await client.ask("hello", token=got["access_token"]))["principal"] == "service:eta"


async def test_scope_narrows_the_roles() -> None:
    """To some of the client's own, or none; never to others."""
    async with serving() as (_, http):
        client_id, secret = await client_of(http, "service", "auditor")
        for scope, said in (("auditor", "auditor"), (" service  auditor ", "auditor service"), ("service", "service")):
            answer = await http.post("/v1/oauth/token", data={**FORM, "scope": scope}, headers=basic(client_id, secret))
            assert answer.json()["scope"] == said
        answer = await http.post("/v1/oauth/token", data={**FORM, "scope": "admin"}, headers=basic(client_id, secret))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


async def test_with_a_proof_the_token_is_bound_to_its_key() -> None:
    """And then good with a proof only. A bad proof, or one used before, brings no token."""
    async with serving() as (_, http):
        client_id, secret = await client_of(http)
        key, now_s = new_key(), time.time()
        proof = make_proof(key, method="POST", url=URL, token=None, now_s=now_s, jti="first")
        headers = {**basic(client_id, secret), "dpop": proof}
        got = (await http.post("/v1/oauth/token", data=FORM, headers=headers)).json()
        assert got["token_type"] == "DPoP"
        mine = {"authorization": f"Bearer {got['access_token']}"}
        assert (await http.get("/v1/me/streams", headers=mine)).status_code == 401
        over = make_proof(
            key, method="GET", url=f"{BASE}/v1/me/streams", token=got["access_token"], now_s=now_s, jti="next"
        )
        mine = {"authorization": f"DPoP {got['access_token']}", "dpop": over}
        assert (await http.get("/v1/me/streams", headers=mine)).status_code == 200
        for bad in (proof, "x", make_proof(key, method="PUT", url=URL, token=None, now_s=now_s, jti="p")):
            answer = await http.post("/v1/oauth/token", data=FORM, headers={**headers, "dpop": bad})
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")


async def test_an_unknown_client_and_a_wrong_secret_are_the_same_answer() -> None:
    """Byte by byte, whatever was tried, and each asks the directory once."""
    async with serving() as (node, http):
        client_id, secret = await client_of(http)
        asked: list[str] = []
        directory: Any = node.directory
        find = directory.client

        async def noted(client_id: str) -> ServiceClient | None:
            asked.append(client_id)
            found: ServiceClient | None = await find(client_id)
            return found

        directory.client = noted
        tried = [
            (client_id, "wrong"),
            (client_id, ""),
            (client_id, secret[:-1]),
            (client_id, secret + "A"),
            (client_id, "A" * 5_000),
            ("client-none", secret),
            ("", secret),
            ("../../etc", secret),
            ("-", "-"),
            ("ü" * 40, "ü"),
        ]
        answers = [await http.post("/v1/oauth/token", data=FORM, headers=basic(*each)) for each in tried]
        assert {(answer.status_code, answer.content) for answer in answers} == {(401, answers[0].content)}
        assert answers[0].json()["error"] == "invalid_client"
        assert answers[0].headers["www-authenticate"] == 'Basic realm="readback"'
        assert len(asked) == len(tried)
        bare = await http.post("/v1/oauth/token", data={**FORM, "client_id": client_id, "client_secret": "x"})
        assert (bare.status_code, bare.content) == (401, answers[0].content)
        assert "www-authenticate" not in bare.headers


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "invalid_request"),
        (b"grant_type=", "invalid_request"),
        (b"grant_type=password&username=a&password=b", "unsupported_grant_type"),
        (b"grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        (b"grant_type=client_credentials&client_id=a&client_secret=%FF", "invalid_request"),
        (b"grant_type=client_credentials&" + b"&".join(b"a%d=1" % n for n in range(40)), "invalid_request"),
        (b"\xff\xfe", "invalid_request"),
        (b"grant_type=refresh_token", "invalid_dpop_proof"),
        (b"grant_type=refresh_token&refresh_token=x", "invalid_dpop_proof"),
    ],
)
async def test_a_form_that_cannot_be_used_says_why_in_oauths_words(content: bytes, error: str) -> None:
    """And in the wire's beside them; nothing is cached."""
    async with serving() as (_, http):
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = await http.post("/v1/oauth/token", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, error)
        assert answer.json()["code"] in ("bad_request", "unauthorized")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers.get_list("cache-control") == ["no-store"]


async def test_a_client_proves_itself_in_one_way() -> None:
    """JSON is no form; Bearer is no client's scheme; Basic that is not base64 is no client; both ways at once are one too
    many."""
    async with serving() as (_, http):
        client_id, secret = await client_of(http)
        answer = await http.post("/v1/oauth/token", json=FORM, headers=basic(client_id, secret))
        assert answer.json()["error"] == "invalid_request"
        for authorization, error in (
            ("Bearer x", "invalid_request"),
            ("Basic ???", "invalid_client"),
            ("Basic bm8=", "invalid_client"),
            ("Basic /////w==", "invalid_client"),
        ):
            answer = await http.post("/v1/oauth/token", data=FORM, headers={"authorization": authorization})
            assert answer.json()["error"] == error, authorization
        answer = await http.post(
            "/v1/oauth/token", data={**FORM, "client_secret": secret}, headers=basic(client_id, secret)
        )
        assert answer.json()["error"] == "invalid_request"


async def test_a_removed_client_is_out_with_all_its_tokens_on_every_node() -> None:
    """Its connections end; its secret is nothing any more; one event."""
    async with serving_cluster(2) as nodes, http_of(nodes[0]) as http:
        client_id, secret = await client_of(http)
        got = (await http.post("/v1/oauth/token", data=FORM, headers=basic(client_id, secret))).json()
        async with wire_client(nodes[1].url) as client:
            await client.ask("hello", token=got["access_token"])
            listed = (await http.get("/v1/clients", headers=admin("auditor"))).json()["clients"]
            assert [each["client_id"] for each in listed] == [client_id]
            assert (await http.delete(f"/v1/clients/{client_id}", headers=admin())).status_code == 204
            assert (await client.closed())[0] == 4502
        bearer = {"authorization": f"Bearer {got['access_token']}"}
        assert (await http.get("/v1/me/streams", headers=bearer)).status_code == 401
        answer = await http.post("/v1/oauth/token", data=FORM, headers=basic(client_id, secret))
        assert answer.json()["error"] == "invalid_client"
        assert (await http.delete(f"/v1/clients/{client_id}", headers=admin())).status_code == 404
        events = await audit_of(nodes[0])
        assert names(events) == ["client.added", "client.removed"]
        assert orjson.loads(events[0].body)["roles"] == []
        assert secret not in "".join(str(event.body) for event in events)


@pytest.mark.parametrize(
    "body",
    [
        {"principal": "user:amy"},
        {"principal": "service:readback"},
        {"principal": "service:"},
        {"principal": "service:x", "roles": ["root"]},
        {"principal": "service:x", "roles": ["admin", "admin", "admin", "admin"]},
        {"principal": "service:x", "secret": "mine"},
        {},
    ],
)
async def test_a_client_is_a_service_with_known_roles(body: dict[str, Any]) -> None:
    """Not a person, not the gateway itself, not with a secret that somebody thought of."""
    async with serving() as (node, http):
        assert (await http.post("/v1/clients", json=body, headers=admin())).status_code == 400
        assert await audit_of(node) == []


async def test_a_stopped_tenants_services_get_no_tokens() -> None:
    """Only who has the right secret is told why."""
    tenants = Tenants(only_named=True)
    async with serving_node() as node, http_of(node) as http:
        client_id, secret = await client_of(http)
        node.node.gatekeeper.tenants = tenants
        answer = await http.post("/v1/oauth/token", data=FORM, headers=basic(client_id, secret))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        answer = await http.post("/v1/oauth/token", data=FORM, headers=basic(client_id, "x"))
        assert answer.json()["error"] == "invalid_client"


# Guessing


async def test_who_guesses_is_not_listened_to_for_a_while() -> None:
    """Claims, refresh tokens, secrets and proofs count together, by address; others are served, and so is it later."""
    async with serving_node() as node, http_of(node, "203.0.113.9") as guesser, http_of(node, "203.0.113.10") as other:
        client_id, secret = await client_of(other)
        device = Device(guesser, time.time)
        headers = basic("client-none", "guess")
        statuses = []
        for number in range(12):
            statuses += [
                (await guesser.post("/v1/oauth/token", data=FORM, headers=headers)).status_code,
                (await device.redeem(f"claim-{number}")).status_code,
                (await device.refresh(f"token-{number}")).status_code,
            ]
        assert set(statuses[:30]) == {401, 400}
        assert set(statuses[30:]) == {429}
        answer = await device.redeem("claim")
        assert (answer.json()["code"], int(answer.headers["retry-after"]) >= 1) == ("rate_limited", True)
        answer = await device.refresh("token")
        assert (answer.status_code, answer.json()["error"]) == (429, "temporarily_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        answer = await other.post("/v1/oauth/token", data=FORM, headers=basic(client_id, secret))
        assert answer.status_code == 200
        assert names(await audit_of(node)) == ["client.added"]


# Revocations


async def test_revoke_list_lift() -> None:
    """A principal's connections end at once, on every node; the list names it, until it is lifted; an event each."""
    async with serving_cluster(2) as nodes, http_of(nodes[0]) as http:
        async with hello(nodes[1].url, "user:amy") as amy:
            body = {"scope": "principal", "value": "user:amy", "reason": "left the company"}
            answer = await http.post("/v1/revocations", json=body, headers=admin())
            assert answer.status_code == 201
            assert answer.json() | {"at": ""} == {**body, "at": "", "until": None, "by": "user:root", "lifted": False}
            assert (await amy.closed())[0] == 4502
        listed = (await http.get("/v1/revocations", headers=admin("auditor"))).json()["revocations"]
        assert listed == [answer.json()]
        at = {"scope": "principal", "value": "user:amy"}
        lifted = await http.delete("/v1/revocations", params=at, headers=admin())
        assert (lifted.status_code, lifted.json()["lifted"]) == (200, True)
        assert (await http.get("/v1/revocations", headers=admin())).json() == {"revocations": []}
        assert (await http.delete("/v1/revocations", params=at, headers=admin())).status_code == 404
        async with hello(nodes[1].url, "user:amy"):
            events = await audit_of(nodes[0])
        assert names(events) == ["revoked", "revocation.lifted"]
        assert orjson.loads(events[0].body) == body
        assert events[1].by == "user:root"


@pytest.mark.parametrize("scope", ["token", "session"])
async def test_one_token_or_one_session_is_revoked(scope: str) -> None:
    """The others of the same principal go on."""
    async with serving() as (node, http):
        client_id, secret = await client_of(http)
        tokens = [
            (await http.post("/v1/oauth/token", data=FORM, headers=basic(client_id, secret))).json()["access_token"]
            for _ in range(2)
        ]
        async with wire_client(node.url) as one, wire_client(node.url) as two:
            welcome = await one.ask("hello", token=tokens[0])
            await two.ask("hello", token=tokens[1])
            jws: Any = read(tokens[0])
            value = jws.claims["jti"] if scope == "token" else welcome["session"]
            body = {"scope": scope, "value": value}
            assert (await http.post("/v1/revocations", json=body, headers=admin())).status_code == 201
            assert (await one.closed())[0] == 4502
            assert (await two.ask("ping"))["op"] == "pong"


@pytest.mark.parametrize(
    "body",
    [
        {"scope": "tenant", "value": ""},
        {"scope": "tenant", "value": "demo"},
        {"scope": "principal", "value": "amy"},
        {"scope": "token", "value": ""},
        {"scope": "token", "value": "a\nb"},
        {"scope": "token", "value": "x", "reason": "r" * 501},
        {"scope": "token", "value": "x", "tenant": "other"},
        {"value": "x"},
    ],
)
async def test_what_cannot_be_revoked_here(body: dict[str, Any]) -> None:
    """A whole tenant is the operator's to stop, not its admins'; the rest is no revocation."""
    async with serving() as (node, http):
        assert (await http.post("/v1/revocations", json=body, headers=admin())).status_code == 400
        assert await audit_of(node) == []


# Claims as pictures, keys, proofs, and where nothing is offered


async def test_a_claim_as_a_qr_code() -> None:
    """SVG or PNG, as was asked for; nothing that a cache would keep."""
    async with serving() as (_, http):
        for media, begins in (("image/svg+xml", b"<?xml"), ("image/png", b"\x89PNG")):
            headers = {**admin(), "accept": media}
            answer = await http.post("/v1/devices/claims", json={"device": "device:truck-7"}, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (201, media)
            assert answer.content.startswith(begins)
            assert answer.headers["cache-control"] == "no-store"


async def test_the_public_url_is_what_a_claim_names() -> None:
    """Where one is set; else what the admin's own request came to."""
    async with serving() as (node, http):
        assert "u=http%3A%2F%2Freadback.test&" in (await claim_for(http))["uri"]
        node.node.proving.public_url = "https://gateway.example"
        assert "u=https%3A%2F%2Fgateway.example&" in (await claim_for(http))["uri"]


@pytest.mark.parametrize("device", ["truck-7", "user:amy", "device:", "device:a b", "device:" + "x" * 129])
async def test_a_claim_is_for_a_device(device: str) -> None:
    """By its principal."""
    async with serving() as (_, http):
        answer = await http.post("/v1/devices/claims", json={"device": device}, headers=admin())
        assert answer.status_code == 400


async def test_the_key_set_holds_public_halves_only() -> None:
    """And all keys of which tokens may be about."""
    async with serving() as (_, http):
        answer = await http.get("/v1/jwks.json")
        [jwk] = answer.json()["keys"]
        assert jwk.keys() == {"kty", "crv", "x", "kid", "alg", "use"}


async def test_a_log_without_hashes_proves_nothing() -> None:
    """The model in memory; over Postgres tests/contract has it. Not for everybody either."""
    async with serving() as (_, http):
        params: dict[str, str | int] = {"stream": "audit:log", "seq": 1}
        answer = await http.get("/v1/audit/proof", params=params, headers=admin("auditor"))
        assert (answer.status_code, answer.json()["detail"]) == (404, "this log keeps no hashes")
        answer = await http.get("/v1/audit/proof", params=params, headers=admin("service"))
        assert answer.status_code == 403


async def test_a_gateway_without_signing_keys_issues_nothing() -> None:
    """It says so, to whoever asks; without an office the routes are not there at all."""
    async with serving() as (node, http):
        client_id, secret = await client_of(http)
        node.node.proving.signer = None
        answer = await http.post("/v1/devices/claims", json={"device": "device:x"}, headers=admin())
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        answer = await http.post("/v1/oauth/token", data=FORM, headers=basic(client_id, secret))
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        bare = make_app(node.desk)
        assert "/v1/devices" not in bare.openapi()["paths"]
        transport = httpx.ASGITransport(bare)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as other:
            assert (await other.post("/v1/oauth/token", data=FORM)).status_code == 404


async def test_the_directory_away_is_said_in_oauths_words() -> None:
    """With a time to come back."""
    async with serving() as (node, http):
        client_id, secret = await client_of(http)
        node.log.fail_next("unavailable", "client")  # type: ignore[attr-defined]
        answer = await http.post("/v1/oauth/token", data=FORM, headers=basic(client_id, secret))
        assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
        assert answer.headers["retry-after"] == "1"


async def test_refusals_of_the_office_name_the_rule() -> None:
    """Everything of it, for everybody without a role."""
    async with serving() as (_, http):
        for method, path, body in (
            ("POST", "/v1/clients", {"principal": "service:x"}),
            ("GET", "/v1/clients", None),
            ("DELETE", "/v1/clients/client-x", None),
            ("POST", "/v1/devices/claims", {"device": "device:x"}),
            ("GET", "/v1/devices", None),
            ("DELETE", "/v1/devices/device:x", None),
            ("POST", "/v1/revocations", {"scope": "token", "value": "x"}),
            ("GET", "/v1/revocations", None),
            ("DELETE", "/v1/revocations?scope=principal&value=user:amy", None),
        ):
            for roles in ("service", "nobody-knows"):
                answer = await http.request(method, path, json=body, headers=admin(roles))
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
                assert "admins" in answer.json()["detail"]
            assert (await http.request(method, path, json=body)).status_code == 401


def test_no_repr_shows_a_secret() -> None:
    """Values that hold one, as a log line or a traceback would print them."""
    client = ServiceClient("client-1", "demo", "service:x", (), bytes(32), 0)
    shown = repr(
        [
            NewClient(client, "s3cret"),
            Claim("device:x", 0, "s3cret", "readback://claim?c=s3cret"),
            Grant("demo", "device:x", (), "s3cret", 600, True, "s3cret"),
            Caller("POST", "h", "/", "", "s3cret", "s3cret"),
            Credentials("bearer", "s3cret", "s3cret", "GET", "h", "/"),
            SigningKey("k", b"s3cret" + bytes(26)),
        ]
    )
    assert "s3cret" not in shown


async def test_no_log_line_has_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """At the finest level, for what went well and for what did not."""
    caplog.set_level(logging.DEBUG)
    async with serving() as (node, http):
        client_id, secret = await client_of(http)
        got = (await http.post("/v1/oauth/token", data=FORM, headers=basic(client_id, secret))).json()
        await http.post("/v1/oauth/token", data=FORM, headers=basic(client_id, secret + "wrong"))
        device = Device(http, time.time)
        await device.scan((await claim_for(http))["uri"])
        await device.refresh()
        await device.rotate()
        await until(lambda: node.node.measures.unproven)
        held = device.secrets | {secret, got["access_token"], basic(client_id, secret)["authorization"][6:]}
        assert not [each for each in held if each in caplog.text]
