"""gateway.routes' adapters over real sockets: what services are asked, and what is made of answers and troubles."""

from __future__ import annotations

import json
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from core.geo.routing import Ask, Passing, Provider, RouteError, Snapshot
from core.geo.sphere import distance_m
from gateway.routes import wire as wire_module
from gateway.routes.google import KEPT_MS, Google
from gateway.routes.offline import NEAR_M, WAY_POINTS_MAX, Offline, thinned_way
from gateway.routes.osrm import Osrm
from gateway.routes.valhalla import LOCATIONS_MAX, Valhalla
from gateway.routes.wire import BUSY_S, Wire
from tests.route_servers import (
    KEY,
    NOW_S,
    SPEED_MPS,
    GoogleServer,
    OsrmServer,
    Reply,
    Server,
    ValhallaServer,
    json_reply,
    serving,
)

HERE, VIA, THERE = (30.6586, 104.0647), (30.6700, 104.0900), (30.7000, 104.1200)
SEA = (-75.0, 104.0)
ASK = Ask("car", (HERE, VIA, THERE))
FAR_M = distance_m(*HERE, *VIA) + distance_m(*VIA, *THERE)


def osrm(wire: Wire, server: Server) -> Provider:
    return Osrm(wire, server.url)


def valhalla(wire: Wire, server: Server) -> Provider:
    return Valhalla(wire, server.url)


def google(wire: Wire, server: Server) -> Provider:
    return Google(wire, KEY, url=server.url)


Make = Callable[[Wire, Server], Provider]
ALL: list[Any] = [
    pytest.param(OsrmServer, osrm, id="osrm"),
    pytest.param(ValhallaServer, valhalla, id="valhalla"),
    pytest.param(GoogleServer, google, id="google"),
]
each = pytest.mark.parametrize(("server", "make"), ALL)


@asynccontextmanager
async def asking(server: Server, make: Make) -> AsyncIterator[Provider]:
    async with serving(server):
        wire = Wire(lambda: NOW_S, 2.0)
        try:
            yield make(wire, server)
        finally:
            await wire.aclose()


async def refused(provider: Provider, ask: Ask = ASK) -> RouteError:
    with pytest.raises(RouteError) as caught:
        await provider.route(ask)
    return caught.value


def check(snapshot: Snapshot, factor: float = 1.0) -> None:
    """Leads through what was asked, in the time that the stand-ins' speed makes of it."""
    assert snapshot.points[0] == pytest.approx(HERE, abs=1e-5)
    first, second = snapshot.stops
    assert snapshot.points[first] == pytest.approx(VIA, abs=1e-5)
    assert snapshot.points[second] == pytest.approx(THERE, abs=1e-5)
    seconds = snapshot.use()
    assert seconds is not None
    assert sum(seconds) == pytest.approx(factor * FAR_M / SPEED_MPS, rel=0.01)
    assert sum(seconds[:first]) == pytest.approx(factor * distance_m(*HERE, *VIA) / SPEED_MPS, rel=0.01)
    assert sum(snapshot.legs_m) == pytest.approx(FAR_M, rel=0.001)
    assert snapshot.made_ms == 1000 * NOW_S


async def test_osrm() -> None:
    """A way by OSRM with each piece's own time; what turns cost is spread over the leg's pieces."""
    server = OsrmServer(turn_s=30.0)
    async with asking(server, osrm) as provider:
        snapshot = await provider.route(ASK)
    assert snapshot.total_s() == pytest.approx(FAR_M / SPEED_MPS + 60.0, rel=0.01)
    assert snapshot.shareable
    assert (snapshot.source, len(server.asked)) == ("osrm", 1)
    server.turn_s = 0.0
    async with asking(server, osrm) as provider:
        check(await provider.route(ASK))


async def test_osrm_with_figures_that_do_not_fit_its_points() -> None:
    """Legs are then told apart by their lengths, and times spread by length."""
    async with asking(OsrmServer(figures=False), osrm) as provider:
        check(await provider.route(ASK))


async def test_osrm_serves_cars_unless_told_otherwise() -> None:
    """A server's one profile answers whatever the path says, so nobody walks by a car's times."""
    wire = Wire(lambda: NOW_S, 2.0)
    assert Osrm(wire, "http://x").modes == {"car", "bus", "truck", "any"}
    await wire.aclose()
    async with asking(OsrmServer(profile="bike"), lambda w, s: Osrm(w, s.url, frozenset(("bike",)))) as provider:
        check(await provider.route(ASK._replace(mode="bike")))
        assert not (await refused(provider, ASK)).fatal  # its profile is another one: the settings are wrong


async def test_valhalla() -> None:
    """A way by Valhalla with maneuvers' times spread over their parts."""
    server = ValhallaServer()
    async with asking(server, valhalla) as provider:
        check(await provider.route(ASK))
        assert orjson.loads(server.asked[-1].body)["date_time"] == {"type": 0}
        await provider.route(ASK._replace(depart_ms=int(1000 * NOW_S) + 86_400_000, mode="foot"))
        body = orjson.loads(server.asked[-1].body)
        assert (body["costing"], "date_time" in body) == ("pedestrian", False)


async def test_valhalla_without_maneuvers() -> None:
    """The leg's time is then spread over all of it."""
    async with asking(ValhallaServer(maneuvers=0), valhalla) as provider:
        check(await provider.route(ASK))


async def test_a_valhalla_that_does_not_know_us() -> None:
    """A request that is wrong is not the ask's fault: a server without the costing, say."""
    body = {"error_code": 125, "error": "No costing method found for 'auto'", "status_code": 400}
    async with asking(ValhallaServer(trouble=[json_reply(body, 400)]), valhalla) as provider:
        error = await refused(provider)
    assert not error.fatal
    assert "does not take what we ask (125)" in error.reason


async def test_a_way_elsewhere_is_none() -> None:
    """A service whose roads begin far from where was asked, or that takes latitude for longitude, knows no way."""
    server = OsrmServer()
    async with asking(server, osrm) as provider:
        await provider.route(ASK)
        server.trouble = [server.answer(server.asked[0])]
        moved = tuple((lat + 1.0, lon) for lat, lon in ASK.points)
        error = await refused(provider, Ask("car", moved))
    assert error.fatal
    assert "no way near" in error.reason


async def test_google() -> None:
    """A way by Google with its traffic, and the key in a header alone."""
    server = GoogleServer()
    async with asking(server, google) as provider:
        snapshot = await provider.route(ASK)
    check(snapshot, server.traffic)
    (request,) = server.asked
    assert KEY not in request.target + request.body.decode()
    assert "departureTime" not in orjson.loads(request.body)


async def test_google_without_steps() -> None:
    """A leg's own way and time do."""
    async with asking(GoogleServer(steps=0), google) as provider:
        check(await provider.route(ASK), 1.5)


@pytest.mark.parametrize(("after_s", "said"), [(-5, False), (30, False), (3600, True)])
async def test_google_is_told_of_departures_to_come(after_s: int, said: bool) -> None:
    """One that is past, or could be when it is read, would be refused: it is now. Who walks has no traffic."""
    server = GoogleServer()
    depart_ms = int(1000 * (NOW_S + after_s))
    async with asking(server, google) as provider:
        await provider.route(ASK._replace(depart_ms=depart_ms))
        check(await provider.route(ASK._replace(depart_ms=depart_ms, mode="foot")))
    first, second = (orjson.loads(request.body) for request in server.asked)
    assert ("departureTime" in first, "departureTime" in second) == (said, False)
    assert ("routingPreference" in first, "routingPreference" in second) == (True, False)


async def test_what_google_says_of_time_is_not_kept() -> None:
    """By construction: no JSON, no pickle, no copy, no digits; the points go after 30 days."""
    async with asking(GoogleServer(), google) as provider:
        snapshot = await provider.route(ASK)
    assert isinstance(snapshot.legs_s, Passing)
    assert (snapshot.shareable, snapshot.kept_until_ms) == (False, snapshot.made_ms + KEPT_MS)
    assert snapshot.json()["legs_s"] is None
    for write in (json.dumps, orjson.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            write(snapshot.legs_s)
        with pytest.raises(TypeError):
            write(snapshot)
    used = snapshot.use()
    assert used is not None
    assert str(used[0])[:6] not in repr(snapshot)


@each
async def test_nobody_knows_a_way_through_the_sea(server: type[Server], make: Make) -> None:
    """The provider is well and the ask is hopeless: it is not to be made again."""
    async with asking(server(), make) as provider:
        assert (await refused(provider, Ask("car", (HERE, SEA)))).fatal


@pytest.mark.parametrize(
    ("server", "make", "lon"),
    [(OsrmServer, osrm, 140.0), (ValhallaServer, valhalla, 114.0), (ValhallaServer, valhalla, 124.0)],
)
async def test_too_far(server: type[Server], make: Make, lon: float) -> None:
    """NoRoute, 442 and 154."""
    async with asking(server(), make) as provider:
        assert (await refused(provider, Ask("car", (HERE, (30.7, lon))))).fatal


async def test_too_many_points() -> None:
    """OSRM says so itself; of the others it is known, and no call is made."""
    points = tuple((30.0 + n / 100, 104.0) for n in range(28))
    for server, make, calls in ((OsrmServer(), osrm, 1), (ValhallaServer(), valhalla, 0), (GoogleServer(), google, 0)):
        async with asking(server, make) as provider:
            assert (await refused(provider, Ask("car", points))).fatal
            assert len(server.asked) == calls
    async with asking(ValhallaServer(), valhalla) as provider:
        assert len((await provider.route(Ask("car", points[:LOCATIONS_MAX]))).stops) == LOCATIONS_MAX - 1
    async with asking(GoogleServer(), google) as provider:
        assert len((await provider.route(Ask("car", points[:27]))).stops) == 26


@each
@pytest.mark.parametrize("status", [301, 401, 403, 404, 500, 503])
async def test_statuses_that_say_nothing_of_the_way(server: type[Server], make: Make, status: int) -> None:
    """The provider failed, and the words name it and the status, nothing of the answer."""
    got = server(always=Reply(status, b"secret words", (("Location", "http://127.0.0.1:1/"),)))
    async with asking(got, make) as provider:
        error = await refused(provider)
    assert (error.fatal, error.retry_after_s) == (False, None)
    assert str(status) in error.reason
    assert "secret" not in error.reason
    assert len(got.asked) == 1


@each
async def test_a_provider_that_wants_to_be_left_alone(server: type[Server], make: Make) -> None:
    """Seconds, a date, nothing, nonsense, and for ever, which is an hour."""
    date = "Mon, 21 Sep 2026 14:14:20 GMT"
    for text, status, wait_s in (
        ("7", 429, 7.0), ("9", 503, 9.0), (date, 429, 60.0), ("", 429, BUSY_S), ("soon", 429, BUSY_S),
        ("999999999", 429, 3_600.0),
    ):  # fmt: skip
        headers = (("Retry-After", text),) if text else ()
        async with asking(server(always=Reply(status, b"", headers)), make) as provider:
            error = await refused(provider)
            assert (error.fatal, error.retry_after_s) == (False, wait_s)


GARBAGE = [
    b"", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe", b"<html>", b"[" * 5_000, b'{"code":"Ok"}', b'{"code":"Ok","routes":[]}',
    b'{"code":"Ok","routes":[{"geometry":7,"legs":[]}]}', b'{"code":"Ok","routes":[{"geometry":"\\u0001","legs":[]}]}',
    b'{"code":"Ok","routes":[{"geometry":"_p~iF~ps|U_ulLnnqC","legs":[]}]}',
    b'{"code":"Ok","routes":[{"geometry":"??","legs":[{"annotation":{"duration":[]},"duration":1,"distance":0}]}]}',
    b'{"code":"Ok","routes":[{"geometry":"????","legs":[{"annotation":{"duration":[-1]},"duration":-1,"distance":0}]}]}',
    b'{"code":["Ok"]}', b'{"trip":{"legs":[]}}', b'{"trip":{"legs":[{"shape":"?","maneuvers":[],"summary":{"time":1}}]}}',
    b'{"trip":{"legs":[{"shape":"????","maneuvers":[{"begin_shape_index":0,"end_shape_index":9,"time":1}],"summary":{"time":1}}]}}',
    b'{"trip":{"legs":[{"shape":"????","maneuvers":[],"summary":{"time":"long"}}]}}',
    b'{"routes":[{"legs":[{"duration":"soon"}]}]}', b'{"routes":[{"legs":[{"duration":"5s"}]}]}', b'{"routes":{"legs":1}}',
    b'{"routes":[{"legs":[{"duration":"5s","polyline":{"encodedPolyline":""}}]}]}',
    b'{"routes":[{"legs":[{"duration":"5s","steps":[{"staticDuration":"5s"}]}]}]}',
]  # fmt: skip


@each
async def test_garbage(server: type[Server], make: Make) -> None:
    """Whatever is answered with 200 or 400, what is raised is a `RouteError`."""
    got = server()
    async with asking(got, make) as provider:
        for body in GARBAGE:
            for status in (200, 400):
                got.trouble = [Reply(status, body)]
                assert isinstance(await refused(provider), RouteError)


@each
async def test_a_way_that_is_not_the_one_asked_for(server: type[Server], make: Make) -> None:
    """An answer of one leg to an ask of two is the provider's fault."""
    got = server()
    async with asking(got, make) as provider:
        await provider.route(Ask("car", (HERE, THERE)))
        got.trouble = [got.answer(got.asked[0])]
        assert not (await refused(provider)).fatal


@each
async def test_a_body_without_end(server: type[Server], make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is read than the bound, and the next ask is answered: the service itself is well."""
    monkeypatch.setattr(wire_module, "BODY_BYTES_MAX", 100_000)
    got = server(trouble=[Reply(endless=True), Reply(400, endless=True)])
    async with asking(got, make) as provider:
        for _ in range(2):
            error = await refused(provider)
            assert error.fatal
            assert "more than 100000 bytes" in error.reason
        await provider.route(ASK)


@each
async def test_compressed_bodies_are_not_taken(server: type[Server], make: Make) -> None:
    """They were not asked for, and a small one may become a large one."""
    async with asking(server(trouble=[Reply(200, b"x", (("Content-Encoding", "gzip"),))]), make) as provider:
        assert "compressed" in (await refused(provider)).reason


@each
async def test_a_connection_that_ends(server: type[Server], make: Make) -> None:
    """Nobody listens, or who does hangs up, before an answer or within it."""
    async with asking(server(trouble=[Reply(drop=True), Reply(200, b"{", cut=True)]), make) as provider:
        for _ in range(2):
            assert "cannot be reached" in (await refused(provider)).reason
    assert "cannot be reached" in (await refused(provider)).reason


@each
async def test_long_answers_are_decoded_beside_the_loop(
    server: type[Server], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread, with the same result; connections are used again."""
    got = server()
    async with asking(got, make) as provider:
        first = await provider.route(ASK)
        monkeypatch.setattr(wire_module, "THREAD_BYTES", 0)
        second = await provider.route(ASK)
    assert (first.points, first.use()) == (second.points, second.use())
    assert got.connections == 1


async def test_keys_that_google_does_not_know() -> None:
    """A key's fault is not the ask's: the settings are named, the key is not."""
    async with asking(GoogleServer(), lambda w, s: Google(w, "AIzaWrong", url=s.url)) as provider:
        error = await refused(provider)
    assert (error.fatal, error.retry_after_s) == (False, BUSY_S)
    assert "google_routes_key" in error.reason
    assert "AIza" not in error.reason


async def test_other_refusals_of_google() -> None:
    """A status that no ask is to blame for is a failure; a missing mask would be, too, and is none of ours."""
    error = {"error": {"code": 400, "status": "FAILED_PRECONDITION", "details": []}}
    async with asking(GoogleServer(trouble=[json_reply(error, 400)]), google) as provider:
        assert not (await refused(provider)).fatal
    async with asking(GoogleServer(), google) as provider:
        provider._wire._transport = _Without("x-goog-fieldmask", await provider._wire._opened())  # type: ignore[attr-defined]
        assert (await refused(provider)).fatal


class _Without:
    def __init__(self, header: str, inner: Any) -> None:
        self._header, self._inner = header, inner

    async def handle_async_request(self, request: Any) -> Any:
        del request.headers[self._header]
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_offline_guesses_straight() -> None:
    """Usual speeds over straight lines made longer as roads are; from a place to itself is no way at all."""
    offline = Offline(lambda: NOW_S)
    snapshot = await offline.route(ASK)
    assert snapshot.source == "offline"
    assert snapshot.total_s() == pytest.approx(FAR_M * 1.35 / 9.0)
    assert [snapshot.points[at] for at in snapshot.stops] == [VIA, THERE]
    assert len((await offline.route(Ask("car", (HERE, HERE)))).points) == 2
    assert (await offline.route(Ask("car", (HERE, HERE, THERE)))).stops[0] == 0
    date_line = await offline.route(Ask("ship", ((0.0, 180.0), (0.0, -180.0))))
    assert date_line.total_s() == pytest.approx(0.0, abs=1e-6)


async def test_offline_flies_great_circles() -> None:
    """An aircraft's way is bent on the map and hardly longer than the circle."""
    snapshot = await Offline(lambda: NOW_S).route(Ask("aircraft", ((-33.9, 151.2), (51.5, -0.1))))
    assert snapshot.total_s() == pytest.approx(distance_m(-33.9, 151.2, 51.5, -0.1) * 1.03 / 210.0, rel=0.001)
    assert len(snapshot.points) == 65


async def test_offline_keeps_to_the_plan() -> None:
    """Along the plan's polyline from where one is on it; of a street driven twice, the first time."""
    way = tuple((30.0, 104.0 + n / 1000) for n in range(51)) + tuple((30.0001, 104.05 - n / 1000) for n in range(51))
    offline = Offline(lambda: NOW_S)
    out = await offline.route(Ask("car", ((30.0, 104.01), (30.0, 104.03)), way=way))
    assert out.total_s() == pytest.approx(distance_m(30.0, 104.01, 30.0, 104.03) / 9.0, rel=0.01)
    assert distance_m(30.0, 104.0, 30.0001, 104.0) < NEAR_M
    both = await offline.route(Ask("car", ((30.0, 104.04), (30.0, 104.05), (30.0001, 104.0)), way=way))
    assert both.total_s() == pytest.approx(distance_m(30.0, 104.0, 30.0, 104.06) / 9.0, rel=0.01)
    assert len(thinned_way(way * 100)) <= WAY_POINTS_MAX + 1
    assert thinned_way(way * 100)[-1] == way[-1]
