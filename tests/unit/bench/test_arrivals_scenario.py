"""bench.scenarios.arrivals and its parts: one result with every target of the issue, each of which can be missed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import trio
from typer.testing import CliRunner

from bench import cli, eta_cpu, kept, model, moving, plots, trips
from bench.gen.devices import devices
from bench.gen.riders import Dispatch, Figures, Follower, Rider, Run, Vehicle
from bench.load import LoadError, Measured
from bench.model import Result
from bench.moving import Numbers, Turn
from bench.scenarios import arrivals
from bench.scenarios.common import Context
from bench.stats import Histogram
from core.flight.machine import Command
from core.flight.times import write
from core.geo.polyline import decode
from core.geo.sphere import distance_m
from core.trip.trips import TRIP


def histogram(*values_ns: int) -> dict[str, object]:
    made = Histogram()
    made.record_all(values_ns)
    return made.to_json()


class Node(str):
    """One that does nothing, by what it is."""

    database_url = "postgres://"
    port = 1


class Parts:
    """In the place of the measures, what they would find on a machine ``slow`` times as slow; and what they were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slow: float) -> None:
        self.slow = slow
        self.wrong = 0 if slow == 1 else 1
        self.asked: list[Any] = []
        for module, name in ((moving, "taken"), (moving, "watching"), (trips, "one_round"), (kept, "measure_at")):
            monkeypatch.setattr(module, name, getattr(self, name))
        monkeypatch.setattr(eta_cpu, "served", lambda served, model: (0.0, 30e-6 * slow * 452))
        monkeypatch.setattr(arrivals, "readback_cluster", self.started)
        monkeypatch.setattr(arrivals, "calm", lambda cluster: None)
        monkeypatch.setattr(arrivals, "apart", self.apart)

    cluster: Any = None

    @contextlib.contextmanager
    def started(self, count: int, **how: Any) -> Iterator[str]:
        yield Node("a node with a worker" if how.get("env") else "a node")

    def taken(self, cluster: str, numbers: Numbers, fixes: int, *how: Any) -> Measured:
        self.asked.append((fixes, cluster))
        count = 60_000 if fixes == 10 else 20_000
        refused = {"quarantined jump": self.wrong} if self.wrong else {}
        told = {"accepted": count, "fixes": count, "took": histogram(5_000_000), "refused": refused}
        return Measured(4.0, {"nodes": 2.0 * self.slow, "postgres": 1.0}, [told])

    @contextlib.contextmanager
    def watching(self, cluster: str, *how: Any) -> Iterator[Parts]:
        self.asked.append(("watched", cluster))
        yield self

    @contextlib.contextmanager
    def apart(self, cluster: str) -> Iterator[str]:
        self.asked.append("apart")
        yield "each has a core"
        self.asked.append("together")

    def turn(self, seconds: float, *, moving: bool) -> Turn:
        self.asked.append("moving" if moving else "resting")
        late = [round(10e6 * ((self.slow + 0.05) if moving else 1.0))] * 2_000
        told = {
            "acks": histogram(*late),
            "deliveries": histogram(*late),
            "refusals": self.wrong,
            "unanswered": 0,
            "answered": 2_000,
        }
        chat = Measured(seconds, {"nodes": 1.0, "postgres": 1.0}, [told])
        moved = {
            "sent": 100,
            "told": 2_000,
            "shown": histogram(20_000_000),
            "took": histogram(9_000_000),
            "refused": {},
        }
        return Turn(chat, moved if moving else None)

    def one_round(self, cluster: str, numbers: Numbers, shape: trips.Shape, figures: Figures, say: Any) -> None:
        self.asked.append((shape, cluster))
        figures.first, figures.eta, figures.answer = [30_000_000], [20_000_000] * 40, [9_000_000] * 40
        figures.alert = [50_000_000] * 40
        figures.past_ms, figures.busy, figures.fixes = [60.0], [0.2], 41
        figures.doubled = self.wrong

    async def measure_at(self, url: str, samples: int, track: int, turn: int) -> kept.Kept:
        self.asked.append((samples, track, turn))
        return kept.Kept({1: 100_000.0, 2: 150_000.0}, {1: 3.0, 2: 3.0}, [40.0] * 5)


def ran(monkeypatch: pytest.MonkeyPatch, slow: float, rounds: int = 2) -> tuple[Result, list[Any]]:
    parts = Parts(monkeypatch, slow)
    return arrivals.run(Context(rounds=rounds)), parts.asked


def test_a_machine_that_is_fast_enough_meets_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of them: fixes of both kinds, the chat beside movement, the arithmetic, and what must not happen."""
    found, _ = ran(monkeypatch, 1.0)
    assert [(one.name, one.measured) for one in found.targets if not one.met] == []
    assert len(found.targets) == 10


def test_every_target_can_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that cannot fail promises nothing."""
    found, _ = ran(monkeypatch, 3.0)
    assert [one.name for one in found.targets if one.met] == []


def test_parts_take_turns_and_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part once a round, what is compared first this way and then that; samples and counts of all rounds."""
    found, asked = ran(monkeypatch, 1.0)
    ten, one = (10, "a node"), (1, "a node")
    riding = (trips.Shape(350, 10.0, 2_000), "a node with a worker")
    rounds = [["resting", "moving"], ["moving", "resting"]]
    beside = [("watched", "a node"), *(each for turn in rounds for each in [*turn, "apart", *turn, "together"])]
    assert asked == [ten, one, riding, (50_000, 10_000, 0), one, ten, riding, (50_000, 10_000, 1), *beside]
    (ours,) = found.peers
    assert (ours.peer, ours.durable, found.scenario) == ("readback", True, "arrivals")
    assert ours.rates[arrivals.PER_CORE[10]].runs == 2
    assert ours.rates[arrivals.PER_CORE[10]].median == 30_000
    assert ours.latency_us[arrivals.TO_INBOX].count == 80
    assert ours.latency_us[arrivals.TO_WATCHER].count == 4
    assert ours.counts["fixes accepted"] == 160_000
    assert ours.values[arrivals._rise(99, "ack", arrivals.APART)].median == pytest.approx(5.0, rel=0.05)
    assert ours.values[arrivals.LOADED].runs == 2
    assert "no peers" in found.notes[0]
    assert found.notes[-1] == "Cores apart: each has a core."


def test_the_picture_is_of_what_comes_of_a_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer, watcher, arrival time, inbox; the other latencies are in the table."""
    found, _ = ran(monkeypatch, 1.0)
    figure = plots._latency(found)
    assert figure is not None
    lines = [line.get_label() for line in figure.axes[0].get_lines()]
    assert lines == [arrivals.TO_ANSWER, arrivals.TO_WATCHER, arrivals.TO_ETA, arrivals.TO_INBOX]


def test_what_was_not_accepted_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By verdict and reason: a figure alone helps nobody."""
    found, _ = ran(monkeypatch, 3.0, rounds=1)
    assert found.peers[0].counts["not accepted: quarantined jump"] == 2


# -- the connections ----------------------------------------------------------------------------------------------------------


class Clocks:
    """Both stand where they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns = 1_000
        now = SimpleNamespace(monotonic_ns=lambda: self.ns, time_ns=lambda: 1_795_000_000_000 * 1_000_000 + self.ns)
        monkeypatch.setattr("bench.gen.riders.time", now)


class Still:
    """A swarm that nobody connects by."""

    port = 0


def silent(raw: Any) -> list[dict[str, Any]]:
    """What it was told to send."""
    said: list[dict[str, Any]] = []
    raw.send = lambda payload: said.append(orjson.loads(payload))
    return said


def frame(**fields: Any) -> bytes:
    return orjson.dumps(fields)


def test_a_position_of_now_is_timed_to_its_answer_to_what_it_showed_and_to_whom_it_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From its leaving; what comes before it, for another reason or twice is counted apart."""
    clocks, figures, still = Clocks(monkeypatch), Figures(), Still()
    run, other = (Run(device, f"user:r{device.number}") for device in devices(7, 2))
    vehicle = Vehicle(still, "t", run, figures)  # type: ignore[arg-type]
    follower = Follower(still, "t", [run, other], figures)  # type: ignore[arg-type]
    told, too_soon = (Rider(still, "t", one, figures) for one in (run, other))  # type: ignore[arg-type]
    said = silent(vehicle)
    eta = frame(op="signal", stream=run.device.trip, kind="eta", value={})
    alert = frame(op="event", type="trip.alert", body={})
    vehicle.say_late([1_794_999_000_000, 1_794_999_060_000])
    follower.on_answer(eta)
    too_soon.on_event(alert)
    told.on_event(frame(op="event", type="message", body={}))
    assert (run.shown, other.shown) == (True, False)
    clocks.ns = 2_000
    vehicle.say()
    clocks.ns += 30
    vehicle.on_answer(frame(op="ok", id=3, accepted=1, verdicts=[{"verdict": "accepted"}]))
    follower.on_answer(frame(op="signal", stream=run.device.trip, kind="position", value={}))
    for _ in range(2):  # the second one is of time alone
        clocks.ns += 5
        follower.on_answer(eta)
        told.on_event(alert)
    assert [len(message["fixes"]) for message in said] == [2, 1]
    assert said[1]["fixes"][0]["at"] == write(1_795_000_000_000)
    assert (figures.eta, figures.answer, figures.alert) == ([35], [30], [35])
    assert (figures.fixes, figures.early, figures.doubled) == (3, 1, 1)
    assert run.told


def test_what_was_refused_is_kept_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixes by verdict and reason, messages by code, commands by the machine's sentence, connections that ended."""
    Clocks(monkeypatch)
    figures, still = Figures(), Still()
    run = Run(devices(7, 1)[0])
    vehicle = Vehicle(still, "t", run, figures)  # type: ignore[arg-type]
    dispatch = Dispatch(still, "t")  # type: ignore[arg-type]
    silent(vehicle)
    silent(dispatch)
    for _ in range(2):
        vehicle.say()
    vehicle.on_answer(frame(op="ok", id=2, accepted=0, verdicts=[{"verdict": "quarantined", "reason": "jump"}]))
    vehicle.on_answer(frame(op="error", id=3, code="overloaded", message="later"))
    vehicle.on_gone("closed")
    for verb in ("plan", "start"):
        dispatch.command("trip:7", verb)
    dispatch.on_answer(frame(op="ok", id=2, seqs=[1]))
    assert dispatch.waiting == {3}
    dispatch.on_answer(frame(op="error", id=3, code="rejected", message="it has begun"))
    dispatch.on_answer(frame(op="signal", stream="trip:7"))
    assert not dispatch.waiting
    assert dispatch.refused == {"rejected it has begun": 1}
    assert figures.refused == {"quarantined jump": 1, "overloaded": 1, "a device's connection: closed": 1}


def test_a_plan_is_the_devices_own_road() -> None:
    """It is taken by the machine; its points are where the device says it is, with more time for some legs than it takes, and
    its last is the stop: far enough away before the position of now that nobody is told by time alone."""
    [device] = devices(3, 1)
    first_ms, paced = 1_795_000_000_000, trips.PACED
    body = trips.planned(device, first_ms, paced)
    facts = TRIP.decide(TRIP.initial(), Command("plan", body, "service:bench", "owner"), first_ms)
    assert isinstance(facts, list), facts
    points = decode(body["route"]["polyline"], 6)
    assert not isinstance(points, str)
    now_ms = first_ms + 60_000 * (paced + trips.FREE_LEGS)
    said = orjson.loads(device.message(1, (now_ms,)))["fixes"][0]
    assert device.place(now_ms) == (said["lat"], said["lon"])
    assert distance_m(*points[paced + trips.FREE_LEGS], said["lat"], said["lon"]) < 1
    legs_s = body["route"]["legs_s"]
    assert len(legs_s) == len(points) - 1
    assert sum(legs_s[paced + trips.FREE_LEGS :]) == trips.LEFT_S < trips.THRESHOLD_S - 60
    before_s = sum(legs_s[paced - 1 :]) - 60 * (trips.FREE_LEGS + 1)
    assert before_s > trips.THRESHOLD_S + 100
    assert body["stops"][0]["lat"] == round(points[-1][0], 7)
    kept_ = trips.samples(device, 3, first_ms)
    assert [sample.at_ms for sample in kept_] == [first_ms - 6_000, first_ms - 4_000, first_ms - 2_000]


def test_a_wait_without_end_says_what_was_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In words, as for any server that could not be measured."""
    with pytest.raises(LoadError, match="no arrival time"):
        asyncio.run(trips._until(lambda: False, "trip:7 has no arrival time", 0.0))


def test_more_messages_than_were_signed_are_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that has nothing to do looks fast in nothing."""

    class Ran:
        def __enter__(self) -> Ran:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        loads = property(lambda self: [self])

        def ready(self) -> None:
            pass

        def go(self, **fields: object) -> None:
            pass

        def measure(self, *how: object, **fields: object) -> Measured:
            return Measured(1.0, {"nodes": 1.0}, [{"ran_out": True}])

    monkeypatch.setattr(moving, "prepare", lambda cluster, first, count: ["t"] * count)
    monkeypatch.setattr("bench.moving.Loads.start", lambda jobs, progress: Ran())

    with pytest.raises(LoadError, match="ran out"):
        moving.taken(Node("a node"), Numbers(), 10, 5, 1.0, lambda done, of, note: None)  # type: ignore[arg-type]


async def test_a_track_that_is_read_short_is_no_measurement() -> None:
    """The long track is of one subject, each sample at its own time."""
    made = kept.long_track(50)
    assert len({(sample.stream, sample.subject) for sample in made}) == 1
    assert len({sample.at_ms for sample in made}) == 50

    class Short:
        async def keep(self, samples: object, lasts: object) -> None:
            await trio.lowlevel.checkpoint()

        async def track(self, *what: object, **how: object) -> list[object]:
            await trio.lowlevel.checkpoint()
            return [None]

    with pytest.raises(LoadError, match="1 of 50 samples were read"):
        await kept.measure(Short(), 500, 50)  # type: ignore[arg-type]
    assert (await kept.measure(Short(), 500, 1)).per_s.keys() == {1, 2}  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_quick_run_measures_every_part_of_arrivals(tmp_path: Path) -> None:
    """Real nodes, a worker in one, Postgres: everything was accepted and answered, everybody told once, all has a figure."""
    path = tmp_path / "arrivals.json"
    made = CliRunner().invoke(cli.app, ["arrivals", "--quick", "--json", str(path)])
    assert made.exit_code == 0, made.output
    found = model.from_json(path.read_bytes())
    (ours,) = found.peers
    assert (
        ours.counts[arrivals.NOT_ACCEPTED]
        == ours.counts[arrivals.ALERTS_WRONG]
        == ours.counts[arrivals.LOST_SENDS]
        == 0
    )
    for name in arrivals.PER_CORE.values():
        assert ours.rates[name].median > 0, name
    for name in (arrivals.TO_ETA, arrivals.TO_FIRST_ETA, arrivals.TO_INBOX, arrivals.TO_WATCHER):
        assert ours.latency_us[name].count > 0, name
    assert ours.counts["positions shown to watchers"] > 0
    assert len(found.targets) == 10
