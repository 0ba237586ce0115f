"""Routes of OSRM: its HTTP API's route service, version v1 (https://project-osrm.org/docs/).

An osrm-routed serves the one profile that its data was made with, whatever profile the path names: a server of cars answers a
cyclist with a car's times. So each address has its modes, cars and their like unless the settings say otherwise.

The way's own times leave out what turns cost; each leg's are stretched to the leg's whole time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from core.geo.polyline import decode
from core.geo.routing import Ask, Mode, Place, RouteError, Shape, Snapshot, crow_m, pieces_m, spread
from gateway.routes.wire import Wire

PROFILES: Final[Mapping[Mode, str]] = {
    "car": "driving",
    "bus": "driving",
    "truck": "driving",
    "any": "driving",
    "bike": "bike",
    "foot": "foot",
}
MODES: Final[frozenset[Mode]] = frozenset(("car", "bus", "truck", "any"))
NO_WAY: Final = frozenset(("NoRoute", "NoSegment", "TooBig", "InvalidValue"))
"""Codes that are the ask's. Others, known or not, say that it is not the service we speak."""


class Osrm:
    shareable = True

    def __init__(self, wire: Wire, url: str, modes: frozenset[Mode] = MODES, name: str = "osrm") -> None:
        assert modes <= PROFILES.keys()
        self.name = name
        self.modes = modes
        self._wire = wire
        self._url = url.rstrip("/")

    async def route(self, ask: Ask) -> Snapshot:
        through = ";".join(f"{lon:.6f},{lat:.6f}" for lat, lon in ask.points)
        asked = "overview=full&annotations=duration&geometries=polyline6&steps=false&alternatives=false"
        said = await self._wire.send(
            self.name, "GET", f"{self._url}/route/v1/{PROFILES[ask.mode]}/{through}?{asked}&generate_hints=false"
        )
        return await self._wire.read(self.name, said.body, partial(self._read, ask, self._wire.now_ms()))

    def _read(self, ask: Ask, made_ms: int, answer: Any) -> Snapshot:
        code = answer["code"]
        if code in NO_WAY:
            raise RouteError(f"{self.name} knows no such way ({code})", fatal=True)
        if code != "Ok":
            raise RouteError(f"{self.name} does not take what we ask: is it an OSRM of version 5 or later?")
        found = answer["routes"][0]
        points = decode(found["geometry"], 6)
        if isinstance(points, str):
            raise RouteError(f"{self.name} answers with a way that cannot be read")
        shape = Shape(self.name)
        start = 0
        ends = _ends(points, found["legs"])
        for leg, end in zip(found["legs"], ends, strict=True):
            part = points[start : end + 1]
            shape.add(part, _times(part, leg))
            shape.stop()
            start = end
        return shape.snapshot(ask, made_ms)


def _ends(points: list[Place], legs: list[Any]) -> list[int]:
    """At which point each leg ends: by the figures it has for each piece, else by its length."""
    counts = [len(leg["annotation"]["duration"]) for leg in legs]
    if sum(counts) == len(points) - 1:
        return [sum(counts[: at + 1]) for at in range(len(counts))]
    whole_m, crow = sum(leg["distance"] for leg in legs), crow_m(points)
    ends, at, gone_m, want_m = [], 0, 0.0, 0.0
    pieces = pieces_m(points)
    for leg in legs:
        want_m += leg["distance"] * crow / whole_m if whole_m > 0 else 0.0
        while at < len(pieces) and gone_m + pieces[at] / 2 < want_m:
            gone_m += pieces[at]
            at += 1
        ends.append(at)
    return [*ends[:-1], len(points) - 1]


def _times(points: list[Place], leg: Any) -> list[float]:
    each, whole_s = leg["annotation"]["duration"], float(leg["duration"])
    told_s = sum(each)
    if len(each) != len(points) - 1 or told_s <= 0.0:
        return spread(points, whole_s)
    return [whole_s * piece_s / told_s for piece_s in each]
