"""gateway.arrivals.make: what the settings give a node's arrival times, and what they may not say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.geo.features import NAMES
from core.geo.model import Model
from core.geo.routing import Ask
from core.tenants import Arrivals as Settings
from gateway.arrivals import make
from gateway.arrivals.make import equipped, model_of
from gateway.config import Config, ConfigError
from gateway.routes.wire import Wire
from tests.moving import tracking_node
from tests.nodes import SECRETS, serving_node
from tests.purses import MemoryPurse
from tests.route_servers import OsrmServer, serving
from tests.unit.core.test_geo_model import model

ASK = Ask("car", ((30.6586, 104.0647), (30.7000, 104.1200)))


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Wire]:
    """Connections that were closed."""
    found: list[Wire] = []
    close = Wire.aclose

    async def aclose(self: Wire) -> None:
        found.append(self)
        await close(self)

    monkeypatch.setattr(Wire, "aclose", aclose)
    return found


def written(folder: Path, text: str) -> Path:
    path = folder / "model.json"
    path.write_text(text)
    return path


async def test_providers_are_asked_while_it_lasts(closed: list[Wire]) -> None:
    """Those of the setting, within the tenant's calls a day; afterwards nobody is, and no connection is left."""
    server, purse = OsrmServer(), MemoryPurse()
    async with serving(server), tracking_node(arrivals=Settings(provider_calls_per_day=1)) as (at, _):
        node = at.node
        assert node.arrivals is not None
        async with equipped(node, replace(Config(), routes=f"osrm={server.url}"), SECRETS, purse):
            routes = node.arrivals.routes
            assert routes is not None
            found = [(await routes.route("demo", ask)).snapshot.source for ask in (ASK, ASK._replace(mode="bus"))]
            assert found == ["osrm", "offline"]
            said = node.measures.registry.text().decode()
            for metric in ("calls_total 1", "failures_total 0", "over_budget_total 1", "guesses_total 1"):
                assert f"\nreadback_route_{metric}\n" in said
            assert closed == []
        assert node.arrivals.routes is None
    assert (len(closed), list(purse.spent.values())) == (1, [1])


async def test_without_providers_it_is_a_guess() -> None:
    """And no model is known that nobody named."""
    async with tracking_node() as (at, _), equipped(at.node, Config(), SECRETS, MemoryPurse()):
        assert at.node.arrivals is not None
        assert at.node.arrivals.routes is not None
        assert (await at.node.arrivals.routes.route("demo", ASK)).snapshot.source == "offline"
        assert at.node.arrivals.model is None


async def test_a_node_without_positions_is_given_nothing() -> None:
    """It runs all the same, whatever the settings say."""
    async with serving_node() as at, equipped(at.node, replace(Config(), routes="nonsense"), SECRETS, MemoryPurse()):
        assert at.node.arrivals is None


@pytest.mark.parametrize(
    ("routes", "says"), [("nonsense", "is osrm, valhalla or google"), ("google", "google_routes_key")]
)
async def test_routes_that_cannot_be_used(closed: list[Wire], routes: str, says: str) -> None:
    """One sentence, and nothing is left open."""
    async with tracking_node() as (at, _):
        with pytest.raises(ConfigError, match=rf"^The setting routes cannot be used: .*{says}"):
            async with equipped(at.node, replace(Config(), routes=routes), SECRETS, MemoryPurse()):
                raise AssertionError("it goes on")
    assert len(closed) == 1


async def test_a_model_is_read_before_any_trip(tmp_path: Path) -> None:
    """The one that was trained, for trips from now on."""
    path = written(tmp_path, json.dumps(model().json()))
    async with tracking_node() as (at, _), equipped(at.node, replace(Config(), eta_model=path), SECRETS, MemoryPurse()):
        assert at.node.arrivals is not None
        assert isinstance(at.node.arrivals.model, Model)
        assert at.node.arrivals.model.trained == {"trips": 3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ("[]", "cannot be used: this is no model of arrival times"),
        (json.dumps(model().json() | {"features": list(NAMES[1:])}), "train it anew"),
    ],
)
def test_a_model_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    """One sentence that names its file."""
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"The model {path} .*{says}"):
        model_of(path)


def test_a_model_that_is_not_there_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes one is said; a file that can be none is not even read."""
    with pytest.raises(ConfigError, match=r"cannot be read: No such file.*`readback eta train` makes one"):
        model_of(tmp_path / "none.json")
    path = written(tmp_path, "{" * 11)
    monkeypatch.setattr(make, "MODEL_BYTES_MAX", 10)
    read: list[Any] = []
    monkeypatch.setattr(Path, "read_bytes", read.append)
    with pytest.raises(ConfigError, match="larger than any model"):
        model_of(path)
    assert read == []
