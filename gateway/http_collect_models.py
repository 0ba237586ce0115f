"""The shapes of the routes that positions come in by, as `gateway.http_models` has those of the others."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, WithJsonSchema

from core.pings import FIXES_MAX
from gateway.http_models import SEQ_MAX, STREAM_PATTERN, RequestModel, example

_AT = "2026-11-21T09:30:00.000Z"
_FIX: Final[dict[str, Any]] = {"seq": 41, "at": _AT, "lat": -33.9, "lon": 151.2, "acc": 5, "speed": 14.2, "heading": 87}
_SECRET = "7h3k9m2q5v8x0c4e6g1j3n5p7r"


def _number(description: str, **bounds: float) -> dict[str, Any]:
    return {"type": ["number", "null"], "description": description, **bounds}


FIX: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["seq", "at", "lat", "lon"],
    "properties": {
        "seq": {"type": "integer", "minimum": 1, "maximum": SEQ_MAX, "description": "the device's own, rising"},
        "at": {"type": "string", "format": "date-time", "description": "UTC, at most milliseconds: " + _AT},
        "lat": {"type": "number", "minimum": -90, "maximum": 90, "description": "degrees, at most 7 decimals"},
        "lon": {"type": "number", "minimum": -180, "maximum": 180, "description": "degrees, at most 7 decimals"},
        "acc": _number("m, at most 2 decimals, as the rest", minimum=0),
        "speed": _number("m/s", minimum=0),
        "heading": _number("degrees from north, clockwise", minimum=0, maximum=360),
        "alt": _number("m"),
        "mock": {"type": "boolean", "description": "whether the system says that an app made it up"},
    },
    "examples": [_FIX],
}
"""Read by `core.pings`, as on the socket, which ignores unknown fields; this describes it."""
NAV: Final[dict[str, Any]] = {
    "type": ["object", "null"],
    "required": ["at"],
    "properties": {"at": {"type": "string", "format": "date-time", "description": "the arrival, UTC"}},
}


class PostPositions(RequestModel):
    model_config = example({"stream": "trip:9", "fixes": [_FIX]})

    stream: str = Field(pattern=STREAM_PATTERN, description="kind:name; the tenant is the token's")
    fixes: Annotated[
        list[Any], WithJsonSchema({"type": "array", "minItems": 1, "maxItems": FIXES_MAX, "items": FIX})
    ] = Field(description="in any order")
    nav: Annotated[dict[str, Any] | None, WithJsonSchema(NAV)] = Field(
        None, description="what the device's own navigation says of the arrival at the end of the trip"
    )
    sig: str | None = Field(None, max_length=256, description="the device's signature, where it has a key")


class VerdictModel(BaseModel):
    model_config = example({"seq": 41, "verdict": "accepted"})

    seq: int
    verdict: str = Field(description="accepted, degraded, duplicate, throttled, quarantined or rejected")
    reason: str | None = Field(None, description="why, where it is not simply accepted")


class TakenModel(BaseModel):
    model_config = example({"accepted": 1, "verdicts": [{"seq": 41, "verdict": "accepted"}], "next_in": 2.0})

    accepted: int
    verdicts: list[VerdictModel] = Field(description="one for each fix, in the order of the request")
    next_in: float = Field(description="seconds from now when the next fix is worth sending")


class BindApp(RequestModel):
    model_config = example({"stream": "trip:9"})

    stream: str = Field(pattern=STREAM_PATTERN, description="where the app's fixes count; it exists")


class AppModel(BaseModel):
    model_config = example({"device": "device:truck-7", "stream": "trip:9", "made": _AT})

    device: str
    stream: str
    made: str = Field(json_schema_extra={"format": "date-time"})


class AppsModel(BaseModel):
    apps: list[AppModel]


class NewAppModel(AppModel):
    model_config = example(
        {
            "device": "device:truck-7",
            "stream": "trip:9",
            "made": _AT,
            "secret": _SECRET,
            "traccar": f"https://gateway.example/v1/collect/osmand?id={_SECRET}",
            "owntracks": "owntracks:///config?inline=eyJ9",
            "osmand": f"https://gateway.example/v1/collect/osmand?id={_SECRET}&lat={{0}}&lon={{1}}",
        }
    )

    secret: str = Field(description="told here and never again; 130 random bits, in letters and digits fit for typing")
    traccar: str = Field(description="for Traccar Client: a link to scan, its address and device id to type")
    owntracks: str = Field(description="for OwnTracks: a link to scan or open, with its configuration")
    osmand: str = Field(description="for OsmAnd: the address of its online tracking")


OWNTRACKS_BODY: Final[dict[str, Any]] = {
    "required": False,
    "content": {
        "application/json": {
            "schema": {"type": "object"},
            "example": {"_type": "location", "lat": -33.9, "lon": 151.2, "tst": 1795253400, "acc": 5, "vel": 51},
        }
    },
}
OSMAND_BODY: Final[dict[str, Any]] = {
    "required": False,
    "content": {
        "application/json": {
            "schema": {"type": "object"},
            "example": {
                "location": {
                    "timestamp": _AT,
                    "coords": {"latitude": -33.9, "longitude": 151.2, "accuracy": 5, "speed": 14.2, "heading": 87},
                },
                "device_id": _SECRET,
            },
        },
        "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
    },
}
_TEXT = {"type": "string"}
OSMAND_QUERY: Final[list[dict[str, Any]]] = [
    {"name": name, "in": "query", "required": False, "schema": _TEXT, "description": description}
    for name, description in (
        ("id", "the app's key; `deviceid` is the same"),
        ("lat", "degrees; `location=lat,lon` stands for both"),
        ("lon", "degrees"),
        ("timestamp", "Unix seconds or milliseconds, or ISO 8601; left out: now"),
        ("speed", "knots"),
        ("speed_mps", "m/s, for apps that have no knots"),
        ("bearing", "degrees from north; `heading` is the same"),
        ("altitude", "m"),
        ("accuracy", "m"),
        ("hdop", "stands in for accuracy, at 5 m each"),
        ("valid", "`false`: the receiver has no place; skipped"),
        ("mock", "`true`: an app made it up"),
    )
]
