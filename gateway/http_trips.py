"""The HTTP API's routes for trips: their commands, state and tracks, and a tenant's fences.

As `gateway.http_routes`: requests checked for shape, one call to the service, an answer in the wire's words. In an app only
where there is a service of trips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal, cast
from urllib.parse import urlencode

import orjson
import trio
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from core.flight import times
from core.tracks import TRACK_LIMIT_MAX, Fence, Sample
from core.trip import export
from gateway.http_flights import KeyHeader, give, make
from gateway.http_models import PRINCIPAL_PATTERN, STREAM_NAME_PATTERN, CommandedModel
from gateway.http_reads import MOMENT, moment
from gateway.http_routes import Node, Who, first_members, json_answer, path_of, problems
from gateway.http_trip_models import (
    FENCE_PATTERN,
    CreateTrip,
    FenceModel,
    FencePutModel,
    FencesModel,
    GiveTripCommand,
    LiveModel,
    PutFence,
    TrackModel,
    TripModel,
    TripStateModel,
)
from gateway.trips_service import Asked, Shown, TripsService

FOREVER_MS: Final = 4_102_444_800_000
"""2100: until then where no end is asked for."""
SIMPLIFY_M_MAX: Final = 100_000
WRITTEN_AT_ONCE: Final = 500
"""Samples written in one turn of the node's loop (2 ms); more are written in a thread, beside it."""

Format = Literal["json", "geojson", "gpx", "csv"]
MEDIA: Final[dict[Format, str]] = {
    "geojson": "application/geo+json",
    "gpx": "application/gpx+xml",
    "csv": "text/csv; charset=utf-8",
}


def _trips(request: Request) -> TripsService:
    return cast(TripsService, request.app.state.trips)


Service = Annotated[TripsService, Depends(_trips)]
TripPath = Annotated[
    str,
    Path(
        pattern=STREAM_NAME_PATTERN,
        description="what follows `trip:` in the stream's name",
        openapi_examples={"trip": {"value": "school-7"}},
    ),
]
FencePath = Annotated[str, Path(pattern=FENCE_PATTERN, openapi_examples={"fence": {"value": "depot"}})]

router = APIRouter()


@router.post(
    "/v1/trips",
    status_code=201,
    tags=["trips"],
    operation_id="createTrip",
    summary="Make a trip's stream",
    response_model=TripModel,
    responses={
        200: {"model": TripModel, "description": "it was there before; its members are as they were"},
        **problems("forbidden", "too_large"),
    },
)
async def create_trip(request: CreateTrip, node: Node, who: Who) -> Response:
    """Needs a token with role `admin` or `service`. Nothing is known of the trip before its first command, `plan`."""
    stream = f"trip:{request.trip}"
    made = await make([stream], first_members(who, "trip", request.members), request.open, node, who)
    return json_answer({"trip": request.trip, "stream": stream}, 201 if made else 200)


@router.post(
    "/v1/trips/{trip}/commands",
    status_code=201,
    tags=["trips"],
    operation_id="giveTripCommand",
    summary="Give a command to a trip",
    response_model=CommandedModel,
    responses={
        200: {"model": CommandedModel, "description": "the key was used before: what was answered then, `dup` is true"},
        **problems("forbidden", "not_found", "conflict", "too_large", "rejected", "rate_limited"),
    },
)
async def give_trip_command(
    trip: TripPath, request: GiveTripCommand, node: Node, who: Who, http: Request, key: KeyHeader
) -> Response:
    """Answered after the commit. A command becomes events of the stream, all or none, or is refused with a `reason`; either is
    kept under the key, and a repeated key is answered the same."""
    return await give(f"trip:{trip}", request.type, request.body, request.expect, key, node, who, http)


@router.get(
    "/v1/trips/{trip}",
    tags=["trips"],
    operation_id="readTrip",
    summary="A trip as it is",
    response_model=TripStateModel,
    responses=problems("forbidden", "not_found", "rate_limited"),
)
async def read_trip(trip: TripPath, trips: Service, who: Who) -> Response:
    """Its plan with what became of each stop, who is told, what was told, and its route. For who may follow its stream."""
    found = await trips.trip(who, trip)
    return json_answer({"trip": trip, "seq": found.seq, "state": found.doc})


def _asked(
    from_: Annotated[
        str | None, Query(alias="from", description="not before; RFC 3339 with an offset", openapi_examples=MOMENT)
    ] = None,
    to: Annotated[str | None, Query(description="before; RFC 3339 with an offset", openapi_examples=MOMENT)] = None,
    subject: Annotated[str | None, Query(pattern=PRINCIPAL_PATTERN, description="whose alone")] = None,
    after: Annotated[str, Query(max_length=300, description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=TRACK_LIMIT_MAX, description="at most so many samples")] = 1_000,
    quarantined: Annotated[bool, Query(description="those that nobody believed, too")] = False,
    simplify: Annotated[
        float,
        Query(ge=0, le=SIMPLIFY_M_MAX, description="leave out what is within so many metres of the line that stays"),
    ] = 0,
) -> Asked:
    from_ms, to_ms = moment("from", from_), moment("to", to)
    return Asked(from_ms or 0, FOREVER_MS if to_ms is None else to_ms, subject, after, limit, quarantined, simplify)


@router.get(
    "/v1/trips/{trip}/track",
    tags=["trips"],
    operation_id="readTrack",
    summary="Where a trip's subjects were",
    response_model=TrackModel,
    responses={
        200: {
            "content": {
                media.partition(";")[0]: {"schema": {"type": "object" if form == "geojson" else "string"}}
                for form, media in MEDIA.items()
            },
            "headers": {
                "Link": {
                    "schema": {"type": "string"},
                    "description": 'where this page is followed by another: rel="next"',
                }
            },
        },
        **problems("forbidden", "not_found", "rate_limited"),
    },
)
async def read_track(
    trip: TripPath,
    trips: Service,
    who: Who,
    http: Request,
    asked: Annotated[Asked, Depends(_asked)],
    format: Annotated[Format | None, Query(description="else what `Accept` says, else JSON")] = None,
) -> Response:
    """By time. A page may be short: go on while there is a `next`, which every format also tells in a `Link` header;
    thinning is done within a page. For who may follow the trip's stream."""
    found = await trips.track(who, trip, asked)
    form, headers = format or _accepted(http.headers.get("accept", "")), {"vary": "Accept"}
    if found.next is not None:
        query = urlencode(
            [pair for pair in http.query_params.multi_items() if pair[0] != "after"] + [("after", found.next)]
        )
        headers["link"] = f'<{path_of(http)}?{query}>; rel="next"'
    if form == "json":
        body = await _written(found.samples, lambda samples: _json(trip, samples, found.next))
        return Response(body, 200, headers, "application/json")
    headers["content-disposition"] = f'attachment; filename="{trip}.{form}"'
    body = await _written(found.samples, lambda samples: _WRITERS[form](f"trip:{trip}", samples))
    return Response(body, 200, headers, MEDIA[form])


def _accepted(accept: str) -> Format:
    """The first that is asked for and known."""
    for part in accept.split(","):
        media = part.partition(";")[0].strip().lower()
        for form, known in MEDIA.items():
            if media == known.partition(";")[0]:
                return form
    return "json"


async def _written(samples: Sequence[Sample], write: Callable[[Sequence[Sample]], bytes]) -> bytes:
    if len(samples) <= WRITTEN_AT_ONCE:
        return write(samples)
    return await trio.to_thread.run_sync(write, samples)


def _json(trip: str, samples: Sequence[Sample], after: str | None) -> bytes:
    return orjson.dumps({"trip": trip, "samples": [export.shown(sample) for sample in samples], "next": after})


_WRITERS: Final[dict[Format, Callable[[str, Sequence[Sample]], bytes]]] = {
    "geojson": lambda stream, samples: orjson.dumps(export.geojson(stream, samples)),
    "gpx": lambda stream, samples: export.gpx(stream, samples).encode(),
    "csv": lambda stream, samples: export.csv(samples).encode(),
}


@router.get(
    "/v1/trips/{trip}/live",
    tags=["trips"],
    operation_id="readLive",
    summary="Where a trip's subjects are",
    response_model=LiveModel,
    responses=problems("forbidden", "not_found", "rate_limited"),
)
async def read_live(trip: TripPath, trips: Service, who: Who) -> Response:
    """Last known positions, each with its age; the same come live, as signals, to who follows the trip's stream. One that
    was believed last in another stream is shown there."""
    return json_answer({"trip": trip, "subjects": [_live(shown) for shown in await trips.live(who, trip)]})


def _live(shown: Shown) -> dict[str, Any]:
    last = shown.last
    told: dict[str, Any] = {"subject": last.subject, "at": times.write(last.at_ms), "lat": last.lat, "lon": last.lon}
    known = {"acc": last.acc, "speed": last.speed, "heading": last.heading, "alt": last.alt}
    told |= {name: value for name, value in known.items() if value is not None}
    return told | {"verdict": last.verdict, "age": round(shown.age_s, 1), "stale": shown.stale}


# -- fences -------------------------------------------------------------------------------------------------------------------


def _fence(fence: Fence) -> dict[str, Any]:
    points = [{"lat": lat, "lon": lon} for lat, lon in fence.points]
    told = {"fence": fence.fence, "name": fence.name, "points": points, "radius_m": fence.radius_m}
    return told | {"dwell_s": fence.dwell_s, "streams": list(fence.streams)}


@router.get(
    "/v1/fences",
    tags=["trips"],
    operation_id="listFences",
    summary="The tenant's fences",
    response_model=FencesModel,
    responses=problems("forbidden"),
)
async def list_fences(trips: Service, who: Who) -> Response:
    """By id. Needs a token with role `admin` or `service`."""
    return json_answer({"fences": [_fence(fence) for fence in await trips.fences(who)]})


@router.get(
    "/v1/fences/{fence}",
    tags=["trips"],
    operation_id="readFence",
    summary="A fence",
    response_model=FenceModel,
    responses=problems("forbidden", "not_found"),
)
async def read_fence(fence: FencePath, trips: Service, who: Who) -> Response:
    """Needs a token with role `admin` or `service`."""
    return json_answer(_fence(await trips.fence(who, fence)))


@router.put(
    "/v1/fences/{fence}",
    status_code=201,
    tags=["trips"],
    operation_id="putFence",
    summary="Draw a fence, or draw it anew",
    response_model=FencePutModel,
    responses={
        200: {"model": FencePutModel, "description": "in place of the one that was there"},
        **problems("forbidden", "conflict", "too_large"),
    },
)
async def put_fence(fence: FencePath, request: PutFence, trips: Service, who: Who) -> Response:
    """A circle or a polygon. Who comes in, leaves, or stays is told in the stream of the trip, as `trip.fence`. Needs a token
    with role `admin` or `service`."""
    points = tuple((point.lat, point.lon) for point in request.points)
    given = Fence(fence, request.name or fence, points, request.radius_m, request.dwell_s, tuple(request.streams))
    made = await trips.put_fence(who, given)
    return json_answer({"fence": fence}, 201 if made else 200)


@router.delete(
    "/v1/fences/{fence}",
    status_code=204,
    tags=["trips"],
    operation_id="removeFence",
    summary="Remove a fence",
    response_class=Response,
    responses=problems("forbidden", "not_found"),
)
async def remove_fence(fence: FencePath, trips: Service, who: Who) -> Response:
    """Nobody is said to have left it. Needs a token with role `admin` or `service`."""
    await trips.drop_fence(who, fence)
    return Response(b"", 204)
