"""The HTTP API as an app: the wire contract's routes for those without a socket, and the probes.

For: `make_app(service)`, a FastAPI app over any `gateway.service.Service`. Promises: exactly the rules of the socket
(every decision is the service's), every error an RFC 9457 problem document with the wire's ``code``, an OpenAPI
document that names all of them. Does not: listen (`gateway.http_serve`), bound bodies or catch the unexpected
(`gateway.http_edge`), keep anything between requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Match

from core.addresses import Trusted
from core.limits import Limits
from core.ports import Refused, Unavailable
from core.tokens import Identity
from gateway.collect_service import CollectService
from gateway.gather import Gather
from gateway.http_collect import router as collect_router
from gateway.http_edge import Edge, EdgeLimits, SecurityHeaders, problem
from gateway.http_flights import router as flights_router
from gateway.http_models import Problem
from gateway.http_office import router as office_router
from gateway.http_push import router as push_router
from gateway.http_reads import router as reads_router
from gateway.http_routes import router
from gateway.http_trips import router as trips_router
from gateway.http_work import router as work_router
from gateway.office_service import OfficeService
from gateway.push.desk import PushDesk
from gateway.reads_service import ReadsService
from gateway.service import HTTP_STATUS, Service, WireError
from gateway.trips_service import TripsService
from gateway.work_service import WorkService

DESCRIPTION = """\
Readback over plain HTTP, for those without a socket. Events that are sent here are ordered, committed and delivered
like those of the WebSocket (`GET /v1/ws` on the gateway's other port), and the rules are the same.

* Authenticate with `Authorization: Bearer <JWT>`. The tenant is the token's.
* Every error is an RFC 9457 problem document whose `code` is the WebSocket's.
* A send carries an `Idempotency-Key`. After `unavailable`, or no answer, repeat it with the same key: it lands once.
"""


def make_app(
    service: Service,
    *,
    office: OfficeService | None = None,
    reads: ReadsService | None = None,
    work: WorkService | None = None,
    pushes: PushDesk | None = None,
    collect: CollectService | None = None,
    trips: TripsService | None = None,
    limits: Limits | None = None,
    edge: EdgeLimits | None = None,
    origins: frozenset[str] | None = frozenset(),
    gather: Gather | None = None,
    trusted: Trusted | None = None,
    barred_s: Callable[[str], float] = lambda address: 0.0,
) -> FastAPI:
    """The app. Without an ``office`` its routes are not there, nor those of ``reads``, ``work``, ``pushes``, ``collect`` and
    ``trips`` without these. ``origins`` are the web origins whose pages may call it (``None``: any), as for the WebSocket. With
    ``gather``, metrics and readiness tell of the siblings on these ports too. ``trusted`` and ``barred_s`` are
    `gateway.http_edge.Edge`'s."""
    limits = limits or Limits()
    # No /docs page: it would load its scripts from elsewhere. Any OpenAPI viewer reads /openapi.json.
    app = FastAPI(title="Readback", version="1", description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.service = service
    app.state.limits = limits
    app.state.gather = gather
    app.include_router(router)
    app.include_router(flights_router)
    if office is not None:
        app.state.office = office
        app.include_router(office_router)
    if reads is not None:
        app.state.reads = reads
        app.include_router(reads_router)
    if work is not None:
        app.state.work = work
        app.include_router(work_router)
    if pushes is not None:
        app.state.pushes = pushes
        app.include_router(push_router)
    if collect is not None:
        app.state.collect = collect
        app.include_router(collect_router)
    if trips is not None:
        app.state.trips = trips
        app.include_router(trips_router)
    app.add_exception_handler(WireError, _on_wire_error)
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(Unavailable, _on_unavailable)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    # Each is around those before it: what the edge refuses is answered to other sites' pages too, and preflights carry the
    # security headers.
    app.add_middleware(Edge, limits=edge, depth_max=limits.json_depth_max, trusted=trusted, barred_s=barred_s)
    if origins is None or origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=["*"] if origins is None else sorted(origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "DPoP", "Idempotency-Key"],
            expose_headers=["Link", "Location", "Retry-After", "WWW-Authenticate"],
            max_age=600,
        )
    app.add_middleware(SecurityHeaders)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _problem(status: int, code: str, detail: str, **extra: Any) -> Response:
    status, headers, body = problem(status, code, detail, **extra)
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


async def _on_wire_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WireError)
    who: Identity | None = getattr(request.state, "who", None)
    if error.code == "forbidden" and who is not None:
        service: Service = request.app.state.service
        service.denied(who, error.message)
    extra: dict[str, Any] = {"retry_after_s": error.retry_after_s, "head": error.head, "facts": error.facts}
    return _problem(HTTP_STATUS[error.code], error.code, error.message, **extra)


async def _on_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    assert error.code in HTTP_STATUS, f"a store refused with the unknown code {error.code}"
    return _problem(HTTP_STATUS[error.code], error.code, error.message)


async def _on_unavailable(_: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)
    detail = "the log cannot answer now; what was asked may be repeated, a send with the same Idempotency-Key"
    return _problem(503, "unavailable", detail, retry_after_s=error.retry_after_s)


async def _on_validation_error(_: Request, error: Exception) -> Response:
    """400 and not FastAPI's 422: the wire's code for it is bad_request. What was sent is not repeated back."""
    assert isinstance(error, RequestValidationError)
    errors = [
        {"field": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"])}
        for item in error.errors()[:20]
    ]
    first = errors[0] if errors else {"field": "request", "message": "is malformed"}
    return _problem(400, "bad_request", f"{first['field']}: {first['message']}", errors=errors)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """The router's own: no such route, no such method."""
    assert isinstance(error, HTTPException)
    code, detail = {
        404: ("not_found", "no such route; GET /openapi.json lists them, the WebSocket is on the gateway's other port"),
        405: ("bad_request", "this route does not take this method; the Allow header lists those it takes"),
    }.get(error.status_code, ("bad_request" if error.status_code < 500 else "internal", "the request is malformed"))
    response = _problem(error.status_code, code, detail)
    if error.status_code == 405:
        response.headers["Allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """Those of the request's path (RFC 9110, section 10.2.1: all of them; the router names those of one route alone)."""
    routes: list[BaseRoute] = request.app.routes
    asked = ({**request.scope, "method": method} for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"))
    return [scope["method"] for scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document with our errors in place of its own 422."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
    )
    for operations in document["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]  # a refused command's is a problem document
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    app.openapi_schema = document
    return document


_TAGS = [
    {
        "name": "streams",
        "description": "Ordered, gap-free, append-only logs: one per conversation, flight, trip, inbox.",
    },
    {"name": "members", "description": "Who may read and send. Every change is itself an event of the stream."},
    {"name": "events", "description": "Sending, reading, forgetting."},
    {"name": "positions", "description": "Fixes of what moves, from devices with a key and from apps without."},
    {"name": "tokens", "description": "Tokens of the gateway's own, for services and devices."},
    {"name": "devices", "description": "Onboarding by QR code, keys, and what to do when one is lost."},
    {
        "name": "revocations",
        "description": "Who is not let in any more, and ended where it is: on every node, at once.",
    },
    {"name": "trips", "description": "Plans, stops, who is told before; tracks, last positions and fences."},
    {"name": "sagas", "description": "Steps in several streams that end all done or all undone."},
    {"name": "rules", "description": "What rules did, and why."},
    {"name": "pushes", "description": "One's own phones, to which alerts of arrivals are pushed."},
    {"name": "audit", "description": "Proofs of what the log holds."},
    {"name": "health", "description": "For orchestrators and Prometheus; no token needed."},
]
