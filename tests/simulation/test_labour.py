"""Workers under simulation: which worlds have them, and that what one does wrong is seen."""

from __future__ import annotations

from dataclasses import replace

from proof.sim import flights
from proof.sim.many import Task, live_task
from proof.sim.swarm import ANYWHERE, COMPANY, WORKERS, draw, reduced


def test_every_fifth_world_has_flights_and_the_others_are_what_they_were() -> None:
    """Where there are no workers there are none of their troubles."""
    drawn = [draw(seed) for seed in range(200)]
    working = [swarm for swarm in drawn if swarm.flights]
    assert 25 <= len(working) <= 60
    assert all(swarm.workers for swarm in working)
    for swarm in drawn:
        assert swarm.flights or swarm.trips or not set(swarm.troubles) & set(WORKERS)
        assert swarm.flights or not (set(swarm.troubles) & set(COMPANY) or swarm.sagas or swarm.board)
        assert swarm.sagas or "operator" not in swarm.troubles
    assert {name for swarm in working for name in swarm.troubles} == {*ANYWHERE, *WORKERS, *COMPANY}


def test_a_flight_has_a_stream_and_one_of_its_seats() -> None:
    """Of each tenant."""
    assert flights.names(2) == ("flight:RB10", "flight:RB10.seats", "flight:RB20", "flight:RB20.seats")
    assert flights.names(0) == ()
    assert flights.names(1, "c1") == ("flight:RB10", "flight:RB10.seats", "flight:crew.c1")


def test_a_run_in_peace_does_all_of_a_workers_work() -> None:
    """Commands are obeyed and refused, timers fire, rules say what they should, and every guarantee has something to judge."""
    seed = next(seed for seed in range(200) if draw(seed).flights)
    swarm = draw(seed)
    lived = live_task(Task(seed, changes={"without": swarm.troubles}))
    assert lived.ok, lived.findings
    for name in ("Whole-commands", "Timers-once", "Fenced", "Models-true", "Worked-off"):
        assert lived.judged[name] > 3, name
    for path in ("timer fired", "rule fired", "command refused by its machine"):
        assert lived.meters[path], path


def test_a_run_in_peace_ends_its_sagas_and_shows_its_board() -> None:
    """Both have something to be judged by, and both hold."""
    seed = next(seed for seed in range(200) if draw(seed).sagas and draw(seed).board)
    lived = live_task(Task(seed, changes={"without": draw(seed).troubles}))
    assert lived.ok, lived.findings
    assert lived.judged["Whole-sagas"] > 6
    assert lived.judged["Boards-converge"] > 1
    assert lived.meters["saga done"]


def test_without_its_workers_a_world_still_takes_commands() -> None:
    """They are the node's business; only what is due is left to others."""
    seed = next(seed for seed in range(200) if draw(seed).flights)
    swarm = replace(reduced(draw(seed), {"without": draw(seed).troubles}), workers=0)
    assert "0 workers" in str(swarm)
    lived = live_task(Task(seed, changes={"without": swarm.troubles, "workers": 0}))
    assert not [finding for finding in lived.findings if "Whole-commands" in finding]
    assert lived.judged["Whole-commands"] > 10
    assert lived.judged["Fenced"] == 0
