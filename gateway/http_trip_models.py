"""The shapes of the HTTP API's trips, tracks and fences. What a plan and a state hold, docs/trips.md says.

As `gateway.http_models`: requests are validated by these, answers are written as bytes by the routes.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from core.geo.fences import POINTS_MAX, RADIUS_M_MAX
from core.tracks import DWELL_S_MAX, FENCE_STREAMS_MAX, FENCES_MAX
from gateway.http_models import (
    MEMBERS_MAX,
    SEQ_MAX,
    STREAM_NAME_PATTERN,
    TYPE_PATTERN,
    MemberModel,
    RequestModel,
    example,
)

FENCE_PATTERN = r"^[A-Za-z0-9._~-]{1,64}$"
_AT = "2026-11-21T06:40:00.000Z"
_SAMPLE: dict[str, Any] = {
    "subject": "device:bus-7",
    "at": _AT,
    "seq": 41,
    "lat": -33.9,
    "lon": 151.2,
    "acc": 5.0,
    "speed": 14.2,
    "heading": 87.0,
    "verdict": "accepted",
    "taken": "2026-11-21T06:40:00.150Z",
}
_FENCE: dict[str, Any] = {
    "name": "the depot",
    "points": [{"lat": -33.9, "lon": 151.2}],
    "radius_m": 150,
    "dwell_s": 600,
    "streams": [],
}


class CreateTrip(RequestModel):
    model_config = example(
        {"trip": "school-7", "members": [{"principal": "device:bus-7", "role": "member"}], "open": False}
    )

    trip: str = Field(pattern=STREAM_NAME_PATTERN, description="names the stream trip:NAME")
    open: bool = Field(False, description="whether every principal of the tenant is a member")
    members: list[MemberModel] = Field(default_factory=list, max_length=MEMBERS_MAX, description="the first members")


class TripModel(BaseModel):
    model_config = example({"trip": "school-7", "stream": "trip:school-7"})

    trip: str
    stream: str


class GiveTripCommand(RequestModel):
    model_config = example({"type": "arrive", "body": {"stop": "A", "at": "2026-11-21T06:40:00Z"}, "expect": 7})

    type: str = Field(pattern=TYPE_PATTERN, description="the command's verb; docs/trips.md has the table")
    body: dict[str, Any] = Field(default_factory=dict, description="what the verb needs")
    expect: int | None = Field(None, ge=0, le=SEQ_MAX, description="obey only if the stream's head is this seq")


class TripStateModel(BaseModel):
    model_config = example({"trip": "school-7", "seq": 7, "state": {"status": "underway", "next": "B"}})

    trip: str
    seq: int = Field(description="the last fact in this; 0: there was none")
    state: dict[str, Any] = Field(
        description="as docs/trips.md has it; its `status` is `new` where nothing was planned"
    )


class SampleModel(BaseModel):
    model_config = example(_SAMPLE)

    subject: str
    at: str = Field(description="when it was true, by the device's clock as corrected")
    seq: int = Field(description="the device's own number; 0: it has none")
    lat: float
    lon: float
    acc: float | None = Field(None, description="m")
    speed: float | None = Field(None, description="m/s")
    heading: float | None = Field(None, description="degrees from north, clockwise")
    alt: float | None = Field(None, description="m")
    verdict: Literal["accepted", "degraded", "quarantined"]
    reason: str | None = Field(None, description="why it was not simply accepted")
    taken: str = Field(description="when a node took it")


class TrackModel(BaseModel):
    model_config = example({"trip": "school-7", "samples": [_SAMPLE], "next": None})

    trip: str
    samples: list[SampleModel]
    next: str | None = Field(description="`after` of the next page; null: this was the last")


class LiveSampleModel(BaseModel):
    model_config = example(
        {name: value for name, value in _SAMPLE.items() if name not in ("seq", "taken")} | {"age": 4.2, "stale": False}
    )

    subject: str
    at: str
    lat: float
    lon: float
    acc: float | None = None
    speed: float | None = None
    heading: float | None = None
    alt: float | None = None
    verdict: Literal["accepted", "degraded", "quarantined"]
    age: float = Field(description="seconds since then")
    stale: bool = Field(description="it has been silent for longer than the tenant allows")


class LiveModel(BaseModel):
    trip: str
    subjects: list[LiveSampleModel] = Field(description="those whose last position is of this trip")


class PointModel(RequestModel):
    model_config = example({"lat": -33.9, "lon": 151.2})

    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)


class PutFence(RequestModel):
    model_config = example(_FENCE)

    name: str = Field("", max_length=200, description="for people; else its id")
    points: list[PointModel] = Field(
        min_length=1,
        max_length=POINTS_MAX,
        description="one, the middle of a circle; or three and more, a polygon's corners",
    )
    radius_m: float = Field(0, ge=0, le=RADIUS_M_MAX, description="of a circle; 0: it is a polygon")
    dwell_s: int = Field(
        0, ge=0, le=DWELL_S_MAX, description="who stays for so long is told of once more; 0: nobody is"
    )
    streams: list[str] = Field(
        default_factory=list,
        max_length=FENCE_STREAMS_MAX,
        description="trips in which it counts; none: in all of the tenant's",
    )


class FenceModel(PutFence):
    model_config = example({"fence": "depot"} | _FENCE)

    fence: str


class FencesModel(BaseModel):
    fences: list[FenceModel] = Field(max_length=FENCES_MAX)


class FencePutModel(BaseModel):
    model_config = example({"fence": "depot"})

    fence: str
