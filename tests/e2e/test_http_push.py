"""Phones over HTTP: registered by whoever they are of, seen and dropped by nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gateway.http import make_app
from gateway.push.desk import PushDesk
from store.memory import MemoryLog
from store.memory_tracks import MemoryTracks
from tests.nodes import serving_node, token

IPHONE = {"service": "apns", "token": "00FC13adff785122b4ad28809a342098", "app": "example.buses"}
ANDROID = {"service": "fcm", "token": "fGci0123456789:APA91b-17", "app": "example.buses"}
PUSHES = "/v1/me/pushes"


def by(principal: str, tenant: str = "demo") -> dict[str, str]:
    return {"authorization": f"Bearer {token(principal, tenant=tenant)}"}


AMY = by("user:amy")


@asynccontextmanager
async def api() -> AsyncIterator[tuple[httpx.AsyncClient, MemoryLog]]:
    async with serving_node() as node:
        assert isinstance(node.log, MemoryLog)
        app = make_app(node.desk, pushes=PushDesk(MemoryTracks(node.log), node.node.wall))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as http:
            yield http, node.log


async def listed(http: httpx.AsyncClient, who: dict[str, str] = AMY) -> list[str]:
    answer = await http.get(PUSHES, headers=who)
    assert answer.status_code == 200
    return [push["token"] for push in answer.json()["pushes"]]


async def test_phones_are_registered_seen_and_dropped() -> None:
    """Apple's token is one string however its digits are written; registering twice changes nothing but the time."""
    async with api() as (http, _):
        made = await http.post(PUSHES, json=IPHONE, headers=AMY)
        assert made.status_code == 201
        assert made.json()["token"] == IPHONE["token"].lower()
        assert made.json()["at"].endswith("Z")
        for each in (IPHONE, ANDROID):
            await http.post(PUSHES, json=each, headers=AMY)
        assert set(await listed(http)) == {IPHONE["token"].lower(), ANDROID["token"]}
        assert (await http.delete(f"{PUSHES}/{IPHONE['token']}", headers=AMY)).status_code == 204
        assert (await http.delete(f"{PUSHES}/{ANDROID['token']}", headers=AMY)).status_code == 204
        assert await listed(http) == []


async def test_nobody_elses() -> None:
    """What others registered is not listed and cannot be dropped, in the tenant or out of it; a phone changes hands whole."""
    async with api() as (http, _):
        await http.post(PUSHES, json=ANDROID, headers=AMY)
        for other in (by("user:bob"), by("user:amy", "acme")):
            assert await listed(http, other) == []
            answer = await http.delete(f"{PUSHES}/{ANDROID['token']}", headers=other)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert await listed(http) == [ANDROID["token"]]
        await http.post(PUSHES, json=ANDROID, headers=by("user:bob"))
        assert (await listed(http), await listed(http, by("user:bob"))) == ([], [ANDROID["token"]])


async def test_users_alone_have_phones() -> None:
    """A device or a service has no inbox that alerts come to."""
    async with api() as (http, _):
        answer = await http.post(PUSHES, json=ANDROID, headers=by("device:truck-7"))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"service": "wns"}, "body.service"),
        ({"token": "short"}, "body.token"),
        ({"token": "x" * 1_025}, "body.token"),
        ({"token": "a token with spaces"}, "body.token"),
        ({"service": "apns"}, "token: of apns it is the device token in hexadecimal"),
        ({"service": "apns", "token": "0" * 33}, "token: of apns"),
        ({"app": ""}, "body.app"),
        ({"app": "../x"}, "body.app"),
        ({"more": 1}, "body.more"),
    ],
)
async def test_what_cannot_be_registered(changed: dict[str, Any], says: str) -> None:
    """A problem document that names the field, and nothing is there."""
    async with api() as (http, _):
        answer = await http.post(PUSHES, json={**ANDROID, **changed}, headers=AMY)
        assert (answer.status_code, says in answer.json()["detail"]) == (400, True), answer.text
        assert await listed(http) == []


async def test_a_store_that_is_away_says_so() -> None:
    """503, and the same request goes well later."""
    async with api() as (http, log):
        log.fail_next("unavailable", "add_push")
        assert (await http.post(PUSHES, json=ANDROID, headers=AMY)).status_code == 503
        assert (await http.post(PUSHES, json=ANDROID, headers=AMY)).status_code == 201


async def test_without_tracks_there_are_no_such_routes() -> None:
    """And the document of the API has none."""
    async with serving_node() as node:
        app = make_app(node.desk)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as http:
            assert (await http.get(PUSHES, headers=AMY)).status_code == 404
            assert PUSHES not in (await http.get("/openapi.json")).json()["paths"]
