"""gateway.http_collect: what apps send is handed on as it was meant, and answered so that no app says it for ever."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest

from core.collectors.values import Report
from core.ports import Unavailable
from core.tokens import Identity, TokenError
from core.tracks import AppKey
from gateway.collect_service import NewAppKey
from gateway.http import make_app
from gateway.live.positions import Taken
from gateway.service import Credentials, Service, WireError

SECRET = "7h3k9m2q5v8x0c4e6g1j3n5p7r"
NOW_MS = 1_795_253_999_000
AT = "2026-11-21T09:30:00.000Z"
BEARER = {"authorization": "Bearer amy"}
LOCATION = {"_type": "location", "lat": -33.9, "lon": 151.2, "tst": 1795253400}
ACCEPTED = Taken([{"seq": 0, "verdict": "accepted"}], 1, 2.0)


class Fake:
    """A collector that notes what it is asked, and whose answer may be set."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.report = Report()
        self.answer: Taken | Exception = ACCEPTED

    async def prove(self, credentials: Credentials) -> Identity | TokenError:
        good = credentials.token == "amy"
        return Identity("demo", "user:amy", frozenset({"admin"}), 2e9) if good else TokenError("bad signature")

    def denied(self, who: Identity, what: str) -> None:
        self.asked.append(("denied", who.principal, what))

    def now_ms(self) -> int:
        return NOW_MS

    def _answer(self) -> Taken:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def positions(
        self, who: Identity, stream: str, fixes: list[object], signature: str | None, nav: object
    ) -> Taken:
        self.asked.append(("positions", who.principal, stream, fixes, signature, nav))
        return self._answer()

    async def collect(self, app: str, address: str, secret: str, report: Report) -> Taken:
        self.asked.append((app, address, secret))
        self.report = report
        return self._answer()

    async def mint(self, who: Identity, device: str, stream: str, base_url: str) -> NewAppKey:
        self.asked.append(("mint", who.principal, device, stream, base_url))
        return NewAppKey(AppKey("demo", device, stream, 1_795_253_400_000), SECRET, base_url)

    async def bind(self, who: Identity, device: str, stream: str) -> None:
        self.asked.append(("bind", who.principal, device, stream))

    async def drop(self, who: Identity, device: str) -> None:
        self.asked.append(("drop", who.principal, device))

    async def keys(self, who: Identity) -> list[AppKey]:
        return [AppKey("demo", "device:truck-7", "trip:9", 1_795_253_400_000)]


@pytest.fixture
def fake() -> Fake:
    return Fake()


@asynccontextmanager
async def client_of(fake: Fake, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(cast(Service, fake), collect=fake, **options)
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://readback.test") as client:
        yield client


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    return document


# POST /v1/positions


async def test_positions_are_handed_on_as_they_are(fake: Fake) -> None:
    """Fixes, signature and what its navigation says untouched: only who knows the key may judge them."""
    fix = {"seq": 41, "at": AT, "lat": -33.9, "lon": 151.2, "alt": None, "beside": [1]}
    async with client_of(fake) as http:
        body = {"stream": "trip:9", "fixes": [fix], "sig": "c2ln", "nav": {"at": AT}}
        answer = await http.post("/v1/positions", json=body, headers=BEARER)
    assert answer.status_code == 200
    assert answer.json() == {"accepted": 1, "verdicts": [{"seq": 0, "verdict": "accepted"}], "next_in": 2.0}
    assert fake.asked == [("positions", "user:amy", "trip:9", [fix], "c2ln", {"at": AT})]


async def test_positions_need_a_token(fake: Fake) -> None:
    """An app's key is none."""
    async with client_of(fake) as http:
        body = {"stream": "trip:9", "fixes": [{}]}
        problem(await http.post("/v1/positions", json=body), 401, "unauthorized")
        problem(await http.post("/v1/positions", json=body, headers=basic("", SECRET)), 401, "unauthorized")
    assert fake.asked == []


@pytest.mark.parametrize("body", [{}, {"stream": "trip:9"}, {"stream": "9", "fixes": []}, {"fixes": [], "sig": 1}])
async def test_what_is_no_message_of_positions_is_refused(fake: Fake, body: dict[str, Any]) -> None:
    """By name of what is wrong."""
    async with client_of(fake) as http:
        document = problem(await http.post("/v1/positions", json=body, headers=BEARER), 400, "bad_request")
    assert document["errors"]


# OsmAnd and Traccar Client


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_query_is_taken(fake: Fake, method: str) -> None:
    """Answered with 200 and nothing, whichever way it comes; from whom it comes is known."""
    async with client_of(fake) as http:
        sent = {"id": SECRET, "lat": "-33.9", "lon": "151.2", "timestamp": "1795253400", "speed": "10"}
        answer = await http.request(method, "/v1/collect/osmand", params=sent)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert answer.headers["readback-verdicts"] == "accepted=1"
    assert fake.asked == [("osmand", "192.0.2.7", SECRET)]
    [fix] = fake.report.fixes
    assert (fix.at_ms, fix.speed) == (1_795_253_400_000, 5.14)


async def test_a_form_and_json_are_taken(fake: Fake) -> None:
    """JSON whatever it is called."""
    said = {"location": {"timestamp": AT, "coords": {"latitude": -33.9, "longitude": 151.2}}, "device_id": SECRET}
    async with client_of(fake) as http:
        form = await http.post("/v1/collect/osmand", data={"id": SECRET, "location": "1,2"})
        assert (form.status_code, fake.report.fixes[0].at_ms) == (200, NOW_MS)
        json = await http.post("/v1/collect/osmand", json=said)
        assert (json.status_code, fake.report.fixes[0].lat) == (200, -33.9)
        plain = await http.post("/v1/collect/osmand", content=httpx.Request("POST", "/", json=said).content)
        assert (plain.status_code, fake.report.fixes[0].lat) == (200, -33.9)
    assert {secret for _, _, secret in fake.asked} == {SECRET}


async def test_the_key_may_be_a_password(fake: Fake) -> None:
    """For trackers that can: then it is in no address."""
    async with client_of(fake) as http:
        answer = await http.get("/v1/collect/osmand?lat=1&lon=2", headers=basic("any", SECRET))
    assert (answer.status_code, fake.asked) == (200, [("osmand", "192.0.2.7", SECRET)])


async def test_without_an_id_there_is_nobody_to_ask_for(fake: Fake) -> None:
    """It is told what is missing."""
    async with client_of(fake) as http:
        document = problem(await http.get("/v1/collect/osmand?lat=1&lon=2"), 400, "bad_request")
    assert document["detail"].startswith("id:")
    assert fake.asked == []


async def test_what_became_of_fixes_is_said_in_a_header(fake: Fake) -> None:
    """Quarantined and rejected ones are answered 200 too: an app would repeat them for ever, and send nothing newer."""
    verdicts = ["rejected", "accepted", "quarantined", "accepted", "duplicate"]
    fake.answer = Taken([{"seq": 0, "verdict": verdict} for verdict in verdicts], 2, 2.0)
    location = {"timestamp": AT, "coords": {"latitude": 1, "longitude": 2}}
    async with client_of(fake) as http:
        answer = await http.post("/v1/collect/osmand", json={"device_id": SECRET, "location": [location, {}]})
        assert answer.status_code == 200
        assert answer.headers["readback-verdicts"] == "accepted=2, duplicate=1, quarantined=1, rejected=1, skipped=1"
        fake.answer = Taken([], 0, 0.0)
        nothing = await http.post("/v1/collect/owntracks", content=b"[]", headers=basic("", SECRET))
        assert nothing.headers["readback-verdicts"] == "none"


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (WireError("bad_request", "lat and lon"), 400, None),
        (WireError("forbidden", "signed only"), 403, None),
        (WireError("rate_limited", "sends", 1.2), 429, "2"),
        (WireError("overloaded", "later", 0.5), 503, "1"),
        (Unavailable("away", 3.0), 503, "3"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/collect/osmand?id=s", "/v1/collect/owntracks"])
async def test_what_is_to_be_said_again_says_when(
    fake: Fake, path: str, error: Exception, status: int, retry_after: str | None
) -> None:
    """By the status alone where the app knows no more."""
    fake.answer = error
    async with client_of(fake) as http:
        answer = await http.post(path, json=LOCATION, headers=basic("any", SECRET))
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)


@pytest.mark.parametrize("path", ["/v1/collect/osmand?id=s", "/v1/collect/owntracks"])
async def test_a_dead_key_is_asked_for_a_better_one(fake: Fake, path: str) -> None:
    """By HTTP Basic: a bearer's token would be of no use there. Nor is the key repeated."""
    fake.answer = WireError("unauthorized", "unknown")
    async with client_of(fake) as http:
        answer = await http.post(path, json=LOCATION, headers=basic("any", SECRET))
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == 'Basic realm="readback"'
    assert SECRET not in answer.text


async def test_a_key_in_an_address_is_in_no_log(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    """Not even where we fail ourselves, and say so."""
    fake.answer = RuntimeError("a fault of ours")
    caplog.set_level(0, "readback")
    async with client_of(fake) as http:
        answer = await http.get(f"/v1/collect/osmand?id={SECRET}&lat=1&lon=2")
    problem(answer, 500, "internal")
    told = [record for record in caplog.records if record.name.startswith("readback")]
    assert "/v1/collect/osmand" in "".join(record.getMessage() for record in told)
    assert all(SECRET not in record.getMessage() for record in told)


# OwnTracks


async def test_a_location_of_owntracks_is_taken(fake: Fake) -> None:
    """Whoever the app says that it is; the answer is a list of friends, of whom there are none."""
    async with client_of(fake) as http:
        headers = {**basic("jane", SECRET), "X-Limit-U": "jane", "X-Limit-D": "phone"}
        answer = await http.post("/v1/collect/owntracks?u=jane&d=phone", json=LOCATION, headers=headers)
    assert (answer.status_code, answer.json(), answer.headers["content-type"]) == (200, [], "application/json")
    assert fake.asked == [("owntracks", "192.0.2.7", SECRET)]
    assert fake.report.fixes[0].at_ms == 1_795_253_400_000


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer amy"}, {"authorization": "Basic ?"}, {"authorization": "Basic /w=="}, basic("", "")],
)
async def test_who_brings_no_password_is_asked_for_it(fake: Fake, headers: dict[str, str]) -> None:
    """And has guessed nothing."""
    async with client_of(fake) as http:
        answer = await http.post("/v1/collect/owntracks", json=LOCATION, headers=headers)
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == 'Basic realm="readback"'
    assert fake.asked == []


# Keys


async def test_a_key_is_told_with_what_to_do_with_it(fake: Fake) -> None:
    """Once; each link leads to where the caller found this API."""
    async with client_of(fake) as http:
        answer = await http.put("/v1/devices/device:truck-7/app", json={"stream": "trip:9"}, headers=BEARER)
    assert answer.status_code == 201
    made = answer.json()
    assert {name: made[name] for name in ("device", "stream", "made", "secret")} == {
        "device": "device:truck-7",
        "stream": "trip:9",
        "made": AT,
        "secret": SECRET,
    }
    assert made["traccar"].startswith(f"http://readback.test/v1/collect/osmand?id={SECRET}&")
    assert made["osmand"].startswith(f"http://readback.test/v1/collect/osmand?id={SECRET}&lat={{0}}&")
    assert made["owntracks"].startswith("owntracks:///config?inline=")
    assert fake.asked == [("mint", "user:amy", "device:truck-7", "trip:9", "http://readback.test")]


async def test_a_key_is_bound_removed_and_listed(fake: Fake) -> None:
    """What is listed holds no secret."""
    async with client_of(fake) as http:
        path = "/v1/devices/device:truck-7/app"
        assert (await http.put(f"{path}/stream", json={"stream": "trip:10"}, headers=BEARER)).status_code == 204
        assert (await http.delete(path, headers=BEARER)).status_code == 204
        listed = await http.get("/v1/devices/apps", headers=BEARER)
    assert listed.json() == {"apps": [{"device": "device:truck-7", "stream": "trip:9", "made": AT}]}
    assert fake.asked == [("bind", "user:amy", "device:truck-7", "trip:10"), ("drop", "user:amy", "device:truck-7")]


@pytest.mark.parametrize("device", ["user:amy", "device:", "truck-7"])
async def test_keys_are_of_devices(fake: Fake, device: str) -> None:
    """A person signs in."""
    async with client_of(fake) as http:
        answer = await http.put(f"/v1/devices/{device}/app", json={"stream": "trip:9"}, headers=BEARER)
    problem(answer, 400, "bad_request")


async def test_without_a_collector_there_are_no_such_routes(fake: Fake) -> None:
    """A node that keeps no tracks."""
    app = make_app(cast(Service, fake))
    assert not [path for path in app.openapi()["paths"] if "collect" in path or path == "/v1/positions"]
