"""The HTTP API's routes for what is known of flights, now and as of a moment.

As `gateway.http_routes`: requests checked for shape, one call to the service, an answer in the wire's words. In an app only
where there are read models.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from core.flight import times
from gateway.http_flights import FlightPath
from gateway.http_read_models import CrewStateModel, FlightRowsModel, FlightStateModel, ListingModel
from gateway.http_routes import Who, json_answer, problems
from gateway.past import AsOf
from gateway.reads_service import ReadsService, Rows, State
from gateway.service import WireError

LIMIT_MAX = 1_000
MOMENT = {"at": {"value": "2026-11-21T06:40:00.000Z"}}


def _reads(request: Request) -> ReadsService:
    return cast(ReadsService, request.app.state.reads)


def moment(name: str, text: str | None) -> int | None:
    """A time in a query, in Unix milliseconds. Raises `WireError`."""
    if text is None:
        return None
    # A plus that was not encoded arrives as a space; no time has one in it otherwise.
    reading = times.read(text.replace(" ", "+"))
    if reading.why:
        raise WireError("bad_request", f"{name} {reading.message}")
    return reading.ms


def _as_of(
    valid_at: Annotated[
        str | None, Query(description="what was true then; RFC 3339 with an offset", openapi_examples=MOMENT)
    ] = None,
    recorded_at: Annotated[
        str | None, Query(description="by what was recorded by then; RFC 3339", openapi_examples=MOMENT)
    ] = None,
) -> AsOf:
    return AsOf(moment("valid_at", valid_at), moment("recorded_at", recorded_at))


Reads = Annotated[ReadsService, Depends(_reads)]
Moment = Annotated[AsOf, Depends(_as_of)]
After = Annotated[str, Query(max_length=300, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="at most so many rows")]

router = APIRouter()


def _shown(as_of: AsOf) -> dict[str, str | None] | None:
    if as_of.is_now:
        return None
    return {
        "valid_at": None if as_of.valid_ms is None else times.write(as_of.valid_ms),
        "recorded_at": None if as_of.recorded_ms is None else times.write(as_of.recorded_ms),
    }


def _state(name: str, of: str, found: State, as_of: AsOf) -> Response:
    return json_answer({name: of, "seq": found.seq, "as_of": _shown(as_of), "state": found.doc})


def _rows(flight: str, found: Rows, as_of: AsOf) -> Response:
    answer: dict[str, Any] = {"flight": flight, "seq": found.seq, "behind": found.behind, "as_of": _shown(as_of)}
    return json_answer(answer | {"rows": found.docs})


@router.get(
    "/v1/flights/{flight}",
    tags=["flights"],
    operation_id="readFlight",
    summary="A flight as it is, or was",
    response_model=FlightStateModel,
    responses=problems("forbidden", "not_found", "rate_limited"),
)
async def read_flight(flight: FlightPath, reads: Reads, who: Who, as_of: Moment) -> Response:
    """For who may follow the flight's stream. `valid_at` asks what was true at a moment, `recorded_at` what was known by one:
    an OUT at 10:05 that was recorded at 10:20 is not in the answer for 10:10 by what was known at 10:10, and is in the one by
    what is known now."""
    return _state("flight", flight, await reads.flight(who, flight, as_of), as_of)


@router.get(
    "/v1/flights/{flight}/manifest",
    tags=["flights"],
    operation_id="readManifest",
    summary="Who flies, or flew",
    response_model=FlightRowsModel,
    responses=problems("forbidden", "not_found", "rate_limited"),
)
async def read_manifest(flight: FlightPath, reads: Reads, who: Who, as_of: Moment) -> Response:
    """By passenger. For who may follow the stream of the flight's seats."""
    return _rows(flight, await reads.manifest(who, flight, as_of), as_of)


@router.get(
    "/v1/flights/{flight}/seats",
    tags=["flights"],
    operation_id="readSeats",
    summary="The seat map, as it is or was",
    response_model=FlightRowsModel,
    responses=problems("forbidden", "not_found", "rate_limited"),
)
async def read_seats(flight: FlightPath, reads: Reads, who: Who, as_of: Moment) -> Response:
    """By seat. A hold that has run out is none. For who may follow the stream of the flight's seats."""
    return _rows(flight, await reads.seats(who, flight, as_of), as_of)


@router.get(
    "/v1/flights/{flight}/roster",
    tags=["flights"],
    operation_id="readRoster",
    summary="A flight's crew, as it is or was",
    response_model=FlightRowsModel,
    responses=problems("forbidden", "not_found", "rate_limited"),
)
async def read_roster(flight: FlightPath, reads: Reads, who: Who, as_of: Moment) -> Response:
    """By crew member; who was released is not on it. For who may follow `flight:board`, and tokens with role `admin` or
    `service`."""
    return _rows(flight, await reads.roster(who, flight, as_of), as_of)


@router.get(
    "/v1/board",
    tags=["flights"],
    operation_id="readBoard",
    summary="The flight board",
    response_model=ListingModel,
    responses=problems("forbidden", "not_found", "rate_limited"),
)
async def read_board(
    reads: Reads,
    who: Who,
    station: Annotated[
        str,
        Query(pattern=r"^[A-Z0-9]{0,8}$", description="IATA or ICAO: flights from there, to there, or diverted there"),
    ] = "",
    day: Annotated[
        str,
        Query(
            pattern=r"^(\d{4}-\d\d-\d\d)?$",
            description="scheduled on that local date: there, or where no station is given, where it departs",
        ),
    ] = "",
    after: After = "",
    limit: Limit = 100,
) -> Response:
    """By flight. A page may be short: go on while there is a `next`. The same rows come live to who follows `flight:board`, or
    `flight:board.SYD` for one station. For who may follow `flight:board`, and tokens with role `admin` or `service`."""
    found = await reads.board(who, station=station, day=day, after=after, limit=limit)
    return json_answer({"rows": found.docs, "next": found.next, "behind": found.behind})


@router.get(
    "/v1/aircraft/{registration}/line",
    tags=["flights"],
    operation_id="readLine",
    summary="What an aircraft is to fly",
    response_model=ListingModel,
    responses=problems("forbidden", "not_found", "rate_limited"),
)
async def read_line(
    registration: Annotated[
        str, Path(pattern=r"^[!-.0-~]{1,64}$", openapi_examples={"registration": {"value": "VH-ABC"}})
    ],
    reads: Reads,
    who: Who,
    after: Annotated[
        str, Query(max_length=300, description="`next` of the page before, or a time: what departs after it")
    ] = "",
    limit: Limit = 100,
) -> Response:
    """By scheduled departure; `key` is that and the flight. For whom the board is."""
    found = await reads.line(who, registration, after=after, limit=limit)
    return json_answer({"rows": found.docs, "next": found.next, "behind": found.behind})


@router.get(
    "/v1/crew/{member}",
    tags=["flights"],
    operation_id="readCrew",
    summary="A crew member's duties and totals",
    response_model=CrewStateModel,
    responses=problems("forbidden", "not_found", "rate_limited"),
)
async def read_crew(
    member: Annotated[str, Path(pattern=r"^[A-Za-z0-9._~-]{1,123}$", openapi_examples={"member": {"value": "c7"}})],
    reads: Reads,
    who: Who,
    as_of: Moment,
) -> Response:
    """For who may follow the stream `flight:crew.ID`."""
    return _state("crew", member, await reads.crew(who, member, as_of), as_of)
