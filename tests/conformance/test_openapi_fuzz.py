"""Requests drawn from the OpenAPI document, thrown at a real node over real HTTP, by each kind of caller and by nobody.

schemathesis draws them, right ones and wrong ones, and holds every answer against the document: status, content type,
headers and schema are what it says, nothing is a fault of ours, what needs a token is not served without one, and what the
schema rules out is refused. The node runs in a thread with a loop of its own; drawing is seeded, so that a failure comes again.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from core.limits import Limits
from gateway.collect import Collector
from gateway.http import make_app
from gateway.http_edge import EdgeLimits
from gateway.http_serve import bind_http, serve_http
from gateway.push.desk import PushDesk
from gateway.trips_desk import TripsDesk
from store.memory_tracks import MemoryTracks
from tests.nodes import SECRETS, memory_log, serving_node, token

EXAMPLES = 5
"""Of each operation, caller and kind: right ones, wrong ones, and right ones of what exists."""
CALLERS: dict[str, dict[str, Any] | None] = {
    "nobody": None,
    "a stranger": {"principal": "user:stranger", "tenant": "other"},
    "a reader": {"principal": "user:rex"},
    "an owner": {"principal": "user:olga"},
    "an admin": {"principal": "user:root", "roles": ["admin"]},
    "a service": {"principal": "service:ops", "roles": ["service"]},
    "an auditor": {"principal": "user:aud", "roles": ["auditor"]},
}
PATHS: dict[str, object] = {
    "stream": "chat:ops",
    "principal": "user:guest",
    "client_id": "client-fuzz",
    "device": "device:fuzz",
    "flight": "QX12-20261121",
    "trip": "school-7",
    "fence": "depot",
    "token": "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0",
}
"""What a path names where it is to name something that exists."""
BEYOND_THE_SCHEMA = {
    "POST /v1/oauth/token": "what a grant needs beside it, and everything that is wrong is 400 (RFC 6749, section 5.2)",
    "POST /v1/revocations": "what a value may be is another thing for each scope",
    "DELETE /v1/revocations": "the same",
    "POST /v1/positions": "decimals and days count, and a schema has words for neither",
    "GET /v1/collect/osmand": "an app's parameters are texts, of which a place has to be made",
    "POST /v1/collect/osmand": "the same, and of a body in any of three forms",
    "POST /v1/collect/owntracks": "what a message needs is another thing for each type",
    "POST /v1/me/pushes": "what a token is made of is another thing for each service",
    "GET /v1/trips/{trip}/track": "what a time is, and where a page goes on, a schema's texts do not say",
    "POST /v1/trips/{trip}/commands": "as of a flight",
    "PUT /v1/fences/{fence}": "a circle is one point with a radius, a polygon three without",
    "POST /v1/flights/{flight}/commands": "which verbs there are, and what body each has, is another thing for each machine",
}
"""Where a request may be right by its schema and be refused as malformed all the same."""


@dataclass
class Served:
    url: str
    calls: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)


async def _serve(started: Callable[[Served, Callable[[], None]], None]) -> None:
    log = memory_log()
    tracks = MemoryTracks(log)
    # Keys of apps are drawn, too, and each is a guess: nobody is barred for it here.
    limits = Limits(guesses_per_address_burst=0)
    async with serving_node(log, limits, tracks=tracks) as node, trio.open_nursery() as nursery:
        for stream in ("chat:ops", f"flight:{PATHS['flight']}", f"trip:{PATHS['trip']}"):
            await node.stream(stream, open=False, members={"user:rex": "reader", "user:olga": "owner"})
        node.node.use_keys(replace(SECRETS, signing_keys={"s1": b"s" * 32}))
        sock = bind_http("127.0.0.1", 0)
        assert node.node.positions is not None
        collector = Collector(node.node, tracks, node.node.positions)
        app = make_app(
            node.desk,
            office=node.office,
            collect=collector,
            trips=TripsDesk(node.node, node.desk, tracks),
            pushes=PushDesk(tracks, node.node.wall),
        )
        serve = partial(serve_http, app, [sock], shutdown=trio.sleep_forever)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        await nursery.start(serve)
        loop, scope = trio.lowlevel.current_trio_token(), nursery.cancel_scope
        started(Served(url), lambda: loop.run_sync_soon(scope.cancel))
        await trio.sleep_forever()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A node with one stream, in a thread; it ends with the module."""
    ready = threading.Event()
    found: list[tuple[Served, Callable[[], None]]] = []

    def started(made: Served, end: Callable[[], None]) -> None:
        found.append((made, end))
        ready.set()

    thread = threading.Thread(target=lambda: trio.run(_serve, started), daemon=True)
    thread.start()
    assert ready.wait(30.0), "the node did not start"
    ((made, end),) = found
    yield made
    end()
    thread.join(30.0)
    assert not thread.is_alive()


def _schema() -> Any:
    class _Nobody:
        """The document needs no node."""

    nobody: Any = _Nobody()
    app = make_app(nobody, office=nobody, collect=nobody, trips=nobody, pushes=nobody)
    return schemathesis.openapi.from_dict(app.openapi())


SCHEMA = _schema()
OPERATIONS = {operation.ok().label: operation.ok() for operation in SCHEMA.get_all_operations()}
DRAWN = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def comes_past_the_edge(case: Case[Any]) -> bool:
    """A longer query is answered 414, whatever it asks for (tests/unit/gateway/test_http.py)."""
    return len(urlencode(case.query or {}, doseq=True)) <= EdgeLimits().query_bytes_max


def without_round_floats(case: Case[Any]) -> Case[Any]:
    """JSON Schema takes 246.0 for an integer. Here it is none, as it is none on the socket: no writer of JSON makes one of a
    whole number by itself."""
    if isinstance(case.body, dict):
        for name, value in case.body.items():
            if isinstance(value, float) and value.is_integer():
                case.body[name] = int(value)
    return case


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_what_the_document_says(served: Served, label: str, caller: str) -> None:
    """Whatever is asked, by whomever: right requests and wrong ones, of streams that exist and of any other."""
    operation, claims = OPERATIONS[label], CALLERS[caller]
    headers = {} if claims is None else {"authorization": f"Bearer {token(**claims)}"}
    named = {name: PATHS[name] for name in PATHS if "{" + name + "}" in label}
    anything = bool(operation.body) or any(operation.iter_parameters())  # that could be wrong
    modes = list(GenerationMode) if anything else [GenerationMode.POSITIVE]
    kinds: list[tuple[GenerationMode, dict[str, object]]] = [(mode, {}) for mode in modes] + (
        [(GenerationMode.POSITIVE, named)] if named else []
    )
    unchecked: Any = [positive_data_acceptance] if label in BEYOND_THE_SCHEMA else []
    with requests.Session() as session:
        for mode, path in kinds:
            strategy = operation.as_strategy(mode, **({"path_parameters": path} if path else {}))
            strategy = strategy.filter(comes_past_the_edge)
            if mode is GenerationMode.POSITIVE:
                strategy = strategy.map(without_round_floats)

            @DRAWN
            @given(case=strategy)
            def ask(case: Case[Any]) -> None:
                if claims is None:
                    case.headers.pop("Authorization", None)
                response = case.call(base_url=served.url, session=session, headers=headers)
                served.calls[label] += 1
                served.statuses[response.status_code] += 1
                case.validate_response(response, headers=headers, excluded_checks=unchecked)

            ask()


@pytest.mark.parametrize("path", SCHEMA)
def test_methods_that_are_not_there(served: Served, path: str) -> None:
    """Refused with those that are, as a problem document; HEAD and OPTIONS too."""
    known = {method.upper() for method in SCHEMA[path]}
    url = served.url + re.sub(r"\{(\w+)\}", lambda name: str(PATHS[name[1]]), path)
    headers = {"authorization": f"Bearer {token('user:root', roles=['admin'])}"}
    there = set(requests.request("BREW", url, headers=headers, timeout=10).headers["allow"].split(", "))
    assert there >= known  # more where another path has the same form: /v1/devices/claims is a {device}, too
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"):
        if method in there:
            continue
        response = requests.request(method, url, headers=headers, timeout=10)
        assert response.status_code == 405, (method, path)
        assert set(response.headers["allow"].split(", ")) == there, (method, path)
        assert response.headers["content-type"] == "application/problem+json"
        assert method == "HEAD" or response.json()["code"] == "bad_request"


def test_enough_was_asked(served: Served) -> None:
    """Of every operation, and with every kind of answer among them: else the drawing has gone astray."""
    if len(served.calls) == len(OPERATIONS):  # the whole module ran
        assert sum(served.calls.values()) >= len(OPERATIONS) * len(CALLERS) * EXAMPLES
        assert {200, 201, 400, 401, 403, 404} <= served.statuses.keys()
