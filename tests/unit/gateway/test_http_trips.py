"""gateway.http_trips: requests about trips, tracks and fences are one call each, answers JSON or another format."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from xml.etree import ElementTree

import httpx
import orjson
import pytest

from core.commands import Answer
from core.flight.machine import Refusal
from core.flight.times import read
from core.model import Member, StreamFacts
from core.ports import Refused, Unavailable
from core.tokens import Identity, TokenError
from core.tracks import Fence, Last, Sample
from gateway.http import make_app
from gateway.http_trips import FOREVER_MS, WRITTEN_AT_ONCE, router
from gateway.reads_service import State
from gateway.service import Credentials, Service
from gateway.trips_service import Asked, Shown, Track

AMY = {"authorization": "Bearer amy"}
OPS = {"authorization": "Bearer ops"}
KEY = "5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e55"
T0 = read("2026-11-21T06:40:00Z").ms
DEPOT = Fence("depot", "the depot", ((-33.9, 151.2),), 150.0, 600, ("trip:9",))


def sample(n: int) -> Sample:
    return Sample(
        "demo", "device:a", "trip:9", T0 + 1000 * n, n, -33.9, 151.2, 5.0, 14.2, None, None, "accepted", "", T0 + 1000 * n
    )  # fmt: skip


class Fake:
    """Service and trips in one: keeps the calls, answers the same to all."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fail: Exception | None = None
        self.samples = [sample(1), sample(2)]
        self.next: str | None = None
        self.dup = False
        self.refusal: Refusal | None = None

    async def prove(self, credentials: Credentials) -> Identity | TokenError:
        roles = {"amy": frozenset[str](), "ops": frozenset(("service",))}.get(credentials.token)
        return TokenError("no") if roles is None else Identity("demo", f"user:{credentials.token}", roles, 2e9)

    def denied(self, who: Identity, what: str) -> None: ...

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fail is not None:
            raise self.fail

    async def create_stream(self, who: Identity, stream: str, *, open: bool, members: Sequence[Member]) -> StreamFacts:
        self.note("create", stream, open, list(members))
        return StreamFacts(5, "demo", stream, 0, 0, 1, open, None)

    async def command(
        self, who: Identity, stream: str, *, key: str, type: str, body: object, expect: int | None
    ) -> Answer:
        self.note("command", who.principal, stream, key, type, body, expect)
        return Answer(range(8, 10), T0, self.dup, self.refusal)

    async def trip(self, who: Identity, trip: str) -> State:
        self.note("trip", who.principal, trip)
        return State(7, {"status": "underway"})

    async def track(self, who: Identity, trip: str, asked: Asked) -> Track:
        self.note("track", trip, asked)
        return Track(self.samples, self.next)

    async def live(self, who: Identity, trip: str) -> Sequence[Shown]:
        self.note("live", trip)
        last = Last(
            "demo", "device:a", "trip:9", T0, -33.9, 151.2, None, 14.2, 0.0, None, "degraded", T0, {"secret": "judge's"}
        )  # fmt: skip
        return [Shown(last, 4.26, False)]

    async def fences(self, who: Identity) -> Sequence[Fence]:
        self.note("fences", who.principal)
        return [DEPOT]

    async def fence(self, who: Identity, fence: str) -> Fence:
        self.note("fence", fence)
        return DEPOT

    async def put_fence(self, who: Identity, fence: Fence) -> bool:
        self.note("put", fence)
        return not self.dup

    async def drop_fence(self, who: Identity, fence: str) -> None:
        self.note("drop", fence)


@asynccontextmanager
async def client_of(fake: Fake) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(cast(Service, fake), trips=fake)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        yield client


async def test_a_trip_is_made_once() -> None:
    """201; 200 where it was there; by who may make streams alone."""
    fake = Fake()
    asked = {"trip": "s7", "members": [{"principal": "device:b", "role": "member"}], "open": True}
    async with client_of(fake) as client:
        made = await client.post("/v1/trips", json=asked, headers=OPS)
        assert (made.status_code, made.json()) == (201, {"trip": "s7", "stream": "trip:s7"})
        assert fake.calls == [("create", "trip:s7", True, [Member("device:b", "member")])]
        fake.fail = Refused("conflict", "it is there")
        assert (await client.post("/v1/trips", json=asked, headers=OPS)).status_code == 200
        fake.fail = Refused("too_large", "no")
        assert (await client.post("/v1/trips", json=asked, headers=OPS)).status_code == 413
        assert (await client.post("/v1/trips", json=asked, headers=AMY)).status_code == 403
        twice = asked | {"members": [{"principal": "device:b", "role": "member"}] * 2}
        assert (await client.post("/v1/trips", json=twice, headers=OPS)).json()["detail"] == (
            "members names a principal twice"
        )


async def test_a_command_is_one_call() -> None:
    """Answered with its events, as before for a repeated key, or with its refusal."""
    fake = Fake()
    asked = {"type": "arrive", "body": {"stop": "A"}, "expect": 7}
    async with client_of(fake) as client:
        given = await client.post("/v1/trips/9/commands", json=asked, headers=AMY | {"idempotency-key": KEY})
        told = {"stream": "trip:9", "seqs": [8, 9], "at": "2026-11-21T06:40:00.000Z", "dup": False}
        assert (given.status_code, given.json()) == (201, told)
        assert fake.calls == [("command", "user:amy", "trip:9", KEY, "arrive", {"stop": "A"}, 7)]
        fake.dup = True
        again = await client.post("/v1/trips/9/commands", json=asked, headers=AMY | {"idempotency-key": KEY})
        assert (again.status_code, again.json()["dup"]) == (200, True)
        fake.refusal = Refusal("unknown_stop", "no stop A")
        refused = await client.post("/v1/trips/9/commands", json=asked, headers=AMY | {"idempotency-key": KEY})
        assert (refused.status_code, refused.json()["reason"]) == (422, "unknown_stop")
        much = await client.post(
            "/v1/trips/9/commands",
            json={"type": "plan", "body": {"note": "x" * 60_000}},
            headers=AMY | {"idempotency-key": KEY},
        )
        assert (much.status_code, much.json()["code"]) == (413, "too_large")
        assert (await client.post("/v1/trips/9/commands", json=asked, headers=AMY)).status_code == 400


@pytest.mark.parametrize(
    ("path", "call", "answer"),
    [
        ("/v1/trips/9", ("trip", "user:amy", "9"), {"trip": "9", "seq": 7, "state": {"status": "underway"}}),
        ("/v1/trips/9/track", ("track", "9", Asked(0, FOREVER_MS)), {"next": None}),
        (
            "/v1/trips/9/track?from=2026-11-21T06:40:00Z&to=2026-11-21T17:40:00%2B11:00&subject=device:a&after=1.2.x&limit=5",
            ("track", "9", Asked(T0, T0, "device:a", "1.2.x", 5)),
            {"trip": "9"},
        ),
        (
            "/v1/trips/9/track?quarantined=true&simplify=12.5",
            ("track", "9", Asked(0, FOREVER_MS, quarantined=True, simplify_m=12.5)),
            {},
        ),
        (
            "/v1/trips/9/live",
            ("live", "9"),
            {
                "trip": "9",
                "subjects": [
                    {
                        "subject": "device:a", "at": "2026-11-21T06:40:00.000Z", "lat": -33.9, "lon": 151.2,
                        "speed": 14.2, "heading": 0.0, "verdict": "degraded", "age": 4.3, "stale": False,
                    }
                ],
            },
        ),
        ("/v1/fences/depot", ("fence", "depot"), {"fence": "depot", "points": [{"lat": -33.9, "lon": 151.2}]}),
    ],
)  # fmt: skip
async def test_each_route_is_one_call(path: str, call: tuple[Any, ...], answer: dict[str, Any]) -> None:
    """With what was asked, times as moments; and its answer as the service gave it."""
    fake = Fake()
    async with client_of(fake) as client:
        got = await client.get(path, headers=AMY)
    assert got.status_code == 200, got.text
    assert fake.calls == [call]
    assert got.json() | answer == got.json()


@pytest.mark.parametrize(
    ("query", "accept", "media"),
    [
        ("", "*/*", "application/json"),
        ("", "application/geo+json", "application/geo+json"),
        ("", "text/html, application/gpx+xml;q=0.9, text/csv", "application/gpx+xml"),
        ("", "text/csv", "text/csv; charset=utf-8"),
        ("?format=csv", "application/geo+json", "text/csv; charset=utf-8"),
        ("?format=json", "application/geo+json", "application/json"),
        ("?format=geojson", "", "application/geo+json"),
    ],
)
async def test_a_track_comes_in_the_format_that_is_asked_for(query: str, accept: str, media: str) -> None:
    """By the query, or else by Accept; what is no JSON of ours has a file's name."""
    async with client_of(Fake()) as client:
        got = await client.get(f"/v1/trips/9/track{query}", headers=AMY | {"accept": accept})
    assert (got.status_code, got.headers["content-type"], got.headers["vary"]) == (200, media, "Accept")
    assert "link" not in got.headers
    if media == "application/json":
        assert [one["seq"] for one in got.json()["samples"]] == [1, 2]
        return
    assert got.headers["content-disposition"].startswith('attachment; filename="9.')
    if media == "application/geo+json":
        assert got.json()["features"][0]["properties"]["stream"] == "trip:9"
    elif media == "application/gpx+xml":
        assert ElementTree.fromstring(got.text).tag.endswith("gpx")
    else:
        assert got.text.count("\r\n") == 3


@pytest.mark.parametrize("format", ["json", "geojson", "gpx", "csv"])
async def test_a_page_names_the_next(format: str) -> None:
    """In a Link header that any client can follow, whatever was asked with it; a long page is written beside the loop."""
    fake = Fake()
    fake.next, fake.samples = "17.4.device:a", [sample(n) for n in range(WRITTEN_AT_ONCE + 1)]
    async with client_of(fake) as client:
        got = await client.get(f"/v1/trips/9/track?format={format}&simplify=3&after=9.9.user:x", headers=AMY)
        [path] = re.findall(r'^<([^>]+)>; rel="next"$', got.headers["link"])
        await client.get(path, headers=AMY)
    if format == "json":
        assert (len(got.json()["samples"]), got.json()["next"]) == (WRITTEN_AT_ONCE + 1, fake.next)
    first, second = (call[2] for call in fake.calls)
    assert second == Asked(first.from_ms, first.to_ms, None, fake.next, first.limit, first.quarantined, 3)


async def test_fences_are_drawn_listed_and_removed() -> None:
    """A new one is 201, one in place of another 200; nobody has to think of a name for people."""
    fake = Fake()
    asked = {"points": [{"lat": 1, "lon": 2}, {"lat": 1, "lon": 3}, {"lat": 2, "lon": 2}], "dwell_s": 60}
    async with client_of(fake) as client:
        assert (await client.get("/v1/fences", headers=AMY)).json() == {
            "fences": [
                {
                    "fence": "depot", "name": "the depot", "points": [{"lat": -33.9, "lon": 151.2}], "radius_m": 150.0,
                    "dwell_s": 600, "streams": ["trip:9"],
                }
            ]
        }  # fmt: skip
        assert (await client.put("/v1/fences/yard", json=asked, headers=AMY)).status_code == 201
        fake.dup = True
        assert (await client.put("/v1/fences/yard", json=asked, headers=AMY)).status_code == 200
        assert (await client.delete("/v1/fences/yard", headers=AMY)).status_code == 204
    yard = Fence("yard", "yard", ((1.0, 2.0), (1.0, 3.0), (2.0, 2.0)), 0, 60, ())
    assert fake.calls == [("fences", "user:amy"), ("put", yard), ("put", yard), ("drop", "yard")]


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("GET", "/v1/trips/9/track?from=now", None, "from"),
        ("GET", "/v1/trips/9/track?to=2026-11-21T06:40:00", None, "to"),
        ("GET", "/v1/trips/9/track?limit=0", None, "limit"),
        ("GET", "/v1/trips/9/track?limit=10001", None, "limit"),
        ("GET", "/v1/trips/9/track?simplify=-1", None, "simplify"),
        ("GET", "/v1/trips/9/track?simplify=nan", None, "simplify"),
        ("GET", "/v1/trips/9/track?subject=amy", None, "subject"),
        ("GET", "/v1/trips/9/track?format=kml", None, "format"),
        ("GET", f"/v1/trips/9/track?after={'x' * 301}", None, "after"),
        ("GET", "/v1/trips/a%20b", None, "trip"),
        ("POST", "/v1/trips", {"trip": "a b"}, "trip"),
        ("POST", "/v1/trips", {"trip": "a", "plan": {}}, "plan"),
        ("PUT", "/v1/fences/f", {"points": []}, "points"),
        ("PUT", "/v1/fences/f", {"points": [{"lat": 91, "lon": 0}], "radius_m": 5}, "lat"),
        ("PUT", "/v1/fences/f", {"points": [{"lat": 1, "lon": 0}], "radius_m": -5}, "radius_m"),
        ("PUT", f"/v1/fences/{'f' * 65}", {"points": [{"lat": 1, "lon": 0}], "radius_m": 5}, "fence"),
    ],
)
async def test_what_is_malformed_is_named(method: str, path: str, body: object, named: str) -> None:
    """And no call is made."""
    fake = Fake()
    async with client_of(fake) as client:
        got = await client.request(method, path, json=body, headers=OPS)
    assert (got.status_code, fake.calls) == (400, []), got.text
    assert got.json()["code"] == "bad_request"
    assert named in got.json()["detail"]


async def test_without_a_token_nothing_is_read_and_trouble_is_said() -> None:
    """401, and 503 with when to come back."""
    fake = Fake()
    async with client_of(fake) as client:
        assert (await client.get("/v1/trips/9/track")).status_code == 401
        assert fake.calls == []
        fake.fail = Unavailable("away", 2.0)
        got = await client.get("/v1/trips/9/live", headers=AMY)
    assert (got.status_code, got.json()["code"], got.headers["retry-after"]) == (503, "unavailable", "2")


async def test_openapi_has_all_of_it() -> None:
    """Each operation with its errors and a summary, no schema that nobody uses; without a service of trips none of it."""
    fake = Fake()
    async with client_of(fake) as client:
        document = (await client.get("/openapi.json")).json()
    for route in router.routes:
        for method in route.methods:  # type: ignore[attr-defined]
            operation = document["paths"][route.path][method.lower()]  # type: ignore[attr-defined]
            assert operation["summary"]
            assert {"400", "401", "403", "503"} <= operation["responses"].keys()
    track = document["paths"]["/v1/trips/{trip}/track"]["get"]["responses"]["200"]
    assert {"application/json", "application/geo+json", "application/gpx+xml", "text/csv"} == track["content"].keys()
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', orjson.dumps(document).decode()))
    assert references == set(document["components"]["schemas"])
    assert "/v1/trips" not in make_app(cast(Service, fake)).openapi()["paths"]
