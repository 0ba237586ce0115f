"""The simulator bites: planted errors are found. Here some; `make test-mutants` finds each within 2,000 seeds."""

from __future__ import annotations

import inspect

import pytest

from core.replay import Replay
from proof.sim import mutants
from proof.sim.bites import bites
from proof.sim.many import Task, outcome, shrink

QUICK = (
    "resume-off-by-one",
    "ack-before-commit",
    "tenant-filter-dropped",
    "removed-follows-on",
    "slow-reader-skips-one",
    "followers-left-behind",
    "half-a-command",
    "cursor-moved-without-effects",
    "moved-timer-left-as-it-was",
    "saga-step-under-another-key",
    "rebuild-skips-one",
    "position-answered-before-it-is-kept",
    "quarantined-shown",
    "places-kept-to-themselves",
    "alert-forgotten",
    "own-thresholds-ignored",
    "trip-shown-as-it-was",
)


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own() -> None:
    """Twenty-five at least."""
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS) >= 25


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_each_still_fits_the_source(mutant: mutants.Mutant) -> None:
    """Where the source has moved on, the mutant must too; and what it makes of it compiles, and is taken out again."""
    places = []
    one: mutants.Mutant | None = mutant
    while one is not None:
        places.append(mutants._find(one.where)[:2])
        one = one.also
    before = [inspect.getattr_static(*place) for place in places]
    with mutants.planted(mutant.name):
        assert not any(inspect.getattr_static(*place) is was for place, was in zip(places, before, strict=True))
    assert all(inspect.getattr_static(*place) is was for place, was in zip(places, before, strict=True))


def test_one_that_fits_no_more_says_so() -> None:
    """Instead of planting nothing."""
    with pytest.raises(mutants.Unfit, match=r"stands 0 times in core\.replay:Replay\._gather"):
        mutants.source_of(mutants.Mutant("gone", "core.replay:Replay._gather", "what never stood there", ""))


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_error_is_found(name: str) -> None:
    """By one of the first seeds, or of the first that have what it needs."""
    (bite,) = bites([mutants.BY_NAME[name]], 1, 120)
    assert bite.found is not None, bite.by


def test_what_was_planted_is_gone_afterwards() -> None:
    """A mutant's run leaves the product as it was."""
    before = Replay._gather
    assert not outcome(Task(0, mutant="resume-off-by-one")).ok
    assert Replay._gather is before
    assert outcome(Task(0)).ok


def test_a_failing_seed_is_shrunk_to_what_it_needs() -> None:
    """What is left still breaks the same guarantee, and is told as one command."""
    least = shrink(Task(0, mutant="resume-at-head"))
    assert least.changes
    assert least.command().startswith("readback sim --seed 0 --mutant resume-at-head --")
    assert "Resumable" in outcome(least).guarantees
