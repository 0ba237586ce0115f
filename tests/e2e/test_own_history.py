"""From trips that were driven, over Postgres, to a model that serves: `readback eta export`, `train`, `replay`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from typer.testing import CliRunner

from gateway import cli
from gateway.cli_errors import CANNOT, USAGE
from gateway.cli_run import new_key
from gateway.eta.trips import read_trips
from store import trip_streams
from store.postgres import open_postgres_log
from tests import eta_world
from tests.own_trips import TENANT, Driven, drive
from tests.servers import Database, database, postgres_server  # noqa: F401

TRIPS = 14


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, ["eta", *map(str, arguments)])


async def driven(url: str) -> None:
    async with open_postgres_log(url, new_key=new_key) as log:
        for number in range(TRIPS):
            made = eta_world.make_trip(number, eta_world.SEED)
            await drive(Driven(log, log.tracks, made["trip"]), made, "google" if number == 3 else "osrm")
        await Driven(log, log.tracks, "planned").open()


def test_one_trains_on_ones_own_trips(
    database: Database,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the gateway's own login; what is exported is what was driven, and a model comes of it that says arrival times."""
    monkeypatch.setattr(trip_streams, "PAGE", 4)
    trio.run(partial(driven, database.url))
    out, model = tmp_path / "own.jsonl", tmp_path / "model.json"
    asked = ["export", "--database-url", database.url, "--out", out, "--tenant"]
    found = run(*asked, TENANT)
    assert found.exit_code == 0, found.output
    words = " ".join(found.output.split())
    assert f"{TRIPS - 1} trips" in words
    assert "must not be kept: 1" in words
    assert "not completed: 1" in words
    made = {trip["trip"]: trip for number in range(TRIPS) for trip in [eta_world.make_trip(number, eta_world.SEED)]}
    for trip in read_trips(out):
        assert trip.arrive_s == made[trip.name]["arrive_s"]
        assert len(trip.fixes) == len(made[trip.name]["fixes"])
    assert run("train", "--history", out, "--out", model).exit_code == 0
    said = tmp_path / "p.jsonl"
    assert run("replay", "--model", model, "--trips", out, "--out", said).exit_code == 0
    assert {orjson.loads(line)["source"] for line in said.read_bytes().splitlines()} == {"learned"}
    score = orjson.loads(run("score", "--trips", out, "--predictions", said, "--json").stdout_bytes)
    assert score["overall"] > 0.7

    nobody = run(*asked, "other")
    assert nobody.exit_code == CANNOT
    assert "Tenant other has no such trips" in " ".join(nobody.output.split())
    assert read_trips(out), "what was there stays"
    late = run(*asked, TENANT, "--from", "2030-01-01")
    assert "of another time" in " ".join(late.output.split())
    assert run(*asked, TENANT, "--mode", "sledge").exit_code == USAGE
