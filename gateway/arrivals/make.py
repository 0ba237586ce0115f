"""Gives a node's arrival times what the settings say: providers of routes, and a model that was trained.

Raises `gateway.config.ConfigError` for what cannot be used: an installation that was given a model does not go on without it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import orjson

from core.geo.model import Model, read_model
from core.geo.routing import Provider, Purse
from gateway.config import Config, ConfigError, Secrets
from gateway.node import Node
from gateway.routes.budget import Budget
from gateway.routes.calling import RouteLimits, Routes
from gateway.routes.make import make_providers, read_routes
from gateway.routes.wire import Wire

log = logging.getLogger("readback.arrivals")

MODEL_BYTES_MAX: Final = 500_000_000


def model_of(path: Path) -> Model:
    try:
        if path.stat().st_size > MODEL_BYTES_MAX:
            raise ConfigError(f"The model {path} is larger than any model ({MODEL_BYTES_MAX} bytes).")
        model = read_model(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise ConfigError(
            f"The model {path} cannot be read: {error.strerror}; `readback eta train` makes one."
        ) from None
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"The model {path} is no JSON: {error}.") from None
    if isinstance(model, str):
        raise ConfigError(f"The model {path} cannot be used: {model}.")
    return model


@asynccontextmanager
async def equipped(node: Node, config: Config, secrets: Secrets, purse: Purse) -> AsyncIterator[None]:
    """While this lasts the node asks for routes, where there are providers, and knows what was learned."""
    if node.arrivals is None:
        yield
        return
    if config.eta_model is not None:
        node.arrivals.model = model_of(config.eta_model)
        log.info("arrival times are worked out with the model %s", config.eta_model)

    def calls_a_day(tenant: str) -> int:
        return node.gatekeeper.tenants.arrivals_of(tenant).provider_calls_per_day

    limits, budget = RouteLimits(), Budget(purse, calls_a_day, node.wall)
    wire = Wire(node.wall, limits.wait_s)
    try:
        providers = _providers(config, secrets, wire)
        routes = node.arrivals.routes = Routes(providers, budget, limits, node.rng, node.wall)
        _add_metrics(node, routes)
        yield
    finally:
        node.arrivals.routes = None
        await wire.aclose()


def _providers(config: Config, secrets: Secrets, wire: Wire) -> list[Provider]:
    try:
        return make_providers(read_routes(config.routes), secrets.google_routes_key, wire)
    except ValueError as error:
        raise ConfigError(f"The setting routes cannot be used: {error}.") from None


def _add_metrics(node: Node, routes: Routes) -> None:
    counter = node.measures.registry.counter_read
    counter("readback_route_calls_total", "Calls of providers of routes.", lambda: routes.calls)
    counter("readback_route_failures_total", "Of these, in vain.", lambda: routes.failures)
    counter("readback_route_shared_total", "Asks that shared another's call.", lambda: routes.shared)
    counter(
        "readback_route_over_budget_total", "Asks that a tenant's budget had no call for.", lambda: routes.over_budget
    )
    counter("readback_route_guesses_total", "Asks that were answered with a guess.", lambda: routes.guessed)
