"""core.trip.export: a track as other programs read it."""

from __future__ import annotations

import csv
import io
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.flight.times import read
from core.tracks import Sample
from core.trip import export

T0 = read("2026-11-21T06:00:00Z").ms
GPX = "{http://www.topografix.com/GPX/1/1}"
TPX = "{http://www.garmin.com/xmlschemas/TrackPointExtension/v2}"


def sample(n: int = 0, lat: float = -33.9, lon: float = 151.2, subject: str = "device:a", **more: Any) -> Sample:
    known = {"acc": 5.0, "speed": 14.2, "heading": 87.0, "alt": None, "verdict": "accepted", "reason": ""} | more
    return Sample("demo", subject, "trip:9", T0 + 10_000 * n, n + 1, lat, lon, **known, taken_ms=T0 + 10_000 * n + 150)


def test_a_sample_in_json() -> None:
    """What is not known is left out."""
    bare = sample(acc=None, speed=None, heading=None, verdict="degraded", reason="accuracy")
    assert export.shown(bare) == {
        "subject": "device:a",
        "at": "2026-11-21T06:00:00.000Z",
        "seq": 1,
        "lat": -33.9,
        "lon": 151.2,
        "verdict": "degraded",
        "reason": "accuracy",
        "taken": "2026-11-21T06:00:00.150Z",
    }
    assert set(export.shown(sample(alt=3.0, reason="x"))) == set(export.COLUMNS)


def test_each_subject_is_a_feature() -> None:
    """By name; with times beside the coordinates in their order, and a height where there is one."""
    found = export.geojson("trip:9", [sample(0, subject="device:b"), sample(0), sample(1, lat=-33.8, alt=12.0)])
    assert found["type"] == "FeatureCollection"
    first, second = found["features"]
    assert first == {
        "type": "Feature",
        "properties": {
            "subject": "device:a",
            "stream": "trip:9",
            "coordinateProperties": {
                "times": ["2026-11-21T06:00:00.000Z", "2026-11-21T06:00:10.000Z"],
                "accuracies": [5.0, 5.0],
                "speeds": [14.2, 14.2],
                "headings": [87.0, 87.0],
                "verdicts": ["accepted", "accepted"],
            },
        },
        "geometry": {"type": "LineString", "coordinates": [[151.2, -33.9], [151.2, -33.8, 12.0]]},
    }
    assert second["geometry"] == {"type": "Point", "coordinates": [151.2, -33.9]}
    assert second["properties"]["time"] == "2026-11-21T06:00:00.000Z"
    assert second["properties"]["accuracy"] == 5.0
    assert export.geojson("trip:9", []) == {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize("east", [True, False])
def test_a_line_is_cut_at_the_antimeridian(east: bool) -> None:
    """RFC 7946, section 3.1.9: both parts end on it, at the place between; properties are cut alike."""
    side = 1 if east else -1
    track = [
        sample(0, lat=10, lon=179.5 * side),
        sample(1, lat=12, lon=-179.5 * side),
        sample(2, lat=13, lon=-179 * side),
    ]
    [feature] = export.geojson("trip:9", track)["features"]
    assert feature["geometry"] == {
        "type": "MultiLineString",
        "coordinates": [
            [[179.5 * side, 10], [180.0 * side, 11.0]],
            [[-180.0 * side, 11.0], [-179.5 * side, 12], [-179 * side, 13]],
        ],
    }
    times = feature["properties"]["coordinateProperties"]["times"]
    assert [len(part) for part in times] == [2, 3]
    assert times[0][1] == "2026-11-21T06:00:00.000Z"
    assert times[1][0] == "2026-11-21T06:00:10.000Z"


def test_from_one_side_of_the_antimeridian_to_the_other_is_no_way() -> None:
    """-180 and 180 are one meridian."""
    [feature] = export.geojson("trip:9", [sample(0, lon=180.0), sample(1, lon=-180.0)])["features"]
    assert feature["geometry"]["coordinates"][0] == [[180.0, -33.9], [180.0, -33.9]]


def test_gpx_has_a_track_for_each_subject() -> None:
    """Elevation, time and extensions in the order of the schema; speed and course where others look for them."""
    samples = [sample(0, alt=12.345), sample(1, speed=None, heading=360.0), sample(2, speed=None, heading=None)]
    root = ElementTree.fromstring(export.gpx("trip:9", [*samples, sample(0, lon=180.0, subject="device:b")]))
    assert (root.tag, root.get("version"), root.get("creator")) == (f"{GPX}gpx", "1.1", "Readback")
    assert root.findtext(f"{GPX}metadata/{GPX}name") == "trip:9"
    assert [name.text for name in root.iterfind(f"{GPX}trk/{GPX}name")] == ["device:a", "device:b"]
    first, second, third, other = root.iterfind(f".//{GPX}trkpt")
    assert [child.tag for child in first] == [f"{GPX}ele", f"{GPX}time", f"{GPX}extensions"]
    assert (first.get("lat"), first.get("lon")) == ("-33.9000000", "151.2000000")
    assert (first.findtext(f"{GPX}ele"), first.findtext(f"{GPX}time")) == ("12.35", "2026-11-21T06:00:00.000Z")
    inside = [(child.tag, child.text) for child in first.iterfind(f".//{TPX}TrackPointExtension/*")]
    assert inside == [(f"{TPX}speed", "14.20"), (f"{TPX}course", "87.00")]
    assert second.findtext(f".//{TPX}course") == "0.00"
    assert [child.tag for child in third] == [f"{GPX}time"]
    assert other.get("lon") == "-180.0000000"


@given(st.text(max_size=40))
def test_no_name_breaks_a_document(name: str) -> None:
    """Whatever it holds, and what XML cannot hold at all."""
    root = ElementTree.fromstring(export.gpx(name, [sample(subject=name)]))
    assert root.find(f"{GPX}trk") is not None
    rows = list(csv.DictReader(io.StringIO(export.csv([sample(subject=name, reason=name)]), newline="")))
    assert len(rows) == 1
    assert rows[0]["subject"].removeprefix("'") == name.removeprefix("'")


def test_csv_has_a_line_for_each_sample() -> None:
    """And a header; what is not known is empty, and no text is a formula to a spreadsheet."""
    text = export.csv([sample(0, acc=None, reason='far, "too far"'), sample(1, subject="=1+1")])
    header, first, second, end = text.split("\r\n")
    assert header == ",".join(export.COLUMNS)
    assert first == (
        "device:a,2026-11-21T06:00:00.000Z,1,-33.9,151.2,,14.2,87.0,,accepted,"
        '"far, ""too far""",2026-11-21T06:00:00.150Z'
    )
    assert second.startswith("'=1+1,")
    assert end == ""
