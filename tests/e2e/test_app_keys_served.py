"""Keys of apps where it counts: a real `readback serve` over Postgres, two nodes of it, and everything that they say."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from core.limits import Limits
from gateway.collect import Collector
from gateway.http import make_app
from store.postgres import open_postgres_log
from tests.devices import admin
from tests.e2e.test_no_token_told import pieces_told
from tests.nodes import TestNode, serving_cluster, token
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.serving import serving

APP = "/v1/devices/device:truck-7/app"
OSMAND = "/v1/collect/osmand"


def api(node: TestNode) -> httpx.AsyncClient:
    made = node.node
    assert made.tracks is not None
    assert made.positions is not None
    app = make_app(node.desk, office=node.office, collect=Collector(made, made.tracks, made.positions))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://readback.test")


def drive(key: str, n: int, start_s: int) -> dict[str, str]:
    return {"id": key, "timestamp": str(start_s + 10 * n), "lat": str(-33.9 + 0.002 * n), "lon": "151.2"}


async def test_a_key_is_good_at_every_node_until_it_is_removed_at_one(database: Database) -> None:  # noqa: F811
    """Over Postgres: what one node takes is a duplicate at the other; a tenant's keys are nobody else's."""
    start_s = int(time.time()) - 600
    limits = Limits(device_key_s=0.0)  # so that no test waits for the second
    async with (
        open_postgres_log(database.url) as log,
        serving_cluster(2, log=log, limits=limits, tracks=log.tracks) as nodes,
        api(nodes[0]) as one,
        api(nodes[1]) as two,
    ):
        for tenant in ("demo", "other"):
            await nodes[0].stream("trip:9", tenant=tenant)
        made = await one.put(APP, json={"stream": "trip:9"}, headers=admin())
        assert made.status_code == 201, made.text
        key = made.json()["secret"]
        for n, http in enumerate((one, two, one)):
            answer = await http.get(OSMAND, params=drive(key, n, start_s))
            assert (answer.status_code, answer.headers["readback-verdicts"]) == (200, "accepted=1")
        again = await two.get(OSMAND, params=drive(key, 2, start_s))
        assert again.status_code == 200
        samples = await log.tracks.track("demo", "trip:9", from_ms=0, to_ms=2**53)
        assert [sample.at_ms for sample in samples] == [1000 * (start_s + 10 * n) for n in range(3)]
        assert (await two.get("/v1/devices/apps", headers=admin(tenant="other"))).json() == {"apps": []}
        assert (await two.delete(APP, headers=admin(tenant="other"))).status_code == 404
        assert (await two.delete(APP, headers=admin())).status_code == 204
        assert (await one.get(OSMAND, params=drive(key, 3, start_s))).status_code == 401
        assert await log.tracks.track("other", "trip:9", from_ms=0, to_ms=2**53) == []


@pytest.mark.slow
async def test_no_piece_of_a_key_is_told(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """Not in a log line at level debug, an answer, a metric or the audit stream, wherever the key was put; OsmAnd has it in
    every address."""
    environ = {"READBACK_DATABASE_URL": database.url, "READBACK_LOG_LEVEL": "debug"}
    root = {"authorization": f"Bearer {token('user:root', roles=['admin'])}"}
    words: list[str] = []
    async with serving(tmp_path / "n", environ=environ) as served, httpx.AsyncClient(base_url=served.http) as http:
        await http.post("/v1/streams", json={"stream": "trip:9"}, headers=root)
        keys = []
        for _ in range(2):  # the second ends the first
            made = await http.put(APP, json={"stream": "trip:9"}, headers=root)
            assert made.status_code == 201, made.text
            keys.append(made.json()["secret"])
        statuses = set()
        for key in keys:
            fix = drive(key, 0, int(time.time()) - 60)
            for answer in (
                await http.get(OSMAND, params=fix),
                await http.post(OSMAND, params={**fix, "lat": key}),
                await http.post(OSMAND, data={**fix, "timestamp": key}),
                await http.post(OSMAND, json={"device_id": key, "location": {key: key}}),
                await http.post(OSMAND, content=b'{"' + key.encode(), headers={"content-type": "text/plain"}),
                await http.post("/v1/collect/owntracks", json={"_type": key}, auth=(key, key)),
                await http.post("/v1/collect/owntracks", json={"_type": "location", "tst": key}, auth=("", key)),
                await http.get(f"{OSMAND}/{key}?id={key}"),
                await http.delete(f"{OSMAND}?id={key}"),
                await http.get("/v1/me/streams", headers={"authorization": f"Bearer {key}"}),
                await http.get(f"/v1/me/streams?id={key}", headers=root),
            ):
                statuses.add(answer.status_code)
                words.append(f"{answer.headers} {answer.text}")
        assert {200, 400, 401, 404, 405} <= statuses
        for path in ("/metrics", "/v1/devices/apps", "/v1/streams/audit:log/events", "/openapi.json"):
            words.append((await http.get(path, headers=root)).text)
        log = served.words()
    assert "app.made" in "".join(words)
    assert 'readback_app_requests_total{app="osmand",outcome="taken"} 1' in "".join(words)
    assert pieces_told("\n".join(words), keys) == []
    assert pieces_told(log, keys) == []
    assert "Traceback" not in log
