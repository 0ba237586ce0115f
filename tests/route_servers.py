"""Stand-ins for providers of routes, on loopback: they refuse what the real services refuse, and answer in their shapes.

Ways are straight, with a point every 500 m or so, driven at 10 m/s; `trouble` is what the next requests get instead.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import h11
import orjson
import trio

from core.geo.polyline import encode
from core.geo.sphere import distance_m

NOW_S: Final = 1_790_000_000.0
SPEED_MPS: Final = 10.0
KEY: Final = "AIzaStandIn0123456789"
Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    hang: bool = False  # nothing is ever said
    drop: bool = False  # the connection ends without a word
    endless: bool = False  # the body goes on
    cut: bool = False  # the connection ends within the body


def json_reply(document: object, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(document), (("Content-Type", "application/json"),))


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def straight(a: Place, b: Place, precision: int) -> list[Place]:
    pieces = max(1, ceil(distance_m(*a, *b) / 500))
    return [
        (round(a[0] + (b[0] - a[0]) * k / pieces, precision), round(a[1] + (b[1] - a[1]) * k / pieces, precision))
        for k in range(pieces + 1)
    ]


def seconds_of(points: list[Place]) -> list[float]:
    return [round(distance_m(*a, *b) / SPEED_MPS, 1) for a, b in pairwise(points)]


@dataclass
class Server:
    """One service. ``gate``: requests wait for it."""

    asked: list[Request] = field(default_factory=list)
    trouble: list[Reply] = field(default_factory=list)
    always: Reply | None = None
    gate: trio.Event | None = None
    heard: trio.Event = field(default_factory=trio.Event)  # set by each request
    url: str = ""
    connections: int = 0

    def answer(self, request: Request) -> Reply:
        raise NotImplementedError

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._one(connection, stream):
                connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _one(self, connection: h11.Connection, stream: trio.SocketStream) -> bool:
        head: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        request = Request(head.method.decode(), head.target.decode(), headers, body)
        self.asked.append(request)
        self.heard.set()
        reply = self.always or (self.trouble.pop(0) if self.trouble else self.answer(request))
        if self.gate is not None:
            await self.gate.wait()
        if reply.hang:
            await trio.sleep_forever()
        if reply.drop:
            return False
        length = [] if reply.endless else [("Content-Length", str(len(reply.body) + reply.cut))]
        await stream.send_all(
            connection.send(h11.Response(status_code=reply.status, headers=[*reply.headers, *length])) or b""
        )
        while reply.endless:
            await stream.send_all(connection.send(h11.Data(data=b"x" * 65_536)) or b"")
        await stream.send_all(connection.send(h11.Data(data=reply.body)) or b"")
        if reply.cut:
            return False
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        return connection.our_state is h11.DONE


@dataclass
class OsrmServer(Server):
    profile: str = "driving"
    points_max: int = 10
    turn_s: float = 0.0  # of each leg, in its time and in no piece's
    figures: bool = True  # one for each piece; else one too few, as where points were merged

    def answer(self, request: Request) -> Reply:
        parts = urlsplit(request.target)
        if request.method != "GET":
            return json_reply({"code": "InvalidUrl", "message": "URL string is invalid."}, 400)
        found = re.fullmatch(r"/(\w+)/(\w+)/(\w+)/([-0-9.,;]+)", parts.path)
        if found is None:
            return self._wrong("InvalidQuery")
        service, version, profile, through = found.groups()
        if service != "route":
            return self._wrong("InvalidService")
        if version != "v1":
            return self._wrong("InvalidVersion")
        if profile != self.profile:
            return self._wrong("InvalidUrl")
        options = dict(parse_qsl(parts.query, strict_parsing=True))
        known = {
            "overview": ("full",), "annotations": ("duration", "duration,distance"), "geometries": ("polyline6",),
            "steps": ("false",), "alternatives": ("false",), "generate_hints": ("false",),
        }  # fmt: skip
        if any(name not in known or value not in known[name] for name, value in options.items()):
            return self._wrong("InvalidOptions")
        pairs = [pair.split(",") for pair in through.split(";")]
        if len(pairs) < 2 or any(len(pair) != 2 for pair in pairs):
            return self._wrong("InvalidQuery")
        places = [(float(lat), float(lon)) for lon, lat in pairs]
        if any(abs(lat) > 90 or abs(lon) > 180 for lat, lon in places):
            return self._wrong("InvalidValue")
        if len(places) > self.points_max:
            return self._wrong("TooBig")
        if any(lat < -60 for lat, _ in places):
            return self._wrong("NoSegment")
        if max(lon for _, lon in places) - min(lon for _, lon in places) > 20:
            return self._wrong("NoRoute")
        return json_reply(self._routes(places))

    def _wrong(self, code: str) -> Reply:
        return json_reply({"code": code, "message": f"Because of {code}"}, 400)

    def _routes(self, places: list[Place]) -> dict[str, Any]:
        whole: list[Place] = [places[0]]
        legs: list[dict[str, Any]] = []
        for a, b in pairwise(places):
            points = straight(a, b, 6)
            whole += points[1:]
            each = seconds_of(points)
            length_m = sum(distance_m(*p, *q) for p, q in pairwise(points))
            legs.append({
                "steps": [], "summary": "", "weight": sum(each), "distance": round(length_m, 1),
                "duration": round(sum(each) + self.turn_s, 1),
                "annotation": {"duration": each if self.figures else each[1:]},
            })  # fmt: skip
        total_s = sum(leg["duration"] for leg in legs)
        route = {"geometry": encode(whole, 6), "legs": legs, "duration": total_s, "weight_name": "routability"}
        return {"code": "Ok", "routes": [route], "waypoints": []}


@dataclass
class ValhallaServer(Server):
    maneuvers: int = 3

    def answer(self, request: Request) -> Reply:
        if urlsplit(request.target).path != "/route":
            return self._wrong(106, "Try any of:'/route'", 404)
        if request.method != "POST":
            return self._wrong(101, "Try a POST or GET request instead", 405)
        try:
            asked = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return self._wrong(100, "Failed to parse json request")
        if asked.get("costing") not in ("auto", "bus", "truck", "bicycle", "pedestrian"):
            return self._wrong(125, f"No costing method found for '{asked.get('costing')}'")
        places = [(float(place["lat"]), float(place["lon"])) for place in asked.get("locations", ())]
        if len(places) < 2:
            return self._wrong(120, "Insufficient number of locations provided")
        if len(places) > 20:
            return self._wrong(150, "Exceeded max locations of 20")
        if any(lat < -60 for lat, _ in places):
            return self._wrong(171, "No suitable edges near location")
        far_m = sum(distance_m(*a, *b) for a, b in pairwise(places))
        if far_m > (250_000 if asked["costing"] == "pedestrian" else 1_500_000):
            return self._wrong(154, "Path distance exceeds the max distance limit: 1500000 meters")
        if max(lon for _, lon in places) - min(lon for _, lon in places) > 5:
            return self._wrong(442, "No path could be found for input")
        if asked.get("units") != "kilometers" or asked.get("directions_type") != "maneuvers":
            return self._wrong(199, "The stand-in speaks kilometres and maneuvers")
        legs = [self._leg(straight(a, b, 6)) for a, b in pairwise(places)]
        time_s = sum(leg["summary"]["time"] for leg in legs)
        trip = {"status": 0, "units": "kilometers", "legs": legs, "summary": {"time": time_s}, "locations": []}
        return json_reply({"trip": trip})

    def _leg(self, points: list[Place]) -> dict[str, Any]:
        last = len(points) - 1
        cuts = sorted({last * k // self.maneuvers for k in range(self.maneuvers + 1)}) if self.maneuvers else []
        each = seconds_of(points)
        steps = [
            {"type": 8, "begin_shape_index": a, "end_shape_index": b, "time": sum(each[a:b]), "length": 1.0}
            for a, b in pairwise(cuts)
        ]
        steps.append({"type": 4, "begin_shape_index": last, "end_shape_index": last, "time": 0.0, "length": 0.0})
        return {"maneuvers": steps, "shape": encode(points, 6), "summary": {"time": round(sum(each), 3)}}

    def _wrong(self, code: int, error: str, status: int = 400) -> Reply:
        return json_reply({"error_code": code, "error": error, "status_code": status, "status": "Bad Request"}, status)


@dataclass
class GoogleServer(Server):
    traffic: float = 1.5  # times as long as without
    steps: int = 2

    def answer(self, request: Request) -> Reply:
        if request.method != "POST" or urlsplit(request.target).path != "/directions/v2:computeRoutes":
            return Reply(404, b"<html>not found</html>")
        key = request.headers.get("x-goog-api-key")
        if key is None:
            return self._wrong(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
        if key != KEY:
            return self._wrong(400, "INVALID_ARGUMENT", "API key not valid.", "API_KEY_INVALID")
        mask = request.headers.get("x-goog-fieldmask", "")
        if not mask:
            return self._wrong(400, "INVALID_ARGUMENT", "FieldMask is a required parameter.")
        if request.headers.get("content-type") != "application/json":
            return self._wrong(400, "INVALID_ARGUMENT", "Unknown content type.")
        asked = orjson.loads(request.body)
        problem = self._problem(asked, mask)
        if problem:
            return self._wrong(400, "INVALID_ARGUMENT", problem)
        waypoints = [asked["origin"], *asked.get("intermediates", ()), asked["destination"]]
        places = [
            (place["location"]["latLng"]["latitude"], place["location"]["latLng"]["longitude"]) for place in waypoints
        ]
        if any(lat < -60 for lat, _ in places):
            return json_reply({})
        legs = [self._leg(straight(a, b, 5), asked["travelMode"]) for a, b in pairwise(places)]
        return json_reply({"routes": [self._masked(legs, mask)]})

    def _problem(self, asked: dict[str, Any], mask: str) -> str:
        known = {
            "origin", "destination", "intermediates", "travelMode", "routingPreference", "polylineQuality",
            "polylineEncoding", "departureTime", "units",
        }  # fmt: skip
        if unknown := set(asked) - known:
            return f"Invalid JSON payload received. Unknown name {unknown}: Cannot find field."
        if len(asked.get("intermediates", ())) > 25:
            return "Too many intermediate waypoints."
        if asked["travelMode"] not in ("DRIVE", "TWO_WHEELER", "BICYCLE", "WALK"):
            return "Invalid travel mode."
        if "routingPreference" in asked and asked["travelMode"] not in ("DRIVE", "TWO_WHEELER"):
            return "Routing preference cannot be set for WALKING or BICYCLING."
        if "departureTime" in asked:
            at = datetime.strptime(asked["departureTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            if at.timestamp() <= NOW_S:
                return "Timestamp must be set to a future time."
        if "polylineQuality" in asked and "olyline" not in mask:
            return "No polyline is requested via field mask but polyline quality is specified."
        return ""

    def _leg(self, points: list[Place], travel: str) -> dict[str, Any]:
        traffic = self.traffic if travel == "DRIVE" else 1.0
        last = len(points) - 1
        cuts = sorted({last * k // self.steps for k in range(self.steps + 1)}) if self.steps else []
        each = seconds_of(points)
        steps = [
            {
                "staticDuration": f"{round(sum(each[a:b]))}s", "distanceMeters": 1,
                "polyline": {"encodedPolyline": encode(points[a : b + 1], 5)},
            }
            for a, b in pairwise(cuts)
        ]  # fmt: skip
        whole = {"encodedPolyline": encode(points, 5)}
        return {"duration": f"{round(traffic * sum(each))}s", "polyline": whole, "steps": steps, "distanceMeters": 1}

    def _masked(self, legs: list[dict[str, Any]], mask: str) -> dict[str, Any]:
        """What is asked for and nothing else, as the real one; an empty list is no field at all."""
        fields = set(mask.split(","))
        kept = []
        for leg in legs:
            shown = {name: leg[name] for name in ("duration", "distanceMeters") if f"routes.legs.{name}" in fields}
            if "routes.legs.polyline.encodedPolyline" in fields:
                shown["polyline"] = leg["polyline"]
            steps = [
                {
                    name: step[name]
                    for name, field in (("staticDuration", "staticDuration"), ("polyline", "polyline.encodedPolyline"))
                    if f"routes.legs.steps.{field}" in fields
                }
                for step in leg["steps"]
            ]
            kept.append(shown | ({"steps": steps} if steps else {}))
        return {"legs": kept}

    def _wrong(self, code: int, status: str, message: str, reason: str = "") -> Reply:
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
        return json_reply({"error": {"code": code, "message": message, "status": status, "details": details}}, code)


@asynccontextmanager
async def serving(*servers: Server) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for server in servers:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield
        nursery.cancel_scope.cancel()
