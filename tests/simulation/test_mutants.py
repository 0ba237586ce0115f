"""The simulator bites: planted errors are found. Here some; `make test-mutants` finds each within 2,000 seeds."""

from __future__ import annotations

import pytest

from core import tokens
from core.identity import Identity, Rules
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
    functions = []
    one: mutants.Mutant | None = mutant
    while one is not None:
        functions.append(mutants._find(one.where))
        one = one.also
    before = [function.__code__ for function in functions]
    with mutants.planted(mutant.name):
        assert not any(function.__code__ == was for function, was in zip(functions, before, strict=True))
    assert all(function.__code__ is was for function, was in zip(functions, before, strict=True))


def test_who_took_a_function_by_name_calls_the_planted_one() -> None:
    """`core.tokens` imports `identity_of` itself; an error planted beside what it calls would be harmless, unnoticed."""
    claims: dict[str, object] = {"aud": "readback", "sub": "user:amy", "tenant": "amber", "exp": 1_000, "iat": 0}
    rules = Rules("readback", leeway_s=30.0)

    def ends_s() -> float:
        identity = tokens.identity_of(claims, rules, 990.0)
        assert isinstance(identity, Identity)
        return identity.expires_at_s

    assert ends_s() == 1_030.0
    with mutants.planted("leeway-not-counted"):
        assert ends_s() == 1_000.0
    assert ends_s() == 1_030.0


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
    before = Replay._gather.__code__
    assert not outcome(Task(0, mutant="resume-off-by-one")).ok
    assert Replay._gather.__code__ is before
    assert outcome(Task(0)).ok


def test_a_failing_seed_is_shrunk_to_what_it_needs() -> None:
    """What is left still breaks the same guarantee, and is told as one command."""
    least = shrink(Task(0, mutant="resume-at-head"))
    assert least.changes
    assert least.command().startswith("readback sim --seed 0 --mutant resume-at-head --")
    assert "Resumable" in outcome(least).guarantees
