"""bench.inbound_cost: differences are within a round, and its workers measure what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import inbound_cost
from bench.inbound_cost import ADDED_MAX_US, Cost, compare, costs, main, middle, table


def test_the_middle_half_of_a_few() -> None:
    """Median and quartiles; of a single value, that value."""
    assert middle([5.0]) == (5.0, 5.0, 5.0)
    assert middle([4.0, 1.0, 3.0, 2.0, 5.0]) == (3.0, 2.0, 4.0)


def test_a_difference_is_within_its_round() -> None:
    """A machine that was twice as slow in one round adds nothing to the difference of medians."""
    before = [{"ping": 1.0}, {"ping": 2.0}, {"ping": 1.0}]
    now = [{"ping": 1.5}, {"ping": 2.5}, {"ping": 1.5}]
    first, second = costs({"before": before, "now": now})
    assert first == Cost("ping", "before", 1.0, 1.0, 1.5, 0.0, 0.0, 0.0)
    assert second == Cost("ping", "now", 1.5, 1.5, 2.0, 0.5, 0.5, 0.5)
    assert "+0.50" in table([first, second]).splitlines()[2]


def test_one_round_of_every_kind_with_and_without_quotas() -> None:
    """A real node in a process each answers every frame, and refuses those that are to be refused."""
    found = compare(None, 1, 64)
    assert list(found) == ["now, no quotas", "now, all quotas"]
    kinds = {"send", "ping", "mark", "typing", "history, refused", "send, refused"}
    assert all(set(one) == kinds and min(one.values()) > 0 for rounds in found.values() for one in rounds)


def test_the_figures_and_whether_the_bound_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a revision to compare with, the worst frame is named and judged; the file has every figure."""
    rounds = {"before": [{"ping": 1.0, "send": 6.0}], "now": [{"ping": 1.1, "send": 6.0 + ADDED_MAX_US + 1}]}
    monkeypatch.setattr(inbound_cost, "compare", lambda against, rounds_, frames: rounds)
    main(["--against", "HEAD", "--json", str(tmp_path / "cost.json")])
    assert capsys.readouterr().out.splitlines()[-1] == "at most +4.00 us, send, now; 3 us: missed"
    document = json.loads((tmp_path / "cost.json").read_text())
    assert [one["median_us"] for one in document["costs"]] == [1.0, 1.1, 6.0, 10.0]
    assert document["command"].startswith("python -m bench.inbound_cost --against ")
