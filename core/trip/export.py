"""Tracks for other programs: GeoJSON, GPX and CSV, made from the samples that were kept.

Each subject is a track of its own. GeoJSON is RFC 7946: a line that crosses the antimeridian is cut there (section 3.1.9),
and what is known of each position stands in ``coordinateProperties`` beside the coordinates, in the same order. GPX is 1.1;
speed and course are Garmin's TrackPointExtension v2, which is how others read them. Sources: RFC 7946,
https://www.topografix.com/GPX/1/1/, https://www8.garmin.com/xmlschemas/TrackPointExtensionv2.xsd.

For: `gateway.http_trips`. Promises: whatever a name holds, the document is well-formed. Does not: choose samples, or write
times of day other than UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final
from xml.sax.saxutils import escape

from core.flight.times import write
from core.tracks import Sample

COLUMNS: Final = (
    "subject", "at", "seq", "lat", "lon", "acc", "speed", "heading", "alt", "verdict", "reason", "taken",
)  # fmt: skip
"""Of CSV, and the fields of a sample in JSON. Units: degrees, m, m/s, degrees from north."""

_GPX: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<gpx version="1.1" creator="Readback" xmlns="http://www.topografix.com/GPX/1/1" '
    'xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v2" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://www.topografix.com/GPX/1/1 http://www.topografix.com/GPX/1/1/gpx.xsd '
    "http://www.garmin.com/xmlschemas/TrackPointExtension/v2 "
    'https://www8.garmin.com/xmlschemas/TrackPointExtensionv2.xsd">\n'
)
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may hold, escaped or not."""
_QUOTED: Final = re.compile('[,"\r\n]')


def shown(sample: Sample) -> dict[str, Any]:
    """A sample in JSON; what is not known is left out."""
    told: dict[str, Any] = {"subject": sample.subject, "at": write(sample.at_ms), "seq": sample.seq}
    told |= {"lat": sample.lat, "lon": sample.lon}
    for name in ("acc", "speed", "heading", "alt"):
        value = getattr(sample, name)
        if value is not None:
            told[name] = value
    told["verdict"] = sample.verdict
    if sample.reason:
        told["reason"] = sample.reason
    return told | {"taken": write(sample.taken_ms)}


def by_subject(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """In their order, by subject in theirs."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.subject, []).append(sample)
    return dict(sorted(found.items()))


# GeoJSON


def geojson(stream: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """A FeatureCollection: a feature for each subject; of one position a Point, else a line."""
    features = [_feature(stream, subject, track) for subject, track in by_subject(samples).items()]
    return {"type": "FeatureCollection", "features": features}


_PROPERTIES: Final[Sequence[tuple[str, Callable[[Sample], Any]]]] = (
    ("times", lambda sample: write(sample.at_ms)),
    ("accuracies", lambda sample: sample.acc),
    ("speeds", lambda sample: sample.speed),
    ("headings", lambda sample: sample.heading),
    ("verdicts", lambda sample: sample.verdict),
)
"""By their names in ``coordinateProperties``, of which ``times`` is what others look for."""


def _feature(stream: str, subject: str, track: Sequence[Sample]) -> dict[str, Any]:
    lines, coordinates = _cut(track)
    properties: dict[str, Any] = {"subject": subject, "stream": stream}
    geometry: dict[str, Any]
    if len(track) == 1:
        geometry = {"type": "Point", "coordinates": coordinates[0][0]}
        properties |= {name[:-1] if name != "accuracies" else "accuracy": of(track[0]) for name, of in _PROPERTIES}
        return {"type": "Feature", "properties": properties, "geometry": geometry}
    told = {name: [[of(sample) for sample in line] for line in lines] for name, of in _PROPERTIES}
    if len(lines) == 1:
        geometry = {"type": "LineString", "coordinates": coordinates[0]}
        told = {name: values[0] for name, values in told.items()}
    else:
        geometry = {"type": "MultiLineString", "coordinates": coordinates}
    properties["coordinateProperties"] = told
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def _position(sample: Sample, lon: float | None = None) -> list[float]:
    position = [sample.lon if lon is None else lon, sample.lat]
    return position if sample.alt is None else [*position, sample.alt]


def _cut(track: Sequence[Sample]) -> tuple[list[list[Sample]], list[list[list[float]]]]:
    """The track in lines that do not cross the antimeridian, and their coordinates. Where it crosses, both lines end on it,
    at a place between the two samples; what is known there is what was known before it, and after it."""
    lines, coordinates = [[track[0]]], [[_position(track[0])]]
    for before, sample in pairwise(track):
        over = sample.lon - before.lon
        if abs(over) > 180.0:
            edge = 180.0 if over < 0 else -180.0
            way = over + 360.0 if over < 0 else over - 360.0
            part = (edge - before.lon) / way if way else 0.0
            lat = before.lat + part * (sample.lat - before.lat)
            for at, lon in ((before, edge), (sample, -edge)):
                if at is sample:
                    lines.append([])
                    coordinates.append([])
                lines[-1].append(at)
                coordinates[-1].append(_position(at._replace(lat=round(lat, 7)), lon))
        lines[-1].append(sample)
        coordinates[-1].append(_position(sample))
    return lines, coordinates


# GPX


def gpx(stream: str, samples: Sequence[Sample]) -> str:
    """One ``trk`` for each subject."""
    parts = [_GPX, f"<metadata><name>{_text(stream)}</name></metadata>\n"]
    for subject, track in by_subject(samples).items():
        parts.append(f"<trk><name>{_text(subject)}</name><trkseg>\n")
        parts += map(_point, track)
        parts.append("</trkseg></trk>\n")
    parts.append("</gpx>\n")
    return "".join(parts)


def _text(value: str) -> str:
    return escape(_NO_XML.sub("\ufffd", value))


def _point(sample: Sample) -> str:
    ele = "" if sample.alt is None else f"<ele>{sample.alt:.2f}</ele>"
    more = "" if sample.speed is None else f"<gpxtpx:speed>{sample.speed:.2f}</gpxtpx:speed>"
    more += "" if sample.heading is None else f"<gpxtpx:course>{sample.heading % 360:.2f}</gpxtpx:course>"
    if more:
        more = f"<extensions><gpxtpx:TrackPointExtension>{more}</gpxtpx:TrackPointExtension></extensions>"
    time = f"<time>{write(sample.at_ms)}</time>"
    return f'<trkpt lat="{sample.lat:.7f}" lon="{_gpx_lon(sample.lon):.7f}">{ele}{time}{more}</trkpt>\n'


def _gpx_lon(lon: float) -> float:
    """Of GPX, longitudes end before 180."""
    return -180.0 if lon >= 179.99999995 else lon


# CSV


def csv(samples: Sequence[Sample]) -> str:
    """RFC 4180 with a header line. None of the fields holds a comma, but for a reason, which is quoted if it does."""
    lines = [",".join(COLUMNS)]
    for sample in samples:
        told = shown(sample)
        lines.append(",".join(_cell(told.get(name, "")) for name in COLUMNS))
    return "\r\n".join(lines) + "\r\n"


def _cell(value: object) -> str:
    text = str(value)
    # A cell that begins like a formula would be one in a spreadsheet; numbers may begin with a minus.
    if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
