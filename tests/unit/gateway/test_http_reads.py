"""gateway.http_reads: requests about flights become one call to the service each, and its answers JSON."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import orjson
import pytest

from core.ports import Unavailable
from core.tokens import Identity, TokenError
from gateway.http import make_app
from gateway.http_reads import router
from gateway.past import NOW, AsOf
from gateway.reads_service import Listing, Rows, State
from gateway.service import Credentials, Service

AMY = {"authorization": "Bearer amy"}


class Fake:
    """Service and reads in one: keeps the calls, answers the same to all."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fail: Exception | None = None

    async def prove(self, credentials: Credentials) -> Identity | TokenError:
        return Identity("demo", "user:amy", frozenset(), 2e9) if credentials.token == "amy" else TokenError("no")

    def denied(self, who: Identity, what: str) -> None: ...

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fail is not None:
            raise self.fail

    async def flight(self, who: Identity, flight: str, as_of: AsOf) -> State:
        self.note("flight", who.principal, flight, as_of)
        return State(7, {"status": "departed"})

    async def crew(self, who: Identity, member: str, as_of: AsOf) -> State:
        self.note("crew", who.principal, member, as_of)
        return State(2, {"duties": []})

    async def manifest(self, who: Identity, flight: str, as_of: AsOf) -> Rows:
        self.note("manifest", who.principal, flight, as_of)
        return Rows(3, [{"passenger": "p1"}], 4)

    async def seats(self, who: Identity, flight: str, as_of: AsOf) -> Rows:
        self.note("seats", who.principal, flight, as_of)
        return Rows(3, [], None)

    async def roster(self, who: Identity, flight: str, as_of: AsOf) -> Rows:
        self.note("roster", who.principal, flight, as_of)
        return Rows(0, [], 0)

    async def board(self, who: Identity, *, station: str, day: str, after: str, limit: int) -> Listing:
        self.note("board", who.principal, station, day, after, limit)
        return Listing([{"key": "QX1"}], "QX1", 2)

    async def line(self, who: Identity, registration: str, *, after: str, limit: int) -> Listing:
        self.note("line", who.principal, registration, after, limit)
        return Listing([], None, 0)


@asynccontextmanager
async def client_of(fake: Fake) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(cast(Service, fake), reads=fake)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        yield client


MOMENT = AsOf(1_795_243_200_000, 1_795_243_800_500)
ASKED = "valid_at=2026-11-21T06:40:00Z&recorded_at=2026-11-21T17:50:00.500%2B11:00"


@pytest.mark.parametrize(
    ("path", "call", "answer"),
    [
        ("/v1/flights/QX1", ("flight", "user:amy", "QX1", NOW), {"flight": "QX1", "seq": 7, "as_of": None}),
        (f"/v1/flights/QX1?{ASKED}", ("flight", "user:amy", "QX1", MOMENT), {"seq": 7}),
        (
            "/v1/flights/QX1/manifest",
            ("manifest", "user:amy", "QX1", NOW),
            {"behind": 4, "rows": [{"passenger": "p1"}]},
        ),
        (f"/v1/flights/QX1/seats?{ASKED}", ("seats", "user:amy", "QX1", MOMENT), {"behind": None, "rows": []}),
        ("/v1/flights/QX1/roster", ("roster", "user:amy", "QX1", NOW), {"flight": "QX1", "behind": 0}),
        ("/v1/crew/c7", ("crew", "user:amy", "c7", NOW), {"crew": "c7", "state": {"duties": []}}),
        ("/v1/board", ("board", "user:amy", "", "", "", 100), {"rows": [{"key": "QX1"}], "next": "QX1", "behind": 2}),
        (
            "/v1/board?station=SYD&day=2026-11-21&after=QX0&limit=5",
            ("board", "user:amy", "SYD", "2026-11-21", "QX0", 5),
            {},
        ),
        ("/v1/aircraft/VH-ABC/line?after=2026", ("line", "user:amy", "VH-ABC", "2026", 100), {"next": None}),
    ],
)
async def test_each_route_is_one_call(path: str, call: tuple[Any, ...], answer: dict[str, Any]) -> None:
    """With what was asked, times as moments; and its answer as the service gave it."""
    fake = Fake()
    async with client_of(fake) as client:
        got = await client.get(path, headers=AMY)
    assert got.status_code == 200, got.text
    assert fake.calls == [call]
    assert got.json() | answer == got.json()


async def test_a_moment_is_told_back_in_utc() -> None:
    """Both parameters, or one; a plus sign that a client did not encode is understood."""
    async with client_of(Fake()) as client:
        both = (await client.get(f"/v1/flights/QX1?{ASKED}", headers=AMY)).json()
        one = (await client.get("/v1/flights/QX1?valid_at=2026-11-21T17:40:00+11:00", headers=AMY)).json()
    assert both["as_of"] == {"valid_at": "2026-11-21T06:40:00.000Z", "recorded_at": "2026-11-21T06:50:00.500Z"}
    assert one["as_of"] == {"valid_at": "2026-11-21T06:40:00.000Z", "recorded_at": None}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/flights/QX1?valid_at=now", "valid_at"),
        ("/v1/flights/QX1/seats?recorded_at=2026-11-21T06:40:00", "recorded_at"),
        ("/v1/flights/Q%20X", "flight"),
        ("/v1/board?station=sydney", "station"),
        ("/v1/board?day=today", "day"),
        ("/v1/board?limit=0", "limit"),
        ("/v1/board?limit=1001", "limit"),
        (f"/v1/board?after={'x' * 301}", "after"),
        ("/v1/crew/c%2F7x%20", "member"),
    ],
)
async def test_what_is_malformed_is_named(path: str, named: str) -> None:
    """And no call is made."""
    fake = Fake()
    async with client_of(fake) as client:
        got = await client.get(path, headers=AMY)
    assert (got.status_code, fake.calls) in ((400, []), (404, [])), got.text
    if got.status_code == 400:
        assert got.json()["code"] == "bad_request"
        assert named in got.json()["detail"]


async def test_without_a_token_nothing_is_read_and_trouble_is_said() -> None:
    """401, and 503 with when to come back."""
    fake = Fake()
    async with client_of(fake) as client:
        assert (await client.get("/v1/board")).status_code == 401
        assert fake.calls == []
        fake.fail = Unavailable("away", 2.0)
        got = await client.get("/v1/board", headers=AMY)
    assert (got.status_code, got.json()["code"], got.headers["retry-after"]) == (503, "unavailable", "2")


async def test_openapi_has_all_of_it() -> None:
    """Each operation with its errors, its examples, and no schema that nobody uses; without read models none of it."""
    fake = Fake()
    async with client_of(fake) as client:
        document = (await client.get("/openapi.json")).json()
    for route in router.routes:
        operation = document["paths"][route.path]["get"]  # type: ignore[attr-defined]
        assert operation["summary"]
        assert {"200", "400", "401", "403", "404", "429", "503"} <= operation["responses"].keys()
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', orjson.dumps(document).decode()))
    assert references == set(document["components"]["schemas"])
    bare = make_app(cast(Service, fake)).openapi()["paths"]
    assert "/v1/board" not in bare
