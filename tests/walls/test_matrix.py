"""Role in the tenant x role in the stream x every op and route x whose token: `core.policy` says what happens, and it does.

A new op, route or action without an entry in `tests.walls.ops` or `tests.walls.routes` fails here, in a sentence that says
what to add.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from core.model import AUDIT_STREAM, ROLES, TENANT_ROLES
from core.policy import StreamAction, TenantAction, may, may_in_tenant, role_in
from core.policy import standing as standing_of
from gateway.ops import _HANDLERS
from store.postgres import PostgresLog, open_postgres_log
from tests.nodes import token
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.walls.ops import ASKS, Ask
from tests.walls.routes import ROUTES, Route
from tests.walls.stage import (
    GUEST,
    OWN,
    PLACES,
    STANDINGS,
    TWIN,
    Everybody,
    Place,
    Verdict,
    Whose,
    World,
    exists,
    part,
    verdict,
    world,
)
from tests.wire_client import Frame, WireClient, wire_client

T = TenantAction
OURS = [whose for whose in Whose if whose is not Whose.NOBODY]
UNTOUCHED = {Whose.NOBODY: (OWN, TWIN), Whose.TWIN: (OWN,), Whose.VOID: (OWN, TWIN), Whose.OWN: (TWIN,)}
"""Whose streams nobody of this case may change, whatever is allowed to it at home."""


def roles_of(standing: str) -> list[str]:
    return [standing] if standing else []


def asked(whose: Whose, standing: str, place: Place, what: object) -> str:
    return f"{what} by {place.principal} ({standing or 'no role'}) of {whose.value} in {place.stream}, {place.name}"


# Sockets


def said(answer: Frame, stream: str) -> Verdict:
    """What an answer comes to."""
    if answer["op"] == "welcome":
        line = answer["streams"][stream]
        return Verdict(line["error"]) if "error" in line else Verdict.ALLOWED
    if answer["op"] in ("ok", "pong"):
        return Verdict.ALLOWED
    assert answer["op"] == "error", answer
    if answer["code"] == "rejected":
        return Verdict.ALLOWED  # the flight's state says no, to somebody who was let in
    return Verdict(answer["code"])


def wanted(whose: Whose, standing: str, place: Place, ask: Ask) -> Verdict:
    found = verdict(whose, ask.at(place), roles_of(standing), ask.action)
    return Verdict(ask.denied) if found is Verdict.FORBIDDEN else found


@asynccontextmanager
async def opened(made: World, whose: Whose, standing: str, place: Place) -> AsyncIterator[tuple[WireClient, str]]:
    """A connection that was resumed after a hello, both of which are judged; and its access token."""
    access = token(place.principal, tenant=whose.value, roles=roles_of(standing))
    async with wire_client(made.node.url) as first:
        welcome = await first.ask("hello", token=access, streams={place.stream: {"after": 0}})
    hello, resume = ASKS[:2]
    assert said(welcome, place.stream) is wanted(whose, standing, place, hello), asked(whose, standing, place, hello.op)
    async with wire_client(made.node.url) as client:
        again = await client.ask("resume", resume=welcome["resume"], streams={place.stream: 0})
        found = said(again, place.stream)
        assert found is wanted(whose, standing, place, resume), asked(whose, standing, place, resume.op)
        yield client, access


async def walk(made: World, whose: Whose, standing: str, places: Iterable[Place]) -> int:
    """Every op in each of these places; how many answers were judged."""
    count = 0
    for place in places:
        async with opened(made, whose, standing, place) as (client, access):
            for ask in ASKS[2:]:
                fields = {"token": access} if ask.op == "refresh" else ask.fields(made, whose, place)
                answer = await client.ask(ask.op, **fields)
                what = asked(whose, standing, place, f"{ask.op} {ask.what}")
                assert said(answer, place.stream) is wanted(whose, standing, place, ask), (what, answer)
                count += 1
        count += 2
    return count


@pytest.mark.parametrize("standing", STANDINGS)
@pytest.mark.parametrize("whose", OURS)
async def test_every_op_does_what_the_table_says(whose: Whose, standing: str) -> None:
    """And what another tenant holds is the same afterwards, to the byte."""
    async with world() as made:
        before = [await made.state(tenant) for tenant in UNTOUCHED[whose]]
        assert await walk(made, whose, standing, PLACES) == len(PLACES) * len(ASKS)
        await made.node.node.save_marks()
        assert [await made.state(tenant) for tenant in UNTOUCHED[whose]] == before


async def test_without_a_token_no_op_but_ping_does_anything() -> None:
    """Every other is refused, and a hello without one ends the connection."""
    async with world() as made:
        before = [await made.state(tenant) for tenant in (OWN, TWIN)]
        for place in PLACES:
            async with wire_client(made.node.url) as client:
                for ask in ASKS[1:]:
                    answer = await client.ask(ask.op, **ask.fields(made, Whose.OWN, place))
                    if ask.op == "ping":
                        assert answer["op"] == "pong"
                    else:
                        code = "resume_rejected" if ask.op == "resume" else "unauthorized"
                        assert (answer["op"], answer["code"]) == ("error", code), ask
                await client.say("hello", streams={place.stream: {"after": 0}})
                assert (await client.closed())[0] == 4501
        assert [await made.state(tenant) for tenant in (OWN, TWIN)] == before


# HTTP


def http_verdict(response: httpx.Response) -> Verdict:
    if response.is_success:
        return Verdict.ALLOWED
    if "error" in response.json():  # OAuth has a form of its own (RFC 6749, section 5.2)
        assert response.url.path == "/v1/oauth/token"
    else:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code
    if response.json()["code"] == "rejected":
        return Verdict.ALLOWED  # the flight's state says no, to somebody who was let in
    assert response.json()["code"] in {each.value for each in Verdict}, (str(response.url), response.text)
    return Verdict(response.json()["code"])


def route_wanted(made: World, whose: Whose, standing: str, place: Place, route: Route) -> Verdict:
    if route.leaves and whose is not Whose.NOBODY:
        return Verdict.ALLOWED if whose is Whose.OWN and place.member else Verdict.NOT_FOUND
    if route.at is not None:
        place = route.at(place)
        if route.what and part(whose, place, roles_of(standing)) == "owner" and not exists(whose, place):
            return Verdict.ALLOWED
    found = verdict(whose, place, roles_of(standing), route.action)
    if found is Verdict.ALLOWED and isinstance(route.action, TenantAction) and not route.streamless:
        if route.action is T.TRIM_STREAM and place.stream.startswith((AUDIT_STREAM, "trip:")):
            return Verdict.FORBIDDEN  # nobody makes it forget
        hashes = route.action is not T.READ_AUDIT or isinstance(made.log, PostgresLog)
        return Verdict.ALLOWED if hashes and exists(whose, place) else Verdict.NOT_FOUND
    return found


def named(request: object, name: str) -> Any:
    """The request with what was granted put in."""
    if isinstance(request, dict):
        return {key: named(value, name) for key, value in request.items()}
    return request.replace("{granted}", name) if isinstance(request, str) else request


async def call(
    made: World, whose: Whose, standing: str, place: Place, route: Route, granted: str = ""
) -> httpx.Response:
    """``granted``: the name of what there is to take away; made now where none is given."""
    if route.grants and not granted:
        granted = f"granted-{uuid.uuid4()}"
        await made.grant(OWN if whose is Whose.NOBODY else whose.value, granted)
    request = named(route.request(place), granted)
    headers = {**request.pop("headers", {})}
    if whose is not Whose.NOBODY and route.path != "/v1/oauth/token":  # a client brings no access token
        access = token(place.principal, tenant=whose.value, roles=roles_of(standing))
        headers["authorization"] = f"Bearer {access}"
    return await made.http.request(route.method, request.pop("path"), headers=headers, **request)


async def walk_routes(made: World, whose: Whose, standing: str, places: Iterable[Place]) -> int:
    """Every route in each of these places; how many answers were judged."""
    count = 0
    for place in places:
        for route in ROUTES:
            if route.method == "DELETE" and GUEST in str(route.request(place)["path"]) and place.stream != AUDIT_STREAM:
                for tenant in (OWN, TWIN):  # somebody to remove, wherever that is allowed
                    await made.log.put_member(tenant, place.stream, GUEST, "member", "service:test")
            response = await call(made, whose, standing, place, route)
            what = asked(whose, standing, place, f"{route.method} {route.path} {route.what}")
            assert http_verdict(response) is route_wanted(made, whose, standing, place, route), (what, response.text)
            if route.leaves and response.is_success:
                assert place.own is not None
                await made.log.put_member(OWN, place.stream, place.principal, place.own, "service:test")
            count += 1
    return count


@pytest.mark.parametrize("standing", STANDINGS)
@pytest.mark.parametrize("whose", list(Whose))
async def test_every_route_does_what_the_table_says(whose: Whose, standing: str) -> None:
    """The same rules as on a socket, for those without one."""
    async with world() as made:
        assert await walk_routes(made, whose, standing, PLACES) == len(PLACES) * len(ROUTES)


@pytest.mark.parametrize("whose", [Whose.NOBODY, Whose.TWIN, Whose.VOID])
async def test_no_route_changes_another_tenant(whose: Whose) -> None:
    """The highest role reaches nothing but what is its own tenant's, whatever it names."""
    async with world() as made:
        for place in PLACES:
            for tenant in (OWN, TWIN):
                await made.grant(tenant, f"{tenant}-{PLACES.index(place)}")
            before = [await made.state(tenant) for tenant in UNTOUCHED[whose]]
            for route in ROUTES:
                response = await call(made, whose, "admin", place, route, f"{OWN}-{PLACES.index(place)}")
                if route.grants:
                    wanted = Verdict.UNAUTHORIZED if whose is Whose.NOBODY else Verdict.NOT_FOUND
                    assert http_verdict(response) is wanted, (route, response.text)
            assert [await made.state(tenant) for tenant in UNTOUCHED[whose]] == before, place


# What must be in the tables


def test_every_op_has_its_line() -> None:
    """A new op says in tests/walls/ops.py what it asks the policy for, before it is served."""
    known = {ask.op for ask in ASKS}
    for op in _HANDLERS:
        assert op in known, f"the op {op} is new: add an Ask for it to ASKS in tests/walls/ops.py, with its action"
    assert known <= _HANDLERS.keys(), "tests/walls/ops.py has an op that is not served any more: take it out"
    assert [ask.op for ask in ASKS[:2]] == ["hello", "resume"]


async def test_every_route_has_its_line() -> None:
    """A new route says in tests/walls/routes.py what it asks the policy for, before it is served."""
    known = {(route.method, route.path) for route in ROUTES}
    async with world() as made:
        document = (await made.http.get("/openapi.json")).json()
    served = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    for method, path in sorted(served):
        assert (method, path) in known, (
            f"the route {method} {path} is new: add a Route for it to ROUTES in tests/walls/routes.py, with its action"
        )
    assert known <= served, "tests/walls/routes.py has a route that is not served any more: take it out"


@pytest.mark.parametrize("standing", STANDINGS)
def test_the_audit_stream_is_read_by_whom_the_tenant_s_table_names(standing: str) -> None:
    """Two tables speak of it; they say the same."""
    role = role_in(AUDIT_STREAM, None, standing_of(roles_of(standing)))
    assert may(StreamAction.FOLLOW, role) is may_in_tenant(T.READ_AUDIT, roles_of(standing))
    assert not may(StreamAction.SEND, role)


@pytest.mark.parametrize("action", [*StreamAction, *TenantAction])
def test_every_action_is_tried(action: StreamAction | TenantAction) -> None:
    """An action of the policy that no op and no route of the matrix asks for is proved by nobody."""
    tried = {ask.action for ask in ASKS} | {route.action for route in ROUTES}
    assert action in tried, f"{action} is in core.policy, and nothing in tests/walls/ops.py or routes.py asks for it"


def test_the_places_are_all_there_are() -> None:
    """Every role that a stream can give, and having none."""
    assert {place.own for place in PLACES} == {*ROLES, None}
    assert set(STANDINGS) >= {"", *TENANT_ROLES}
    assert {Everybody.KNOWN, Everybody.PUBLIC} <= {route.action for route in ROUTES}


# Over a real Postgres


FEW = tuple(place for place in PLACES if place.name in ("owner", "reader", "none", "open", "audit"))


@pytest.mark.parametrize("standing", ["", "admin"])
@pytest.mark.parametrize("whose", [Whose.OWN, Whose.TWIN])
async def test_over_postgres_the_same_table_holds(whose: Whose, standing: str, database: Database) -> None:  # noqa: F811
    """Ops and routes, where the walls are the database's too."""
    async with open_postgres_log(database.url) as log, world(log) as made:
        before = [await made.state(tenant) for tenant in UNTOUCHED[whose]]
        await walk(made, whose, standing, FEW)
        await made.node.node.save_marks()
        assert [await made.state(tenant) for tenant in UNTOUCHED[whose]] == before
        await walk_routes(made, whose, standing, FEW)
