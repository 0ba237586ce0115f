"""Apps as they are, over a real HTTP port: what Traccar Client, OsmAnd and OwnTracks send is judged, kept and shown; and
``POST /v1/positions``, which says what the socket says."""

from __future__ import annotations

import time
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from core.jws import b64url
from core.pings import FIXES_MAX
from core.tracks import Sample
from gateway.collect import Collector
from gateway.http import make_app
from gateway.http_serve import bind_http, serve_http
from store.memory import MemoryLog
from store.memory_tracks import MemoryTracks
from tests.devices import BASE, Device, admin
from tests.nodes import TestNode, memory_log, serving_node, token, until
from tests.wire_client import hello

TRUCK = "device:truck-7"
STEP_DEG = 0.002
"""Of latitude, some 222 m: 22 m/s at ten seconds a fix."""


class Apps:
    """A node with its HTTP API on a port."""

    def __init__(self, node: TestNode, http: httpx.AsyncClient, tracks: MemoryTracks) -> None:
        self.node = node
        self.http = http
        self.tracks = tracks
        self.start_s = int(time.time()) - 600

    async def key(self, device: str = TRUCK, stream: str = "trip:9") -> str:
        answer = await self.http.put(f"/v1/devices/{device}/app", json={"stream": stream}, headers=admin())
        assert answer.status_code == 201, answer.text
        secret: str = answer.json()["secret"]
        return secret

    async def samples(self, stream: str = "trip:9", tenant: str = "demo") -> list[Sample]:
        return await self.tracks.track(tenant, stream, from_ms=0, to_ms=2**53)

    def at(self, n: int) -> tuple[int, float]:
        """Unix seconds and latitude of the nth fix of a drive to the north."""
        return self.start_s + 10 * n, -33.9 + STEP_DEG * n


@asynccontextmanager
async def apps() -> AsyncIterator[Apps]:
    log = memory_log()
    tracks = MemoryTracks(log)
    async with serving_node(log, tracks=tracks) as node, trio.open_nursery() as nursery:
        await node.stream("trip:9", open=False, members={"user:amy": "reader"})
        sock = bind_http("127.0.0.1", 0)
        assert node.node.positions is not None
        collector = Collector(node.node, tracks, node.node.positions)
        app = make_app(node.desk, office=node.office, collect=collector)
        await nursery.start(partial(serve_http, app, [sock], shutdown=trio.sleep_forever))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}") as http:
            yield Apps(node, http, tracks)
        nursery.cancel_scope.cancel()


def traccar_8(key: str, at_s: int, lat: float) -> httpx.Request:
    """As its source has it: a POST without a body, knots."""
    params: dict[str, Any] = {
        "id": key,
        "timestamp": at_s,
        "lat": lat,
        "lon": 151.2,
        "speed": 42.7645788,
        "bearing": 0.0,
    }
    return httpx.Request(
        "POST", f"{BASE}/v1/collect/osmand", params={**params, "altitude": 12.0, "accuracy": 5.0, "batt": 83.0}
    )


def traccar_9(key: str, at_s: int, lat: float) -> httpx.Request:
    """As its template has it."""
    at = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    coords = {"latitude": lat, "longitude": 151.2, "accuracy": 5, "speed": 22, "heading": 0, "altitude": 12}
    location = {
        "timestamp": at,
        "coords": coords,
        "is_moving": True,
        "event": "",
        "battery": {"level": 0.8},
        "extras": {},
    }
    return httpx.Request("POST", f"{BASE}/v1/collect/osmand", json={"location": location, "device_id": key})


def osmand(key: str, at_s: int, lat: float) -> httpx.Request:
    """As it fills the address that `readback device app` prints."""
    query = f"id={key}&lat={lat}&lon=151.2&timestamp={at_s}000&accuracy=5.0&altitude=12.0&speed_mps=22.0&bearing=0.0"
    return httpx.Request("GET", f"{BASE}/v1/collect/osmand?{query}")


def owntracks(key: str, at_s: int, lat: float) -> httpx.Request:
    """As a phone on a dashboard has it."""
    said = {
        "_type": "location",
        "tst": at_s,
        "lat": lat,
        "lon": 151.2,
        "acc": 5,
        "alt": 12,
        "vel": 79,
        "cog": 0,
        "t": "t",
    }
    headers = {
        "authorization": "Basic " + b64encode(f"truck-7:{key}".encode()).decode(),
        "x-limit-u": "truck-7",
        "x-limit-d": "phone",
    }
    said |= {"tid": "k7", "batt": 83, "created_at": at_s + 1, "m": 2, "topic": "owntracks/truck-7/phone"}
    return httpx.Request("POST", f"{BASE}/v1/collect/owntracks", json=said, headers=headers)


Protocol = Callable[[str, int, float], httpx.Request]
PROTOCOLS: dict[str, Protocol] = {
    "traccar 8": traccar_8,
    "traccar 9": traccar_9,
    "osmand": osmand,
    "owntracks": owntracks,
}


async def say(made: Apps, request: httpx.Request) -> httpx.Response:
    url = request.url.copy_with(host=made.http.base_url.host, port=made.http.base_url.port)
    headers = {name: value for name, value in request.headers.items() if name != "host"}
    return await made.http.send(httpx.Request(request.method, url, headers=headers, content=request.content))


class Phone:
    """An app that keeps what it could not send, and sends it in order: the oldest again until it is answered 2xx."""

    def __init__(self, made: Apps, protocol: Protocol, key: str) -> None:
        self.made = made
        self.make = partial(protocol, key)
        self.buffer: deque[httpx.Request] = deque()
        self.statuses: list[int] = []

    def fix(self, n: int) -> None:
        self.buffer.append(self.make(*self.made.at(n)))

    async def try_once(self) -> bool:
        """Whether it got rid of the oldest."""
        answer = await say(self.made, self.buffer[0])
        self.statuses.append(answer.status_code)
        if answer.is_success:
            self.buffer.popleft()
        return answer.is_success

    async def flush(self) -> None:
        while self.buffer:
            assert await self.try_once(), self.statuses


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_drive_is_kept_and_shown(protocol: str) -> None:
    """Each protocol's units come out as metres a second; who follows sees the last; nothing was lost or doubled."""
    async with apps() as made:
        phone = Phone(made, PROTOCOLS[protocol], await made.key())
        async with hello(made.node.url, "user:amy", {"trip:9": {}}) as amy:
            for n in range(5):
                phone.fix(n)
            await phone.flush()
            samples = await made.samples()
            assert [(sample.at_ms, sample.lat) for sample in samples] == [
                (1000 * at_s, round(lat, 7)) for at_s, lat in map(made.at, range(5))
            ]
            assert {(sample.subject, sample.seq, sample.verdict) for sample in samples} == {(TRUCK, 0, "accepted")}
            assert {round(sample.speed or 0) for sample in samples} == {22}
            assert {(sample.heading, sample.acc, sample.alt) for sample in samples} == {(0.0, 5.0, 12.0)}
            shown = await amy.next("signal", kind="position")
            while shown["value"]["lat"] != samples[-1].lat:
                shown = await amy.next("signal", kind="position")
            assert shown["by"] == TRUCK


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_a_phone_repeats_is_kept_once(protocol: str) -> None:
    """It does where an answer was lost; a duplicate is answered as the first was, or it would never go on."""
    async with apps() as made:
        phone = Phone(made, PROTOCOLS[protocol], await made.key())
        for n in (0, 1, 1, 0, 2):
            phone.fix(n)
        await phone.flush()
        assert [sample.at_ms for sample in await made.samples()] == [1000 * made.at(n)[0] for n in range(3)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_no_fix_that_is_refused_holds_up_those_behind_it(protocol: str) -> None:
    """One from next year, one from long ago, one at no place, one on another continent: each is answered 200, and the drive
    goes on."""
    async with apps() as made:
        phone = Phone(made, PROTOCOLS[protocol], await made.key())
        phone.fix(0)
        for at_s, lat in (
            (made.start_s + 400 * 86_400, -33.9),
            (1, -33.9),
            (made.start_s + 5, 95.0),
            (made.start_s + 7, 60.0),
        ):
            phone.buffer.append(phone.make(at_s, lat))
        phone.fix(1)
        await phone.flush()
        assert phone.statuses == [200] * 6
        kept = [sample.at_ms for sample in await made.samples() if sample.verdict != "quarantined"]
        assert kept == [1000 * made.at(n)[0] for n in range(2)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_while_the_store_is_away_a_phone_keeps_what_it_has(protocol: str) -> None:
    """It is told to come back; then all of it is there, once."""
    async with apps() as made:
        phone = Phone(made, PROTOCOLS[protocol], await made.key())
        phone.fix(0)
        await phone.flush()
        log, positions = made.node.log, made.node.node.positions
        assert isinstance(log, MemoryLog)
        assert positions is not None
        log.down = "away"
        phone.fix(1)
        phone.fix(2)
        answer = await say(made, phone.buffer[0])
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert not await phone.try_once()
        log.down = None
        await until(lambda: positions.keeper.trouble is None)
        await phone.flush()
        assert [sample.at_ms for sample in await made.samples()] == [1000 * made.at(n)[0] for n in range(3)]


async def test_a_batch_of_what_was_recorded_offline() -> None:
    """As long as one message of the socket; what is longer is refused whole, for nothing of it would be told apart."""
    async with apps() as made:
        key = await made.key()
        some = []
        for n in range(40):
            at_s, lat = made.at(n)
            some.append({"timestamp": 1000 * at_s, "coords": {"latitude": lat, "longitude": 151.2, "accuracy": 5}})
        answer = await made.http.post("/v1/collect/osmand", json={"location": some[::-1], "device_id": key})
        assert (answer.status_code, answer.headers["readback-verdicts"]) == (200, "accepted=40")
        assert len(await made.samples()) == 40
        many = (some * (FIXES_MAX // 40 + 1))[: FIXES_MAX + 1]
        long = await made.http.post("/v1/collect/osmand", json={"location": many, "device_id": key})
        assert long.status_code == 413


async def test_an_iphone_asks_first_and_brings_its_password_then() -> None:
    """As its HTTP library does where an address holds user and password."""
    async with apps() as made:
        key = await made.key()
        url = made.http.base_url.join("/v1/collect/owntracks")
        bare = await made.http.post("/v1/collect/owntracks", json={"_type": "location"})
        assert (bare.status_code, bare.headers["www-authenticate"]) == (401, 'Basic realm="readback"')
        at_s, lat = made.at(0)
        said = {"_type": "location", "tst": at_s, "lat": lat, "lon": 151.2}
        answer = await made.http.post(url, json=said, auth=("jane", key))
        assert (answer.status_code, answer.json()) == (200, [])
        assert len(await made.samples()) == 1


async def test_an_app_s_key_is_good_for_nothing_else() -> None:
    """It is no token, whichever way it is brought."""
    async with apps() as made:
        key = await made.key()
        for scheme in ("Bearer", "DPoP", "Basic"):
            for path in ("/v1/me/streams", "/v1/streams/trip:9/events", "/v1/devices/apps"):
                answer = await made.http.get(path, headers={"authorization": f"{scheme} {key}"})
                assert answer.status_code == 401, path


async def test_a_removed_key_ends_an_app() -> None:
    """At once; what it says then is kept nowhere."""
    async with apps() as made:
        key = await made.key()
        phone = Phone(made, osmand, key)
        phone.fix(0)
        await phone.flush()
        assert (await made.http.delete(f"/v1/devices/{TRUCK}/app", headers=admin())).status_code == 204
        phone.fix(1)
        assert not await phone.try_once()
        assert phone.statuses[-1] == 401
        assert len(await made.samples()) == 1


async def test_the_next_trip_needs_no_other_key() -> None:
    """The dispatcher binds the phone anew; the driver does nothing."""
    async with apps() as made:
        await made.node.stream("trip:10")
        phone = Phone(made, traccar_9, await made.key())
        phone.fix(0)
        await phone.flush()
        path = f"/v1/devices/{TRUCK}/app/stream"
        assert (await made.http.put(path, json={"stream": "trip:10"}, headers=admin())).status_code == 204
        phone.fix(1)
        await phone.flush()
        assert [len(await made.samples(stream)) for stream in ("trip:9", "trip:10")] == [1, 1]


# POST /v1/positions


def position(seq: int, at_s: float, lat: float) -> dict[str, Any]:
    at = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"seq": seq, "at": at, "lat": round(lat, 7), "lon": 151.2, "acc": 5}


async def post(made: Apps, who: str, body: dict[str, Any], **options: Any) -> httpx.Response:
    return await made.http.post(
        "/v1/positions", json=body, headers={"authorization": f"Bearer {token(who)}", **options.pop("headers", {})}
    )


async def test_posted_positions_are_judged_as_the_socket_s() -> None:
    """The same verdicts, the same window of numbers over both ways, the same time of the next."""
    async with apps() as made:
        await made.node.stream("trip:11")
        fixes = [position(n + 1, *made.at(n)) for n in range(3)]
        async with hello(made.node.url, "user:bea", {"trip:11": {}}) as bea:
            over_socket = await bea.ask("position", stream="trip:11", fixes=fixes[:2])
            answer = await post(made, "user:bea", {"stream": "trip:11", "fixes": fixes})
            assert answer.status_code == 200, answer.text
            said = answer.json()
            assert [each["verdict"] for each in said["verdicts"]] == ["duplicate", "duplicate", "accepted"]
            assert (said["accepted"], said["next_in"]) == (1, over_socket["next_in"])
            again = await bea.ask("position", stream="trip:11", fixes=fixes[2:])
            assert again["verdicts"][0]["verdict"] == "duplicate"
        assert len(await made.samples("trip:11")) == 3


async def test_a_device_that_has_a_key_signs_its_posts() -> None:
    """With a token that is bound to it, and a proof beside."""
    async with apps() as made:
        await made.node.stream("trip:11")
        device = await _onboarded(made)
        fixes = [position(1, *made.at(0))]
        lines = f"readback.position.v1\ndemo\n{device.principal}\ntrip:11\n"
        at_ms = 1000 * made.at(0)[0]
        lines += f"1,{at_ms},{round(fixes[0]['lat'] * 10**7)},1512000000,500,,,,0\n"
        for sig, verdict in ((None, "rejected"), (b64url(device.key.sign(lines.encode())), "accepted")):
            base = str(made.http.base_url).rstrip("/")
            proof = device.proof(f"{base}/v1/positions", device.access)
            body = {"stream": "trip:11", "fixes": fixes, "sig": sig}
            headers = {"authorization": f"DPoP {device.access}", "dpop": proof}
            answer = await made.http.post("/v1/positions", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.json()["verdicts"][0]["verdict"] == verdict, answer.text


async def _onboarded(made: Apps) -> Device:
    base = str(made.http.base_url).rstrip("/")
    device = Device(made.http, made.node.node.wall, TRUCK)
    minted = await made.http.post("/v1/devices/claims", json={"device": TRUCK}, headers=admin())
    claim = minted.json()["claim"]
    answer = await device.redeem(claim, proof=device.proof(f"{base}/v1/devices/redeem", claim))
    assert answer.status_code == 200, answer.text
    return device


@pytest.mark.parametrize(
    ("who", "body", "status"),
    [
        ("user:amy", {"stream": "trip:9"}, 403),
        ("user:nobody", {"stream": "trip:9"}, 403),
        ("user:amy", {"stream": "trip:none"}, 404),
        ("user:amy", {"stream": "trip:11", "fixes": [{"seq": 1}]}, 400),
        ("user:amy", {"stream": "trip:11", "fixes": [1]}, 400),
        ("user:amy", {"stream": "trip:11", "fixes": []}, 400),
    ],
)
async def test_posted_positions_are_refused_as_the_socket_s(who: str, body: dict[str, Any], status: int) -> None:
    """Readers send none; what is malformed is told where."""
    async with apps() as made:
        await made.node.stream("trip:11")
        answer = await post(made, who, {"fixes": [position(1, *made.at(0))], **body})
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
