"""``readback device app`` and ``apps`` against a real HTTP port: what they print sets an app up."""

from __future__ import annotations

import stat
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest

from gateway.cli_errors import CANNOT, USAGE
from gateway.collect import Collector
from gateway.http import make_app
from store.memory_tracks import MemoryTracks
from tests.command_line import on_a_port, own_environment, run  # noqa: F401
from tests.nodes import TestNode, memory_log, serving_node

pytestmark = pytest.mark.usefixtures("own_environment")


@asynccontextmanager
async def listening(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestNode]:
    """A node that keeps tracks, with its HTTP API on a port that the settings name."""
    log = memory_log()
    tracks = MemoryTracks(log)
    async with serving_node(log, tracks=tracks) as node:
        for stream in ("trip:9", "trip:10"):
            await node.stream(stream)
        assert node.node.positions is not None
        collector = Collector(node.node, tracks, node.node.positions)
        async with on_a_port(make_app(node.desk, office=node.office, collect=collector), monkeypatch):
            yield node


async def test_an_app_is_set_up_by_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three, typed in or scanned; the fixes count where they were bound to."""
    async with listening(monkeypatch) as node, httpx.AsyncClient() as http:
        made = await run("device", "app", "truck-7", "--stream", "trip:9")
        assert made.exit_code == 0, made.output
        told = dict(line.split("=", 1) for line in made.stdout.splitlines())
        assert "kept nowhere" in made.stderr
        now_s = int(time.time())
        typed = {"id": told["traccar_id"], "timestamp": now_s - 30, "lat": -33.9, "lon": 151.2}
        assert (await http.post(told["traccar_url"], params=typed)).status_code == 200
        scanned = urlsplit(told["traccar_link"])
        assert parse_qs(scanned.query)["id"] == [told["key"]]
        assert scanned._replace(query="").geturl() == told["traccar_url"]
        configuration = orjson.loads(b64decode(parse_qs(urlsplit(told["owntracks_link"]).query)["inline"][0]))
        assert [configuration[name] for name in ("url", "username", "password")] == [
            told["owntracks_url"],
            told["owntracks_user"],
            told["owntracks_password"],
        ]
        said = {"_type": "location", "tst": now_s - 20, "lat": -33.8999, "lon": 151.2}
        auth = (told["owntracks_user"], told["owntracks_password"])
        assert (await http.post(told["owntracks_url"], json=said, auth=auth)).status_code == 200
        filled = told["osmand_url"].format(-33.8998, 151.2, 1000 * (now_s - 10), 5.0, 12.0, 1.1, 0.0)
        assert (await http.get(filled)).status_code == 200
        assert node.tracks is not None
        samples = await node.tracks.track("demo", "trip:9", from_ms=0, to_ms=2**53)
        assert [sample.at_ms for sample in samples] == [1000 * (now_s - ago) for ago in (30, 20, 10)]


async def test_an_app_is_listed_bound_anew_and_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its device's name, short or whole; what is not there is one sentence."""
    async with listening(monkeypatch):
        await run("device", "app", "truck-7", "--stream", "trip:9")
        assert (await run("device", "apps")).stdout.startswith("device:truck-7  trip:9  20")
        kept = await run("device", "app", "device:truck-7", "--stream", "trip:10", "--keep")
        assert (kept.exit_code, kept.stdout) == (0, "")
        assert (await run("device", "apps")).stdout.startswith("device:truck-7  trip:10  20")
        assert (await run("device", "app", "truck-7", "--remove")).exit_code == 0
        assert (await run("device", "apps")).stdout == ""
        gone = await run("device", "app", "truck-7", "--remove")
        assert (gone.exit_code, "has no key of an app" in gone.stderr) == (CANNOT, True)
        nowhere = await run("device", "app", "truck-7", "--stream", "trip:none")
        assert (nowhere.exit_code, "no stream trip:none" in nowhere.stderr) == (CANNOT, True)


@pytest.mark.parametrize(
    "options", [(), ("--keep",), ("--stream", "trip:9", "--remove"), ("--remove", "--keep")], ids=" ".join
)
async def test_what_is_to_be_done_is_said(options: tuple[str, ...]) -> None:
    """One thing at a time, before anything is asked of the gateway."""
    result = await run("device", "app", "truck-7", *options)
    assert (result.exit_code, "--stream STREAM" in result.stderr) == (USAGE, True)


async def test_a_code_goes_to_a_file_that_nobody_else_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a picture of either kind, for either app."""
    async with listening(monkeypatch):
        for kind, app in (("svg", "traccar"), ("png", "owntracks")):
            file = tmp_path / f"app.{kind}"
            made = await run("device", "app", "truck-7", "--stream", "trip:9", "--app", app, f"--{kind}", str(file))
            assert made.exit_code == 0, made.output
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert file.read_bytes().startswith(b"<?xml" if kind == "svg" else b"\x89PNG")
