"""`readback eta`: trained, replayed and scored on a made-up city; what is said of files that are none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from core.geo.estimate import Emission, Estimator
from core.geo.route import Route, make_route
from core.geo.routing import Ask
from core.geo.sphere import distance_m
from gateway import cli
from gateway.cli_errors import CANNOT, USAGE
from gateway.eta import files, replay
from gateway.eta import train as training
from gateway.eta import trips as trip_files
from gateway.eta.played import Faults, Rung, deliveries
from gateway.eta.replay import Bell
from gateway.eta.served import Ride, World
from gateway.eta.stand_in import AWAY_M, StandIn, wrong_plan
from gateway.eta.trips import read_trips
from tests import eta_world

MADE = Path(__file__).parents[2] / "data/eta_synthetic.jsonl"
TAXIS = Path(__file__).parents[3].parent / "shared/data/eta/taxi.jsonl"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal wide enough for the tables."""
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, ["eta", *map(str, arguments)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all the made-up vehicles."""
    folder = tmp_path_factory.mktemp("eta")
    found = run("train", "--history", MADE, "--out", folder / "model.json")
    assert found.exit_code == 0, found.output
    return folder / "model.json"


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_the_made_up_city_is_what_its_seed_makes() -> None:
    """The file beside the tests is the generator's output."""
    assert MADE.read_text() == eta_world.lines()


def test_training_is_the_same_for_the_same_history(model: Path, tmp_path: Path) -> None:
    """Byte for byte, and says what it made."""
    found = run("train", "--history", MADE, "--out", tmp_path / "again.json")
    assert found.exit_code == 0
    assert "36 trips of 12 vehicles" in found.output
    assert (tmp_path / "again.json").read_bytes() == model.read_bytes()
    other = run("train", "--history", MADE, "--out", tmp_path / "other.json", "--seed", "2")
    assert other.exit_code == 0
    assert (tmp_path / "other.json").read_bytes() != model.read_bytes()


def test_help_says_what_to_install() -> None:
    """With the extra in its brackets, which the help's markup once took for its own."""
    assert "pip install 'readback[eta]'" in " ".join(run("train", "--help").output.split())


def test_training_can_say_first_how_good_it_is(tmp_path: Path) -> None:
    """By parts of the vehicles."""
    found = run("train", "--history", MADE, "--out", tmp_path / "model.json", "--cross-validate", "2")
    assert found.exit_code == 0, found.output
    assert "all buckets" in found.output


def test_replay_of_its_own_history_goes_by_parts(tmp_path: Path) -> None:
    """One line a fix, in the trips' order, never before now; each alert once; calmer than what is not steadied."""
    scores: dict[str, float] = {}
    jitter: dict[str, float] = {}
    for estimator in ("shown", "grid", "grid93", "raw"):
        out = tmp_path / estimator / "predictions.jsonl"
        out.parent.mkdir()
        found = run(
            "replay", "--history", MADE, "--trips", MADE, "--out", out, "--folds", "2", "--estimator", estimator
        )
        assert found.exit_code == 0, found.output
        asked = ["score", "--trips", MADE, "--predictions", out, "--alerts", out.with_name("alerts.jsonl"), "--json"]
        scored = run(*asked)
        assert scored.exit_code == 0, scored.output
        body = json.loads(scored.stdout)
        scores[estimator], jitter[estimator] = body["overall"], body["jitter_p95_s"]
        assert all(alert["duplicates"] == 0 and alert["missed"] == 0 for alert in body["alerts"])
    said = lines(tmp_path / "shown" / "predictions.jsonl")
    trips = read_trips(MADE)
    assert [line["trip"] for line in said] == [trip.name for trip in trips for _ in trip.fixes]
    assert all(line["at_s"] <= line["low_s"] <= line["eta_s"] <= line["high_s"] for line in said)
    assert min(scores.values()) > 0.75
    assert jitter["shown"] < 0.6 * jitter["raw"]


def test_replay_with_a_model_and_without_any(model: Path, tmp_path: Path) -> None:
    """A model's sources are learned; without one, the mode's speed, or a provider's times; where nobody knows a way, the
    crow's."""
    sources: list[set[str]] = []
    crow = ["--unplanned", "--no-provider"]
    for more in (["--model", model], ["--no-provider"], [], crow):
        out = tmp_path / "predictions.jsonl"
        found = run("replay", "--trips", MADE, "--out", out, *more)
        assert found.exit_code == 0, found.output
        sources.append({line["source"] for line in lines(out)})
    assert sources == [{"learned"}, {"default"}, {"default", "route"}, {"great_circle"}]


def test_what_is_served_is_what_the_estimator_says(model: Path, tmp_path: Path) -> None:
    """On a plan with its way, a fix's line is the estimator's own, steadied, to the tenth of a second that a plan rounds."""
    made, trip = files.load_model(model), read_trips(MADE)[0]
    served = replay.play(trip, made, Faults(), world=World(provider=False))
    estimator = Estimator(trip.route, model=made, week0_s=trip.week_s)
    for fix, said in zip(trip.fixes, served.said, strict=True):
        bare = estimator.take(fix)
        assert bare is not None
        assert said[:4] == pytest.approx(bare[:4], abs=0.3)
        assert (said.source, said.age_s) == (bare.source, 0.0)


def test_alerts_come_between_and_after_fixes(model: Path) -> None:
    """By the clock, when the gateway looks: also where a device falls silent for good, up to the arrival."""
    made, trip = files.load_model(model), max(read_trips(MADE), key=lambda trip: trip.arrive_s)
    silent = trip._replace(fixes=tuple(fix for fix in trip.fixes if fix.at_s < trip.arrive_s - 500))
    rung = replay.play(silent, made, Faults()).alerts
    assert rung[-1].threshold_s == 300.0
    assert silent.fixes[-1].at_s < rung[-1].at_s < trip.arrive_s
    assert rung[-1].at_s not in {fix.at_s for fix in trip.fixes}
    assert replay.play(silent._replace(arrive_s=rung[-1].at_s - 1), made, Faults()).alerts == rung[:-1]


def test_a_trip_is_told_of_and_asks_for_routes_as_it_is_served(model: Path, tmp_path: Path) -> None:
    """Alerts once each; a call at the start, few after it; what is written is what is scored."""
    out = tmp_path / "predictions.jsonl"
    said = run("replay", "--model", model, "--trips", MADE, "--out", out)
    assert "calls of the provider" in said.output.lower()
    beside = [word for name in ("alerts", "calls") for word in (f"--{name}", tmp_path / f"{name}.jsonl")]
    score = json.loads(run("score", "--trips", MADE, "--predictions", out, *beside, "--json").stdout)
    assert [(one["duplicates"], one["missed"], one["merged"]) for one in score["alerts"]] == [(0, 0, 0), (0, 0, 0)]
    assert score["calls"]["reasons"]["start"] == 36
    assert score["calls"]["half_hour_max"] <= 6
    assert score["calls"]["failed"] == 0
    shown = run("score", "--trips", MADE, "--predictions", out, *beside)
    assert "Calls of the provider" in shown.output


def test_a_dead_provider_is_called_once_a_trip_at_most(model: Path, tmp_path: Path) -> None:
    """By a trip that needs it, with plans that are wrong; then never again, and the arrival times go on."""
    out = tmp_path / "predictions.jsonl"
    more = ["--detour", "1", "--no-provider-after", "100"]
    assert run("replay", "--model", model, "--trips", MADE, "--out", out, *more).exit_code == 0
    asked = ["--calls", tmp_path / "calls.jsonl", "--json"]
    calls = json.loads(run("score", "--trips", MADE, "--predictions", out, *asked).stdout)["calls"]
    assert 0 < calls["failed"] <= 36
    assert calls["after_failed"] == 0
    assert any("stale-route" in line["source"] for line in lines(out))


def test_a_wrong_plan_is_another_way_in_the_middle() -> None:
    """Beside the real one, or straight; both ends are its own; of the part of trips that was asked for, the same for a seed."""
    trips = read_trips(MADE)
    assert [wrong_plan(trip, 0.0, 1) for trip in trips] == [None] * 36
    wrong = [wrong_plan(trip, 1.0, 1) for trip in trips]
    assert wrong == [wrong_plan(trip, 1.0, 1) for trip in trips]
    assert 5 < sum(wrong_plan(trip, 0.5, 1) is None for trip in trips) < 31
    kinds: set[bool] = set()
    for trip, route in zip(trips, wrong, strict=True):
        assert route is not None
        assert (route.points[0], route.points[-1]) == (trip.route.points[0], trip.route.points[-1])
        at = len(trip.route.points) // 2
        beside = len(route.points) == len(trip.route.points)
        kinds.add(beside)
        if beside:
            assert distance_m(*route.points[at], *trip.route.points[at]) == pytest.approx(AWAY_M, rel=0.01)
    assert kinds == {True, False}
    short = trips[0]._replace(route=trips[0].route._replace(points=trips[0].route.points[:3]))
    assert wrong_plan(short, 1.0, 1) is None


def test_a_provider_answers_from_where_the_vehicle_is() -> None:
    """With the way that is left; the wrong one until it has left that."""
    trip = read_trips(MADE)[0]
    wrong = wrong_plan(trip, 1.0, 1)
    assert wrong is not None
    provider = StandIn(trip, wrong, None, None)
    ask = Ask("car", (trip.route.points[0], trip.route.points[-1]))
    lengths: list[float] = []
    for fix in trip.fixes:
        provider.moved(fix)
        provider.moved(fix)
        lengths.append(sum(provider.route(ask, fix.at_s, 0).legs_m))
    assert lengths[0] == pytest.approx(wrong.length_m, rel=0.02)
    assert lengths[-1] < 200.0
    assert provider.route(ask, 0.0, 7).total_s() is not None
    assert provider.well_ms == 7


def test_a_long_way_is_thinned_to_what_a_plan_holds() -> None:
    """Nobody's file is refused for its many points."""
    trip = read_trips(MADE)[0]
    points = [(10.0 + at / 100_000, 20.0 + at % 2 / 10_000) for at in range(15_000)]
    route = make_route(points)
    assert isinstance(route, Route)
    ride = Ride(trip._replace(route=route), None, World(provider=False), 0)
    assert ride.calls == []


def test_replay_trains_on_other_vehicles_alone(tmp_path: Path) -> None:
    """History of the trips' own vehicles is left out; of nothing else, it says so."""
    every = MADE.read_text().splitlines(True)
    asked, rest = tmp_path / "asked.jsonl", tmp_path / "rest.jsonl"
    asked.write_text("".join(line for line in every if '"van-00"' in line))
    rest.write_text("".join(every))
    found = run("replay", "--history", rest, "--trips", asked, "--out", tmp_path / "p.jsonl")
    assert found.exit_code == 0, found.output
    assert "3 trips" in found.output
    own = tmp_path / "own.jsonl"
    own.write_text(asked.read_text())
    found = run("replay", "--history", own, "--trips", asked, "--out", tmp_path / "p.jsonl")
    assert found.exit_code == USAGE
    assert "nothing to train on" in found.output


def test_faults_are_drawn_from_the_seed() -> None:
    """Fewer, later, doubled; the same for the same seed; without faults as they came."""
    trip = read_trips(MADE)[0]
    plain = deliveries(trip, Faults())
    assert [fix for _, fix in plain] == list(trip.fixes)
    dropped, doubled = deliveries(trip, Faults(drop=0.5)), deliveries(trip, Faults(duplicate=1.0))
    assert 0 < len(dropped) < len(plain)
    assert len(doubled) == 2 * len(plain)
    delayed = deliveries(trip, Faults(delay=1.0, seed=3))
    assert delayed == deliveries(trip, Faults(delay=1.0, seed=3)) != deliveries(trip, Faults(delay=1.0, seed=4))
    assert [at_s for at_s, _ in delayed] == sorted(at_s for at_s, _ in delayed)
    assert [fix.at_s for _, fix in delayed] != sorted(fix.at_s for _, fix in delayed)


def test_replay_with_faults_says_what_it_can(model: Path, tmp_path: Path) -> None:
    """Each delivery has its line, at the time when it came."""
    out = tmp_path / "p.jsonl"
    faults = ["--drop", "0.3", "--delay", "0.3", "--duplicate", "0.3"]
    found = run("replay", "--model", model, "--trips", MADE, "--out", out, *faults)
    assert found.exit_code == 0, found.output
    scored = run("score", "--trips", MADE, "--predictions", out, "--alerts", tmp_path / "alerts.jsonl")
    assert scored.exit_code == 0, scored.output
    assert "10 min" in scored.output


def said(at_s: float, even_s: float) -> Emission:
    return Emission(at_s, even_s, even_s, even_s, "", 0.0, even_s)


def test_alerts_ring_once_at_a_fix_or_by_the_clock() -> None:
    """At the fix that passes the threshold; between fixes when the time has come; at the end what was due before it."""
    bell = Bell()
    bell.hear(said(0.0, 1_000.0))
    bell.hear(said(300.0, 1_010.0))
    bell.hear(said(450.0, 1_100.0))
    assert bell.rung == [Rung(600.0, 410.0, 1_010.0)]
    bell.end(1_200.0)
    bell.end(1_200.0)
    assert bell.rung[1:] == [Rung(300.0, 800.0, 1_100.0)]
    late = Bell()
    late.end(100.0)
    late.hear(said(0.0, 200.0))
    late.end(100.0)
    assert [rung[1] for rung in late.rung] == [0.0, 0.0]
    far = Bell()
    far.hear(said(0.0, 5_000.0))
    far.end(1_000.0)
    assert far.rung == []


def test_score_draws(model: Path, tmp_path: Path) -> None:
    """Four pictures, named on stderr."""
    out = tmp_path / "p.jsonl"
    assert run("replay", "--model", model, "--trips", MADE, "--out", out).exit_code == 0
    found = run("score", "--trips", MADE, "--predictions", out, "--plots", tmp_path / "pictures")
    assert found.exit_code == 0, found.output
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "buckets.png",
        "interval.png",
        "jitter.png",
        "trips.png",
    ]


@pytest.mark.parametrize(("library", "command"), [("lightgbm", "train"), ("matplotlib", "score")])
def test_what_is_missing_is_said_with_how_to_get_it(
    library: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serving and scoring need neither."""
    out = tmp_path / "p.jsonl"
    assert run("replay", "--trips", MADE, "--out", out).exit_code == 0
    monkeypatch.setitem(sys.modules, library, None)
    if command == "train":
        found = run("train", "--history", MADE, "--out", tmp_path / "model.json")
    else:
        found = run("score", "--trips", MADE, "--predictions", out, "--plots", tmp_path)
    assert found.exit_code == CANNOT
    assert "pip install 'readback[" in found.output


GOOD = json.loads(MADE.read_text().splitlines()[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trip": ""}, "a name"),
        ({"vehicle": 5}, "a name"),
        ({"start": "yesterday"}, "RFC 3339"),
        ({"start": 5}, "RFC 3339"),
        ({"arrive_s": -1}, "arrive_s"),
        ({"arrive_s": True}, "arrive_s"),
        ({"route": 5}, "route is"),
        ({"route": [[1, 2, 3]]}, "route is"),
        ({"route": [[1, 2]]}, "2 to"),
        ({"fixes": []}, "fixes are"),
        ({"fixes": [[0, 1]]}, "fixes are"),
        ({"fixes": [[0, 91, 0]]}, "latitude"),
    ],
)
def test_a_trip_that_is_none_is_named_with_its_line(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    """File, line, fault; nothing is written."""
    path = tmp_path / "trips.jsonl"
    path.write_text("\n" + json.dumps(GOOD | change) + "\n")
    found = run("replay", "--trips", path, "--out", tmp_path / "p.jsonl")
    assert found.exit_code == USAGE
    assert says in found.output
    assert "line 2" in found.output
    assert not (tmp_path / "p.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no trips"),
        ("[]\n", "a trip is a JSON object"),
        ("{\n", "no JSON"),
        (json.dumps(GOOD) + "\n" + json.dumps(GOOD), "was there before"),
    ],
)
def test_a_file_that_is_none_is_a_sentence(text: str, says: str, tmp_path: Path) -> None:
    """Empty, of something else, cut off, twice the same trip; and one that is not there."""
    path = tmp_path / "trips.jsonl"
    path.write_text(text)
    found = run("replay", "--trips", path, "--out", tmp_path / "p.jsonl")
    assert found.exit_code == USAGE
    assert says in found.output
    assert run("replay", "--trips", tmp_path / "none", "--out", tmp_path / "p.jsonl").exit_code == USAGE


def test_files_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of lines, of trips, of a model; each names itself."""
    out = tmp_path / "p.jsonl"
    monkeypatch.setattr(trip_files, "TRIPS_MAX", 3)
    assert "more than 3 trips" in run("replay", "--trips", MADE, "--out", out).output
    monkeypatch.setattr(trip_files, "LINE_MAX", 100)
    assert "longer than 100 bytes" in run("replay", "--trips", MADE, "--out", out).output
    monkeypatch.undo()
    monkeypatch.setattr(files, "MODEL_MAX", 10)
    assert "larger than any model" in run("replay", "--trips", MADE, "--out", out, "--model", MADE).output


def test_history_may_hold_fixes_twice() -> None:
    """A doubled fix teaches nothing."""
    trip = read_trips(MADE)[0]
    doubled = trip._replace(fixes=tuple(fix for fix in trip.fixes for _ in range(2)))
    assert training.trace(doubled) == training.trace(trip)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[]", "with its trip"),
        ({"trip": "nobody"}, "no trip nobody"),
        ({"trip": "made-000", "at_s": 0}, "eta_s is no number"),
        ({"trip": "made-000", "at_s": 0, "eta_s": True, "low_s": 0, "high_s": 1}, "eta_s is no number"),
    ],
)
def test_predictions_that_are_none_are_a_sentence(line: Any, says: str, tmp_path: Path) -> None:
    """With file and line."""
    path = tmp_path / "p.jsonl"
    path.write_text(line if isinstance(line, str) else json.dumps(line))
    found = run("score", "--trips", MADE, "--predictions", path)
    assert found.exit_code == USAGE
    assert says in found.output


@pytest.mark.parametrize(
    ("option", "line", "says"),
    [
        ("--alerts", {"threshold_s": 300, "at_s": 5, "merged": 5}, "merged is no list"),
        ("--alerts", {"threshold_s": 300}, "at_s is no number"),
        ("--calls", {"at_s": 5, "failed": 1}, "true or false"),
        ("--calls", {"why": "start"}, "at_s is no number"),
    ],
)
def test_alerts_and_calls_that_are_none_are_a_sentence(
    option: str, line: dict[str, Any], says: str, tmp_path: Path
) -> None:
    """With file and line, too."""
    path, said = tmp_path / "a.jsonl", tmp_path / "p.jsonl"
    path.write_text(json.dumps(line | {"trip": "made-000"}))
    said.write_text("")
    found = run("score", "--trips", MADE, "--predictions", said, option, path)
    assert found.exit_code == USAGE
    assert says in found.output


def test_predictions_out_of_order_are_a_sentence(tmp_path: Path) -> None:
    """Jitter would mean nothing."""
    one = {"trip": "made-000", "at_s": 5, "eta_s": 9, "low_s": 9, "high_s": 9, "source": "x"}
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(one) + "\n" + json.dumps(one | {"at_s": 4}))
    found = run("score", "--trips", MADE, "--predictions", path)
    assert found.exit_code == USAGE
    assert "before the line above" in found.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--estimator", "oracle"], "--estimator is one of"),
        (["--by", "driver"], "--by is vehicle or trip"),
        (["--model", "m.json", "--history", MADE], "leave out one"),
        (["--model", "nowhere.json"], "readback eta train"),
        (["--model", MADE], "no JSON"),
        (["--no-provider", "--no-provider-after", "5"], "leaves none to die"),
    ],
)
def test_arguments_that_cannot_be_used_are_sentences(arguments: list[Any], says: str, tmp_path: Path) -> None:
    """Each says what there is instead."""
    found = run("replay", "--trips", MADE, "--out", tmp_path / "p.jsonl", *arguments)
    assert found.exit_code == USAGE
    assert says in found.output


def test_history_of_one_vehicle_cannot_be_trained_on(tmp_path: Path) -> None:
    """Nor can one part be cross-validated; a file that is no model is none."""
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(GOOD))
    found = run("train", "--history", path, "--out", tmp_path / "m.json")
    assert found.exit_code == USAGE
    assert "two vehicles" in found.output
    assert run("train", "--history", MADE, "--out", tmp_path / "m.json", "--cross-validate", "1").exit_code == USAGE
    (tmp_path / "x.json").write_text("{}")
    found = run("replay", "--trips", MADE, "--out", tmp_path / "p.jsonl", "--model", tmp_path / "x.json")
    assert found.exit_code == USAGE
    assert "no model" in found.output


def test_a_folder_that_is_not_there_is_said_before_the_work(tmp_path: Path) -> None:
    """Of a model as of predictions."""
    for command in (["train", "--history", MADE], ["replay", "--trips", MADE]):
        found = run(*command, "--out", tmp_path / "nowhere" / "out")
        assert found.exit_code == USAGE
        assert "There is no folder" in found.output


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A fault amid it leaves what was there, and nothing beside it."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def breaking() -> Any:
        yield b"new"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        files.write_whole(path, breaking())
    assert [one.name for one in tmp_path.iterdir()] == ["out.jsonl"]
    assert path.read_text() == "old"


@pytest.mark.slow
@pytest.mark.skipif(
    not TAXIS.exists(), reason="needs ../shared/data/eta/taxi.jsonl, which is no part of the repository"
)
def test_forty_real_trips(tmp_path: Path) -> None:
    """A smoke test: `readback eta` on the whole file is the evaluation (docs/eta.md)."""
    with TAXIS.open() as file:
        (tmp_path / "t.jsonl").write_text("".join(next(file) for _ in range(40)))
    trips = tmp_path / "t.jsonl"
    found = run("replay", "--history", trips, "--trips", trips, "--out", tmp_path / "p.jsonl", "--folds", "2")
    assert found.exit_code == 0, found.output
    body = json.loads(run("score", "--trips", trips, "--predictions", tmp_path / "p.jsonl", "--json").stdout)
    assert body["overall"] > 0.45
    assert body["jitter_p95_s"] < 60
