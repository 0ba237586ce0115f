"""A trip over HTTP and the socket: planned, driven, shown; its track in pages, thinned and without what nobody believed."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from core.commands import Answer, derived_key
from core.flight.machine import BY_GATEWAY, Command
from core.tenants import Arrivals, Tenants
from core.tracks import FENCES_MAX, Fence, Last, Sample
from gateway.commander import Ask
from gateway.http import make_app
from gateway.trips_desk import AT_ONCE, TripsDesk
from gateway.waiting import Waiting
from store.memory import MemoryLog
from store.memory_tracks import MemoryTracks
from tests.nodes import TestNode, memory_log, serving_node, token
from tests.trip_desk import PLAN, SAID
from tests.wire_client import wire_client

TRIP = "/v1/trips/9"


class World:
    def __init__(self, node: TestNode, tracks: MemoryTracks | None, http: httpx.AsyncClient) -> None:
        self.node = node
        self.tracks = tracks
        self.http = http
        self.now_ms = int(1000 * node.node.wall())

    async def ask(
        self, method: str, path: str, body: object = None, by: str = "user:amy", roles: tuple[str, ...] = ()
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {token(by, roles=roles)}", "idempotency-key": str(uuid.uuid4())}
        return await self.http.request(method, path, json=body, headers=headers)

    async def ops(self, method: str, path: str, body: object = None) -> httpx.Response:
        return await self.ask(method, path, body, "service:ops", ("service",))

    async def tell(self, type: str, by: str = "user:amy", **body: Any) -> dict[str, Any]:
        answer = await self.ask("POST", f"{TRIP}/commands", {"type": type, "body": body}, by)
        found: dict[str, Any] = answer.json()
        return found

    async def keep(self, *samples: Sample) -> None:
        assert self.tracks is not None
        await self.tracks.keep(samples, [])

    def sample(self, n: int, lat: float = -33.9, verdict: Any = "accepted", subject: str = "device:bus-7") -> Sample:
        at_ms = self.now_ms - 3_600_000 + 1000 * n
        where = (lat, 151.2 + n / 10_000)
        return Sample("demo", subject, "trip:9", at_ms, n, *where, 5.0, None, None, None, verdict, "", at_ms)


@asynccontextmanager
async def world(
    log: MemoryLog | None = None, *, tracks: bool = True, tenants: Tenants | None = None
) -> AsyncIterator[World]:
    log = log or memory_log()
    async with serving_node(log, tenants=tenants) as node:
        store = MemoryTracks(log) if tracks else None
        app = make_app(node.desk, trips=TripsDesk(node.node, node.desk, store))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as http:
            made = World(node, store, http)
            members = {"user:amy": "owner", "device:bus-7": "member", "user:rex": "reader"}
            await node.stream("trip:9", open=False, members=members)
            yield made


async def test_a_trip_is_planned_and_driven() -> None:
    """Commands of its owner, its vehicle and its passengers; who follows the stream sees each fact as it comes."""
    async with world() as made, wire_client(made.node.url) as rex:
        await rex.ask("hello", token=token("user:rex"), streams={"trip:9": {"after": 0}})
        assert (await made.ask("GET", TRIP, by="user:rex")).json() == {
            "trip": "9",
            "seq": 0,
            "state": {"status": "new", "recipients": [], "alerts": [], "inside": [], "timers": {}},
        }
        assert (await made.tell("plan", **PLAN))["seqs"] == [1]
        assert (await made.tell("notify", by="device:bus-7", **SAID["notify"]))["code"] == "forbidden"
        assert (await made.tell("arrive", by="device:bus-7", stop="A"))["seqs"] == [2, 3]
        assert (await made.tell("arrive", by="user:rex", stop="B"))["code"] == "forbidden"
        assert (await made.tell("arrive", stop="Z"))["reason"] == "unknown_stop"
        state = (await made.ask("GET", TRIP, by="user:rex")).json()
        assert (state["seq"], state["state"]["status"], state["state"]["next"]) == (3, "underway", "B")
        assert state["state"]["route"] == PLAN["route"]
        seen = [event["type"] for event in await rex.events("trip:9", 3)]
        assert seen == ["trip.planned", "trip.started", "trip.arrived"]


async def test_other_events_go_on_beside_commands() -> None:
    """Chat in a trip changes nothing of it; nobody forges its facts."""
    async with world() as made, wire_client(made.node.url) as amy:
        await amy.ask("hello", token=token("user:amy"), streams={"trip:9": {}})
        await made.tell("plan", **PLAN)
        said = {"stream": "trip:9", "key": str(uuid.uuid4())}
        assert (await amy.ask("send", type="message", body={"text": "hi"}, **said))["seq"] == 2
        forged = await amy.ask("send", type="trip.alert", body={}, **(said | {"key": str(uuid.uuid4())}))
        assert forged["code"] in ("bad_request", "forbidden")
        done = await amy.ask("command", stream="trip:9", type="start", key=str(uuid.uuid4()), body={})
        assert done["seqs"] == [3]


async def test_an_alert_is_given_once_by_whatever_node() -> None:
    """Under one key, by the gateway alone; its repetition is answered as the first."""
    async with world() as made:
        await made.tell("plan", **PLAN)
        await made.tell("notify", **SAID["notify"])
        assert (await made.tell("alert", **SAID["alert"]))["code"] == "forbidden"
        node = made.node.node
        stream = node.hub.by_name["demo", "trip:9"]
        answers = []
        for key in (derived_key("a"), derived_key("a"), derived_key("b")):
            waiting = Waiting[Answer]()
            command = Command("alert", SAID["alert"], BY_GATEWAY, "owner")
            node.commander.give(stream, Ask(command, key, None, True, waiting.answered))
            answers.append(await waiting.answer())
        assert [(list(one.seqs), one.dup) for one in answers[:2]] == [([3], False), ([3], True)]
        assert answers[2].refusal is not None
        assert answers[2].refusal.reason == "alerted"


async def test_a_track_comes_in_pages() -> None:
    """None twice and none left out, whatever is believed; quarantined ones where they are asked for."""
    async with world() as made:
        await made.keep(*(made.sample(n, verdict="quarantined" if n % 3 == 0 else "accepted") for n in range(1, 26)))
        await made.keep(made.sample(7, subject="user:amy"))
        for query, wanted in (
            ("", 18),
            ("&quarantined=true", 26),
            ("&subject=user:amy", 1),
            ("&to=2026-01-01T00:00:00Z", 0),
        ):
            path: str | None = f"{TRIP}/track?limit=7{query}"
            found: list[tuple[str, str, int]] = []
            while path is not None:
                page = await made.ask("GET", path, by="user:rex")
                found += [(one["at"], one["subject"], one["seq"]) for one in page.json()["samples"]]
                path = page.headers["link"][1:].partition(">")[0] if page.json()["next"] else None
            assert found == sorted(set(found))
            assert len(found) == wanted, query
        assert (await made.ask("GET", f"{TRIP}/track?after=nonsense")).json()["code"] == "bad_request"


async def test_a_track_is_thinned_for_each_subject() -> None:
    """A straight way is its ends, a long one beside the loop."""
    async with world() as made:
        await made.keep(*(made.sample(n) for n in range(1, AT_ONCE + 20)))
        await made.keep(*(made.sample(n, -33.8, subject="user:amy") for n in range(3)))
        short = (await made.ask("GET", f"{TRIP}/track?simplify=10&limit=9")).json()["samples"]
        long = (await made.ask("GET", f"{TRIP}/track?simplify=10")).json()["samples"]
        assert [(one["subject"], one["seq"]) for one in short] == [
            ("user:amy", 0), ("device:bus-7", 1), ("user:amy", 2), ("device:bus-7", 6),
        ]  # fmt: skip
        assert 4 <= len(long) < 20
        assert (long[0]["seq"], long[-1]["seq"]) == (0, AT_ONCE + 19)


async def test_where_they_are_is_shown_with_its_age() -> None:
    """And whether that is too old to be believed, as the tenant says."""
    tenants = Tenants(arrivals=Arrivals(stale_s=60))
    async with world(tenants=tenants) as made:
        assert made.tracks is not None
        for subject, ago_s in (("device:bus-7", 30), ("user:amy", 90), ("user:rex", -5)):
            at_ms = made.now_ms - 1000 * ago_s
            last = Last("demo", subject, "trip:9", at_ms, 1.0, 2.0, None, None, None, None, "accepted", at_ms, {"m": 1})
            await made.tracks.keep([], [last])
        shown = (await made.ask("GET", f"{TRIP}/live", by="user:rex")).json()["subjects"]
        assert [(one["subject"], one["stale"]) for one in shown] == [
            ("device:bus-7", False), ("user:amy", True), ("user:rex", False),
        ]  # fmt: skip
        assert 30 <= shown[0]["age"] < 60
        assert shown[2]["age"] == 0
        assert "memory" not in shown[0]


@pytest.mark.parametrize("path", ["", "/track", "/live"])
async def test_a_trip_is_read_by_who_may_follow_it(path: str) -> None:
    """Not by others of the tenant; and where there is none there is nothing."""
    async with world() as made:
        assert (await made.ask("GET", TRIP + path, by="user:nat")).status_code == 403
        assert (await made.ask("GET", TRIP + path, by="user:rex")).status_code == 200
        assert (await made.ops("GET", f"/v1/trips/none{path}")).status_code == 404
        await made.node.log.remove_member("demo", "trip:9", "user:rex", "service:test")
        await made.node.node.loader.load([("demo", "trip:9", "user:rex")])
        assert (await made.ask("GET", TRIP + path, by="user:rex")).status_code == 403


async def test_fences_are_kept_and_bounded() -> None:
    """Drawn, changed, listed, removed; what is none is said why."""
    async with world() as made:
        ring = {"points": [{"lat": 1, "lon": 2}], "radius_m": 50}
        assert (await made.ops("PUT", "/v1/fences/a", ring)).status_code == 201
        assert (await made.ops("PUT", "/v1/fences/a", ring | {"radius_m": 60})).status_code == 200
        assert (await made.ops("GET", "/v1/fences/a")).json()["radius_m"] == 60
        assert [one["fence"] for one in (await made.ops("GET", "/v1/fences")).json()["fences"]] == ["a"]
        line = await made.ops("PUT", "/v1/fences/b", {"points": [{"lat": 1, "lon": 2}] * 2})
        assert (line.status_code, line.json()["detail"]) == (
            400,
            "a polygon is 3 to 1000 points, and a circle has a radius_m",
        )
        assert (await made.ops("DELETE", "/v1/fences/a")).status_code == 204
        for method in ("GET", "DELETE"):
            assert (await made.ops(method, "/v1/fences/a")).status_code == 404
        for method, path in (("GET", ""), ("GET", "/a"), ("PUT", "/a"), ("DELETE", "/a")):
            assert (await made.ask(method, f"/v1/fences{path}", ring if method == "PUT" else None)).status_code == 403
        assert made.tracks is not None
        for n in range(FENCES_MAX):
            await made.tracks.put_fence("demo", Fence(f"f{n}", "f", ((1.0, 2.0),), 5.0, 0, ()))
        assert (await made.ops("PUT", "/v1/fences/more", ring)).status_code == 409


async def test_without_a_store_of_tracks_commands_and_state_are_served() -> None:
    """And the rest says that it is not, to who may ask."""
    async with world(tracks=False) as made:
        assert (await made.tell("plan", **PLAN))["seqs"] == [1]
        assert (await made.ask("GET", TRIP)).status_code == 200
        for path in ("/track", "/live"):
            assert (await made.ask("GET", TRIP + path)).json()["code"] == "unavailable"
            assert (await made.ask("GET", TRIP + path, by="user:nat")).json()["code"] == "forbidden"
        assert (await made.ops("GET", "/v1/fences")).json()["code"] == "unavailable"


async def test_a_store_that_is_away_is_said() -> None:
    """When to come back, and nothing is lost."""
    log = memory_log()
    async with world(log) as made:
        await made.ask("GET", TRIP)
        log.fail_next("unavailable", "track")
        assert (await made.ask("GET", f"{TRIP}/track")).json()["code"] == "unavailable"
        log.fail_next("unavailable", "ruled")
        assert (await made.ask("GET", TRIP)).json()["code"] == "unavailable"
        assert (await made.ask("GET", f"{TRIP}/track")).status_code == 200
