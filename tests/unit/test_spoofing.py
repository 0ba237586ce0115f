"""tests.measure.spoofing: what is said about real and forged flights is found as it is said to be."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import orjson
import pytest

from core.geo.sphere import destination
from core.pings import Fix
from tests.measure import spoofing, spoofing_plants, spoofing_samples
from tests.measure.own import ROOT

NOW = 1_600_000_000_000
HOME = (48.0, 2.0)


def row(second: int, place: tuple[float, float] | None, **more: object) -> dict[str, object]:
    lat, lon = place or (None, None)
    known = {
        "timestamp": NOW + second * 1000,
        "icao24": "4baac6",
        "callsign": "QX12",
        "latitude": lat,
        "longitude": lon,
    }
    return known | {"groundspeed": 400.0, "track": 361.0, "altitude": 30_000.0} | more


def along(second: float) -> tuple[float, float]:
    return destination(*HOME, 1, 206 * second)


def archive(path: Path, clean: list[dict[str, object]], forged: list[dict[str, object]]) -> Path:
    columns = {name: {str(n): one[name] for n, one in enumerate(forged)} for name in forged[0]}
    with zipfile.ZipFile(path, "w") as made:
        for name, table in (
            (spoofing_samples.CLEAN, clean),
            (spoofing_samples.OTHER, clean),
            (spoofing_samples.SPOOFED, columns),
            (spoofing_samples.TIMES, clean),
        ):
            made.writestr(f"{spoofing_samples.SAMPLES}{name}.json.gz", gzip.compress(orjson.dumps(table)))
    return path


def flown(away: range = range(0), seconds: int = 400) -> list[dict[str, object]]:
    return [row(n, destination(*along(n), 90, 400_000) if n in away else along(n)) for n in range(seconds)]


def test_a_fix_is_a_position_not_a_row() -> None:
    """A row that repeats the last position is none, one without a position neither; units are ours, times the position's."""
    rows = [
        row(0, along(0)),
        row(1, along(0)),
        row(2, None),
        row(3, along(3), last_position=NOW + 2_500, groundspeed=None),
    ]
    flight = spoofing_samples.flight("QX12", rows)
    assert [fix.at_ms - NOW for fix in flight.rows] == [0, 1_000, 3_000]
    assert [fix.at_ms - NOW for fix in flight.fixes] == [0, 2_500]
    first = flight.fixes[0]
    assert (first.lat, first.speed, first.heading, first.alt, first.acc) == (48.0, 205.78, 1.0, 9144.0, None)
    assert flight.fixes[1].speed is None


def test_an_impossible_step_is_one_whatever_the_judge_says() -> None:
    """Farther than 1.5 times the fastest there is, in the time and eight seconds; a faster report gives more room."""
    for metres, speed, expected in ((4_580, 200.0, []), (4_600, 200.0, [1]), (4_600, 400.0, [])):
        lat, lon = destination(*HOME, 90, metres)
        fixes = [Fix(0, NOW, b"", True, *HOME, speed=speed), Fix(0, NOW + 1_000, b"", True, lat, lon, speed=speed)]
        assert spoofing.impossible(fixes) == expected


def test_a_step_is_caught_unless_both_ends_are_believed(tmp_path: Path) -> None:
    """And counted until something is believed again."""
    flights = spoofing_samples.flight("QX12", flown(range(100, 200)))
    ruled = spoofing.rule("aircraft", [flights.fixes])
    assert (ruled.impossible, ruled.caught, ruled.believed_again_after) == (2, 2, [3, 3])
    assert ruled.verdicts == {"accepted": 394, "quarantined jump": 4, "accepted reanchored": 2}
    assert ruled.out == 4


def test_what_is_planted_is_counted() -> None:
    """Caught or believed, and the good ones that were lost; a track too short is left out."""
    track = spoofing_samples.flight("QX12", flown()).fixes
    kinds = {"off": spoofing_plants.away(50), "away": spoofing_plants.away(50, 20)}
    one, many = spoofing_plants.planted("aircraft", [track, track[:50]], kinds)
    assert (one.times, one.fixes, one.caught, one.believed, one.lost) == (1, 1, 1, 0, 0)
    assert (many.times, many.fixes, many.caught, many.believed, many.lost, many.most_in_a_row) == (1, 20, 2, 18, 2, 2)


def test_every_kind_of_fault_can_be_planted() -> None:
    """In a track of the usual length; what is believed of them is what the page says."""
    track = spoofing_samples.flight("QX12", flown()).fixes
    found = {one.kind: one for one in spoofing_plants.planted("aircraft", [track], spoofing_plants.KINDS)}
    assert all(one.caught + one.believed == one.fixes for one in found.values())
    never = ("one fix 10 km off", "0, 0", "mock", "an hour ahead", "the same again", "20 fixes frozen")
    assert [found[kind].believed for kind in never] == [0] * len(never)
    assert found["an hour behind"].believed == 1


def test_clocks_end_right() -> None:
    """Whatever they did on the way."""
    track = spoofing_samples.flight("QX12", flown(seconds=900)).fixes
    found = spoofing_plants.clocks([track, track[:50]])
    assert {one.right_at_end for one in found} == {"1 of 1"}
    assert found[0].kept == found[0].fixes == 900
    assert [one.wrong for one in found if one.kind.startswith("right, a third")] == [0]


def test_the_command_says_whether_it_is_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 and the tables; a clean flight with a jump in it, and it is 1; trips that are not there are said to be skipped."""
    good = archive(tmp_path / "good.whl", flown(), flown(range(100, 200)))
    assert spoofing.main(["--wheel", str(good)]) == 0
    said = capsys.readouterr().out
    assert "| forged | 1 | 400 | 4 | 2 | 2 | 3 | quarantined jump 4, accepted reanchored 2 |" in said
    assert "µs" in said
    bad = archive(tmp_path / "bad.whl", flown(range(100, 101)), flown(range(100, 200)))
    assert spoofing.main(["--wheel", str(bad), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["met"], found["sets"]["clean"]["verdicts"]["quarantined jump"]) == (False, 1)


def test_trips_are_judged_where_they_are(tmp_path: Path) -> None:
    """By their mode; without them the rest is done, and why is said."""
    made = archive(tmp_path / "a.whl", flown(), flown(range(100, 200)))
    trip = {"trip": "t", "fixes": [[10.0 * n, 30.6 + n / 1000, 104.1] for n in range(30)]}
    (tmp_path / "taxi.jsonl").write_bytes(orjson.dumps(trip) + b"\n")
    with zipfile.ZipFile(made) as opened:
        found = spoofing.measure(opened, tmp_path)
    assert found.sets["taxi"].verdicts == {"accepted": 30}
    assert list(found.skipped) == ["bus14"]
    assert {one.mode for one in found.planted} == {"aircraft", "car"}
    assert "bus14: no ../shared" in spoofing.show(found)


def test_the_figures_are_of_the_whole_set() -> None:
    """docs/data/positions-plausible.json: 236 clean flights, nothing of them quarantined, every impossible step caught."""
    found = json.loads(spoofing.DATA.read_text())
    assert found["command"] == spoofing.COMMAND
    assert found["met"]
    assert found["sets"]["clean"]["tracks"] == 236
    assert {one["kind"] for one in found["planted"] if one["mode"] == "aircraft"} == set(spoofing_plants.KINDS)
    assert spoofing.DATA.is_relative_to(ROOT / "docs/data")
