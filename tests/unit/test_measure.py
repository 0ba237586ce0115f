"""tests.measure: what is said about coverage and mutants is about the code as it is."""

from __future__ import annotations

import json

import pytest

from tests.measure import coverage, mutation, own
from tests.measure.equivalent import EQUIVALENT
from tests.measure.own import CORE, NAMED_OTHERWISE, ROOT, TOO_LONG_TO_TRACE, module_of


def test_every_test_of_core_is_one_modules_own() -> None:
    """By its name, the longest module's that fits; no module is without tests."""
    files = [path.stem for path in (ROOT / "tests/unit/core").glob("test_*.py")]
    assert [name for name in files if not module_of(name)] == []
    assert [module for module in CORE if not own.tests_of(module)] == []
    assert (module_of("test_gossip_wire"), module_of("test_gossip_world")) == ("gossip_wire", "gossip")
    assert sorted(NAMED_OTHERWISE) == [name for name in sorted(files) if name in NAMED_OTHERWISE]


def test_what_is_left_out_of_tracing_is_there() -> None:
    """A test that was renamed would be traced again, and nobody would see why it takes so long."""
    for test in TOO_LONG_TO_TRACE:
        path, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / path).read_text()


def test_a_module_without_tests_of_its_own_fails() -> None:
    """It is not passed over."""
    nothing = coverage.measure("no_such_module")
    assert (nothing.percent, nothing.failed) == (0.0, "no tests of its own")
    assert "no_such_module" in coverage.table([nothing])


@pytest.mark.parametrize("source", sorted({source for source, *_ in EQUIVALENT}))
def test_a_reason_ends_with_its_line(source: str) -> None:
    """What is said to change nothing is said of a line that is still there."""
    code = [line.strip().partition("  # ")[0] for line in (ROOT / source).read_text().splitlines()]
    whole = " ".join(code)
    assert [old for file, _, old, _ in EQUIVALENT if file == source and old not in whole] == []


def test_the_figures_are_of_every_module() -> None:
    """docs/data/coverage.json and mutation.json: nothing is missing, and nothing is below what was promised."""
    covered = json.loads(coverage.DATA.read_text())["modules"]
    assert sorted(covered) == [f"core/{module}.py" for module in CORE]
    assert {one["percent"] for one in covered.values()} == {100.0}
    scores = json.loads(mutation.DATA.read_text())["targets"]
    assert list(scores) == list(mutation.TARGETS)
    for name, score in scores.items():
        assert score["score"] >= mutation.SCORE_MIN, name
        tried = score["killed"] + score["timeout"] + len(score["survived"]) + len(score["equivalent"])
        assert score["mutants"] == tried
