"""Sagas and firings over HTTP: started once under a key, read by who may, and what cannot be started is said."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from core.work import Effects, Firing
from gateway.http import make_app
from gateway.work_desk import WorkDesk
from store.memory import MemoryLog
from store.memory_work import MemoryWork
from tests.nodes import serving_node, token

SWAP = {"a": {"flight": "QX1", "passenger": "p1"}, "b": {"flight": "QX2", "passenger": "p2"}}
START = {"kind": "seat_swap", "key": "swap-1", "data": SWAP}
SERVICE = {"authorization": f"Bearer {token('service:ops', roles=['service'])}"}


@asynccontextmanager
async def api() -> AsyncIterator[tuple[httpx.AsyncClient, MemoryWork]]:
    async with serving_node() as node:
        assert isinstance(node.log, MemoryLog)
        work = MemoryWork(node.log, lambda: int(1000 * time.time()))
        app = make_app(node.desk, work=WorkDesk(node.node, work))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as http:
            yield http, work


async def test_a_saga_is_started_once_and_read() -> None:
    """201 with its address, then 200 with how it is; its next step is named, and its task is there once."""
    async with api() as (http, work):
        made = await http.post("/v1/sagas", json=START, headers=SERVICE)
        assert (made.status_code, made.headers["location"]) == (201, "/v1/sagas/swap-1")
        again = await http.post("/v1/sagas", json=START, headers=SERVICE)
        assert (again.status_code, again.json()) == (200, made.json())
        read = await http.get(made.headers["location"], headers=SERVICE)
        assert read.json() == made.json()
        assert (read.json()["state"], read.json()["next"], read.json()["steps"]) == ("waiting", "look at a", {})
        (task,) = await work.tasks("saga")
        assert abs(task.body["deadline_ms"] - task.made_ms - 3_600_000) < 1_000


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({**START, "kind": "dance"}, 400, "there is no saga 'dance'"),
        ({**START, "data": {}}, 400, "`a` must be {flight, passenger, inbox?}"),
        ({**START, "key": "two words"}, 400, "body.key"),
        ({**START, "deadline_s": 0}, 400, "body.deadline_s"),
        ({**START, "more": 1}, 400, "body.more"),
        ({**START, "data": {"x": "y" * 70_000}}, 413, "at most 65536 bytes"),
    ],
)
async def test_what_cannot_be_started(given: dict[str, Any], status: int, says: str) -> None:
    """A problem document that names the field, and nothing is there."""
    async with api() as (http, work):
        answer = await http.post("/v1/sagas", json=given, headers=SERVICE)
        assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
        assert await work.tasks("saga") == []


async def test_a_key_is_one_sagas() -> None:
    """The same key for another saga is a conflict, in another tenant it is another's."""
    async with api() as (http, work):
        await http.post("/v1/sagas", json=START, headers=SERVICE)
        other = {**START, "data": {**SWAP, "b": {"flight": "QX3", "passenger": "p3"}}}
        answer = await http.post("/v1/sagas", json=other, headers=SERVICE)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        acme = {"authorization": f"Bearer {token('service:ops', tenant='acme', roles=['service'])}"}
        assert (await http.get("/v1/sagas/swap-1", headers=acme)).status_code == 404
        assert (await http.post("/v1/sagas", json=other, headers=acme)).status_code == 201
        assert len(await work.tasks("saga")) == 2


async def test_firings_are_listed() -> None:
    """The newest first, of one rule or stream where asked, of the own tenant alone."""
    async with api() as (http, work):
        (lease, *_) = await work.beat("w1", ["rules"], 60_000)
        firings = [
            Firing(tenant, rule, "1", f"flight:QX{n}", n, n, "fired", {"n": n}, [{"kind": "message"}])
            for n, (tenant, rule) in enumerate([("demo", "a"), ("demo", "b"), ("acme", "a"), ("demo", "a")], 1)
        ]
        await work.commit(lease, 0, Effects(firings=firings))

        async def listed(**params: str) -> list[int]:
            answer = await http.get("/v1/rules/firings", params=params, headers=SERVICE)
            assert answer.status_code == 200, answer.text
            return [firing["seq"] for firing in answer.json()["firings"]]

        assert await listed() == [4, 2, 1]
        assert await listed(rule="a") == [4, 1]
        assert await listed(stream="flight:QX2") == [2]
        assert await listed(limit="1") == [4]
        answer = await http.get("/v1/rules/firings", params={"rule": "no such rule"}, headers=SERVICE)
        assert answer.status_code == 400
